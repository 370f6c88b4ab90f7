import {
  type Elements,
  type Indices,
  type Numbers,
  type TensorOperation,
  type TensorParams,
  Type,
} from './params.js'
import { ofWords, words } from './pipeline.js'
import { Walk } from './walk.js'

/** Numbers from which on `set` costs less than a loop. */
const ROW = 32

/** What the index tensor says at an element: the sum of its components, each held to its axis, times their strides (9.15). */
function placeAt({ data, base }: Elements, type: number, at: number, indices: Indices): number {
  let place = 0
  for (let k = 0; k < indices.sizes.length; k++) {
    const element = base + at + k * indices.stride
    const size = indices.sizes[k]
    let index =
      type === Type.int64 ? data[2 * element + 1] * 2 ** 32 + (data[2 * element] >>> 0) : data[element]
    if (index < 0) index += size
    place += Math.min(Math.max(index, 0), size - 1) * indices.strides[k]
  }
  return place
}

/** Moves elements between `one`, which the indices point into, and `other`: what lies behind an index moves as a row. */
function moveIndexed(
  p: TensorParams,
  b: Elements,
  one: Elements,
  oneStrides: readonly number[],
  other: Elements,
  otherStrides: readonly number[],
  gathers: boolean,
): void {
  const indices = p.indices!
  const ofB = p.b!.strides
  let tail = p.rank
  while (tail > 0 && (ofB[tail - 1] === 0 || p.dims[tail - 1] === 1)) tail--
  const head = new Walk(p.dims.slice(0, tail), [
    ofB.slice(0, tail),
    oneStrides.slice(0, tail),
    otherStrides.slice(0, tail),
  ])
  const place = words(p.a.type, one)
  const rest = words(p.a.type, other)
  const [dims, vectors] = ofWords(
    place.each,
    p.dims.slice(tail),
    oneStrides.slice(tail),
    otherStrides.slice(tail),
  )
  const tails = new Walk(dims, vectors)
  const [from, to] = gathers ? [place, rest] : [rest, place]
  const [read, written] = gathers ? [0, 1] : [1, 0]
  const { each } = place
  for (let count = head.next(); count > 0; count = head.next()) {
    const [baseB, baseOne, baseOther] = head.bases
    const [offsetsB, offsetsOne, offsetsOther] = head.offsets
    for (let i = 0; i < count; i++) {
      const index = placeAt(b, p.b!.type, baseB + offsetsB[i], indices)
      const at = place.base + each * (baseOne + offsetsOne[i] + index)
      const by = rest.base + each * (baseOther + offsetsOther[i])
      const source = gathers ? at : by
      const target = gathers ? by : at
      if (dims.length === 0) to.data[target] = from.data[source]
      else moveRows(tails, from.data, source, read, to.data, target, written)
    }
  }
}

/** Moves what a walk goes through, from its beginning on; `read` and `written` are its vectors. */
function moveRows(
  walk: Walk,
  from: Numbers,
  source: number,
  read: number,
  to: Numbers,
  target: number,
  written: number,
): void {
  const dense = walk.dense[read] && walk.dense[written]
  walk.rewind()
  for (let count = walk.next(); count > 0; count = walk.next()) {
    const at = source + walk.bases[read]
    const into = target + walk.bases[written]
    if (dense && count > ROW) to.set(from.subarray(at, at + count), into)
    else if (dense) for (let i = 0; i < count; i++) to[into + i] = from[at + i]
    else {
      const offsets = walk.offsets[read]
      const places = walk.offsets[written]
      for (let i = 0; i < count; i++) to[into + places[i]] = from[at + offsets[i]]
    }
  }
}

/** `GATHER` (9.15). */
export const gather: TensorOperation = (p, { a, b }, d) =>
  moveIndexed(p, b!, a, p.a.strides, d, p.d.strides, true)

/** `SCATTER` (9.16). Indices are gone through in order, so the last of elements that meet stays. */
export const scatter: TensorOperation = (p, { a, b }, d) =>
  moveIndexed(p, b!, d, p.d.strides, a, p.a.strides, false)
