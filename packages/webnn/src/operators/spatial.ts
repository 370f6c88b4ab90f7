import { isValidDimension, type MLOperandDescriptor } from '../data-type.js'
import { convSize, convTransposeSize, distinct, sameShape } from '../shape.js'
import { enumeration, float, type Member, sequence, unsignedLong } from '../web-idl.js'
import { anyType, floats, type Given, type OperatorDefinition, oneInput, rank, same } from './definition.js'

const sizes: Member<number[]> = { convert: sequence(unsignedLong) }
const layout = { convert: enumeration('nchw', 'nhwc'), default: 'nchw' as const }

/** Where each letter of a layout is: `{ n: 0, c: 1, h: 2, w: 3 }`. */
export const placesOf = (layout: string): Readonly<Record<string, number>> =>
  Object.fromEntries(Array.from(layout, (letter, at) => [letter, at]))

/** The sizes of a shape by the letters of its layout. */
const byLetter = (shape: readonly number[], layout: string): Readonly<Record<string, number>> =>
  Object.fromEntries(Array.from(layout, (letter, at) => [letter, shape[at]!]))

const inLayout = (layout: string, size: Readonly<Record<string, number>>) =>
  Array.from(layout, (letter) => size[letter]!)

/** A list of so many numbers, none of them zero where that would make no sense. */
function list(
  { values, refuse }: Given,
  name: string,
  length: number,
  fallback: readonly number[],
  least = 0,
): number[] {
  values[name] ??= [...fallback]
  const found = values[name] as number[]
  if (found.length !== length) refuse(`${name} wants ${length} numbers, found ${found.length}`)
  if (found.some((number) => number < least)) refuse(`${name} [${found}] must be at least ${least}`)
  return found
}

interface Window {
  readonly padding: number[]
  readonly strides: number[]
  readonly dilations: number[]
}

const windowOf = (given: Given): Window => ({
  padding: list(given, 'padding', 4, [0, 0, 0, 0]),
  strides: list(given, 'strides', 2, [1, 1], 1),
  dilations: list(given, 'dilations', 2, [1, 1], 1),
})

function checkOutput(
  { refuse }: Given,
  dataType: MLOperandDescriptor['dataType'],
  shape: readonly number[],
): readonly MLOperandDescriptor[] {
  const bad = shape.find((size) => !isValidDimension(size))
  if (bad !== undefined)
    refuse(`the output would have a dimension of ${bad}: window, padding and strides do not fit the input`)
  return [{ dataType, shape }]
}

function checkBias({ operands: { bias }, refuse }: Given, channels: number): void {
  if (bias && !sameShape(bias.shape, [channels]))
    refuse(`bias wants the shape [${channels}], found [${bias.shape}]`)
}

const four = rank(4)
const convolutionLimits: OperatorDefinition['limits'] = {
  input: { types: floats, ranks: four },
  filter: { types: same('input'), ranks: four },
  bias: { types: same('input'), ranks: rank(1) },
  output: { types: same('input'), ranks: four },
}
const convolution = {
  padding: sizes,
  strides: sizes,
  dilations: sizes,
  groups: { convert: unsignedLong, default: 1 },
  inputLayout: layout,
  bias: 'operand',
} as const

function inferConv2d(given: Given): readonly MLOperandDescriptor[] {
  const {
    operands: { input, filter },
    values,
    refuse,
  } = given
  const { padding, strides, dilations } = windowOf(given)
  const groups = values.groups as number
  if (groups === 0) refuse('groups must not be 0')
  const { n, c, h, w } = byLetter(input.shape, values.inputLayout as string)
  const kernel = byLetter(filter.shape, values.filterLayout as string)
  if (c! % groups !== 0 || c! / groups !== kernel.i)
    refuse(
      `an input of ${c} channels in ${groups} groups wants a filter of ${c! / groups} input channels, found ${kernel.i}`,
    )
  if (kernel.o! % groups !== 0)
    refuse(`${kernel.o} output channels cannot be shared out among ${groups} groups`)
  checkBias(given, kernel.o!)
  const output = {
    n: n!,
    c: kernel.o!,
    h: Math.floor(convSize(h!, kernel.h!, padding[0]! + padding[1]!, strides[0]!, dilations[0]!)),
    w: Math.floor(convSize(w!, kernel.w!, padding[2]! + padding[3]!, strides[1]!, dilations[1]!)),
  }
  return checkOutput(given, input.dataType, inLayout(values.inputLayout as string, output))
}

function inferConvTranspose2d(given: Given): readonly MLOperandDescriptor[] {
  const {
    operands: { input, filter },
    values,
    refuse,
  } = given
  const { padding, strides, dilations } = windowOf(given)
  const more = list(given, 'outputPadding', 2, [0, 0])
  const wanted = values.outputSizes === undefined ? undefined : list(given, 'outputSizes', 2, [])
  if (wanted === undefined && more.some((size, at) => size >= strides[at]!))
    refuse(`outputPadding [${more}] has to be below the strides [${strides}]`)
  const groups = values.groups as number
  if (groups === 0) refuse('groups must not be 0')
  const { n, c, h, w } = byLetter(input.shape, values.inputLayout as string)
  const kernel = byLetter(filter.shape, values.filterLayout as string)
  if (c !== kernel.i) refuse(`an input of ${c} channels wants a filter of as many, found ${kernel.i}`)
  const channels = kernel.o! * groups
  checkBias(given, channels)
  const least = [
    convTransposeSize(h!, kernel.h!, padding[0]! + padding[1]!, strides[0]!, dilations[0]!),
    convTransposeSize(w!, kernel.w!, padding[2]! + padding[3]!, strides[1]!, dilations[1]!),
  ]
  if (wanted?.some((size, at) => size < least[at]! || size >= least[at]! + strides[at]!))
    refuse(
      `outputSizes [${wanted}] cannot be: from [${least}] on, and less than [${least.map((size, at) => size + strides[at]!)}]`,
    )
  const [oh, ow] = wanted ?? least.map((size, at) => size + more[at]!)
  return checkOutput(
    given,
    input.dataType,
    inLayout(values.inputLayout as string, { n: n!, c: channels, h: oh!, w: ow! }),
  )
}

/**
 * Where `outputSizes` are given, the specification's steps drop the padding, and want sizes below the strides. Neither is done here: browsers and
 * the web-platform-tests keep the padding, and the second is of convTranspose2d's `outputPadding`.
 */
function inferPool(given: Given): readonly MLOperandDescriptor[] {
  const {
    operands: { input },
    values,
    refuse,
  } = given
  const { n, c, h, w } = byLetter(input.shape, values.layout as string)
  const [windowHeight, windowWidth] = list(given, 'windowDimensions', 2, [h!, w!], 1)
  const { padding, strides, dilations } = windowOf(given)
  const exact = [
    convSize(h!, windowHeight!, padding[0]! + padding[1]!, strides[0]!, dilations[0]!),
    convSize(w!, windowWidth!, padding[2]! + padding[3]!, strides[1]!, dilations[1]!),
  ]
  const rounded = (round: (size: number) => number) => exact.map(round)
  const sizes = values.outputSizes === undefined ? undefined : list(given, 'outputSizes', 2, [], 1)
  const [floor, ceil] = [rounded(Math.floor), rounded(Math.ceil)]
  if (sizes && !sameShape(sizes, floor) && !sameShape(sizes, ceil))
    refuse(`outputSizes [${sizes}] cannot be: [${floor}] or [${ceil}]`)
  const [oh, ow] = sizes ?? (values.outputShapeRounding === 'ceil' ? ceil : floor)
  return checkOutput(
    given,
    input.dataType,
    inLayout(values.layout as string, { n: n!, c: c!, h: oh!, w: ow! }),
  )
}

const pool = (name: string, types: Parameters<typeof oneInput>[0]): OperatorDefinition => ({
  name,
  parameters: { input: 'operand' },
  options: {
    windowDimensions: sizes,
    padding: sizes,
    strides: sizes,
    dilations: sizes,
    layout,
    outputShapeRounding: { convert: enumeration('floor', 'ceil'), default: 'floor' },
    outputSizes: sizes,
  },
  limits: oneInput(types, four),
  infer: inferPool,
})

/** Convolutions, pools, and what scales images. */
export const spatial: readonly OperatorDefinition[] = [
  {
    name: 'conv2d',
    parameters: { input: 'operand', filter: 'operand' },
    options: {
      ...convolution,
      filterLayout: { convert: enumeration('oihw', 'hwio', 'ohwi', 'ihwo'), default: 'oihw' },
    },
    limits: convolutionLimits,
    infer: inferConv2d,
  },
  {
    name: 'convTranspose2d',
    parameters: { input: 'operand', filter: 'operand' },
    options: {
      ...convolution,
      outputPadding: sizes,
      outputSizes: sizes,
      filterLayout: { convert: enumeration('iohw', 'hwoi', 'ohwi'), default: 'iohw' },
    },
    limits: convolutionLimits,
    infer: inferConvTranspose2d,
  },
  pool('averagePool2d', floats),
  pool('l2Pool2d', floats),
  pool('maxPool2d', anyType),
  {
    name: 'resample2d',
    parameters: { input: 'operand' },
    options: {
      mode: { convert: enumeration('nearest-neighbor', 'linear'), default: 'nearest-neighbor' },
      scales: { convert: sequence(float) },
      sizes,
      axes: sizes,
    },
    limits: oneInput(['float32', 'float16', 'uint8', 'int8'], four),
    infer(given) {
      const {
        operands: { input },
        values,
        refuse,
      } = given
      const scales = list(given, 'scales', 2, [1, 1])
      if (scales.some((scale) => scale <= 0)) refuse(`scales [${scales}] must be above 0`)
      const axes = list(given, 'axes', 2, [2, 3])
      if (!distinct(axes) || axes.some((axis) => axis >= 4)) refuse(`axes [${axes}] have to be two of 0 to 3`)
      const wanted = values.sizes === undefined ? undefined : list(given, 'sizes', 2, [], 1)
      const shape = [...input.shape]
      axes.forEach((axis, at) => {
        shape[axis] = wanted?.[at] ?? Math.floor(input.shape[axis]! * scales[at]!)
      })
      return checkOutput(given, input.dataType, shape)
    },
  },
]
