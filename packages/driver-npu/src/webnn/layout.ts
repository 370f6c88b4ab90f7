import type { Operator, Value } from '@uaccel/webnn'
import type { Placement } from '@uaccel/webnn/accelerator'
import { arrayBytes } from './constants.js'
import { broadcastOperand, type Dim, type Draft, dimsOf, operand, typeOf } from './draft.js'
import { everyType, type Lowering } from './lowering.js'
import { computesOf } from './stages.js'
import { broadcastStrides, denseStrides } from './strides.js'

type View = readonly [strides: readonly number[], base?: number]

const takes = ['a', 'b', 'c'] as const
const inputOf = ({ inputs: { input } }: Operator): Value => input!

/** Elements of an input to a part of an output, as they are. Types of 64 bits can be moved, and not computed with. */
function move(
  placement: Placement,
  from: Value,
  to: Value,
  dims: readonly Dim[],
  [strides, base = 0]: View,
  origin?: readonly number[],
): Draft {
  return {
    op: 'elementwise',
    dims,
    output: to,
    operands: { a: operand(placement, from, strides, base) },
    computes: computesOf(from.descriptor.dataType),
    ...(origin ? { origin } : { takes }),
  }
}

/** An operator whose output is a view of the input with other strides, gone through by the dimensions of the output. */
const moving = (view: (operator: Operator) => View): Lowering => ({
  types: {},
  drafts: (operator, placement) => {
    const [output] = operator.outputs
    return [move(placement, inputOf(operator), output!, dimsOf(output!.descriptor.shape), view(operator))]
  },
})

const zeros = (count: number) => new Array<number>(count).fill(0)

function concat({ inputs, attributes, outputs: [output] }: Operator, placement: Placement): Draft[] {
  const axis = attributes.axis as number
  let at = 0
  return Object.values(inputs).map((input) => {
    const { shape } = input.descriptor
    const origin = zeros(shape.length).with(axis, at)
    at += shape[axis]!
    return move(placement, input, output!, dimsOf(shape), [denseStrides(shape)], origin)
  })
}

function split({ inputs: { input }, attributes, outputs }: Operator, placement: Placement): Draft[] {
  const axis = attributes.axis as number
  const strides = denseStrides(input!.descriptor.shape)
  let at = 0
  return outputs.map((output) => {
    const { shape } = output.descriptor
    const base = at * strides[axis]!
    at += shape[axis]!
    return move(placement, input!, output, dimsOf(shape), [strides, base])
  })
}

/** The input goes into the middle. A constant was everywhere before; else each dimension in turn gets its edges, of what there is by then. */
function pad({ inputs: { input }, attributes, outputs: [output] }: Operator, placement: Placement): Draft[] {
  const { beginningPadding, endingPadding, mode, value } = attributes as {
    beginningPadding: readonly number[]
    endingPadding: readonly number[]
    mode: string
    value: number | bigint
  }
  const { shape, dataType } = input!.descriptor
  const padded = output!.descriptor.shape
  const strides = denseStrides(padded)
  const middle = move(placement, input!, output!, dimsOf(shape), [denseStrides(shape)], beginningPadding)
  if (mode === 'constant') {
    const at = placement.keep(arrayBytes(dataType, [value]))
    const fill: Draft = {
      op: 'elementwise',
      dims: dimsOf(padded),
      output: output!,
      operands: { a: { at, type: typeOf(output!), strides: zeros(padded.length) } },
      computes: computesOf(dataType),
    }
    return [fill, middle]
  }
  const drafts = [middle]
  /** How far dimensions before this one reach: those behind have the input's elements only. */
  const sizes = [...shape]
  const origin = [...beginningPadding]
  const edge = (axis: number, count: number, to: number, from: number, step: number) => {
    if (count === 0) return
    const begin = origin.with(axis, from)
    drafts.push(
      move(
        placement,
        output!,
        output!,
        dimsOf(sizes.with(axis, count)),
        [strides.with(axis, strides[axis]! * step), begin.reduce((sum, at, i) => sum + at * strides[i]!, 0)],
        origin.with(axis, to),
      ),
    )
  }
  for (const [axis, size] of shape.entries()) {
    const [before, after] = [beginningPadding[axis]!, endingPadding[axis]!]
    const mirrors = mode === 'reflection'
    edge(axis, before, 0, mirrors ? 2 * before : before, mirrors ? -1 : 0)
    edge(axis, after, before + size, before + size - (mirrors ? 2 : 1), mirrors ? -1 : 0)
    origin[axis] = 0
    sizes[axis] = padded[axis]!
  }
  return drafts
}

/** What is on the wrong side of the diagonal is 0: elements are chosen by their indices, as words. */
function triangular(
  { inputs: { input }, attributes, outputs: [output] }: Operator,
  placement: Placement,
): Draft[] {
  const { shape, dataType } = input!.descriptor
  const last = shape.length - 1
  const words = dataType === 'float32' || dataType === 'uint32' ? 'int32' : dataType
  const plain = { op: 'elementwise', dims: dimsOf(shape), output: output! } as const
  const view = { ...broadcastOperand(placement, input!, plain), type: words as 'int32' }
  const to = { ...broadcastOperand(placement, output!, plain), type: words as 'int32' }
  return [
    {
      ...plain,
      operands: { a: view },
      d: to,
      computes: ['int32'],
      stages: [
        { fn: 'sub', x: { index: last }, y: { index: last - 1 } },
        {
          fn: attributes.upper ? 'greaterOrEqual' : 'lesserOrEqual',
          y: 'alpha',
          alpha: attributes.diagonal as number,
        },
        { fn: 'select', y: 'a', z: 'alpha' },
      ],
    },
  ]
}

export const layout: Readonly<Record<string, Lowering>> = {
  identity: moving((operator) => [denseStrides(inputOf(operator).descriptor.shape)]),
  reshape: {
    types: {},
    drafts: ({ inputs: { input }, outputs: [output] }, placement) => {
      const { shape } = output!.descriptor
      return [move(placement, input!, output!, dimsOf(shape), [denseStrides(shape)])]
    },
  },
  transpose: moving((operator) => {
    const strides = denseStrides(inputOf(operator).descriptor.shape)
    return [(operator.attributes.permutation as number[]).map((at) => strides[at]!)]
  }),
  slice: moving((operator) => {
    const { starts, strides: steps } = operator.attributes as { starts: number[]; strides: number[] }
    const strides = denseStrides(inputOf(operator).descriptor.shape)
    return [
      strides.map((stride, at) => stride * steps[at]!),
      starts.reduce((sum, start, at) => sum + start * strides[at]!, 0),
    ]
  }),
  reverse: moving((operator) => {
    const axes = operator.attributes.axes as number[]
    const { shape } = inputOf(operator).descriptor
    const strides = denseStrides(shape)
    return [
      strides.map((stride, at) => (axes.includes(at) ? -stride : stride)),
      axes.reduce((sum, axis) => sum + (shape[axis]! - 1) * strides[axis]!, 0),
    ]
  }),
  expand: moving((operator) => [
    broadcastStrides(inputOf(operator).descriptor.shape, operator.outputs[0]!.descriptor.shape),
  ]),
  tile: {
    types: {},
    drafts: ({ inputs: { input }, attributes, outputs: [output] }, placement) => {
      const { shape } = input!.descriptor
      const repetitions = attributes.repetitions as number[]
      const dims = shape.flatMap((size, axis) => [
        { size: repetitions[axis]!, axis, step: size },
        { size, axis },
      ])
      const strides = denseStrides(shape).flatMap((stride) => [0, stride])
      return [move(placement, input!, output!, dims, [strides])]
    },
  },
  concat: { types: {}, drafts: concat },
  split: { types: {}, drafts: split },
  pad: { types: {}, drafts: pad },
  triangular: { types: { input: everyType.filter((type) => !type.endsWith('64')) }, drafts: triangular },
}
