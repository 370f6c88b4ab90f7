import type { MLOperand } from '@uaccel/webnn'
import { dataType } from '../onnx/load.js'
import { type DataType, elementCount, tensor } from '../onnx/tensor.js'
import { multiply } from './matrix.js'
import { isConstant, type Mapping, type Mappings, mostMade, type Node, operandOf } from './node.js'
import { convolve } from './spatial.js'

/** The shape in which scale and zero point stand beside an operand: WebNN wants as many dimensions as the operand has. */
function besides(node: Node, index: number, shape: readonly number[], axis: number): number[] {
  const given = node.shape(index)
  const count = elementCount(given)
  if (count === 1) return shape.map(() => 1)
  if (given.length === 1) return shape.map((_, at) => (at === axis ? count : 1))
  return [...given]
}

/** An input in another shape of as many elements: a constant stays one. */
function shaped(node: Node, index: number, shape: readonly number[]): MLOperand {
  const value = node.value(index)
  if (isConstant(value)) return operandOf(node.b, { ...value, shape })
  const x = node.operand(index)
  return node.b.reshape(x, [...shape])
}

const zeros = (node: Node, dtype: DataType, shape: readonly number[]): MLOperand =>
  node.b.expand(node.b.constant(dtype, 0), [...shape])

/** `x`, which has scale and zero point in these inputs, as float32. */
export function dequantized(
  node: Node,
  x: MLOperand,
  scaleAt: number,
  zeroAt: number,
  axis: number,
): MLOperand {
  const shape = besides(node, scaleAt, x.shape, axis)
  const zero = node.has(zeroAt)
    ? expanded(node, zeroAt, besides(node, zeroAt, x.shape, axis), shape)
    : zeros(node, x.dataType as DataType, shape)
  return node.b.dequantizeLinear(x, shaped(node, scaleAt, shape), zero)
}

/** A zero point for all where there is a scale for each, which WebNN wants of one shape. */
function expanded(node: Node, index: number, shape: readonly number[], wanted: readonly number[]): MLOperand {
  const x = shaped(node, index, shape)
  return elementCount(shape) === elementCount(wanted) ? x : node.b.expand(x, [...wanted])
}

export function quantized(
  node: Node,
  x: MLOperand,
  scaleAt: number,
  zeroAt: number,
  axis = 1,
  dtype: DataType = 'uint8',
): MLOperand {
  const shape = besides(node, scaleAt, x.shape, axis)
  const zero = node.has(zeroAt)
    ? expanded(node, zeroAt, besides(node, zeroAt, x.shape, axis), shape)
    : zeros(node, dtype, shape)
  return node.b.quantizeLinear(x, shaped(node, scaleAt, shape), zero)
}

/** The axis of a scale for each of its elements; a scalar has none. */
const scaleAxis = (node: Node): number => {
  const { length } = node.shape(0)
  return length === 0 || node.shape(1).length === 0 ? 0 : node.axis(node.int('axis', 1), length)
}

function quantizeLinear(node: Node): MLOperand {
  const x = node.operand(0)
  const code = node.int('output_dtype', 0)
  const dtype = code === 0 ? 'uint8' : dataType(code, node.where)
  return quantized(
    node,
    x.dataType === 'float32' ? x : node.b.cast(x, 'float32'),
    1,
    2,
    scaleAxis(node),
    dtype,
  )
}

/** The bias of a convolution of integers: its scale is that of the input times that of each filter. */
function biasOf(node: Node, index: number, inputScale: number, filterScale: number): MLOperand | undefined {
  if (!node.has(index)) return undefined
  const bias = node.operand(index)
  const [a, b] = [node.constant(inputScale), node.constant(filterScale)]
  const [one, each] = [a.data[0] as number, b.data as Float32Array]
  const scale = Float32Array.from(
    { length: bias.shape[0] ?? 0 },
    (_, at) => one * each[each.length === 1 ? 0 : at]!,
  )
  return node.b.dequantizeLinear(
    bias,
    operandOf(node.b, tensor('float32', [scale.length], scale)),
    operandOf(node.b, tensor('int32', [scale.length], new Int32Array(scale.length))),
  )
}

function qLinearConv(node: Node): MLOperand {
  const x = dequantized(node, node.operand(0), 1, 2, 1)
  const w = dequantized(node, node.operand(3), 4, 5, 0)
  return quantized(node, convolve(node, x, w, biasOf(node, 8, 1, 4)), 6, 7)
}

function qLinearMatMul(node: Node): MLOperand {
  const a = dequantized(node, node.operand(0), 1, 2, node.shape(0).length - 2)
  const b = dequantized(node, node.operand(3), 4, 5, node.shape(3).length - 1)
  return quantized(node, multiply(node, a, b), 6, 7)
}

/** Products of two differences of bytes, so many of which float32 sums exactly: 258 * 255 * 255 < 2^24. */
const exactProducts = 258

/** x - zero point, as float32, which holds it exactly. */
function shifted(node: Node, index: number, zeroAt: number, axis: number): MLOperand {
  const x = node.operand(index)
  const shape = node.has(zeroAt) ? besides(node, zeroAt, x.shape, axis) : x.shape.map(() => 1)
  const zero = node.has(zeroAt) ? shaped(node, zeroAt, shape) : zeros(node, x.dataType as DataType, shape)
  return node.b.dequantizeLinear(x, node.b.expand(node.scalar({ dataType: 'float32' }, 1), shape), zero)
}

/** Parts of an axis, of so many elements each: [from, count]. */
const partsOf = (size: number, each: number): [number, number][] =>
  Array.from({ length: Math.ceil(size / each) }, (_, at) => [at * each, Math.min(each, size - at * each)])

function part(node: Node, x: MLOperand, axis: number, [from, count]: [number, number]): MLOperand {
  if (count === x.shape[axis]) return x
  return node.b.slice(
    x,
    x.shape.map((_, at) => (at === axis ? from : 0)),
    x.shape.map((size, at) => (at === axis ? count : size)),
  )
}

/** Sums of parts that float32 holds exactly, added as int32. */
function inParts(
  node: Node,
  size: number,
  each: number,
  product: (at: [number, number]) => MLOperand,
): MLOperand {
  if (size > mostMade) throw node.unsupported(`sums of ${size} products; at most ${mostMade} are supported`)
  return partsOf(size, each)
    .map((at) => node.b.cast(product(at), 'int32'))
    .reduce((all, one) => node.b.add(all, one))
}

function matMulInteger(node: Node): MLOperand {
  const [rankA, rankB] = [node.shape(0).length, node.shape(1).length]
  const [axisA, axisB] = [rankA - 1, Math.max(0, rankB - 2)]
  const a = shifted(node, 0, 2, rankA - 2)
  const b = shifted(node, 1, 3, rankB - 1)
  return inParts(node, a.shape[axisA]!, exactProducts, (at) =>
    multiply(node, part(node, a, axisA, at), part(node, b, axisB, at)),
  )
}

function convInteger(node: Node): MLOperand {
  const [x, w] = [shifted(node, 0, 2, 1), shifted(node, 1, 3, 0)]
  const area = elementCount(w.shape.slice(2))
  const channels = w.shape[1]!
  if (area * channels <= exactProducts) return node.b.cast(convolve(node, x, w), 'int32')
  if (node.int('group', 1) !== 1 || area > exactProducts)
    throw node.unsupported(
      `sums of ${area * channels} products in groups are beyond what float32 holds exactly`,
    )
  const each = Math.floor(exactProducts / area)
  return inParts(node, channels, each, (at) => convolve(node, part(node, x, 1, at), part(node, w, 1, at)))
}

/** ONNX, DynamicQuantizeLinear-11: the range with 0 in 255 steps. */
function dynamicQuantize(node: Node): readonly MLOperand[] {
  const { b } = node
  const x = node.operand(0)
  const zero = node.scalar(x, 0)
  const [most, least] = [b.max(b.reduceMax(x), zero), b.min(b.reduceMin(x), zero)]
  const range = b.div(b.sub(most, least), node.scalar(x, 255))
  // Of zeros alone: a scale of 1, as onnxruntime has it.
  const scale = b.where(b.equal(range, zero), node.scalar(x, 1), range)
  const point = b.clamp(b.div(b.neg(least), scale), { minValue: 0, maxValue: 255 })
  const zeroPoint = b.cast(b.roundEven(point), 'uint8')
  const ones = x.shape.map(() => 1)
  return [b.quantizeLinear(x, b.reshape(scale, ones), b.reshape(zeroPoint, ones)), scale, zeroPoint]
}

/** com.microsoft: a function of two quantised tensors, each with scale and zero point, as those of the output. */
const qLinearBinary =
  (name: 'add' | 'mul'): Mapping =>
  (node) => {
    const [a, b] = [0, 3].map((at) => dequantized(node, node.operand(at), at + 1, at + 2, 0))
    return quantized(node, node.b[name](a!, b!), 6, 7, 1, node.type(0))
  }

const qLinearUnary =
  (compute: (node: Node, x: MLOperand) => MLOperand): Mapping =>
  (node) =>
    quantized(node, compute(node, dequantized(node, node.operand(0), 1, 2, 0)), 3, 4, 1, node.type(0))

export const quantisedOperators: Mappings = {
  QuantizeLinear: quantizeLinear,
  DequantizeLinear: (node) => dequantized(node, node.operand(0), 1, 2, scaleAxis(node)),
  DynamicQuantizeLinear: dynamicQuantize,
  QLinearConv: qLinearConv,
  QLinearMatMul: qLinearMatMul,
  ConvInteger: convInteger,
  MatMulInteger: matMulInteger,
  'com.microsoft:QLinearAdd': qLinearBinary('add'),
  'com.microsoft:QLinearMul': qLinearBinary('mul'),
  'com.microsoft:QLinearSigmoid': qLinearUnary((node, x) => node.b.sigmoid(x)),
  'com.microsoft:QLinearLeakyRelu': qLinearUnary((node, x) =>
    node.b.leakyRelu(x, { alpha: node.float('alpha', 0.01) }),
  ),
}
