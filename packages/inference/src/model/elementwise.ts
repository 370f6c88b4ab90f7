import type { MLOperand } from '@uaccel/webnn'
import { dataType, onnxBool } from '../onnx/load.js'
import { given, type Mapping, type Mappings, type Node, typeOf } from './node.js'

type Unary =
  | 'abs'
  | 'ceil'
  | 'cos'
  | 'erf'
  | 'exp'
  | 'floor'
  | 'log'
  | 'neg'
  | 'reciprocal'
  | 'roundEven'
  | 'sin'
  | 'sign'
  | 'sqrt'
  | 'tan'
  | 'tanh'
  | 'sigmoid'
  | 'softplus'
  | 'softsign'
  | 'relu'
  | 'hardSwish'
  | 'isNaN'
  | 'logicalNot'

const unary =
  (name: Unary): Mapping =>
  (node) =>
    node.b[name](node.operand(0))

type Binary =
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'max'
  | 'min'
  | 'prelu'
  | 'equal'
  | 'greater'
  | 'greaterOrEqual'
  | 'lesser'
  | 'lesserOrEqual'
  | 'logicalAnd'
  | 'logicalOr'
  | 'logicalXor'

const binary =
  (name: Binary): Mapping =>
  (node) =>
    node.b[name](node.operand(0), node.operand(1))

/** Of any number of inputs, one after the other. */
const variadic =
  (name: Binary): Mapping =>
  (node) =>
    node.operands().reduce((a, b) => node.b[name](a, b))

/** ONNX's integer remainder has the sign of the divisor, that of `fmod` the sign of the dividend. */
function mod(node: Node): MLOperand {
  const { b } = node
  const [x, y] = [node.operand(0), node.operand(1)]
  if (x.dataType === 'float32') throw node.unsupported('a remainder of float32 is not exact')
  const rest = b.sub(x, b.mul(b.div(x, y), y))
  if (node.int('fmod', 0) === 1 || x.dataType.startsWith('u')) return rest
  const zero = node.scalar(x, 0)
  const other = b.logicalXor(b.lesser(rest, zero), b.lesser(y, zero))
  return b.where(b.logicalAnd(b.notEqual(rest, zero), other), b.add(rest, y), rest)
}

function castTo(node: Node, code: number): MLOperand {
  const x = node.operand(0)
  if (code === onnxBool) return node.b.notEqual(x, node.scalar(x, 0))
  return node.b.cast(x, dataType(code, node.where))
}

function clip(node: Node): MLOperand {
  let x = node.operand(0)
  const bound = (index: number) => {
    const value = node.value(index)
    return 'dtype' in value ? (value.data[0] as number) : undefined
  }
  const [low, high] = [1, 2].map((index) => (node.has(index) ? bound(index) : undefined))
  const known = [1, 2].every((index) => !node.has(index) || 'dtype' in node.value(index))
  // Where the least is above the greatest, ONNX has the greatest; WebNN refuses.
  if (known && !(low !== undefined && high !== undefined && low > high))
    return node.b.clamp(x, given({ minValue: low, maxValue: high }))
  if (node.has(1)) x = node.b.max(x, node.operand(1))
  return node.has(2) ? node.b.min(x, node.operand(2)) : x
}

/** 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): ONNX, Gelu-20 with approximate "tanh". */
function geluTanh(node: Node, x: MLOperand): MLOperand {
  const { b } = node
  const cube = b.mul(b.mul(x, x), x)
  const inner = b.linear(b.add(x, b.linear(cube, { alpha: 0.044715 })), { alpha: Math.sqrt(2 / Math.PI) })
  return b.mul(b.linear(x, { alpha: 0.5 }), b.linear(b.tanh(inner), { beta: 1 }))
}

function gelu(node: Node): MLOperand {
  const x = node.operand(0)
  return node.text('approximate', 'none') === 'tanh' ? geluTanh(node, x) : node.b.gelu(x)
}

function isInf(node: Node): MLOperand {
  const { b } = node
  const x = node.operand(0)
  const [negative, positive] = [node.int('detect_negative', 1), node.int('detect_positive', 1)]
  const sign = node.scalar(x, 0)
  const found = b.isInfinite(x)
  if (negative && positive) return found
  if (positive) return b.logicalAnd(found, b.greater(x, sign))
  return b.logicalAnd(found, negative ? b.lesser(x, sign) : b.notEqual(x, x))
}

const withBias =
  (activation: (node: Node, x: MLOperand) => MLOperand): Mapping =>
  (node) =>
    activation(node, node.has(1) ? node.b.add(node.operand(0), node.operand(1)) : node.operand(0))

export const elementwise: Mappings = {
  Abs: unary('abs'),
  Ceil: unary('ceil'),
  Cos: unary('cos'),
  Erf: unary('erf'),
  Exp: unary('exp'),
  Floor: unary('floor'),
  Log: unary('log'),
  Neg: unary('neg'),
  Not: unary('logicalNot'),
  Reciprocal: unary('reciprocal'),
  Relu: unary('relu'),
  Round: unary('roundEven'),
  Sigmoid: unary('sigmoid'),
  Sign: unary('sign'),
  Sin: unary('sin'),
  Softplus: unary('softplus'),
  Softsign: unary('softsign'),
  Sqrt: unary('sqrt'),
  Tan: unary('tan'),
  Tanh: unary('tanh'),
  HardSwish: unary('hardSwish'),
  IsNaN: unary('isNaN'),
  IsInf: isInf,
  Identity: (node) => {
    node.used.add(0)
    return node.value(0)
  },

  Add: binary('add'),
  Sub: binary('sub'),
  Mul: binary('mul'),
  Div: binary('div'),
  PRelu: binary('prelu'),
  Equal: binary('equal'),
  Greater: binary('greater'),
  GreaterOrEqual: binary('greaterOrEqual'),
  Less: binary('lesser'),
  LessOrEqual: binary('lesserOrEqual'),
  And: binary('logicalAnd'),
  Or: binary('logicalOr'),
  Xor: binary('logicalXor'),
  Max: variadic('max'),
  Min: variadic('min'),
  Sum: variadic('add'),
  Mean: (node) => {
    const all = node.operands()
    return node.b.linear(
      all.reduce((a, b) => node.b.add(a, b)),
      { alpha: 1 / all.length },
    )
  },
  Mod: mod,
  Pow: (node) => {
    const [x, y] = [node.operand(0), node.operand(1)]
    if (x.dataType === y.dataType) return node.b.pow(x, y)
    // The base's type is the result's, and a fraction in the exponent counts.
    return node.b.cast(node.b.pow(node.b.cast(x, 'float32'), node.b.cast(y, 'float32')), x.dataType)
  },
  Where: (node) => node.b.where(node.operand(0), node.operand(1), node.operand(2)),
  Cast: (node) => castTo(node, node.int('to')),
  CastLike: (node) => node.b.cast(node.operand(0), typeOf(node.value(1))),
  Clip: clip,

  Elu: (node) => node.b.elu(node.operand(0), { alpha: node.float('alpha', 1) }),
  LeakyRelu: (node) => node.b.leakyRelu(node.operand(0), { alpha: node.float('alpha', 0.01) }),
  HardSigmoid: (node) =>
    node.b.hardSigmoid(node.operand(0), { alpha: node.float('alpha', 0.2), beta: node.float('beta', 0.5) }),
  // Defaults of alpha and gamma: ONNX, Selu-6.
  Selu: (node) => {
    const x = node.b.elu(node.operand(0), { alpha: node.float('alpha', 1.6732631921768188) })
    return node.b.linear(x, { alpha: node.float('gamma', 1.0507010221481323) })
  },
  Celu: (node) => {
    const alpha = node.float('alpha', 1)
    return node.b.linear(node.b.elu(node.b.linear(node.operand(0), { alpha: 1 / alpha })), { alpha })
  },
  ThresholdedRelu: (node) => {
    const x = node.operand(0)
    return node.b.where(node.b.greater(x, node.scalar(x, node.float('alpha', 1))), x, node.scalar(x, 0))
  },
  Shrink: (node) => {
    const { b } = node
    const [x, bias, lambda] = [node.operand(0), node.float('bias', 0), node.float('lambd', 0.5)]
    const above = b.where(
      b.greater(x, node.scalar(x, lambda)),
      b.sub(x, node.scalar(x, bias)),
      node.scalar(x, 0),
    )
    return b.where(b.lesser(x, node.scalar(x, -lambda)), b.add(x, node.scalar(x, bias)), above)
  },
  Mish: (node) => {
    const x = node.operand(0)
    return node.b.mul(x, node.b.tanh(node.b.softplus(x)))
  },
  Swish: (node) => {
    const x = node.operand(0)
    return node.b.mul(x, node.b.sigmoid(node.b.linear(x, { alpha: node.float('alpha', 1) })))
  },
  Gelu: gelu,
  'com.microsoft:Gelu': gelu,
  'com.microsoft:QuickGelu': (node) => {
    const x = node.operand(0)
    return node.b.mul(x, node.b.sigmoid(node.b.linear(x, { alpha: node.float('alpha', 1.702) })))
  },
  'com.microsoft:BiasGelu': withBias((node, x) => node.b.gelu(x)),
  'com.microsoft:FastGelu': withBias(geluTanh),
}
