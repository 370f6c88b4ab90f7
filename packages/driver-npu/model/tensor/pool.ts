import type { Axis } from '../direct.js'
import { floats, SUMS_AT } from '../room.js'
import { combineFloats } from '../stages.js'
import type { Fold } from '../tiles.js'
import { Finish } from './finish.js'
import { type Elements, type Operands, Reduction, type TensorParams, Type } from './params.js'
import { type Slide, slideOf } from './slide.js'

const folds: Readonly<Record<number, Fold>> = {
  [Reduction.SUM]: 'sum',
  [Reduction.MEAN]: 'sum',
  [Reduction.MIN]: 'min',
  [Reduction.MAX]: 'max',
}
/** Sources of stages that are not the result (7.6). */
const [A, B] = [1, 2]
const COUNT_PADDING = 2

/** Does a reduction (9.12) of what two windows look at in planes. Answers false where it is no such one, and nothing is done. */
export function pool(p: TensorParams, { a, c }: Operands, d: Elements): boolean {
  const fold = folds[p.fn]
  if (fold === undefined || p.compute !== Type.float32) return false
  if (!(a.data instanceof Float32Array || a.data instanceof Uint8Array || a.data instanceof Int8Array))
    return false
  if (p.stages.some(({ x, y, z }) => [x, y, z].some((source) => source === A || source === B))) return false
  // The transposed flag is another bit.
  const slide = slideOf({ ...p, flags: p.flags & 1 }, a)
  if (slide === undefined || slide.perImage > 1) return false
  const { sides, planes } = slide
  const divide = () => {
    const { lanes, rows } = sides
    enterCounts(p, slide, lanes.first, lanes.length)
    for (let row = 0; row < rows.length; row++)
      combineFloats('div', SUMS_AT + 4 * row * planes.width, lanes.length, COUNTS_AT, true)
  }
  const finish = new Finish(p, sides, planes.places)
  finish.start(c, d)
  slide.run(fold, finish, p.fn === Reduction.MEAN ? divide : undefined)
  return true
}

/** Where the counts are in `values`, behind what stages have there. */
const COUNTS_AT = floats.values.length / 2

/** Enters how many elements take part in each of `length` results, by which their sums are divided: 1 where there is none, whose sum is 0 (9.12). */
function enterCounts(
  { dims, flags, rank, inner }: TensorParams,
  { axes: [vertical, horizontal] }: Slide,
  first: number,
  length: number,
): void {
  const all = dims.slice(rank - inner).reduce((product, dim) => product * dim, 1)
  const others = all / (vertical.kernel * horizontal.kernel)
  const whole = (flags & COUNT_PADDING) !== 0
  for (let at = 0; at < length; at++) {
    const column = (first + at) % horizontal.out
    const row = (first + at - column) / horizontal.out
    const inside = others * insideOf(vertical, row) * insideOf(horizontal, column)
    floats.values[COUNTS_AT + at] = whole ? all : Math.max(1, inside)
  }
}

/** Elements that a window looks at, at a place of its axis. */
function insideOf({ size, kernel, stride, dilation, pad }: Axis, place: number): number {
  const begin = place * stride - pad
  const first = Math.max(0, Math.ceil(-begin / dilation))
  const end = Math.min(kernel, Math.floor((size - 1 - begin) / dilation) + 1)
  return Math.max(0, end - first)
}
