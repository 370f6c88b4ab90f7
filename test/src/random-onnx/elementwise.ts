import type { DataType } from '@uaccel/inference'
import type { Attributes, Live, Maker, Step, Type } from './maker.js'

/** What a function makes of a bound, and of a small difference at the most. */
interface Shape {
  readonly bound: (of: number) => number
  readonly slope?: (of: number) => number
  /** The greatest bound that it is applied to. */
  readonly most?: number
  readonly attributes?: (m: Maker) => Attributes
  /** The operator set it came with. */
  readonly since?: number
  /** It jumps: applied to exact values alone. */
  readonly jumps?: boolean
}

const same = (b: number) => b
const one = () => 1

const functions: Readonly<Record<string, Shape>> = {
  Relu: { bound: same },
  Neg: { bound: same },
  Abs: { bound: same },
  Identity: { bound: same },
  Dropout: { bound: same },
  Floor: { bound: (b) => b + 1, jumps: true },
  Ceil: { bound: (b) => b + 1, jumps: true },
  Round: { bound: (b) => b + 1, jumps: true },
  Sign: { bound: one, jumps: true },
  ThresholdedRelu: { bound: same, jumps: true, attributes: (m) => ({ alpha: m.random() }) },
  Shrink: {
    bound: (b) => b + 1,
    jumps: true,
    attributes: (m) => ({ lambd: m.random(), bias: m.random() / 2 }),
  },
  LeakyRelu: { bound: same, attributes: (m) => ({ alpha: m.random() }) },
  Sigmoid: { bound: one, slope: () => 0.25 },
  Tanh: { bound: one },
  Erf: { bound: one, slope: () => 1.13 },
  Sin: { bound: one },
  Cos: { bound: one },
  Softsign: { bound: one },
  Softplus: { bound: (b) => b + 1 },
  HardSigmoid: { bound: one, attributes: (m) => ({ alpha: m.random(), beta: m.random() }) },
  HardSwish: { bound: same, slope: () => 1.5, since: 14 },
  Mish: { bound: same, slope: () => 1.1, since: 18 },
  Gelu: {
    bound: same,
    slope: () => 1.2,
    since: 20,
    attributes: (m) => ({ approximate: m.pick(['none', 'tanh']) }),
  },
  'com.microsoft:Gelu': { bound: same, slope: () => 1.2 },
  'com.microsoft:QuickGelu': {
    bound: same,
    slope: () => 1.2,
    attributes: (m) => ({ alpha: 1 + m.random() }),
  },
  Exp: { bound: Math.exp, slope: Math.exp, most: 4 },
  Elu: { bound: (b) => 2 * b, slope: () => 2, attributes: (m) => ({ alpha: 2 * m.random() }) },
  Celu: { bound: (b) => b + 2, attributes: (m) => ({ alpha: 0.5 + m.random() }) },
  Selu: { bound: (b) => 2 * b + 2, slope: () => 2 },
}

/** Operators that stay what they are for integers. */
const ofIntegers = new Set(['Neg', 'Abs', 'Sign', 'Identity'])

const functionSteps: readonly Step[] = Object.entries(functions).map(
  ([op, shape]): Step =>
    (m) => {
      const { most = Number.POSITIVE_INFINITY, since = 0, jumps = false, attributes } = shape
      m.want(m.opset >= since)
      const x = m.find(
        ({ type, bound, error }) =>
          (type === 'float32' || (ofIntegers.has(op) && type !== 'bool' && type !== 'uint8')) &&
          bound <= most &&
          !(jumps && error > 0),
      )
      const { bound, slope = one } = shape
      m.node(
        op,
        [x],
        { type: x.type, shape: x.shape, bound: bound(x.bound), error: slope(x.bound) * x.error },
        attributes?.(m),
      )
    },
)

const numbers = ['float32', 'int32', 'int64'] as const
const isNumber = ({ type }: Live) => (numbers as readonly Type[]).includes(type)

/** The shape that two shapes are broadcast to; `undefined` where they are not. */
export function broadcast(a: readonly number[], b: readonly number[]): readonly number[] | undefined {
  const rank = Math.max(a.length, b.length)
  const shape = Array.from({ length: rank }, (_, at) => {
    const [x, y] = [a[at - rank + a.length] ?? 1, b[at - rank + b.length] ?? 1]
    return x === y || y === 1 ? x : x === 1 ? y : 0
  })
  return shape.includes(0) ? undefined : shape
}

/** A shape that is broadcast to another: some dimensions are 1, some of the first are missing. */
export function narrower(m: Maker, shape: readonly number[]): readonly number[] {
  return shape.map((size) => (m.chance(0.5) ? 1 : size)).slice(m.chance(0.4) ? m.int(0, shape.length) : 0)
}

/** An operand that goes with another: one that was computed, or a constant. */
function other(m: Maker, a: Live, least: number, most: number, computed = 0.6): Live {
  const fitting = m.live.filter(
    ({ type, shape }) => type === a.type && broadcast(a.shape, shape) !== undefined,
  )
  if (m.chance(computed)) return m.pick(fitting)
  const shape = narrower(m, a.shape)
  const bound = Math.max(Math.abs(least), Math.abs(most))
  const name =
    a.type === 'float32'
      ? m.floats(shape, least, most)
      : m.whole(a.type as DataType, shape, Math.ceil(least), Math.floor(most))
  return { name, type: a.type, shape, bound, error: 0 }
}

const inEitherOrder = (m: Maker, a: Live, b: Live): [Live, Live] => (m.chance(0.3) ? [b, a] : [a, b])

type Bounds = (a: Live, b: Live) => { readonly bound: number; readonly error: number }

const sum: Bounds = (a, b) => ({ bound: a.bound + b.bound, error: a.error + b.error })
const greater: Bounds = (a, b) => ({ bound: Math.max(a.bound, b.bound), error: Math.max(a.error, b.error) })
const product: Bounds = (a, b) => ({
  bound: a.bound * b.bound,
  error: a.error * b.bound + b.error * a.bound + a.error * b.error,
})

const binarySteps: readonly Step[] = Object.entries({
  Add: sum,
  Sub: sum,
  Mul: product,
  Max: greater,
  Min: greater,
}).map(
  ([op, bounds]): Step =>
    (m) => {
      const a = m.find(isNumber)
      const [x, y] = inEitherOrder(m, a, other(m, a, -1.5, 1.5))
      const found = bounds(x, y)
      m.want(found.bound < 1e6)
      m.node(op, [x, y], { type: a.type, shape: broadcast(x.shape, y.shape)!, ...found })
    },
)

const comparisonSteps: readonly Step[] = ['Equal', 'Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual'].map(
  (op): Step =>
    (m) => {
      const a = m.find((x) => isNumber(x) && x.error === 0)
      const b = other(m, a, -1.5, 1.5)
      m.want(b.error === 0)
      const [x, y] = inEitherOrder(m, a, b)
      m.node(op, [x, y], { type: 'bool', shape: broadcast(x.shape, y.shape)!, bound: 1, error: 0 })
    },
)

const logicalSteps: readonly Step[] = ['And', 'Or', 'Xor'].map(
  (op): Step =>
    (m) => {
      const a = m.find(({ type }) => type === 'bool')
      const b = m.find(({ type, shape }) => type === 'bool' && broadcast(a.shape, shape) !== undefined)
      m.node(op, [a, b], { type: 'bool', shape: broadcast(a.shape, b.shape)!, bound: 1, error: 0 })
    },
)

const variadicSteps: readonly Step[] = ['Sum', 'Mean', 'Max', 'Min'].map(
  (op): Step =>
    (m) => {
      const a = m.float()
      const all = [a]
      for (let more = m.int(0, 2); more > 0; more--) {
        const next = other(m, a, -1, 1, 0.5)
        if (
          broadcast(
            all.map(({ shape }) => shape).reduce((x, y) => broadcast(x, y)!),
            next.shape,
          )
        )
          all.push(next)
      }
      const bounds = op === 'Max' || op === 'Min' ? greater : sum
      const merged = (x: Live, y: Live): Live => {
        const { bound, error } = bounds(x, y)
        return { name: '', type: x.type, shape: broadcast(x.shape, y.shape)!, bound, error }
      }
      const like = all.reduce(merged)
      m.node(op, all, like)
    },
)

/** |x| + 0.5: for what is not defined, or steep, near 0. */
export function positive(m: Maker, x: Live): Live {
  const abs = m.hidden('Abs', [x], x)
  return m.hidden('Add', [abs, m.scalar(0.5)], { ...abs, bound: x.bound + 0.5 })
}

const others: Readonly<Record<string, Step>> = {
  Log: (m) => {
    const x = positive(m, m.float())
    m.node('Log', [x], { ...x, bound: Math.max(1, Math.log(x.bound)), error: 2 * x.error })
  },
  Sqrt: (m) => {
    const x = positive(m, m.float())
    m.node('Sqrt', [x], { ...x, bound: Math.max(1, Math.sqrt(x.bound)), error: x.error })
  },
  Reciprocal: (m) => {
    const x = positive(m, m.float())
    m.node('Reciprocal', [x], { ...x, bound: 2, error: 4 * x.error })
  },
  Pow: (m) => {
    const x = positive(
      m,
      m.float(undefined, ({ bound }) => bound < 20),
    )
    const shape = narrower(m, x.shape)
    const integral = m.chance(0.3)
    const exponent = integral ? m.whole('int32', shape, -2, 2) : m.floats(shape, -2, 2)
    // 0.5^-2 and its slope, 2 * 0.5^-3.
    const bound = Math.max(4, x.bound ** 2)
    m.node('Pow', [x, exponent], { ...x, bound, error: Math.max(16, 2 * x.bound) * x.error })
  },
  Tan: (m) => {
    const x = m.float()
    const held = m.hidden('Clip', [x, m.scalar(-1), m.scalar(1)], { ...x, bound: 1 })
    m.node('Tan', [held], { ...held, bound: 1.6, error: 3.5 * held.error })
  },
  Div: (m) => {
    const a = m.find(isNumber)
    if (a.type !== 'float32') {
      const shape = narrower(m, a.shape)
      m.node('Div', [a, m.whole(a.type as DataType, shape, 1, 9)], a)
      return
    }
    const divisor = m.chance(0.5) ? positive(m, other(m, a, -1, 1, 1)) : other(m, a, 0.5, 2, 0)
    const error = 2 * a.error + 4 * a.bound * divisor.error
    m.node('Div', [a, divisor], { shape: broadcast(a.shape, divisor.shape)!, bound: 2 * a.bound, error })
  },
  Mod: (m) => {
    const a = m.find(({ type }) => type === 'int32' || type === 'int64')
    const divisor = m.whole(a.type as DataType, narrower(m, a.shape), 1, 7)
    m.node('Mod', [a, divisor], { ...a, bound: 7 }, { fmod: m.int(0, 1) })
  },
  PRelu: (m) => {
    const x = m.float()
    m.node('PRelu', [x, m.floats(narrower(m, x.shape))], x)
  },
  Not: (m) => {
    const x = m.find(({ type }) => type === 'bool')
    m.node('Not', [x], x)
  },
  // An exact value divided by 0 is infinite, or not a number.
  IsNaN: (m) => {
    const x = quotients(m)
    m.node('IsNaN', [x], { ...x, type: 'bool' })
  },
  IsInf: (m) => {
    const x = quotients(m)
    const attributes = { detect_negative: m.int(0, 1), detect_positive: m.int(0, 1) }
    m.node('IsInf', [x], { ...x, type: 'bool' }, attributes)
  },
  Where: (m) => {
    const choice = m.find(({ type }) => type === 'bool')
    const a = m.find((x) => isNumber(x) && broadcast(x.shape, choice.shape) !== undefined)
    const b = other(m, a, -1.5, 1.5)
    const shape = broadcast(a.shape, b.shape)!
    m.want(broadcast(shape, choice.shape) !== undefined)
    m.node('Where', [choice, ...inEitherOrder(m, a, b)], {
      type: a.type,
      shape: broadcast(choice.shape, shape)!,
      ...greater(a, b),
    })
  },
  Cast: (m) => {
    const to = m.pick([1, 6, 7])
    const x = m.find(({ type, error }) => (to === 1 ? type !== 'float32' : error === 0))
    m.node('Cast', [x], { ...x, type: castTypes[to]!, error: 0 }, { to })
  },
  CastLike: (m) => {
    m.want(m.opset >= 15)
    const x = m.find(({ type }) => type !== 'float32')
    m.node('CastLike', [x, m.scalar(0)], { ...x, type: 'float32', error: 0 })
  },
  Clip: (m) => {
    const x = m.find(({ type }) => type === 'float32' || type === 'int32' || type === 'int64')
    const type = x.type as DataType
    const low = type === 'float32' ? -2 * m.random() : m.int(-5, 0)
    const limits = [m.chance(0.8) ? m.scalar(low, type) : '', m.chance(0.8) ? m.scalar(low + 2, type) : '']
    m.node('Clip', [x, ...limits], { ...x, bound: Math.max(x.bound, 3) })
  },
  Selu: (m) => {
    const x = m.float()
    const attributes = { alpha: 1 + m.random(), gamma: 1 + m.random() }
    m.node('Selu', [x], { ...x, bound: 4 * x.bound, error: 4 * x.error }, attributes)
  },
  // onnxruntime has it in operator set 24 alone.
  Swish: (m) => {
    m.want(m.opset === 24)
    const x = m.float()
    m.node('Swish', [x], { ...x, error: 1.2 * x.error }, { alpha: 0.5 + m.random() })
  },
  'com.microsoft:BiasGelu': (m) => biasGelu(m, 'com.microsoft:BiasGelu'),
  'com.microsoft:FastGelu': (m) => biasGelu(m, 'com.microsoft:FastGelu'),
}

const castTypes: Readonly<Record<number, DataType>> = { 1: 'float32', 6: 'int32', 7: 'int64' }

function quotients(m: Maker): Live {
  const x = m.float(undefined, ({ error }) => error === 0)
  const zero = m.hidden('Mul', [x, m.scalar(0)], { ...x, bound: 0 })
  return m.hidden('Div', [x, zero], { ...x, bound: 1 })
}

function biasGelu(m: Maker, op: string): void {
  const x = m.float(undefined, ({ shape }) => shape.length > 0)
  const bias = m.floats([x.shape.at(-1)!])
  m.node(op, [x, bias], { ...x, bound: x.bound + 1, error: 1.2 * x.error })
}

export const elementwise: readonly Step[] = [
  ...functionSteps,
  ...binarySteps,
  ...comparisonSteps,
  ...comparisonSteps,
  ...logicalSteps,
  ...variadicSteps,
  ...Object.values(others),
]
