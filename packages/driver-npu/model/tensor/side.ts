import type { TensorParams } from './params.js'

/** Places beyond these are outside of every window, and sums of two of them too. */
const FAR = 2 ** 29

const NONE = new Int32Array(0)

/**
 * Some dimensions of an operation, as one: index n of them stands for the n-th of their indices, the last dimension going fastest. For a block
 * of these it has tables of what each adds to the offsets of operands, and to the places in A that windows look at.
 *
 * Offsets wrap in 32 bits: what parts of an index add may be far, but elements that are in A, B, C and D are not.
 */
export class Side {
  /** Indices in all. */
  readonly count: number
  readonly a: Int32Array
  readonly b: Int32Array
  readonly c: Int32Array
  readonly d: Int32Array
  /** For each of two windows where it looks at A, in elements of the window's `SIZE`; 0 where there is no second one. */
  readonly places: readonly Int32Array[]
  /** What is left of a place that is between two elements: those of all sides sum up to 0, or it is no element. */
  readonly phases: readonly Int32Array[]
  /** Of `places`. */
  readonly low: [number, number] = [0, 0]
  readonly high: [number, number] = [0, 0]
  /** Whether a phase is other than 0. */
  inPhases = false
  /** The first index of the tables, and how many they have. */
  first = -1
  length = 0
  #p: TensorParams
  #dimensions: readonly number[]
  #transposed: boolean

  constructor(p: TensorParams, dimensions: readonly number[], capacity: number) {
    this.#p = p
    this.#dimensions = dimensions
    this.#transposed = (p.flags & 1) !== 0
    this.count = dimensions.reduce((product, r) => product * p.dims[r], 1)
    const table = () => new Int32Array(Math.min(capacity, this.count))
    this.a = table()
    this.b = table()
    this.c = table()
    this.d = table()
    const ofWindows = () => (p.windows.length === 0 ? NONE : table())
    this.places = [ofWindows(), ofWindows()]
    this.phases = [ofWindows(), ofWindows()]
  }

  /** Makes the tables those of `length` indices from `first` on. */
  seek(first: number, length: number): void {
    if (this.first === first && this.length === length) return
    this.first = first
    this.length = length
    const { dims, windows } = this.#p
    const last = this.#dimensions[this.#dimensions.length - 1]
    const run = last === undefined ? 1 : dims[last]
    for (let at = 0; at < length; ) {
      this.#enter(first + at, at)
      const end = Math.min(length, at + run - ((first + at) % run))
      at = this.#follow(at, end)
    }
    for (let w = 0; w < windows.length; w++) {
      const places = this.places[w]
      let [low, high] = [places[0], places[0]]
      for (let at = 1; at < length; at++) {
        if (places[at] < low) low = places[at]
        if (places[at] > high) high = places[at]
      }
      this.low[w] = low
      this.high[w] = high
    }
    this.inPhases = this.#transposed && this.phases.some((of) => of.subarray(0, length).some((n) => n !== 0))
  }

  /** Enters what follows entry `at` along the last dimension, where it is as far apart as the second is from the first; answers where it stopped. */
  #follow(at: number, end: number): number {
    const second = at + 1
    if (second >= end) return end
    this.#enter(this.first + second, second)
    const last = this.#dimensions[this.#dimensions.length - 1]
    const { windows, dims } = this.#p
    const slides = windows.some(({ out, kernel }) => last === out || last === kernel)
    if (slides && (this.#transposed || windows.some((w) => dims[last] * w.stride * w.dilation > FAR)))
      return second + 1
    for (const table of [this.a, this.b, this.c, this.d, ...this.places.slice(0, windows.length)]) {
      const step = table[second] - table[at]
      for (let i = second + 1; i < end; i++) table[i] = table[i - 1] + step
    }
    for (let w = 0; this.#transposed && w < windows.length; w++)
      this.phases[w].fill(this.phases[w][at], at, end)
    return end
  }

  /** The index along dimension r of entry `at` of the tables; undefined where the dimension is of another side. */
  index(r: number, at: number): number | undefined {
    if (!this.#dimensions.includes(r)) return undefined
    let rest = this.first + at
    for (let i = this.#dimensions.length - 1; this.#dimensions[i] !== r; i--)
      rest = Math.floor(rest / this.#p.dims[this.#dimensions[i]])
    return rest % this.#p.dims[r]
  }

  #enter(index: number, at: number): void {
    const { dims, a, b, c, d, windows } = this.#p
    let [toA, toB, toC, toD] = [0, 0, 0, 0]
    for (let w = 0; w < windows.length; w++) {
      this.places[w][at] = 0
      this.phases[w][at] = 0
    }
    for (let i = this.#dimensions.length - 1, rest = index; i >= 0; i--) {
      const r = this.#dimensions[i]
      const n = rest % dims[r]
      rest = (rest - n) / dims[r]
      let slides = false
      for (let w = 0; w < windows.length; w++) {
        const { out, kernel, stride, dilation, pad } = windows[w]
        if (r !== out && r !== kernel) continue
        let place = r === kernel ? n * dilation : this.#transposed ? n + pad : n * stride - pad
        if (this.#transposed) {
          const sign = r === kernel ? -1 : 1
          this.phases[w][at] += sign * (place % stride)
          place = sign * Math.floor(place / stride)
        }
        this.places[w][at] += Math.max(-FAR, Math.min(FAR, place))
        toA += Math.imul(place, a.strides[out])
        if (r === out) slides = true
      }
      if (!slides) toA += Math.imul(n, a.strides[r])
      if (b !== undefined) toB += Math.imul(n, b.strides[r])
      if (c !== undefined) toC += Math.imul(n, c.strides[r])
      toD += Math.imul(n, d.strides[r])
    }
    this.a[at] = toA
    this.b[at] = toB
    this.c[at] = toC
    this.d[at] = toD
  }
}

/** Whether `count` offsets from `first` on follow each other. */
export function isRun(offsets: Int32Array, first: number, count: number): boolean {
  for (let j = 1; j < count; j++) if (offsets[first + j] !== offsets[first] + j) return false
  return true
}
