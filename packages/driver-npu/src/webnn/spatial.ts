import type { MLOperandDataType, Operator, Value } from '@uaccel/webnn'
import type { Placement } from '@uaccel/webnn/accelerator'
import type { Window } from '../tensor-steps.js'
import { arrayBytes } from './constants.js'
import { type Dim, type Draft, dimsOf, type Operand, operand, refuse, typeOf, WIDTH } from './draft.js'
import { besidesA, besidesB, floats, type Lowering } from './lowering.js'
import { computesOf, narrow } from './stages.js'
import { denseStrides, product } from './strides.js'

/** What a layout says of a shape, by its letters: where each dimension is, its size and its stride. */
function byLetter({ descriptor: { shape } }: Value, layout: string) {
  const strides = denseStrides(shape)
  const by = (values: readonly number[]): Readonly<Record<string, number>> =>
    Object.fromEntries(Array.from(layout, (letter, at) => [letter, values[at]!]))
  return { at: by(shape.map((_, at) => at)), size: by(shape), stride: by(strides) }
}

interface Sliding {
  readonly padding: readonly number[]
  readonly strides: readonly number[]
  readonly dilations: readonly number[]
}

/** A dimension of a convolution: how the result, A and B go along it. */
interface Lane extends Dim {
  readonly a?: number
  readonly b?: number
  readonly c?: number
}

function convolution(operator: Operator, placement: Placement): Draft[] {
  const {
    inputs: { input, filter, bias },
    attributes,
    outputs: [output],
  } = operator
  const transposed = operator.name === 'convTranspose2d'
  const { padding, strides, dilations } = attributes as unknown as Sliding
  const groups = attributes.groups as number
  const layout = attributes.inputLayout as string
  const [i, o, k] = [
    byLetter(input!, layout),
    byLetter(output!, layout),
    byLetter(filter!, attributes.filterLayout as string),
  ]
  const perGroup = o.size.c! / groups
  const inputs = i.size.c! / groups
  const channel = o.at.c!
  const first = i.stride.c! * inputs
  // Of conv2d the filter counts all output channels, and those of a group as input; of convTranspose2d the other way round.
  const group = transposed ? k.stride.i! * inputs : k.stride.o! * perGroup
  const outer: Readonly<Record<string, readonly Lane[]>> = {
    n: [{ size: o.size.n!, axis: o.at.n!, a: i.stride.n! }],
    c: [
      { size: groups, axis: channel, step: perGroup, a: first, b: group, c: perGroup },
      { size: perGroup, axis: channel, b: k.stride.o!, c: 1 },
    ],
    h: [{ size: o.size.h!, axis: o.at.h!, a: i.stride.h! }],
    w: [{ size: o.size.w!, axis: o.at.w!, a: i.stride.w! }],
  }
  const lanes: Lane[] = Array.from(layout).flatMap((letter) => outer[letter]!)
  const inner: Lane[] = [
    { size: inputs, a: i.stride.c!, b: k.stride.i! },
    { size: k.size.h!, b: k.stride.h! },
    { size: k.size.w!, b: k.stride.w! },
  ]
  const windows: Window[] = []
  for (const [which, letter] of ['h', 'w'].entries()) {
    const out = lanes.findIndex(({ axis }) => axis === o.at[letter])
    const pad = padding[2 * which]!
    // A window of one element that is never outside is a stride.
    const inside = pad === 0 && (o.size[letter]! - 1) * strides[which]! < i.size[letter]!
    if (!transposed && k.size[letter] === 1 && inside)
      lanes[out] = { ...lanes[out]!, a: i.stride[letter]! * strides[which]! }
    else
      windows.push({
        size: i.size[letter]!,
        out,
        kernel: lanes.length + 1 + which,
        stride: strides[which]!,
        dilation: dilations[which]!,
        pad,
      })
  }
  const all = [...lanes, ...inner]
  const along = (name: 'a' | 'b' | 'c') => all.map((lane) => lane[name] ?? 0)
  return [
    {
      op: 'contract',
      dims: all.map(({ size, axis, step = 1 }) => (axis === undefined ? { size } : { size, axis, step })),
      inner: 3,
      output: output!,
      operands: {
        a: operand(placement, input!, along('a')),
        b: operand(placement, filter!, along('b')),
        ...(bias ? { c: operand(placement, bias, along('c')) } : {}),
      },
      computes: ['float32'],
      stages: bias ? [{ fn: 'add', y: 'c' }] : [],
      takes: besidesB,
      windows,
      fields: transposed && windows.length > 0 ? { transposed: true } : {},
    },
  ]
}

/** Whether each window has an element of the input. */
function reaches(
  input: number,
  output: number,
  kernel: number,
  stride: number,
  dilation: number,
  pad: number,
): boolean {
  for (let at = 0; at < output; at++) {
    let found = false
    for (let tap = 0; tap < kernel && !found; tap++) {
      const place = at * stride + tap * dilation - pad
      found = place >= 0 && place < input
    }
    if (!found) return false
  }
  return true
}

const pool = (fn: 'mean' | 'l2' | 'max', types: readonly MLOperandDataType[]): Lowering => ({
  types: { input: types },
  drafts: ({ inputs: { input }, attributes, outputs: [output] }, placement) => {
    const { padding, strides, dilations } = attributes as unknown as Sliding
    const sizes = attributes.windowDimensions as number[]
    const layout = attributes.layout as string
    const [i, o] = [byLetter(input!, layout), byLetter(output!, layout)]
    const windows = ['h', 'w'].map((letter, which) => ({
      size: i.size[letter]!,
      out: o.at[letter]!,
      kernel: 4 + which,
      stride: strides[which]!,
      dilation: dilations[which]!,
      pad: padding[2 * which]!,
    }))
    for (const { size, out, kernel, stride, dilation, pad } of windows)
      if (
        fn === 'max' &&
        !reaches(size, output!.descriptor.shape[out]!, sizes[kernel - 4]!, stride, dilation, pad)
      )
        refuse('the greatest of windows that lie in the padding alone is computed on the CPU')
    return [
      {
        op: 'reduce',
        dims: [...dimsOf(output!.descriptor.shape), ...sizes.map((size) => ({ size }))],
        inner: 2,
        output: output!,
        operands: { a: operand(placement, input!, [...denseStrides(input!.descriptor.shape), 0, 0]) },
        computes: computesOf(input!.descriptor.dataType),
        takes: besidesA,
        windows,
        fields: { fn },
      },
    ]
  },
})

/** The coordinate in the input that is nearest to that of an output one, as the kernel of the CPU has it. */
function nearest(input: number, output: number): number[] {
  return Array.from({ length: output }, (_, at) => {
    const place = Math.min(Math.max((at + 0.5) / (output / input) - 0.5, 0), input - 1)
    return Math.ceil(place - 0.5)
  })
}

/** Elements are picked along one axis after the other, by indices that were computed here: exactly, and of any type. */
function resampleNearest(
  { inputs: { input }, attributes, outputs: [output] }: Operator,
  placement: Placement,
): Draft[] {
  const type = typeOf(input!)
  let shape = [...input!.descriptor.shape]
  let from: Operand = operand(placement, input!, denseStrides(shape))
  const axes = (attributes.axes as number[]).filter((axis) => shape[axis] !== output!.descriptor.shape[axis])
  const drafts: Draft[] = []
  for (const [which, axis] of axes.entries()) {
    const size = shape[axis]!
    const strides = denseStrides(shape)
    shape = shape.with(axis, output!.descriptor.shape[axis]!)
    const last = which === axes.length - 1
    const to: Operand = {
      at: last ? placement.at(output!) : placement.scratch(product(shape) * WIDTH[type]),
      type,
      strides: denseStrides(shape),
    }
    const indices = placement.keep(arrayBytes('int32', nearest(size, shape[axis]!)))
    drafts.push({
      op: 'gather',
      dims: dimsOf(shape),
      output: output!,
      operands: {
        a: { ...from, strides: strides.with(axis, 0) },
        b: { at: indices, type: 'int32', strides: shape.map((_, at) => (at === axis ? 1 : 0)) },
      },
      d: to,
      computes: ['none'],
      fields: { indices: { stride: 0, axes: [{ size, stride: strides[axis]! }] } },
    })
    from = to
  }
  if (drafts.length > 0) return drafts
  return [
    {
      op: 'elementwise',
      dims: dimsOf(shape),
      output: output!,
      operands: { a: from },
      computes: computesOf(type),
    },
  ]
}

function resample2d(operator: Operator, placement: Placement): Draft[] {
  const {
    inputs: { input },
    attributes,
    outputs: [output],
  } = operator
  if (attributes.mode === 'nearest-neighbor') return resampleNearest(operator, placement)
  const [from, to] = [input!.descriptor, output!.descriptor]
  if (from.dataType !== 'float32') refuse(`linear interpolation of ${from.dataType} is computed on the CPU`)
  const scales = (attributes.axes as number[]).map((axis) => to.shape[axis]! / from.shape[axis]!)
  // Places between pixels would be off by the rounding of the device's word.
  const inexact = scales.find((scale) => Math.fround(scale) !== scale)
  if (inexact !== undefined) refuse(`the scale ${inexact} is no float32, as the device takes it`)
  return [
    {
      op: 'resample',
      dims: dimsOf(to.shape),
      output: output!,
      operands: { a: operand(placement, input!, denseStrides(from.shape)) },
      computes: ['float32'],
      takes: besidesA,
      axes: (attributes.axes as number[]).map((axis, at) => ({
        dimension: axis,
        size: from.shape[axis]!,
        scale: scales[at]!,
      })),
      fields: { fn: 'linear' },
    },
  ]
}

export const spatial: Readonly<Record<string, Lowering>> = {
  conv2d: { types: { input: floats }, drafts: convolution },
  convTranspose2d: { types: { input: floats }, drafts: convolution },
  averagePool2d: pool('mean', floats),
  l2Pool2d: pool('l2', floats),
  maxPool2d: pool('max', narrow),
  resample2d: { types: {}, drafts: resample2d },
}
