import type { Operator } from '@uaccel/webnn'
import type { Placement } from '@uaccel/webnn/accelerator'
import { type Dim, type Draft, dimsOf, operand, refuse } from './draft.js'
import type { Lowering } from './lowering.js'
import { denseStrides } from './strides.js'

const indexTypes = ['int32', 'uint32', 'int64'] as const
/** Axes that indices may count along: docs/devices/npu.md, 9.15. */
const MAX_AXES = 4

function gather(
  { inputs: { input, indices }, attributes, outputs: [output] }: Operator,
  placement: Placement,
): Draft[] {
  const axis = attributes.axis as number
  const { shape } = input!.descriptor
  const strides = denseStrides(shape)
  const own = denseStrides(indices!.descriptor.shape)
  const none = (count: number) => new Array<number>(count).fill(0)
  return [
    {
      op: 'gather',
      dims: dimsOf(output!.descriptor.shape),
      output: output!,
      operands: {
        a: operand(placement, input!, [
          ...strides.slice(0, axis),
          ...none(own.length),
          ...strides.slice(axis + 1),
        ]),
        b: operand(placement, indices!, [...none(axis), ...own, ...none(shape.length - axis - 1)]),
      },
      computes: ['none'],
      fields: { indices: { stride: 0, axes: [{ size: shape[axis]!, stride: strides[axis]! }] } },
    },
  ]
}

function gatherElements(
  { inputs: { input, indices }, attributes, outputs: [output] }: Operator,
  placement: Placement,
): Draft[] {
  const axis = attributes.axis as number
  const strides = denseStrides(input!.descriptor.shape)
  const { shape } = indices!.descriptor
  return [
    {
      op: 'gather',
      dims: dimsOf(shape),
      output: output!,
      operands: {
        a: operand(placement, input!, strides.with(axis, 0)),
        b: operand(placement, indices!, denseStrides(shape)),
      },
      computes: ['none'],
      fields: {
        indices: { stride: 0, axes: [{ size: input!.descriptor.shape[axis]!, stride: strides[axis]! }] },
      },
    },
  ]
}

/** What scatters begin with: the elements that stay. */
function copy({ inputs: { input }, outputs: [output] }: Operator, placement: Placement): Draft {
  const { shape } = output!.descriptor
  return {
    op: 'elementwise',
    dims: dimsOf(shape),
    output: output!,
    operands: { a: operand(placement, input!, denseStrides(shape)) },
    computes: ['none'],
  }
}

function scatterElements(operator: Operator, placement: Placement): Draft[] {
  const {
    inputs: { indices, updates },
    attributes,
    outputs: [output],
  } = operator
  const axis = attributes.axis as number
  const strides = denseStrides(output!.descriptor.shape)
  const { shape } = indices!.descriptor
  return [
    copy(operator, placement),
    {
      op: 'scatter',
      dims: dimsOf(shape),
      output: output!,
      operands: {
        a: operand(placement, updates!, denseStrides(shape)),
        b: operand(placement, indices!, denseStrides(shape)),
      },
      d: operand(placement, output!, strides.with(axis, 0)),
      computes: ['none'],
      fields: {
        indices: { stride: 0, axes: [{ size: output!.descriptor.shape[axis]!, stride: strides[axis]! }] },
      },
    },
  ]
}

/** Lists of coordinates, in the last dimension of `indices`, and what one of them picks of `shape`. */
function lists(shape: readonly number[], indices: readonly number[]) {
  const count = indices.at(-1)!
  if (count > MAX_AXES) refuse(`${count} coordinates for each element: the device takes at most ${MAX_AXES}`)
  const strides = denseStrides(shape)
  const own = denseStrides(indices).slice(0, -1)
  const rest = shape.slice(count)
  const dims: Dim[] = dimsOf([...indices.slice(0, -1), ...rest])
  const none = (length: number) => new Array<number>(length).fill(0)
  return {
    dims,
    /** Strides of what is picked from, of indices, and of what lists the results. */
    picked: [...none(own.length), ...strides.slice(count)],
    indices: [...own, ...none(rest.length)],
    results: denseStrides(dims.map(({ size }) => size)),
    fields: {
      indices: { stride: 1, axes: shape.slice(0, count).map((size, at) => ({ size, stride: strides[at]! })) },
    },
  }
}

function gatherND(
  { inputs: { input, indices }, outputs: [output] }: Operator,
  placement: Placement,
): Draft[] {
  const found = lists(input!.descriptor.shape, indices!.descriptor.shape)
  return [
    {
      op: 'gather',
      dims: found.dims,
      output: output!,
      operands: {
        a: operand(placement, input!, found.picked),
        b: operand(placement, indices!, found.indices),
      },
      computes: ['none'],
      fields: found.fields,
    },
  ]
}

function scatterND(operator: Operator, placement: Placement): Draft[] {
  const {
    inputs: { indices, updates },
    outputs: [output],
  } = operator
  const found = lists(output!.descriptor.shape, indices!.descriptor.shape)
  return [
    copy(operator, placement),
    {
      op: 'scatter',
      dims: found.dims,
      output: output!,
      operands: {
        a: operand(placement, updates!, found.results),
        b: operand(placement, indices!, found.indices),
      },
      d: operand(placement, output!, found.picked),
      computes: ['none'],
      fields: found.fields,
    },
  ]
}

const types = { indices: indexTypes }
export const gathers: Readonly<Record<string, Lowering>> = {
  gather: { types, drafts: gather },
  gatherElements: { types, drafts: gatherElements },
  gatherND: { types, drafts: gatherND },
  scatterElements: { types, drafts: scatterElements },
  scatterND: { types, drafts: scatterND },
}
