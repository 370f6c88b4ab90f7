import type { MLOperandDataType, Operator } from '@uaccel/webnn'
import type { Placement } from '@uaccel/webnn/accelerator'
import type { reduceFunctions } from '../tensor-steps.js'
import { type Dim, type Draft, operand } from './draft.js'
import { besidesA, floats, type Lowering } from './lowering.js'
import { computesOf, narrow } from './stages.js'
import { denseStrides } from './strides.js'

/** Dimensions of an input in another order: those that are reduced last. They go along the output's, where they are there. */
export function reducing(
  shape: readonly number[],
  axes: readonly number[],
  result: 'kept' | 'dropped' | 'all',
): { readonly order: readonly number[]; readonly dims: readonly Dim[]; readonly strides: readonly number[] } {
  const strides = denseStrides(shape)
  const kept = shape.map((_, at) => at).filter((at) => !axes.includes(at))
  const order = [...kept, ...axes]
  const dims = order.map((at, place) => {
    const size = shape[at]!
    if (result === 'all') return { size, axis: at }
    if (axes.includes(at)) return { size }
    return { size, axis: result === 'kept' ? at : place }
  })
  return { order, dims, strides: order.map((at) => strides[at]!) }
}

const wide = ['float32', 'int32', 'uint32'] as const

const reduction = (fn: keyof typeof reduceFunctions, types: readonly MLOperandDataType[]): Lowering => ({
  types: { input: types },
  drafts: ({ inputs: { input }, attributes, outputs: [output] }, placement) => {
    const axes = attributes.axes as number[]
    const { dims, strides } = reducing(
      input!.descriptor.shape,
      axes,
      attributes.keepDimensions ? 'kept' : 'dropped',
    )
    return [
      {
        op: 'reduce',
        dims,
        inner: axes.length,
        output: output!,
        operands: { a: operand(placement, input!, strides) },
        computes: computesOf(input!.descriptor.dataType),
        takes: besidesA,
        fields: { fn },
      },
    ]
  },
})

const argument = (fn: 'argMin' | 'argMax'): Lowering => ({
  types: { input: narrow },
  drafts: ({ inputs: { input }, attributes, outputs: [output] }, placement) => {
    const kind = attributes.keepDimensions ? 'kept' : 'dropped'
    const { dims, strides } = reducing(input!.descriptor.shape, [attributes.axis as number], kind)
    return [
      {
        op: 'reduce',
        dims,
        inner: 1,
        output: output!,
        operands: { a: operand(placement, input!, strides) },
        computes: computesOf(input!.descriptor.dataType),
        fields: { fn },
      },
    ]
  },
})

function softmax(
  { inputs: { input }, attributes, outputs: [output] }: Operator,
  placement: Placement,
): Draft[] {
  const { dims, strides } = reducing(input!.descriptor.shape, [attributes.axis as number], 'all')
  return [
    {
      op: 'normalise',
      dims,
      inner: 1,
      output: output!,
      operands: { a: operand(placement, input!, strides) },
      computes: ['float32'],
      takes: besidesA,
      fields: { fn: 'softmax' },
    },
  ]
}

/** From the end it goes with negative strides. */
function cumulativeSum(
  { inputs: { input }, attributes, outputs: [output] }: Operator,
  placement: Placement,
): Draft[] {
  const { shape, dataType } = input!.descriptor
  const axis = attributes.axis as number
  const found = reducing(shape, [axis], 'all')
  const last = shape.length - 1
  const from = attributes.reversed ? shape[axis]! - 1 : 0
  const step = attributes.reversed ? -1 : 1
  const strides = found.strides.with(last, found.strides[last]! * step)
  return [
    {
      op: 'scan',
      dims: found.dims.with(last, { ...found.dims[last]!, step }),
      inner: 1,
      output: output!,
      origin: shape.map((_, at) => (at === axis ? from : 0)),
      operands: { a: operand(placement, input!, strides, from * found.strides[last]!) },
      computes: computesOf(dataType),
      takes: besidesA,
      fields: attributes.exclusive ? { exclusive: true } : {},
    },
  ]
}

export const reductions: Readonly<Record<string, Lowering>> = {
  reduceL1: reduction('l1', wide),
  reduceL2: reduction('l2', floats),
  reduceLogSum: reduction('logSum', floats),
  reduceLogSumExp: reduction('logSumExp', floats),
  reduceMax: reduction('max', narrow),
  reduceMean: reduction('mean', floats),
  reduceMin: reduction('min', narrow),
  reduceProduct: reduction('product', wide),
  reduceSum: reduction('sum', wide),
  reduceSumSquare: reduction('sumSquare', wide),
  argMin: argument('argMin'),
  argMax: argument('argMax'),
  softmax: { types: { input: floats }, drafts: softmax },
  cumulativeSum: { types: { input: wide }, drafts: cumulativeSum },
}
