import { type Axis, convolve as direct, MOST_TAPS, Planes } from '../direct.js'
import type { Fold } from '../tiles.js'
import type { Finish } from './finish.js'
import type { Elements, Operands, TensorParams, Window } from './params.js'
import { Side } from './side.js'

/** Two windows over images, as `direct` goes through them. */
export interface Slide {
  readonly planes: Planes
  readonly axes: readonly [vertical: Axis, horizontal: Axis]
  readonly sides: { readonly batch: Side; readonly rows: Side; readonly lanes: Side }
  /** Whether several results have the same image. */
  readonly perImage: number
  /** Goes through it; `finish` has the sums of the block that the sides are at, and how many are in a row. */
  run(by: Operands['b'] | Fold, finish: Finish, before?: () => void): void
}

/** The windows of an operation; undefined where it has others, or they have no room. */
export function slideOf(p: TensorParams, a: Elements): Slide | undefined {
  if (p.windows.length !== 2 || (p.flags & 1) !== 0) return undefined
  const outs = p.windows.map(({ out }) => out)
  // Images are what A knows; channels of the output share one.
  const outer = Array.from({ length: p.rank - p.inner }, (_, r) => r).filter((r) => !outs.includes(r))
  const inA = (r: number) => p.a.strides[r] !== 0
  const channels = outer.filter((r) => !inA(r))
  const perImage = channels.reduce((product, r) => product * p.dims[r], 1)

  // Rows are far apart in A, columns are near.
  const [vertical, horizontal] = [...p.windows].sort(
    (one, other) => Math.abs(p.a.strides[other.out]) - Math.abs(p.a.strides[one.out]),
  )
  const [down, right] = [vertical, horizontal].map(({ out }) => p.a.strides[out])
  const inner = Array.from({ length: p.inner }, (_, i) => p.rank - p.inner + i)
  const taps = inner.reduce((product, r) => product * p.dims[r], 1)
  if (taps > MOST_TAPS) return undefined
  const ks = new Side(p, inner, taps)
  ks.seek(0, taps)
  const places = [vertical, horizontal].map((window) => ks.places[p.windows.indexOf(window)])
  // What is left of an offset in A is that of a plane.
  const found = new Map<number, number>()
  const planeOf = Array.from({ length: taps }, (_, k) => {
    const at = (ks.a[k] - Math.imul(places[0][k], down) - Math.imul(places[1][k], right)) | 0
    if (!found.has(at)) found.set(at, found.size)
    return found.get(at)!
  })
  const axis = (window: Window): Axis => ({
    ...window,
    out: p.dims[window.out],
    kernel: p.dims[window.kernel],
  })
  const axes = [axis(vertical), axis(horizontal)] as const
  const planes = Planes.of(...axes, { count: found.size, perImage })
  if (planes === undefined) return undefined
  // Where windows look is not for the sides.
  const still = { ...p, windows: [] }
  const rows = new Side(still, [...outer.filter(inA), ...channels], planes.most)
  const lanes = new Side(still, [vertical.out, horizontal.out], planes.places)
  const batch = new Side(still, [], 1)
  batch.seek(0, 1)
  const width = p.dims[horizontal.out]
  return {
    planes,
    axes,
    sides: { batch, rows, lanes },
    perImage,
    run: (by, finish, before) =>
      direct(planes, {
        data: a.data as Float32Array,
        base: a.base,
        down,
        right,
        zero: 0,
        planes: [...found.keys()],
        taps: Int32Array.from(planeOf, (plane, k) => planes.offset(plane, places[0][k], places[1][k])),
        by: typeof by === 'object' ? { ...by, steps: ks.b, zero: 0 } : (by as Fold),
        channels: rows.count,
        perImage,
        seek(first, count) {
          rows.seek(first, count)
          return rows
        },
        finish(top, high, _first, _count, rowWidth) {
          lanes.seek(top * width, high * width)
          before?.()
          finish.block(rowWidth)
        },
      }),
  }
}
