import { castNumber, elementCount, isValidDimension, isValidTensorCount, MAX_RANK } from '../data-type.js'
import { broadcastTo, distinct } from '../shape.js'
import {
  boolean,
  type Converter,
  enumeration,
  isSequence,
  long,
  mlNumber,
  sequence,
  unsignedLong,
  wrappingUnsignedLong,
} from '../web-idl.js'
import {
  anyRank,
  anyType,
  type Given,
  type OperatorDefinition,
  oneInput,
  rank,
  ranked,
  same,
} from './definition.js'

const sizes = sequence(unsignedLong)

/** Axes that are within the rank, and each there once. */
export function checkAxes(
  { operands: { input }, refuse }: Given,
  axes: readonly number[],
  what = 'axes',
): void {
  if (!distinct(axes)) refuse(`${what} [${axes}] name an axis twice`)
  const bad = axes.find((axis) => axis >= input.shape.length)
  if (bad !== undefined)
    refuse(`axis ${bad} of ${what} is not within the rank of the input, ${input.shape.length}`)
}

export function checkAxis({ operands: { input }, values, refuse }: Given): number {
  const axis = values.axis as number
  if (axis >= input.shape.length)
    refuse(`axis ${axis} is not within the rank of the input, ${input.shape.length}`)
  return axis
}

function checkCount({ operands: { input }, refuse }: Given, list: readonly number[], what: string): void {
  if (list.length !== input.shape.length)
    refuse(
      `${what} wants a number for each of the ${input.shape.length} dimensions of the input, found ${list.length}`,
    )
}

function checkSizes({ refuse }: Given, shape: readonly number[]): number[] {
  const bad = shape.find((size) => !isValidDimension(size))
  if (bad !== undefined)
    refuse(`the output would have a dimension of ${bad}: it has to be from 1 to 2147483647`)
  return [...shape]
}

const splitsOf: Converter<number | number[]> = (value, what) =>
  isSequence(value) ? sizes(value, what) : unsignedLong(value, what)

/** What moves elements and computes nothing. */
export const layout: readonly OperatorDefinition[] = [
  {
    name: 'concat',
    parameters: { inputs: 'operands', axis: unsignedLong },
    options: {},
    limits: {
      inputs: { types: anyType, ranks: ranked },
      output: { types: same('inputs'), ranks: same('inputs') },
    },
    infer({ operands, values, refuse }) {
      const inputs = Object.values(operands)
      if (!isValidTensorCount(inputs.length))
        refuse(`inputs has ${inputs.length} operands: 1 to 8192 are wanted`)
      const [first] = inputs
      const axis = values.axis as number
      if (axis >= first.shape.length)
        refuse(`axis ${axis} is not within the rank of the inputs, ${first.shape.length}`)
      let size = 0
      for (const { dataType, shape } of inputs) {
        if (dataType !== first.dataType)
          refuse(`inputs of one data type are wanted, found ${first.dataType} and ${dataType}`)
        if (
          shape.length !== first.shape.length ||
          shape.some((each, at) => at !== axis && each !== first.shape[at])
        )
          refuse(`the shapes [${first.shape}] and [${shape}] differ in more than axis ${axis}`)
        size += shape[axis]!
      }
      if (!isValidDimension(size)) refuse(`axis ${axis} of the output would have ${size} elements`)
      return [{ dataType: first.dataType, shape: first.shape.with(axis, size) }]
    },
  },
  {
    name: 'expand',
    parameters: { input: 'operand', newShape: sizes },
    options: {},
    limits: oneInput(anyType, anyRank, anyRank),
    infer(given) {
      const {
        operands: { input },
        values,
        refuse,
      } = given
      const newShape = values.newShape as number[]
      if (newShape.length > MAX_RANK)
        refuse(`newShape has ${newShape.length} dimensions: at most ${MAX_RANK} are supported`)
      checkSizes(given, newShape)
      return [
        {
          dataType: input.dataType,
          shape:
            broadcastTo(input.shape, newShape) ??
            refuse(`the shape [${input.shape}] cannot be broadcast to [${newShape}]`),
        },
      ]
    },
  },
  {
    name: 'pad',
    parameters: { input: 'operand', beginningPadding: sizes, endingPadding: sizes },
    options: {
      mode: { convert: enumeration('constant', 'edge', 'reflection'), default: 'constant' },
      value: { convert: mlNumber, default: 0 },
    },
    limits: oneInput(anyType),
    infer(given) {
      const {
        operands: { input },
        values,
        refuse,
      } = given
      const [before, after] = [values.beginningPadding as number[], values.endingPadding as number[]]
      checkCount(given, before, 'beginningPadding')
      checkCount(given, after, 'endingPadding')
      if (
        values.mode === 'reflection' &&
        input.shape.some((size, at) => before[at]! >= size || after[at]! >= size)
      )
        refuse(
          `a reflection of [${input.shape}] has no [${before}] elements before it and [${after}] after it`,
        )
      values.value = castNumber(values.value as number, input.dataType)
      const shape = input.shape.map((size, at) => size + before[at]! + after[at]!)
      return [{ dataType: input.dataType, shape: checkSizes(given, shape) }]
    },
  },
  {
    name: 'reshape',
    parameters: { input: 'operand', newShape: sizes },
    options: {},
    limits: oneInput(anyType, anyRank, anyRank),
    infer(given) {
      const {
        operands: { input },
        values,
        refuse,
      } = given
      const newShape = values.newShape as number[]
      if (newShape.length > MAX_RANK)
        refuse(`newShape has ${newShape.length} dimensions: at most ${MAX_RANK} are supported`)
      checkSizes(given, newShape)
      if (elementCount(newShape) !== elementCount(input.shape))
        refuse(
          `[${input.shape}] has ${elementCount(input.shape)} elements, and newShape [${newShape}] has ${elementCount(newShape)}`,
        )
      return [{ dataType: input.dataType, shape: newShape }]
    },
  },
  {
    name: 'reverse',
    parameters: { input: 'operand' },
    options: { axes: { convert: sizes } },
    limits: oneInput(anyType),
    infer(given) {
      const { input } = given.operands
      given.values.axes ??= input.shape.map((_, at) => at)
      checkAxes(given, given.values.axes as number[])
      return [input]
    },
  },
  {
    name: 'slice',
    parameters: { input: 'operand', starts: sizes, sizes },
    options: { strides: { convert: sizes } },
    limits: oneInput(anyType),
    infer(given) {
      const {
        operands: { input },
        values,
        refuse,
      } = given
      const [starts, counts] = [values.starts as number[], values.sizes as number[]]
      values.strides ??= input.shape.map(() => 1)
      const strides = values.strides as number[]
      checkCount(given, starts, 'starts')
      checkCount(given, counts, 'sizes')
      checkCount(given, strides, 'strides')
      const shape = input.shape.map((size, at) => {
        if (counts[at] === 0) refuse('sizes must not be 0')
        if (strides[at]! < 1) refuse('strides must not be 0')
        if (starts[at]! + counts[at]! > size)
          refuse(
            `${counts[at]} elements from ${starts[at]} on go beyond dimension ${at} of the input, which has ${size}`,
          )
        return Math.ceil(counts[at]! / strides[at]!)
      })
      return [{ dataType: input.dataType, shape }]
    },
  },
  {
    name: 'split',
    parameters: { input: 'operand', splits: splitsOf },
    options: { axis: { convert: unsignedLong, default: 0 } },
    many: true,
    limits: {
      input: { types: anyType, ranks: ranked },
      outputs: { types: same('input'), ranks: same('input') },
    },
    infer(given) {
      const {
        operands: { input },
        values,
        refuse,
      } = given
      const axis = checkAxis(given)
      const size = input.shape[axis]!
      const splits = values.splits as number | number[]
      const count = typeof splits === 'number' ? splits : splits.length
      if (!isValidTensorCount(count)) refuse(`${count} outputs: 1 to 8192 are wanted`)
      if (typeof splits === 'number' && size % splits !== 0)
        refuse(`axis ${axis} has ${size} elements, which ${splits} does not divide`)
      const parts = typeof splits === 'number' ? new Array<number>(splits).fill(size / splits) : splits
      if (parts.includes(0)) refuse('splits must not be 0')
      const sum = parts.reduce((all, part) => all + part, 0)
      if (sum !== size) refuse(`splits [${parts}] are ${sum} elements together, and axis ${axis} has ${size}`)
      values.splits = parts
      return parts.map((part) => ({ dataType: input.dataType, shape: input.shape.with(axis, part) }))
    },
  },
  {
    name: 'tile',
    parameters: { input: 'operand', repetitions: sequence(wrappingUnsignedLong) },
    options: {},
    limits: oneInput(anyType),
    infer(given) {
      const {
        operands: { input },
        values,
        refuse,
      } = given
      const repetitions = values.repetitions as number[]
      checkCount(given, repetitions, 'repetitions')
      if (repetitions.includes(0)) refuse('repetitions must not be 0')
      return [
        {
          dataType: input.dataType,
          shape: checkSizes(
            given,
            input.shape.map((size, at) => size * repetitions[at]!),
          ),
        },
      ]
    },
  },
  {
    name: 'transpose',
    parameters: { input: 'operand' },
    options: { permutation: { convert: sizes } },
    limits: oneInput(anyType),
    infer(given) {
      const {
        operands: { input },
        values,
      } = given
      values.permutation ??= input.shape.map((_, at) => input.shape.length - 1 - at)
      const permutation = values.permutation as number[]
      checkCount(given, permutation, 'permutation')
      checkAxes(given, permutation, 'permutation')
      return [{ dataType: input.dataType, shape: permutation.map((at) => input.shape[at]!) }]
    },
  },
  {
    name: 'triangular',
    parameters: { input: 'operand' },
    options: { upper: { convert: boolean, default: true }, diagonal: { convert: long, default: 0 } },
    limits: oneInput(anyType, rank(2, MAX_RANK)),
    infer: ({ operands: { input } }) => [input],
  },
]
