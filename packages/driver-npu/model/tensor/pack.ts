import { LANES } from '../gemm.js'
import type { Elements, TensorParams } from './params.js'
import { isRun, type Side } from './side.js'

const NOTHING = new Float32Array(0)

/** The block of an input that the sides stand at, as panels of a matrix. */
export class Packer {
  #data: Float32Array = NOTHING
  #base = 0
  readonly #offsets: 'a' | 'b'
  readonly #batch: Side
  readonly #side: Side
  readonly #ks: Side
  readonly #into: Float32Array
  readonly #width: number
  /** Extents of the two windows; undefined where none goes over this input. */
  readonly #sizes: readonly [number, number] | undefined
  /** What is packed: first indices of the sides. */
  #ofBatch = -1
  #ofSide = -1
  #ofKs = -1

  constructor(
    p: TensorParams,
    offsets: 'a' | 'b',
    sides: { readonly batch: Side; readonly side: Side; readonly ks: Side },
    into: Float32Array,
    width: number,
  ) {
    this.#offsets = offsets
    this.#batch = sides.batch
    this.#side = sides.side
    this.#ks = sides.ks
    this.#into = into
    this.#width = width
    const slides = offsets === 'a' && p.windows.length > 0
    this.#sizes = slides ? [p.windows[0].size, p.windows[1]?.size ?? 1] : undefined
  }

  /** Begins with an input, whose block nobody has packed. */
  start({ data, base }: Elements): void {
    this.#data = data as Float32Array
    this.#base = base
    this.#ofBatch = -1
  }

  /** Lets go of the input. */
  release(): void {
    this.#data = NOTHING
  }

  /** Packs it, unless that is done already. */
  pack(): void {
    const batch = this.#batch
    const side = this.#side
    const ks = this.#ks
    if (this.#ofBatch === batch.first && this.#ofSide === side.first && this.#ofKs === ks.first) return
    this.#ofBatch = batch.first
    this.#ofSide = side.first
    this.#ofKs = ks.first
    const start = this.#base + batch[this.#offsets][0]
    for (let first = 0; first < side.length; first += this.#width) {
      const count = Math.min(this.#width, side.length - first)
      if (this.#sizes === undefined || this.#isInside(first, count)) this.#dense(start, first, count)
      else this.#windowed(start, first, count, this.#sizes)
    }
  }

  /** Between words of a panel: those of lanes have a whole width. */
  #step(count: number): number {
    return this.#width === LANES ? LANES : count
  }

  #dense(start: number, first: number, count: number): void {
    const data = this.#data
    const into = this.#into
    const side = this.#side[this.#offsets]
    const inner = this.#ks[this.#offsets]
    const { length } = this.#ks
    const step = this.#step(count)
    let to = first * length
    if (count === LANES && isRun(side, first, count)) {
      const from = start + side[first]
      for (let k = 0; k < length; k++, to += LANES) copyRun(data, (from + inner[k]) | 0, into, to)
      return
    }
    for (let j = 0; j < count; j++) {
      const from = start + side[first + j]
      for (let k = 0, at = to + j; k < length; k++, at += step) into[at] = data[(from + inner[k]) | 0]
    }
  }

  /** Whether all that the windows look at for a panel are elements. */
  #isInside(first: number, count: number): boolean {
    const [batch, side, ks] = [this.#batch, this.#side, this.#ks]
    if (batch.inPhases || side.inPhases || ks.inPhases) return false
    for (let w = 0; w < 2; w++) {
      const places = side.places[w]
      let [low, high] = [places[first], places[first]]
      for (let at = first + 1; at < first + count; at++) {
        if (places[at] < low) low = places[at]
        if (places[at] > high) high = places[at]
      }
      const start = batch.places[w][0]
      if (start + ks.low[w] + low < 0 || start + ks.high[w] + high >= this.#sizes![w]) return false
    }
    return true
  }

  /** As `dense`, with 0 where a window looks at no element. */
  #windowed(start: number, first: number, count: number, [height, width]: readonly [number, number]): void {
    const data = this.#data
    const into = this.#into
    const [batch, side, ks] = [this.#batch, this.#side, this.#ks]
    const { a, places, phases } = side
    const [down, right] = places
    const [downPhase, rightPhase] = phases
    const step = this.#step(count)
    for (let k = 0, to = first * ks.length; k < ks.length; k++, to += step) {
      const from = start + ks.a[k]
      const y = batch.places[0][0] + ks.places[0][k]
      const x = batch.places[1][0] + ks.places[1][k]
      const yPhase = batch.phases[0][0] + ks.phases[0][k]
      const xPhase = batch.phases[1][0] + ks.phases[1][k]
      for (let j = 0; j < count; j++) {
        const at = first + j
        const [py, px] = [y + down[at], x + right[at]]
        const isElement = py >= 0 && py < height && px >= 0 && px < width
        into[to + j] =
          isElement && yPhase + downPhase[at] === 0 && xPhase + rightPhase[at] === 0
            ? data[(from + a[at]) | 0]
            : 0
      }
    }
  }
}

/** Element by element: for so few that is faster than `set` of a view. */
function copyRun(data: Float32Array, from: number, into: Float32Array, to: number): void {
  into[to] = data[from]
  into[to + 1] = data[from + 1]
  into[to + 2] = data[from + 2]
  into[to + 3] = data[from + 3]
  into[to + 4] = data[from + 4]
  into[to + 5] = data[from + 5]
  into[to + 6] = data[from + 6]
  into[to + 7] = data[from + 7]
}
