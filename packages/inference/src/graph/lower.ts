import type { NodeReader } from './node-reader.js'
import type { Operation, Range, Value, Window } from './operations.js'
import {
  type DataType,
  describe,
  elementCount,
  isQuantised,
  limits,
  type QuantisedType,
  type Tensor,
} from './tensor.js'

/** What a node becomes: an operation but for the output's name, which the compiler adds. */
type Lowered = DistributiveOmit<Operation, 'name' | 'op' | 'output'> & { output: Value['type'] }
type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never

/** One operator: the inputs that it takes, and how a node of it is checked and its output's type inferred. */
interface Operator {
  readonly inputs: readonly [min: number, max: number]
  readonly lower: (node: NodeReader) => Lowered
}

const everything: Range = { min: Number.NEGATIVE_INFINITY, max: Number.POSITIVE_INFINITY }

/** The window attributes that Conv and MaxPool share, with `auto_pad` resolved, and the output's height and width. */
function window(
  node: NodeReader,
  shape: readonly number[],
  kernel: readonly number[],
): Window & { size: readonly [number, number] } {
  const strides = node.integers('strides', [1, 1], 1)
  const dilations = node.integers('dilations', [1, 1], 1)
  const autoPad = node.text('auto_pad', 'NOTSET')
  const spans = [0, 1].map((axis) => dilations[axis] * (kernel[axis] - 1) + 1)
  let pads = node.integers('pads', [0, 0, 0, 0], 0)
  if (autoPad === 'SAME_UPPER' || autoPad === 'SAME_LOWER') {
    const totals = [0, 1].map((axis) => {
      const size = Math.ceil(shape[2 + axis] / strides[axis])
      return Math.max(0, (size - 1) * strides[axis] + spans[axis] - shape[2 + axis])
    })
    const begin = totals.map((total) =>
      autoPad === 'SAME_UPPER' ? Math.floor(total / 2) : Math.ceil(total / 2),
    )
    pads = [...begin, ...totals.map((total, axis) => total - begin[axis])]
  } else if (autoPad !== 'NOTSET' && autoPad !== 'VALID') {
    throw node.corrupt(`attribute "auto_pad" is "${autoPad}"`)
  }
  const size = [0, 1].map((axis) => {
    const room = shape[2 + axis] + pads[axis] + pads[axis + 2] - spans[axis]
    if (room < 0) {
      throw node.badShape(
        `a kernel that spans ${spans.join('x')} does not fit the input [${shape.join(',')}] with pads [${pads.join(',')}]`,
      )
    }
    return Math.floor(room / strides[axis]) + 1
  })
  return {
    kernel: [kernel[0], kernel[1]],
    strides: [strides[0], strides[1]],
    dilations: [dilations[0], dilations[1]],
    pads: [pads[0], pads[1], pads[2], pads[3]],
    size: [size[0], size[1]],
  }
}

function quantisedConstant(node: NodeReader, index: number): Tensor<QuantisedType> {
  node.typed(index, 'uint8', 'int8')
  return node.constant(index) as Tensor<QuantisedType>
}

/** float32 multipliers, each product and quotient rounded, as QLinearConv is defined and as the NPU expects them. */
function multipliersOf(inputScale: number, weightScales: Float32Array, outputScale: number): Float32Array {
  return weightScales.map((scale) => Math.fround(inputScale * scale) / outputScale)
}

/** QLinearConv, opset 10: x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, B. */
function qLinearConv(node: NodeReader): Lowered {
  node.onlyAttributes('auto_pad', 'dilations', 'group', 'kernel_shape', 'pads', 'strides')
  const input = node.typed(0, 'uint8', 'int8')
  const weights = quantisedConstant(node, 3)
  const { shape } = input.type
  if (shape.length !== 4 || weights.shape.length !== 4) {
    throw node.unsupported(
      `input ${describe(input.type)} and weights ${describe(weights)}; two dimensions of space are supported`,
    )
  }
  const group = node.integer('group', 1)
  const [channels, perGroup] = weights.shape
  if (group < 1 || shape[1] !== perGroup * group || channels % group !== 0) {
    throw node.badShape(
      `${shape[1]} input channels and ${channels} output channels do not go with ${group} groups of weights ${describe(weights)}`,
    )
  }
  const kernel = node.integers('kernel_shape', weights.shape.slice(2), 1)
  if (kernel[0] !== weights.shape[2] || kernel[1] !== weights.shape[3]) {
    throw node.badShape(`kernel_shape is [${kernel.join(',')}], the weights are ${describe(weights)}`)
  }
  const { size, ...frame } = window(node, shape, kernel)
  const x = node.quantisation(1, 2, input.type.dtype)
  const dtype = node.quantisedType(7)
  const y = node.quantisation(6, 7, dtype)
  return {
    kind: 'conv',
    ...frame,
    group,
    inputs: [input],
    weights,
    weightZeroPoints: node.zeroPoints(5, weights.dtype, channels),
    bias: node.has(8) ? biasOf(node, 8, channels) : new Int32Array(channels),
    multipliers: multipliersOf(x.scale, node.scales(4, channels), y.scale),
    inputZeroPoint: x.zeroPoint,
    outputZeroPoint: y.zeroPoint,
    range: limits[dtype],
    output: { dtype, shape: [shape[0], channels, ...size] },
  }
}

function biasOf(node: NodeReader, index: number, channels: number): Int32Array {
  node.typed(index, 'int32')
  const { data } = node.constant(index)
  if (data.length !== channels)
    throw node.badShape(`the bias has ${data.length} elements, wanted ${channels}`)
  return data as Int32Array
}

/** QLinearMatMul, opset 10: a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point. */
function qLinearMatMul(node: NodeReader): Lowered {
  node.onlyAttributes()
  const input = node.typed(0, 'uint8', 'int8')
  const weights = quantisedConstant(node, 3)
  const { shape } = input.type
  if (shape.length < 2 || weights.shape.length !== 2) {
    throw node.unsupported(
      `${describe(input.type)} by ${describe(weights)}; a matrix of weights is supported`,
    )
  }
  const [depth, columns] = weights.shape
  if (shape[shape.length - 1] !== depth) {
    throw node.badShape(`${describe(input.type)} by ${describe(weights)}: the inner dimensions differ`)
  }
  const a = node.quantisation(1, 2, input.type.dtype)
  const dtype = node.quantisedType(7)
  const y = node.quantisation(6, 7, dtype)
  return {
    kind: 'matmul',
    inputs: [input],
    weights,
    weightZeroPoints: node.zeroPoints(5, weights.dtype, columns),
    bias: new Int32Array(columns),
    multipliers: multipliersOf(a.scale, node.scales(4, columns), y.scale),
    inputZeroPoint: a.zeroPoint,
    outputZeroPoint: y.zeroPoint,
    range: limits[dtype],
    output: { dtype, shape: [...shape.slice(0, -1), columns] },
  }
}

/** MaxPool, opset 12 (which brought 8-bit types). */
function maxPool(node: NodeReader): Lowered {
  node.onlyAttributes(
    'auto_pad',
    'ceil_mode',
    'dilations',
    'kernel_shape',
    'pads',
    'storage_order',
    'strides',
  )
  const input = node.typed(0, 'uint8', 'int8', 'float32')
  const { dtype, shape } = input.type
  if (shape.length !== 4)
    throw node.unsupported(`input ${describe(input.type)}; two dimensions of space are supported`)
  if (node.integer('ceil_mode', 0) !== 0) throw node.unsupported('ceil_mode 1')
  if ((node.node.outputs[1] ?? '') !== '') throw node.unsupported('the second output, Indices')
  if (!node.node.attributes.has('kernel_shape')) throw node.corrupt('attribute "kernel_shape" is missing')
  const { size, ...frame } = window(node, shape, node.integers('kernel_shape', [1, 1], 1))
  return {
    kind: 'maxPool',
    ...frame,
    inputs: [input],
    output: { dtype, shape: [shape[0], shape[1], ...size] },
  }
}

/** The shape of an elementwise result (ONNX's multidirectional broadcasting). */
function broadcast(node: NodeReader, a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length)
  return Array.from({ length: rank }, (_, axis) => {
    const left = a[axis - rank + a.length] ?? 1
    const right = b[axis - rank + b.length] ?? 1
    if (left !== right && left !== 1 && right !== 1) {
      throw node.badShape(`[${a.join(',')}] and [${b.join(',')}] do not go together`)
    }
    return left === 1 ? right : left
  })
}

/** com.microsoft.QLinearAdd, version 1: A, A_scale, A_zero_point, B, B_scale, B_zero_point, C_scale, C_zero_point. */
function qLinearAdd(node: NodeReader): Lowered {
  node.onlyAttributes()
  const a = node.typed(0, 'uint8', 'int8')
  const b = node.typed(3, 'uint8', 'int8')
  const dtype = node.quantisedType(7, a.type.dtype)
  return {
    kind: 'quantisedAdd',
    inputs: [a, b],
    quantisations: [node.quantisation(1, 2, a.type.dtype), node.quantisation(4, 5, b.type.dtype)],
    outputQuantisation: node.quantisation(6, 7, dtype),
    range: limits[dtype],
    output: { dtype, shape: broadcast(node, a.type.shape, b.type.shape) },
  }
}

function add(node: NodeReader): Lowered {
  node.onlyAttributes()
  const inputs = [node.typed(0, 'float32'), node.typed(1, 'float32')]
  const shape = broadcast(node, inputs[0].type.shape, inputs[1].type.shape)
  return { kind: 'add', inputs, output: { dtype: 'float32', shape } }
}

/** Relu, opset 14 (which brought int8). */
function relu(node: NodeReader): Lowered {
  node.onlyAttributes()
  const input = node.typed(0, 'float32', 'int8')
  return { kind: 'clamp', inputs: [input], range: { min: 0, max: everything.max }, output: input.type }
}

/** Clip, opset 11 (which made the limits inputs). */
function clip(node: NodeReader): Lowered {
  node.onlyAttributes()
  const input = node.typed(0, 'float32', 'uint8', 'int8')
  const min = node.has(1) ? node.scalar(1) : everything.min
  const max = node.has(2) ? node.scalar(2) : everything.max
  if (!(min <= max)) throw node.corrupt(`the lower limit ${min} is above the upper limit ${max}`)
  return { kind: 'clamp', inputs: [input], range: { min, max }, output: input.type }
}

/** QuantizeLinear, opset 10: x, y_scale, y_zero_point; one scale for the tensor. */
function quantizeLinear(node: NodeReader): Lowered {
  node.onlyAttributes('axis', 'saturate')
  const input = node.typed(0, 'float32')
  const dtype = node.quantisedType(2, 'uint8')
  return {
    kind: 'quantize',
    inputs: [input],
    quantisation: node.quantisation(1, 2, dtype),
    output: { dtype, shape: input.type.shape },
  }
}

function dequantizeLinear(node: NodeReader): Lowered {
  node.onlyAttributes('axis')
  const input = node.typed(0, 'uint8', 'int8')
  return {
    kind: 'dequantize',
    inputs: [input],
    quantisation: node.quantisation(1, 2, input.type.dtype),
    output: { dtype: 'float32', shape: input.type.shape },
  }
}

const anyType: DataType[] = ['float32', 'uint8', 'int8', 'int32', 'int64']

/** Reshape, opset 5: -1 stands for what is left, 0 copies a dimension unless allowzero is set. */
function reshape(node: NodeReader): Lowered {
  node.onlyAttributes('allowzero')
  const input = node.typed(0, ...anyType)
  const from = input.type.shape
  node.typed(1, 'int64')
  const wanted = Array.from(node.constant(1).data, Number)
  const allowZero = node.integer('allowzero', 0) !== 0
  const shape = wanted.map((size, axis) => (size === 0 && !allowZero ? (from[axis] ?? 0) : size))
  const open = shape.indexOf(-1)
  if (open >= 0) shape[open] = elementCount(from) / elementCount(shape.filter((_, axis) => axis !== open))
  if (
    !shape.every((size) => Number.isInteger(size) && size >= 0) ||
    elementCount(shape) !== elementCount(from)
  ) {
    throw node.badShape(`[${from.join(',')}] cannot become [${wanted.join(',')}]`)
  }
  return { kind: 'reshape', inputs: [input], output: { dtype: input.type.dtype, shape } }
}

function flatten(node: NodeReader): Lowered {
  node.onlyAttributes('axis')
  const input = node.typed(0, ...anyType)
  const { dtype, shape } = input.type
  const axis = node.integer('axis', 1)
  const split = axis < 0 ? axis + shape.length : axis
  if (split < 0 || split > shape.length) throw node.badShape(`axis ${axis} is outside [${shape.join(',')}]`)
  const output = [elementCount(shape.slice(0, split)), elementCount(shape.slice(split))]
  return { kind: 'reshape', inputs: [input], output: { dtype, shape: output } }
}

/** Every operator that is implemented, by domain and name. */
const operators: Readonly<Record<string, Operator>> = {
  QLinearConv: { inputs: [8, 9], lower: qLinearConv },
  QLinearMatMul: { inputs: [8, 8], lower: qLinearMatMul },
  MaxPool: { inputs: [1, 1], lower: maxPool },
  'com.microsoft.QLinearAdd': { inputs: [7, 8], lower: qLinearAdd },
  Add: { inputs: [2, 2], lower: add },
  Relu: { inputs: [1, 1], lower: relu },
  Clip: { inputs: [1, 3], lower: clip },
  QuantizeLinear: { inputs: [2, 3], lower: quantizeLinear },
  DequantizeLinear: { inputs: [2, 3], lower: dequantizeLinear },
  Reshape: { inputs: [2, 2], lower: reshape },
  Flatten: { inputs: [1, 1], lower: flatten },
}

/** Checks a node and infers its output; ERR_ACCEL_UNSUPPORTED_OPERATOR names the node and operator that is not there. */
export function lowerNode(reader: NodeReader): Lowered {
  const { node, where } = reader
  const operator = operators[node.domain === '' ? node.op : `${node.domain}.${node.op}`]
  if (!operator) {
    const domain = node.domain === '' ? '' : ` of domain ${node.domain}`
    throw reader.unsupported(
      `operator ${node.op}${domain} is not implemented; there are ${Object.keys(operators).join(', ')}`,
    )
  }
  const [min, max] = operator.inputs
  if (node.inputs.length < min || node.inputs.length > max) {
    throw reader.corrupt(`${node.inputs.length} inputs, wanted ${min === max ? min : `${min} to ${max}`}`)
  }
  if (!node.outputs[0]) throw reader.corrupt(`${where} has no output`)
  const lowered = operator.lower(reader)
  if (isQuantised(lowered.output.dtype) && 'range' in lowered) {
    const { min: low, max: high } = limits[lowered.output.dtype]
    const range = { min: Math.max(low, lowered.range.min), max: Math.min(high, lowered.range.max) }
    return { ...lowered, range }
  }
  return lowered
}
