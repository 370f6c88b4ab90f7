import { Inner } from './inner.js'
import { decay } from './mathematics.js'
import { Normalisation, type TensorOperation } from './params.js'
import { Pipeline } from './pipeline.js'
import { exponentials } from './reduce.js'
import { Walk } from './walk.js'

/** `NORMALISE` (9.13): first what the elements that are gone along have in common, then each result from that and its element. */
export const normalise: TensorOperation = (p, operands, d) => {
  const outer = p.rank - p.inner
  const { data, base } = operands.a
  const softmax = p.fn === Normalisation.SOFTMAX
  const inner = new Inner({ ...p, flags: 0 }, [p.a.strides])
  const dims = p.dims.slice(0, outer)
  const groups = dims.reduce((product, dim) => product * dim, 1)
  const centres = new Float64Array(groups)
  const divisors = new Float64Array(groups)
  const over = new Walk(dims, [p.a.strides.slice(0, outer)])
  for (let count = over.next(), group = 0; count > 0; count = over.next()) {
    for (let i = 0; i < count; i++, group++) {
      const from = base + over.bases[0] + over.offsets[0][i]
      inner.start([])
      if (softmax) {
        centres[group] = fold(inner, data, from, 'largest', 0)
        inner.rewind()
        divisors[group] = exponentials(inner, data, from, centres[group])
      } else {
        const mean = fold(inner, data, from, 'sum', 0) / inner.total
        inner.rewind()
        centres[group] = mean
        divisors[group] = Math.sqrt(fold(inner, data, from, 'squares', mean) / inner.total + p.epsilon)
      }
    }
  }

  // The group of an index, as strides: groups are dense.
  const ofGroup = p.dims.map(() => 0)
  for (let r = outer - 1, stride = 1; r >= 0; stride *= dims[r--]) ofGroup[r] = stride
  const pipeline = new Pipeline(p, operands, d, p.dims, [p.a.strides, ofGroup])
  const { walk } = pipeline
  const room = new Float32Array(walk.size)
  const result = new Float32Array(walk.size)
  const centre = new Float64Array(walk.size)
  const divisor = new Float64Array(walk.size)
  for (let count = walk.next(); count > 0; count = walk.next()) {
    const x = pipeline.load(operands.a, 0, room, count)
    common(centres, walk.bases[1], walk.offsets[1], centre, count)
    common(divisors, walk.bases[1], walk.offsets[1], divisor, count)
    if (softmax) for (let i = 0; i < count; i++) result[i] = decay(x[i] - centre[i]) / divisor[i]
    else for (let i = 0; i < count; i++) result[i] = (x[i] - centre[i]) / divisor[i]
    pipeline.emit(result, count)
  }
}

/** What groups have in common, for each index of a block. */
function common(of: Float64Array, first: number, group: Int32Array, into: Float64Array, count: number): void {
  for (let i = 0; i < count; i++) into[i] = of[first + group[i]]
}

function fold(
  inner: Inner,
  data: ArrayLike<number>,
  from: number,
  of: 'largest' | 'sum' | 'squares',
  mean: number,
): number {
  let found = of === 'largest' ? Number.NEGATIVE_INFINITY : 0
  while (inner.nextRow()) {
    const { count } = inner
    const step = inner.steps[0]
    let at = from + inner.begin[0]
    if (of === 'largest') for (let i = 0; i < count; i++, at += step) found = Math.max(found, data[at])
    else if (of === 'sum') for (let i = 0; i < count; i++, at += step) found += data[at]
    else for (let i = 0; i < count; i++, at += step) found += (data[at] - mean) * (data[at] - mean)
  }
  return found
}
