import type { MLOperand } from '@uaccel/webnn'
import { allocate, type Tensor, tensor } from '../onnx/tensor.js'
import {
  elementCount,
  given,
  ints64,
  isConstant,
  type Mapping,
  type Mappings,
  mostMade,
  type Node,
  operandOf,
  sum,
} from './node.js'

/** The shape that ONNX's Reshape makes of a list with 0 (as it was) and -1 (the rest). */
function reshaped(node: Node): number[] {
  const from = node.shape(0)
  const wanted = node.numbers(1) ?? []
  const keep = node.int('allowzero', 0) === 0
  const shape = wanted.map((size, at) => (size === 0 && keep ? (from[at] ?? Number.NaN) : size))
  const rest = shape.indexOf(-1)
  if (rest >= 0) shape[rest] = elementCount(from) / -elementCount(shape)
  if (
    !shape.every((size) => Number.isInteger(size) && size >= 0) ||
    elementCount(shape) !== elementCount(from)
  )
    throw node.corrupt(`[${from}] cannot be reshaped to [${wanted}]`)
  return shape
}

const reshape =
  (shapeOf: (node: Node) => number[]): Mapping =>
  (node) => {
    const value = node.value(0)
    const shape = shapeOf(node)
    // A constant keeps its elements, which may be none.
    return isConstant(value) ? { ...value, shape } : node.b.reshape(node.operand(0), shape)
  }

function flattened(node: Node): number[] {
  const shape = node.shape(0)
  const before = node.int('axis', 1)
  const axis = before === shape.length ? before : node.axis(before, shape.length)
  return [elementCount(shape.slice(0, axis)), elementCount(shape.slice(axis))]
}

function squeezed(node: Node): number[] {
  const shape = node.shape(0)
  const axes = node.axes(shape.length, 13)
  const bad = axes?.find((axis) => shape[axis] !== 1)
  if (bad !== undefined) throw node.corrupt(`axis ${bad} of [${shape}] is not of size 1`)
  return shape.filter((size, at) => (axes ? !axes.includes(at) : size !== 1))
}

function unsqueezed(node: Node): number[] {
  const count = (node.opset >= 13 ? node.numbers(1) : node.ints('axes'))?.length ?? 0
  const rank = node.shape(0).length + count
  const axes = node.axes(rank, 13) ?? []
  const rest = [...node.shape(0)]
  return Array.from({ length: rank }, (_, at) => (axes.includes(at) ? 1 : rest.shift()!))
}

/** ONNX's Slice: counts from the end, steps back, and is held to the tensor. */
function slice(node: Node): MLOperand | Tensor {
  const shape = node.shape(0)
  const [starts, ends] = [node.numbers(1) ?? [], node.numbers(2) ?? []]
  const axes = (node.numbers(3) ?? starts.map((_, at) => at)).map((axis) => node.axis(axis, shape.length))
  const steps = node.numbers(4) ?? starts.map(() => 1)
  if (
    new Set(axes).size !== axes.length ||
    [axes, ends, steps].some(({ length }) => length !== starts.length)
  )
    throw node.corrupt('starts, ends, axes and steps do not belong together')
  const from = shape.map(() => 0)
  const sizes = [...shape]
  const strides = shape.map(() => 1)
  const back: number[] = []
  axes.forEach((axis, at) => {
    const [size, step] = [shape[axis]!, steps[at]!]
    if (step === 0) throw node.corrupt('a step of 0')
    const hold = (value: number, least: number, most: number) =>
      Math.min(Math.max(value < 0 ? value + size : value, least), most)
    strides[axis] = Math.min(Math.abs(step), 0xffff_ffff)
    if (step > 0) {
      from[axis] = hold(starts[at]!, 0, size)
      sizes[axis] = Math.max(0, hold(ends[at]!, 0, size) - from[axis])
    } else {
      const [first, last] = [hold(starts[at]!, -1, size - 1), hold(ends[at]!, -1, size - 1)]
      back.push(axis)
      from[axis] = size - 1 - first
      sizes[axis] = Math.max(0, first - last)
    }
  })
  const value = node.value(0)
  if (sizes.includes(0)) {
    if (!isConstant(value))
      throw node.unsupported(`of [${shape}] nothing is left, and WebNN has no empty tensors`)
    const empty = sizes.map((size, at) => Math.ceil(size / strides[at]!))
    return { dtype: value.dtype, shape: empty, data: allocate({ dtype: value.dtype, shape: empty }) }
  }
  const x = node.operand(0)
  return node.b.slice(back.length > 0 ? node.b.reverse(x, { axes: back }) : x, from, sizes, { strides })
}

function split(node: Node): readonly MLOperand[] {
  const shape = node.shape(0)
  const axis = node.axis(node.int('axis', 0), shape.length)
  const wanted = node.opset >= 13 ? node.numbers(1) : node.ints('split')
  const count = node.outputs.length
  const named = node.opset >= 18 ? node.int('num_outputs', count) : count
  if (named !== count) throw node.corrupt(`num_outputs is ${named}, and it has ${count}`)
  const each = Math.ceil(shape[axis]! / count)
  const parts = wanted ?? Array.from({ length: count }, (_, at) => Math.min(each, shape[axis]! - at * each))
  if (parts.some((part) => part < 0) || sum(parts) !== shape[axis] || parts.length < node.outputs.length)
    throw node.corrupt(`[${parts}] are not the parts of ${shape[axis]}`)
  return node.b.split(node.operand(0), parts, { axis })
}

function concat(node: Node): MLOperand | Tensor {
  const all = Array.from({ length: node.count }, (_, at) => at).filter((at) => {
    const value = node.value(at)
    return !(isConstant(value) && elementCount(value.shape) === 0)
  })
  if (all.length === 0) return node.constant(0)
  const axis = node.axis(node.int('axis'), node.shape(all[0]!).length)
  return node.b.concat(
    all.map((at) => node.operand(at)),
    axis,
  )
}

const padModes: Readonly<Record<string, 'constant' | 'edge' | 'reflection'>> = {
  constant: 'constant',
  edge: 'edge',
  reflect: 'reflection',
}

function pad(node: Node): MLOperand {
  const { length } = node.shape(0)
  const pads = node.numbers(1) ?? []
  const axes =
    node.numbers(3)?.map((axis) => node.axis(axis, length)) ?? Array.from({ length }, (_, at) => at)
  if (pads.length !== 2 * axes.length) throw node.corrupt(`pads [${pads}] for ${axes.length} axes`)
  const text = node.text('mode', 'constant')
  const mode = padModes[text] ?? undefined
  if (mode === undefined) throw node.unsupported(`mode "${text}" is not supported`)
  const [before, after] = [new Array<number>(length).fill(0), new Array<number>(length).fill(0)]
  axes.forEach((axis, at) => {
    before[axis] = pads[at]!
    after[axis] = pads[at + axes.length]!
  })
  const x = node.operand(0)
  const value = node.has(2) ? (node.constant(2).data[0] as number) : 0
  const held = (sizes: number[]) => sizes.map((size) => Math.max(0, size))
  const padded = (of: MLOperand) => node.b.pad(of, held(before), held(after), { mode, value })
  if (pads.every((size) => size >= 0)) return padded(x)
  // Less than nothing takes elements away: before edges are repeated; after a constant is put around, since nothing else may be left.
  const starts = before.map((size) => Math.max(0, -size))
  const taken = (of: MLOperand) => {
    const sizes = of.shape.map((size, at) => size - starts[at]! - Math.max(0, -after[at]!))
    if (sizes.some((size) => size < 1)) throw node.corrupt(`pads [${pads}] leave nothing of [${x.shape}]`)
    return node.b.slice(of, starts, sizes)
  }
  return mode === 'constant' ? taken(padded(x)) : padded(taken(x))
}

/** Blocks of `size` between channels and places: a reshape, a transposition, a reshape. */
function moveBlocks(node: Node, toDepth: boolean): MLOperand {
  const { b } = node
  const x = node.operand(0)
  const size = node.int('blocksize')
  if (x.shape.length !== 4 || size < 1) throw node.corrupt(`blocks of ${size} in [${x.shape}]`)
  const [n, c, h, w] = x.shape as [number, number, number, number]
  if (toDepth) {
    const apart = b.reshape(x, [n, c, h / size, size, w / size, size])
    const moved = b.transpose(apart, { permutation: [0, 3, 5, 1, 2, 4] })
    return b.reshape(moved, [n, c * size * size, h / size, w / size])
  }
  const rest = c / (size * size)
  const columns = node.text('mode', 'DCR') === 'CRD'
  const apart = b.reshape(x, columns ? [n, rest, size, size, h, w] : [n, size, size, rest, h, w])
  const moved = b.transpose(apart, { permutation: columns ? [0, 1, 4, 2, 5, 3] : [0, 3, 4, 1, 5, 2] })
  return b.reshape(moved, [n, rest, h * size, w * size])
}

function oneHot(node: Node): MLOperand {
  const { b } = node
  const depth = node.number(1, 1)
  const indices = b.cast(node.operand(0), 'int64')
  const axis = node.axis(node.int('axis', -1), indices.shape.length + 1)
  const wide = b.reshape(indices, indices.shape.toSpliced(axis, 0, 1))
  const at = wide.shape.map((_, dimension) => (dimension === axis ? depth : 1))
  const places = operandOf(b, ints64(node.places(depth), at))
  const positive = b.where(b.lesser(wide, node.scalar(wide, 0)), b.add(wide, node.scalar(wide, depth)), wide)
  const [off, on] = [0, 1].map((index) => b.reshape(b.slice(node.operand(2), [index], [1]), []))
  return b.where(b.equal(positive, places), on!, off!)
}

function constantOfShape(node: Node): Tensor | MLOperand {
  const shape = node.numbers(0) ?? []
  const value = (node.attribute('value') as Tensor | undefined) ?? tensor('float32', [], new Float32Array(1))
  if (!shape.every((size) => size >= 0) || elementCount(value.shape) !== 1)
    throw node.corrupt(`a tensor of [${shape}] cannot be`)
  if (elementCount(shape) > mostMade) return node.b.expand(operandOf(node.b, { ...value, shape: [] }), shape)
  const data = allocate({ dtype: value.dtype, shape })
  ;(data as Float32Array).fill(value.data[0] as number)
  return { dtype: value.dtype, shape, data }
}

function range(node: Node): Tensor {
  const [start, limit, delta] = [node.number(0, 0), node.number(1, 0), node.number(2, 1)]
  const count = Math.max(0, Math.ceil((limit - start) / delta))
  if (!(count <= mostMade)) throw node.corrupt(`a range of ${count} elements, at most ${mostMade} are made`)
  const dtype = node.type(0)
  const data = allocate({ dtype, shape: [count] })
  const big = dtype === 'int64' || dtype === 'uint64'
  for (let at = 0; at < count; at++) {
    const value = start + at * delta
    ;(data as Float32Array)[at] = (big ? BigInt(value) : value) as number
  }
  return { dtype, shape: [count], data }
}

function constant(node: Node): Tensor {
  const value = node.attribute('value')
  if (value !== undefined) return value as Tensor
  const [one, list] = [node.attribute('value_float') as number, node.attribute('value_floats') as number[]]
  if (one !== undefined) return tensor('float32', [], Float32Array.of(one))
  if (list !== undefined) return tensor('float32', [list.length], Float32Array.from(list))
  if (node.attribute('value_int') !== undefined) return ints64([node.int('value_int')], [])
  const ints = node.ints('value_ints')
  if (ints) return ints64(ints)
  throw node.unsupported('a constant of numbers or a tensor is wanted')
}

function refuseReduction(node: Node): void {
  const reduction = node.text('reduction', 'none')
  if (reduction !== 'none') throw node.unsupported(`reduction "${reduction}" is not supported`)
}

/** Part of an operand: as many elements of each dimension, from a place on. */
function part(node: Node, x: MLOperand, starts: readonly number[], sizes: readonly number[]): MLOperand {
  return sizes.every((size, at) => size === x.shape[at]) ? x : node.b.slice(x, [...starts], [...sizes])
}

/** The sizes of what elements are chosen from: along the axis all, and otherwise those of the indices, which WebNN wants to be the same. */
function chosenSizes(node: Node, axis: number): number[] {
  const [from, indices] = [node.shape(0), node.shape(1)]
  if (indices.length !== from.length || indices.some((size, at) => at !== axis && size > from[at]!))
    throw node.corrupt(`indices of [${indices}] for [${from}]`)
  return indices.map((size, at) => (at === axis ? from[at]! : size))
}

function gatherElements(node: Node): MLOperand {
  const axis = axisOf(node)
  const sizes = chosenSizes(node, axis)
  const x = node.operand(0)
  return node.b.gatherElements(
    part(
      node,
      x,
      sizes.map(() => 0),
      sizes,
    ),
    node.operand(1),
    { axis },
  )
}

function scatterElements(node: Node): MLOperand {
  refuseReduction(node)
  const axis = axisOf(node)
  const sizes = chosenSizes(node, axis)
  const x = node.operand(0)
  const first = part(
    node,
    x,
    sizes.map(() => 0),
    sizes,
  )
  let all = node.b.scatterElements(first, node.operand(1), node.operand(2), { axis })
  // What no index is beside is put behind again, one dimension after the other.
  x.shape.forEach((size, at) => {
    const from = sizes[at]!
    if (from === size) return
    const rest = sizes.with(at, size - from)
    const starts = sizes.map((_, dimension) => (dimension === at ? from : 0))
    all = node.b.concat([all, node.b.slice(x, starts, rest)], at)
    sizes[at] = size
  })
  return all
}

const axisOf = (node: Node, otherwise = 0) => node.axis(node.int('axis', otherwise), node.shape(0).length)

export const layout: Mappings = {
  Concat: concat,
  Constant: constant,
  ConstantOfShape: constantOfShape,
  DepthToSpace: (node) => moveBlocks(node, false),
  SpaceToDepth: (node) => moveBlocks(node, true),
  Dropout: (node) => {
    if (node.has(2) && node.number(2, 0) !== 0) throw node.unsupported('training_mode is not supported')
    if (node.outputs[1]) throw node.unsupported('its output mask is not computed')
    return node.b.identity(node.operand(0))
  },
  Expand: (node) => {
    const [from, wanted] = [node.shape(0), node.numbers(1) ?? []]
    const rank = Math.max(from.length, wanted.length)
    // Both are stretched to each other: a 1 that is wanted keeps what is there.
    const shape = Array.from({ length: rank }, (_, at) => {
      const [a, b] = [from[at - rank + from.length] ?? 1, wanted[at - rank + wanted.length] ?? 1]
      return b === 1 ? a : b
    })
    return node.b.expand(node.operand(0), shape)
  },
  Flatten: reshape(flattened),
  Reshape: reshape(reshaped),
  Squeeze: reshape(squeezed),
  Unsqueeze: reshape(unsqueezed),
  Gather: (node) => node.b.gather(node.operand(0), node.operand(1), { axis: axisOf(node) }),
  GatherElements: gatherElements,
  GatherND: (node) => {
    if (node.int('batch_dims', 0) !== 0) throw node.unsupported('batch_dims is not supported')
    return node.b.gatherND(node.operand(0), node.operand(1))
  },
  ScatterElements: scatterElements,
  ScatterND: (node) => {
    refuseReduction(node)
    return node.b.scatterND(node.operand(0), node.operand(1), node.operand(2))
  },
  OneHot: oneHot,
  Pad: pad,
  Range: range,
  Shape: (node) => {
    const shape = node.shape(0)
    const hold = (at: number) => Math.min(Math.max(at < 0 ? at + shape.length : at, 0), shape.length)
    return ints64(shape.slice(hold(node.int('start', 0)), hold(node.int('end', shape.length))))
  },
  Size: (node) => ints64([elementCount(node.shape(0))], []),
  Slice: slice,
  Split: split,
  Tile: (node) => {
    const repetitions = node.numbers(1) ?? []
    if (!repetitions.every((count) => Number.isInteger(count) && count > 0 && count < 2 ** 31))
      throw node.unsupported(`repeats [${repetitions}]: WebNN has no empty tensors`)
    return node.b.tile(node.operand(0), repetitions)
  },
  Transpose: (node) => node.b.transpose(node.operand(0), given({ permutation: node.ints('perm') })),
  Trilu: (node) => {
    const diagonal = Math.min(Math.max(node.number(1, 0), -(2 ** 31)), 2 ** 31 - 1)
    return node.b.triangular(node.operand(0), { upper: node.int('upper', 1) === 1, diagonal })
  },
}
