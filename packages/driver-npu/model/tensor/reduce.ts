import { Inner } from './inner.js'
import { decay } from './mathematics.js'
import { chunk, rangeOf } from './numbers.js'
import { type Numbers, Reduction, type TensorOperation, type TensorParams, Type } from './params.js'
import { Pipeline } from './pipeline.js'
import { pool } from './pool.js'

/** Takes a row of `n` numbers, `step` apart from `at` on, to what was found before. `float32` is summed up in double precision. */
type Fold = (found: number, data: Numbers, at: number, step: number, n: number) => number

const sum: Fold = (found, data, at, step, n) => {
  for (let i = 0; i < n; i++, at += step) found += data[at]
  return found
}
const least: Fold = (found, data, at, step, n) => {
  for (let i = 0; i < n; i++, at += step) found = Math.min(found, data[at])
  return found
}
const largest: Fold = (found, data, at, step, n) => {
  for (let i = 0; i < n; i++, at += step) found = Math.max(found, data[at])
  return found
}
const product: Fold = (found, data, at, step, n) => {
  for (let i = 0; i < n; i++, at += step) found *= data[at]
  return found
}
const squares: Fold = (found, data, at, step, n) => {
  for (let i = 0; i < n; i++, at += step) found += data[at] * data[at]
  return found
}
const sizes: Fold = (found, data, at, step, n) => {
  for (let i = 0; i < n; i++, at += step) found += Math.abs(data[at])
  return found
}

const { SUM, MEAN, PRODUCT, MIN, MAX, SUM_SQUARE, L1, L2, LOG_SUM, LOG_SUM_EXP } = Reduction
const floatFolds: Readonly<Record<number, Fold>> = {
  [SUM]: sum,
  [MEAN]: sum,
  [PRODUCT]: product,
  [MIN]: least,
  [MAX]: largest,
  [SUM_SQUARE]: squares,
  [L1]: sizes,
  [L2]: squares,
  [LOG_SUM]: sum,
  [LOG_SUM_EXP]: largest,
}
/** Modulo 2^32. */
const integerFolds: Readonly<Record<number, Fold>> = {
  [SUM](found, data, at, step, n) {
    for (let i = 0; i < n; i++, at += step) found = (found + data[at]) | 0
    return found
  },
  [PRODUCT](found, data, at, step, n) {
    for (let i = 0; i < n; i++, at += step) found = Math.imul(found, data[at])
    return found
  },
  [MIN]: least,
  [MAX]: largest,
  [SUM_SQUARE](found, data, at, step, n) {
    for (let i = 0; i < n; i++, at += step) found = (found + Math.imul(data[at], data[at])) | 0
    return found
  },
  [L1](found, data, at, step, n) {
    for (let i = 0; i < n; i++, at += step) found = (found + Math.abs(data[at])) | 0
    return found
  },
}

/** What is found of no elements (9.12). */
function empty(fn: number, compute: number): number {
  const [low, high] =
    compute === Type.float32 ? [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY] : rangeOf(compute)
  if (fn === PRODUCT) return 1
  if (fn === MIN) return high
  return fn === MAX || fn === LOG_SUM_EXP ? low : 0
}

/** `REDUCE` (9.12). */
export const reduce: TensorOperation = (p, operands, d) => {
  if (pool(p, operands, d)) return
  const outer = p.rank - p.inner
  const a = { base: operands.a.base, data: readAs(p.compute, operands.a.data) }
  const inner = new Inner(p, [p.a.strides])
  const results = overResults(p, p.a.strides)
  const pipeline = new Pipeline(p, operands, d, p.dims.slice(0, outer), [
    ...results,
    ...p.windows.map(({ out }) => unit(outer, out)),
  ])
  const { walk } = pipeline
  const result = p.fn >= Reduction.ARG_MIN ? new Int32Array(walk.size) : chunk(p.compute, walk.size)
  const of = resultOf(p, inner, a.data)
  const at = new Float64Array(p.rank)
  const slid = p.windows.map(({ out }) => out)
  for (let count = walk.next(); count > 0; count = walk.next()) {
    const from = a.base + walk.bases[0]
    for (let i = 0; i < count; i++) {
      for (let w = 0; w < slid.length; w++) at[slid[w]] = walk.bases[1 + w] + walk.offsets[1 + w][i]
      inner.start(at)
      result[i] = of(from + walk.offsets[0][i])
    }
    if (p.d.type === Type.int64)
      storePlaces(result, d, walk.bases[walk.bases.length - 1], walk.offsets[walk.offsets.length - 1], count)
    else pipeline.emit(result, count)
  }
}

/** Strides of A over the results: where a window slides, the position in A has its place. */
export function overResults(p: TensorParams, ...vectors: readonly (readonly number[])[]): number[][] {
  const outer = p.rank - p.inner
  const slid = new Set(p.windows.map(({ out }) => out))
  return vectors.map((vector, v) =>
    vector.slice(0, outer).map((stride, r) => (v === 0 && slid.has(r) ? 0 : stride)),
  )
}

/** The strides that give the index along a dimension. */
export const unit = (rank: number, dimension: number): number[] =>
  Array.from({ length: rank }, (_, r) => Number(r === dimension))

/** Elements as numbers of `COMPUTE` where reading them does not make them so: between integers, modulo 2^32, and of `float32` (8.4). */
function readAs(compute: number, data: Numbers): Numbers {
  if (compute === Type.float32)
    return data instanceof Int32Array || data instanceof Uint32Array ? Float32Array.from(data) : data
  if (data instanceof Float32Array) {
    const [low, high] = rangeOf(compute)
    const whole = chunk(compute, data.length)
    for (let i = 0; i < data.length; i++) whole[i] = data[i] <= low ? low : data[i] >= high ? high : data[i]
    return whole
  }
  if (compute === Type.int32)
    return data instanceof Uint32Array ? new Int32Array(data.buffer, data.byteOffset, data.length) : data
  if (data instanceof Int32Array) return new Uint32Array(data.buffer, data.byteOffset, data.length)
  return data instanceof Int8Array ? Uint32Array.from(data) : data
}

/** The function of the elements of one result, whose own place in A is given; `inner` was started. */
function resultOf(p: TensorParams, inner: Inner, data: Numbers): (from: number) => number {
  const { fn, compute } = p
  if (fn >= Reduction.ARG_MIN) return (from) => placeOf(fn === Reduction.ARG_MAX, inner, data, from)
  const fold = (compute === Type.float32 ? floatFolds : integerFolds)[fn]
  const none = empty(fn, compute)
  const whole = (p.flags & 2) !== 0 ? p.dims.slice(p.rank - p.inner).reduce((size, dim) => size * dim, 1) : 0
  const folded = (from: number) => {
    let found = none
    while (inner.nextRow()) found = fold(found, data, from + inner.begin[0], inner.steps[0], inner.count)
    return found
  }
  if (fn === MEAN) {
    return (from) => (inner.total === 0 ? 0 : folded(from) / (whole === 0 ? inner.total : whole))
  }
  if (fn === L2) return (from) => Math.sqrt(folded(from))
  if (fn === LOG_SUM) return (from) => Math.log(folded(from))
  if (fn === LOG_SUM_EXP) {
    return (from) => {
      const most = folded(from)
      if (!Number.isFinite(most)) return most
      inner.rewind()
      return most + Math.log(exponentials(inner, data, from, most))
    }
  }
  return folded
}

/** Sum of e^(x - most) of the elements of one result; `inner` was started. */
export function exponentials(inner: Inner, data: Numbers, from: number, most: number): number {
  let found = 0
  while (inner.nextRow()) {
    const { count } = inner
    const step = inner.steps[0]
    let at = from + inner.begin[0]
    for (let i = 0; i < count; i++, at += step) found += decay(data[at] - most)
  }
  return found
}

function placeOf(largestOf: boolean, inner: Inner, data: Numbers, from: number): number {
  let place = 0
  let found = Number.NaN
  for (let passed = 0; inner.nextRow(); passed += inner.count) {
    const { count } = inner
    const step = inner.steps[0]
    let at = from + inner.begin[0]
    for (let i = 0; i < count; i++, at += step) {
      const value = data[at]
      if (Number.isNaN(value)) return passed + i
      if (passed + i > 0 && !(largestOf ? value > found : value < found)) continue
      found = value
      place = passed + i
    }
  }
  return place
}

/** Places as `int64`: none is above 2^31. */
function storePlaces(
  places: ArrayLike<number>,
  { data, base }: { readonly data: Numbers; readonly base: number },
  block: number,
  offsets: Int32Array,
  count: number,
): void {
  for (let i = 0; i < count; i++) {
    const at = 2 * (base + block + offsets[i])
    data[at] = places[i]
    data[at + 1] = 0
  }
}
