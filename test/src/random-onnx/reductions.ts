import { positive } from './elementwise.js'
import { count, type Live, type Maker, type Step } from './maker.js'

/** What a reduction of `n` elements makes of a bound and an error. */
type Bounds = (x: Live, n: number) => { readonly bound: number; readonly error: number }

const sums: Bounds = (x, n) => ({ bound: n * x.bound, error: n * x.error })
const chosen: Bounds = (x) => x
const reductions: Readonly<Record<string, Bounds>> = {
  ReduceSum: sums,
  ReduceL1: sums,
  ReduceMean: chosen,
  ReduceMax: chosen,
  ReduceMin: chosen,
  ReduceSumSquare: (x, n) => ({ bound: n * x.bound ** 2, error: 2 * n * x.bound * x.error }),
  ReduceL2: (x, n) => ({ bound: Math.sqrt(n) * x.bound, error: Math.sqrt(n) * x.error }),
  ReduceLogSum: (x, n) => ({ bound: Math.log(n * x.bound) + 1, error: 2 * x.error }),
  ReduceLogSumExp: (x, n) => ({ bound: x.bound + Math.log(n), error: x.error }),
  ReduceProd: (x, n) => ({ bound: x.bound ** n, error: n * Math.max(1, x.bound) ** (n - 1) * x.error }),
}
/** Whose elements may be integers as well. */
const ofIntegers = new Set(['ReduceSum', 'ReduceMax', 'ReduceMin', 'ReduceProd', 'ReduceSumSquare'])

const reductionSteps: readonly Step[] = Object.entries(reductions).map(
  ([op, bounds]): Step =>
    (m) => {
      const given = m.find(
        ({ type, bound }) =>
          (type === 'float32' || (type === 'int32' && ofIntegers.has(op))) &&
          (op !== 'ReduceLogSumExp' || bound <= 50),
      )
      const x = op === 'ReduceLogSum' ? positive(m, given) : given
      const { length } = x.shape
      const all = length === 0 || m.chance(0.2)
      const axes = all ? x.shape.map((_, at) => at) : x.shape.map((_, at) => at).filter(() => m.chance(0.5))
      if (axes.length === 0 && length > 0) axes.push(m.int(0, length - 1))
      const keep = m.int(0, 1)
      const shape = x.shape.flatMap((size, at) => (axes.includes(at) ? (keep ? [1] : []) : [size]))
      const n = count(axes.map((axis) => x.shape[axis]!))
      const found = bounds(x, n)
      m.want(found.bound < 1e6)
      const list = axes.map((axis) => (m.chance(0.3) ? axis - length : axis))
      const byInput = m.opset >= (op === 'ReduceSum' ? 13 : 18)
      const magnitude = Math.max(found.bound, x.bound)
      const like = { ...found, type: x.type, shape, terms: n, magnitude }
      // Without axes it is all of them, or with the attribute none.
      if (all && m.chance(0.3) && byInput)
        m.node(
          op,
          [x],
          { ...bounds(x, 1), type: x.type, shape: x.shape, terms: 1 },
          { noop_with_empty_axes: 1, keepdims: keep },
        )
      else if (all) m.node(op, [x], like, { keepdims: keep })
      else if (byInput) m.node(op, [x, m.ints(list)], like, { keepdims: keep })
      else m.node(op, [x], like, { keepdims: keep, axes: list })
    },
)

const withAxis = (m: Maker, wanted: (x: Live) => boolean = () => true) => {
  const x = m.float(undefined, (x) => x.shape.length > 0 && wanted(x))
  const axis = m.int(0, x.shape.length - 1)
  return { x, axis, size: x.shape[axis]!, attributes: { axis: m.chance(0.3) ? axis - x.shape.length : axis } }
}

const argumentSteps = ['ArgMax', 'ArgMin'].map(
  (op): Step =>
    (m) => {
      const { x, axis, size, attributes } = withAxis(m, ({ error }) => error === 0)
      const keepdims = m.int(0, 1)
      const shape = keepdims ? x.shape.with(axis, 1) : x.shape.toSpliced(axis, 1)
      const more = { ...attributes, keepdims, select_last_index: m.int(0, 1) }
      m.node(op, [x], { type: 'int64', shape, bound: size, error: 0 }, more)
    },
)

export const reductionsAndScans: readonly Step[] = [
  ...reductionSteps,
  ...argumentSteps,
  (m) => {
    const x = m.find(({ type, shape }) => (type === 'float32' || type === 'int32') && shape.length > 0)
    const axis = m.int(0, x.shape.length - 1)
    const n = x.shape[axis]!
    const like = { ...x, bound: n * x.bound, error: n * x.error, terms: n }
    m.node('CumSum', [x, m.scalar(axis, 'int64')], like, { exclusive: m.int(0, 1), reverse: m.int(0, 1) })
  },
  (m) => {
    const { x, size, attributes } = withAxis(m, ({ bound }) => bound <= 100)
    const like = { ...x, bound: 1, magnitude: Math.max(1, x.bound), terms: size }
    m.node('Softmax', [x], like, attributes)
  },
  (m) => {
    const { x, size, attributes } = withAxis(m, ({ bound }) => bound <= 100)
    const bound = 2 * x.bound + Math.log(size)
    m.node('LogSoftmax', [x], { ...x, bound, error: 2 * x.error, terms: size }, attributes)
  },
  (m) => {
    const { x, attributes } = withAxis(m, ({ error }) => error === 0)
    m.node('Hardmax', [x], { ...x, bound: 1 }, attributes)
  },
  (m) => {
    const { x, axis, size, attributes } = withAxis(m)
    const away = positive(m, x)
    const like = { ...away, shape: x.shape, bound: 1, error: 4 * size * away.error, terms: size }
    m.want(axis >= 0)
    m.node('LpNormalization', [away], like, { ...attributes, p: m.int(1, 2) })
  },
]
