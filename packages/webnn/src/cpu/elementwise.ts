import { castNumber, roundEven } from '../data-type.js'
import * as functions from './functions.js'
import {
  bigints,
  broadcastOffsets,
  isBig,
  isFloat,
  type Kernel,
  type KernelNode,
  numbers,
  type Operand,
  stridesOf,
} from './kernel.js'

type Attributes = KernelNode['attributes']
type Unary = (x: number) => number
type Binary = (a: number, b: number) => number

/** Functions of one number, some with numbers of the node. */
const unaryFunctions: Readonly<Record<string, (attributes: Attributes) => Unary>> = {
  abs: () => Math.abs,
  neg: () => (x) => -x,
  sign: () => Math.sign,
  relu: () => (x) => (x < 0 ? 0 : x),
  identity: () => (x) => x,
  ceil: () => Math.ceil,
  cos: () => Math.cos,
  erf: () => functions.erf,
  exp: () => Math.exp,
  floor: () => Math.floor,
  log: () => Math.log,
  reciprocal: () => (x) => 1 / x,
  roundEven: () => roundEven,
  sin: () => Math.sin,
  sqrt: () => Math.sqrt,
  tan: () => Math.tan,
  gelu: () => functions.gelu,
  hardSwish: () => (x) => (x * Math.max(0, Math.min(6, x + 3))) / 6,
  sigmoid: () => functions.sigmoid,
  softplus: () => functions.softplus,
  softsign: () => (x) => x / (1 + Math.abs(x)),
  tanh: () => Math.tanh,
  elu:
    ({ alpha }) =>
    (x) =>
      x < 0 ? (alpha as number) * Math.expm1(x) : x,
  hardSigmoid:
    ({ alpha, beta }) =>
    (x) =>
      Math.max(0, Math.min(1, (alpha as number) * x + (beta as number))),
  leakyRelu:
    ({ alpha }) =>
    (x) =>
      x < 0 ? (alpha as number) * x : x,
  linear:
    ({ alpha, beta }) =>
    (x) =>
      (alpha as number) * x + (beta as number),
  clamp:
    ({ minValue, maxValue }) =>
    (x) =>
      x < (minValue as number) ? (minValue as number) : x > (maxValue as number) ? (maxValue as number) : x,
  logicalNot: () => (x) => (x === 0 ? 1 : 0),
  isNaN: () => (x) => (Number.isNaN(x) ? 1 : 0),
  isInfinite: () => (x) => (Math.abs(x) === Number.POSITIVE_INFINITY ? 1 : 0),
}

const bigUnaryFunctions: Readonly<Record<string, (attributes: Attributes) => (x: bigint) => bigint>> = {
  abs: () => (x) => (x < 0n ? -x : x),
  neg: () => (x) => -x,
  sign: () => (x) => (x > 0n ? 1n : x < 0n ? -1n : 0n),
  relu: () => (x) => (x < 0n ? 0n : x),
  identity: () => (x) => x,
  clamp:
    ({ minValue, maxValue }) =>
    (x) =>
      x < (minValue as bigint) ? (minValue as bigint) : x > (maxValue as bigint) ? (maxValue as bigint) : x,
}

const unary =
  (name: string): Kernel =>
  ({ inputs, attributes, outputs: [output] }) => {
    const input = inputs.input ?? inputs.a
    if (isBig(input.dataType)) {
      const [from, to, f] = [bigints(input), bigints(output), bigUnaryFunctions[name](attributes)]
      return () => {
        for (let i = 0; i < to.length; i++) to[i] = f(from[i])
      }
    }
    const [from, to, f] = [numbers(input), numbers(output), unaryFunctions[name](attributes)]
    return () => {
      for (let i = 0; i < to.length; i++) to[i] = f(from[i])
    }
  }

/** NaN is neither the greater nor the smaller, and comes through. */
const greatest: Binary = (a, b) => (a > b || Number.isNaN(a) ? a : b)
const smallest: Binary = (a, b) => (a < b || Number.isNaN(a) ? a : b)

const floatFunctions: Readonly<Record<string, Binary>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  max: greatest,
  min: smallest,
  pow: (a, b) => a ** b,
  prelu: (x, slope) => (x < 0 ? x * slope : x),
}

const comparisons: Readonly<Record<string, Binary>> = {
  equal: (a, b) => Number(a === b),
  notEqual: (a, b) => Number(a !== b),
  greater: (a, b) => Number(a > b),
  greaterOrEqual: (a, b) => Number(a >= b),
  lesser: (a, b) => Number(a < b),
  lesserOrEqual: (a, b) => Number(a <= b),
  logicalAnd: (a, b) => Number(a !== 0 && b !== 0),
  logicalOr: (a, b) => Number(a !== 0 || b !== 0),
  logicalXor: (a, b) => Number((a !== 0) !== (b !== 0)),
}

/** Integers wrap as their arrays do; what a product of numbers would lose is kept. A division by zero, which has no meaning, is 0. */
const integerFunctions: Readonly<Record<string, Binary>> = {
  ...floatFunctions,
  mul: Math.imul,
  div: (a, b) => (b === 0 ? 0 : Math.trunc(a / b)),
  prelu: (x, slope) => (x < 0 ? Math.imul(x, slope) : x),
}

type BigBinary = (a: bigint, b: bigint) => bigint
const bigFunctions: Readonly<Record<string, BigBinary>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => (b === 0n ? 0n : a / b),
  max: (a, b) => (a > b ? a : b),
  min: (a, b) => (a < b ? a : b),
  pow: (a, b) =>
    b < 0n
      ? a === 1n || (a === -1n && b % 2n === 0n)
        ? 1n
        : a === -1n
          ? -1n
          : 0n
      : BigInt.asIntN(128, a ** (b > 4096n ? 4096n : b)),
  prelu: (x, slope) => (x < 0n ? x * slope : x),
}

const binary =
  (name: string, [first, second]: readonly [string, string] = ['a', 'b']): Kernel =>
  ({ inputs, outputs: [output] }) => {
    const [a, b] = [inputs[first], inputs[second]]
    const [atA, atB] = [broadcastOffsets(a.shape, output.shape), broadcastOffsets(b.shape, output.shape)]
    const place = (offsets: Int32Array | undefined, i: number) => (offsets === undefined ? i : offsets[i])
    if (isBig(a.dataType)) {
      const [as, bs] = [bigints(a), bigints(b)]
      if (isBig(output.dataType)) {
        const [to, f] = [bigints(output), bigFunctions[name]]
        return () => {
          for (let i = 0; i < to.length; i++) to[i] = f(as[place(atA, i)], bs[place(atB, i)])
        }
      }
      const [to, f] = [numbers(output), comparisons[name] as unknown as (a: bigint, b: bigint) => number]
      return () => {
        for (let i = 0; i < to.length; i++) to[i] = f(as[place(atA, i)], bs[place(atB, i)])
      }
    }
    const [as, bs, to] = [numbers(a), numbers(b), numbers(output)]
    const f = comparisons[name] ?? (isFloat(a.dataType) ? floatFunctions : integerFunctions)[name]
    return () => {
      for (let i = 0; i < to.length; i++) to[i] = f(as[place(atA, i)], bs[place(atB, i)])
    }
  }

const where: Kernel = ({ inputs: { condition, trueValue, falseValue }, outputs: [output] }) => {
  const choice = numbers(condition)
  const [atC, atT, atF] = [condition, trueValue, falseValue].map(({ shape }) =>
    broadcastOffsets(shape, output.shape),
  )
  const [yes, no, to] = [trueValue.data, falseValue.data, output.data] as [
    Float32Array,
    Float32Array,
    Float32Array,
  ]
  return () => {
    for (let i = 0; i < to.length; i++)
      to[i] = choice[atC ? atC[i] : i] !== 0 ? yes[atT ? atT[i] : i] : no[atF ? atF[i] : i]
  }
}

/** Floats are truncated, and held to the range of an integer; integers keep as many of their lowest bits as the other type has. */
const cast: Kernel = ({ inputs: { input }, outputs: [output] }) => {
  const [from, to] = [
    input.data as ArrayLike<number | bigint>,
    output.data as { [at: number]: number | bigint },
  ]
  const { length } = output.data
  const { dataType } = output
  const one = ((): ((x: number | bigint) => number | bigint) => {
    if (isFloat(dataType)) return Number
    if (isFloat(input.dataType)) return (x) => castNumber(Math.trunc(x as number), dataType)
    if (isBig(dataType)) return BigInt
    return isBig(input.dataType) ? (x) => Number(BigInt.asIntN(32, x as bigint)) : (x) => x
  })()
  return () => {
    for (let i = 0; i < length; i++) to[i] = one(from[i])
  }
}

/** Where the scale and the zero point of each element are: each is for a block. */
function blockOffsets(scale: Operand, input: Operand): Int32Array {
  const strides = stridesOf(scale.shape)
  const offsets = new Int32Array(input.data.length)
  const inputStrides = stridesOf(input.shape)
  for (let i = 0; i < offsets.length; i++) {
    let offset = 0
    for (let at = 0; at < input.shape.length; at++) {
      const coordinate = Math.floor(i / inputStrides[at]) % input.shape[at]
      offset += strides[at] * Math.floor(coordinate / (input.shape[at] / scale.shape[at]))
    }
    offsets[i] = offset
  }
  return offsets
}

const quantizeLinear: Kernel = ({ inputs: { input, scale, zeroPoint }, outputs: [output] }) => {
  const at = blockOffsets(scale, input)
  const [from, by, zero, to] = [numbers(input), numbers(scale), numbers(zeroPoint), numbers(output)]
  const { dataType } = output
  return () => {
    for (let i = 0; i < to.length; i++) {
      const steps = roundEven(Math.fround(from[i] / by[at[i]])) + zero[at[i]]
      to[i] = castNumber(steps, dataType) as number
    }
  }
}

const dequantizeLinear: Kernel = ({ inputs: { input, scale, zeroPoint }, outputs: [output] }) => {
  const at = blockOffsets(scale, input)
  const [from, by, zero, to] = [numbers(input), numbers(scale), numbers(zeroPoint), numbers(output)]
  return () => {
    for (let i = 0; i < to.length; i++) to[i] = (from[i] - zero[at[i]]) * by[at[i]]
  }
}

export const elementwise: Readonly<Record<string, Kernel>> = {
  ...Object.fromEntries(Object.keys(unaryFunctions).map((name) => [name, unary(name)])),
  ...Object.fromEntries(
    [...Object.keys(comparisons), ...Object.keys(floatFunctions)].map((name) => [name, binary(name)]),
  ),
  prelu: binary('prelu', ['input', 'slope']),
  where,
  cast,
  quantizeLinear,
  dequantizeLinear,
}
