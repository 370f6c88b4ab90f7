import type { Operator, Value } from '@uaccel/webnn'
import type { Placement } from '@uaccel/webnn/accelerator'
import type { Stage } from '../tensor-steps.js'
import { arrayBytes } from './constants.js'
import { broadcastOperand, type Dim, type Draft, dimsOf, type Operand, operand } from './draft.js'
import { besidesA, besidesB, floats, type Lowering } from './lowering.js'
import { reducing } from './reduction.js'
import { broadcastStrides, denseStrides, product } from './strides.js'

const types = { input: floats, a: floats }

function matmul({ inputs: { a, b }, outputs: [output] }: Operator, placement: Placement): Draft[] {
  const { shape } = output!.descriptor
  const batches = shape.slice(0, -2)
  const [rows, inner] = a!.descriptor.shape.slice(-2) as [number, number]
  const columns = b!.descriptor.shape.at(-1)!
  const along = ({ descriptor }: Value) => {
    const size = product(descriptor.shape.slice(-2))
    return broadcastStrides(descriptor.shape.slice(0, -2), batches).map((stride) => stride * size)
  }
  const rank = shape.length
  return [
    {
      op: 'contract',
      dims: [
        ...dimsOf(batches),
        { size: rows, axis: rank - 2 },
        { size: columns, axis: rank - 1 },
        { size: inner },
      ],
      inner: 1,
      output: output!,
      operands: {
        a: operand(placement, a!, [...along(a!), inner, 0, 1]),
        b: operand(placement, b!, [...along(b!), 0, 1, columns]),
      },
      computes: ['float32'],
      takes: besidesB,
    },
  ]
}

function gemm(
  { inputs: { a, b, c }, attributes, outputs: [output] }: Operator,
  placement: Placement,
): Draft[] {
  const { alpha, beta, aTranspose, bTranspose } = attributes as {
    alpha: number
    beta: number
    aTranspose: boolean
    bTranspose: boolean
  }
  const [rows, columns] = output!.descriptor.shape as [number, number]
  const inner = a!.descriptor.shape[aTranspose ? 0 : 1]!
  const dims: Dim[] = [{ size: rows, axis: 0 }, { size: columns, axis: 1 }, { size: inner }]
  const stages: Stage[] = alpha === 1 ? [] : [{ fn: 'mul', y: 'alpha', alpha }]
  const drafts: Draft[] = []
  let more: Operand | undefined
  if (c && beta !== 0) {
    more = broadcastOperand(placement, c, { dims, output: output! })
    if (beta !== 1) {
      const { shape } = c.descriptor
      const scaled = {
        at: placement.scratch(4 * product(shape)),
        type: 'float32',
        strides: denseStrides(shape),
      } as const
      drafts.push({
        op: 'elementwise',
        dims: dimsOf(shape),
        output: c,
        operands: { a: operand(placement, c, denseStrides(shape)) },
        d: scaled,
        computes: ['float32'],
        stages: [{ fn: 'mul', y: 'alpha', alpha: beta }],
      })
      more = { ...more, at: scaled.at }
    }
    stages.push({ fn: 'add', y: 'c' })
  }
  return [
    ...drafts,
    {
      op: 'contract',
      dims,
      inner: 1,
      output: output!,
      operands: {
        a: operand(placement, a!, aTranspose ? [1, 0, rows] : [inner, 0, 1]),
        b: operand(placement, b!, bTranspose ? [0, inner, 1] : [0, 1, columns]),
        ...(more ? { c: more } : {}),
      },
      computes: ['float32'],
      takes: besidesB,
      stages,
    },
  ]
}

/** Numbers of a constant. */
function floatsOf(value: Value | undefined, placement: Placement): Float32Array | undefined {
  const bytes = value && placement.constant(value)
  return bytes && new Float32Array(bytes.slice().buffer)
}

/** A number for each channel. */
const channels = (value: Value, placement: Placement, strides: readonly number[]): Operand =>
  operand(placement, value, strides)

/** Of constants it is one command with two numbers of the channel; else the deviation comes first. */
function batchNormalization(operator: Operator, placement: Placement): Draft[] {
  const {
    inputs: { input, mean, variance, scale, bias },
    attributes,
    outputs: [output],
  } = operator
  const { shape } = output!.descriptor
  const axis = attributes.axis as number
  const epsilon = attributes.epsilon as number
  const dims = dimsOf(shape)
  const strides = shape.map((_, at) => (at === axis ? 1 : 0))
  const whole = { op: 'elementwise', dims, output: output!, computes: ['float32'] } as const
  const a = operand(placement, input!, denseStrides(shape))
  const [means, variances] = [floatsOf(mean, placement), floatsOf(variance, placement)]
  const [scales, biases] = [floatsOf(scale, placement), floatsOf(bias, placement)]
  if (means && variances && (!scale || scales) && (!bias || biases)) {
    const factors = Array.from(variances, (square, c) => (scales?.[c] ?? 1) / Math.sqrt(square + epsilon))
    const kept = (values: readonly number[]): Operand => ({
      at: placement.keep(arrayBytes('float32', values)),
      type: 'float32',
      strides,
    })
    // Without a bias the deviation comes first, so that nothing is lost where x is near the mean.
    const [b, c, stages]: [readonly number[], readonly number[], Stage[]] = biases
      ? [
          factors,
          factors.map((factor, at) => biases[at]! - means[at]! * factor),
          [
            { fn: 'mul', y: 'b' },
            { fn: 'add', y: 'c' },
          ],
        ]
      : [
          Array.from(means),
          factors,
          [
            { fn: 'sub', y: 'b' },
            { fn: 'mul', y: 'c' },
          ],
        ]
    return [{ ...whole, operands: { a, b: kept(b), c: kept(c) }, stages, takes: ['a', 'b', 'c'] }]
  }
  const size = shape[axis]!
  const root: Operand = { at: placement.scratch(4 * size), type: 'float32', strides: [1] }
  const drafts: Draft[] = [
    {
      op: 'elementwise',
      dims: [{ size, axis: 0 }],
      output: variance!,
      operands: { a: operand(placement, variance!, [1]) },
      d: root,
      computes: ['float32'],
      stages: [{ fn: 'add', y: 'alpha', alpha: epsilon }, { fn: 'sqrt' }],
    },
    {
      ...whole,
      operands: { a, b: channels(mean!, placement, strides), c: { ...root, strides } },
      stages: [
        { fn: 'sub', y: 'b' },
        { fn: 'div', y: 'c' },
      ],
    },
  ]
  if (scale || bias)
    drafts.push({
      ...whole,
      operands: {
        a: operand(placement, output!, denseStrides(shape)),
        ...(scale ? { b: channels(scale, placement, strides) } : {}),
        ...(bias ? { c: channels(bias, placement, strides) } : {}),
      },
      stages: affine(scale, bias),
    })
  return drafts
}

const affine = (scale: Value | undefined, bias: Value | undefined): Stage[] => [
  ...(scale ? [{ fn: 'mul', y: 'b' } as const] : []),
  ...(bias ? [{ fn: 'add', y: 'c' } as const] : []),
]

/** Mean 0 and variance 1 along `axes`, then a scale and a bias, whose strides by dimension of the input are given. */
function standardise(
  operator: Operator,
  placement: Placement,
  axes: readonly number[],
  along: readonly number[],
): Draft[] {
  const {
    inputs: { input, scale, bias },
    attributes,
    outputs: [output],
  } = operator
  const { order, dims, strides } = reducing(input!.descriptor.shape, axes, 'all')
  const own = order.map((at) => along[at]!)
  return [
    {
      op: 'normalise',
      dims,
      inner: axes.length,
      output: output!,
      operands: {
        a: operand(placement, input!, strides),
        ...(scale ? { b: operand(placement, scale, own) } : {}),
        ...(bias ? { c: operand(placement, bias, own) } : {}),
      },
      computes: ['float32'],
      stages: affine(scale, bias),
      takes: besidesA,
      fields: { fn: 'standardise', epsilon: attributes.epsilon },
    },
  ]
}

function instanceNormalization(operator: Operator, placement: Placement): Draft[] {
  const nchw = operator.attributes.layout === 'nchw'
  return standardise(operator, placement, nchw ? [2, 3] : [1, 2], nchw ? [0, 1, 0, 0] : [0, 0, 0, 1])
}

function layerNormalization(operator: Operator, placement: Placement): Draft[] {
  const { shape } = operator.inputs.input!.descriptor
  const axes = operator.attributes.axes as number[]
  const own = denseStrides(axes.map((axis) => shape[axis]!))
  return standardise(
    operator,
    placement,
    axes,
    shape.map((_, at) => own[axes.indexOf(at)] ?? 0),
  )
}

export const matrix: Readonly<Record<string, Lowering>> = {
  matmul: { types, drafts: matmul },
  gemm: { types, drafts: gemm },
  batchNormalization: { types, drafts: batchNormalization },
  instanceNormalization: { types, drafts: instanceNormalization },
  layerNormalization: { types, drafts: layerNormalization },
}
