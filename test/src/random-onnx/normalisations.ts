import { count, type Like, type Live, type Maker, type Step } from './maker.js'
import { HALF_STEP } from './tolerance.js'

/** (x - mean) / sqrt(variance + epsilon) of `n` elements, times at most 1: what it makes of errors, and of the rounding of its sums. */
function normalised(x: Live, n: number, epsilon: number, more = 1): Like {
  const slope = (2 + Math.sqrt(n)) / Math.sqrt(epsilon)
  const own = (n + 4) * HALF_STEP * x.bound
  return { shape: x.shape, bound: Math.sqrt(n) + more, error: slope * (x.error + own), terms: n }
}

const isSmall = ({ bound }: Live) => bound < 100
const wide = (m: Maker) => m.float(undefined, (x) => x.shape.length > 1 && isSmall(x))

function image(m: Maker): { x: Live; c: number; area: number } {
  const x = m.float(undefined, (x) => x.shape.length >= 3 && x.shape.length <= 4 && isSmall(x))
  return { x, c: x.shape[1]!, area: count(x.shape.slice(2)) }
}

/** The mean square, in place of the variance; the bound is that of what the root divides. */
const rms =
  (op: string, since: number): Step =>
  (m) => {
    m.want(m.opset >= since)
    const x = wide(m)
    const n = x.shape.at(-1)!
    m.node(op, [x, m.floats([n])], normalised(x, n, 0.1), { epsilon: 0.1, axis: -1 })
  }

/** com.microsoft: its sum of inputs is output 3. */
const skip =
  (op: string, simplified: boolean): Step =>
  (m) => {
    const x = m.float(3, isSmall)
    const n = x.shape.at(-1)!
    const vectors = [m.floats([n]), ...(simplified ? [] : [m.floats([n])])]
    const sum = { shape: x.shape, bound: x.bound + 1, error: x.error }
    const all = { ...x, ...sum, error: x.error + HALF_STEP * sum.bound }
    const outputs = [normalised(all, n, 0.1, 2), undefined, undefined, ...(m.chance(0.5) ? [sum] : [])]
    const likes = outputs.length > 1 && outputs[3] ? outputs : outputs.slice(0, 1)
    m.nodeOf(op, [x, m.floats(x.shape), ...vectors], likes, { epsilon: 0.1 })
  }

export const normalisations: readonly Step[] = [
  (m) => {
    const x = m.float(undefined, ({ shape }) => shape.length > 1)
    const c = x.shape[1]!
    const vectors = [m.floats([c]), m.floats([c]), m.floats([c]), m.floats([c], 0.5, 2)]
    const like = { ...x, bound: 1.5 * (x.bound + 1) + 1, error: 1.5 * x.error }
    m.node('BatchNormalization', [x, ...vectors], like, { epsilon: 0.01 })
  },
  (m) => {
    const { x, c, area } = image(m)
    m.node('InstanceNormalization', [x, m.floats([c]), m.floats([c])], normalised(x, area, 0.1, 2), {
      epsilon: 0.1,
    })
  },
  (m) => {
    m.want(m.opset >= 17)
    const x = wide(m)
    const axis = m.int(1, x.shape.length - 1)
    const shape = x.shape.slice(axis)
    const scale = m.floats(shape)
    const inputs = m.chance(0.7) ? [x, scale, m.floats(shape)] : [x, scale]
    m.node('LayerNormalization', inputs, normalised(x, count(shape), 0.1, 2), { epsilon: 0.1, axis })
  },
  (m) => {
    m.want(m.opset >= 18)
    const { x, c, area } = image(m)
    const groups = c % 2 === 0 ? 2 : 1
    const size = m.opset >= 21 ? c : groups
    const like = normalised(x, (area * c) / groups, 0.1, 2)
    const attributes = { num_groups: groups, epsilon: 0.1 }
    m.node('GroupNormalization', [x, m.floats([size]), m.floats([size])], like, attributes)
  },
  rms('RMSNormalization', 23),
  rms('SimplifiedLayerNormalization', 13),
  skip('com.microsoft:SkipLayerNormalization', false),
  skip('com.microsoft:SkipSimplifiedLayerNormalization', true),
  (m) => {
    const x = m.float(4, isSmall)
    const like = { ...x, error: 2 * x.error, terms: 3 }
    m.node('LRN', [x], like, { size: 3, alpha: 0.1, beta: 0.5, bias: 1 })
  },
  // It has no epsilon to speak of: what is nearly constant is divided by nearly 0.
  (m) => {
    const x = m.inputs.find(({ type, shape }) => type === 'float32' && shape.length === 4)
    m.want(x !== undefined && count(x.shape) / x.shape[1]! >= 8)
    m.node('MeanVarianceNormalization', [x!], normalised(x!, count(x!.shape) / x!.shape[1]!, 0.5))
  },
]
