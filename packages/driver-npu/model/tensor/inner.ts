import type { TensorParams, Window } from './params.js'
import { coalesced } from './walk.js'

/** Along one reduced dimension: the elements that take part, as steps. Windows set it for each result. */
interface Dimension {
  readonly window: Window | undefined
  /** Strides of the operands; of A in a window that of one place. */
  readonly strides: readonly number[]
  readonly places: number
  readonly out: number
  /** The index along `out` that the elements are those of. */
  at: number
  /** Elements that take part, and for each operand where they begin and how far apart they are. */
  count: number
  readonly first: number[]
  readonly step: number[]
}

/**
 * The elements of the `INNER` last dimensions that belong to one result, as rows: `rows` calls with where a row begins in each operand. Within a row elements
 * are `steps` apart.
 */
export class Inner {
  /** Of the current row: elements, and for each operand its begin, counted from the result's own place, and step. */
  count = 0
  readonly begin: number[]
  readonly steps: readonly number[]
  /** Elements that take part in the result. */
  total = 0
  readonly #dimensions: readonly Dimension[]
  readonly #last: Dimension
  readonly #transposed: boolean
  readonly #place: number[]
  #atRow = false

  /** `strides` are those of the operands whose elements are gone through, A first. */
  constructor(p: TensorParams, strides: readonly (readonly number[])[]) {
    const outer = p.rank - p.inner
    this.#transposed = (p.flags & 1) !== 0
    const sliding = p.windows.map(({ kernel }) => kernel)
    const dimensions: Dimension[] = []
    const add = (dims: readonly number[], vectors: readonly (readonly number[])[], window?: Window) => {
      const [merged, apart] = window === undefined ? coalesced(dims, vectors) : [dims, vectors]
      for (const [r, places] of merged.entries()) {
        const own = apart.map((vector, v) =>
          window !== undefined && v === 0 ? p.a.strides[window.out] : vector[r],
        )
        dimensions.push({
          window,
          strides: own,
          places,
          out: window?.out ?? 0,
          at: -1,
          count: places,
          first: own.map(() => 0),
          step: [...own],
        })
      }
    }
    for (let r = outer; r < p.rank; ) {
      let end = r + 1
      const window = p.windows[sliding.indexOf(r)]
      while (window === undefined && end < p.rank && !sliding.includes(end)) end++
      add(
        p.dims.slice(r, end),
        strides.map((vector) => vector.slice(r, end)),
        window,
      )
      r = end
    }
    if (dimensions.length === 0)
      add(
        [1],
        strides.map(() => [0]),
      )
    this.#dimensions = dimensions
    this.#last = dimensions[dimensions.length - 1]
    this.#place = dimensions.map(() => 0)
    this.begin = strides.map(() => 0)
    this.steps = this.#last.step
  }

  /** Goes to the result at indices `at`, of which those of windows' `OUT` matter. Then `nextRow` gives its rows. */
  start(at: ArrayLike<number>): void {
    this.total = 1
    for (let r = 0; r < this.#dimensions.length; r++) {
      const dimension = this.#dimensions[r]
      if (dimension.window !== undefined && dimension.at !== at[dimension.out]) {
        dimension.at = at[dimension.out]
        slide(dimension, dimension.at, this.#transposed)
      }
      this.total *= dimension.count
    }
    this.rewind()
  }

  /** Goes back before the first row of the result. */
  rewind(): void {
    this.#place.fill(0)
    this.#atRow = false
  }

  nextRow(): boolean {
    if (this.total === 0) return false
    const place = this.#place
    const dimensions = this.#dimensions
    if (!this.#atRow) this.#atRow = true
    else {
      let r = dimensions.length - 2
      for (; r >= 0; r--) {
        if (++place[r] < dimensions[r].count) break
        place[r] = 0
      }
      if (r < 0) return false
    }
    for (let v = 0; v < this.begin.length; v++) {
      let begin = this.#last.first[v]
      for (let r = 0; r < dimensions.length - 1; r++)
        begin += dimensions[r].first[v] + place[r] * dimensions[r].step[v]
      this.begin[v] = begin
    }
    this.count = this.#last.count
    return true
  }
}

/** The places inside of a window, at place `out`, whose position is in A (7.6): they are evenly apart. */
function slide(dimension: Dimension, out: number, transposed: boolean): void {
  const { window, places, strides, first, step } = dimension
  const { size, stride, dilation, pad } = window!
  let from = 0
  let by = 1
  let end = places - 1
  let position: number
  let move: number
  if (transposed) {
    // (out + pad - k dilation) / stride, an integer in 0 ... size - 1
    const sum = out + pad
    by = stride / divisor(stride, dilation)
    from = Math.max(0, Math.ceil((sum - (size - 1) * stride) / dilation))
    end = Math.min(end, Math.floor(sum / dilation))
    for (let tried = 0; tried < by && (sum - from * dilation) % stride !== 0; tried++) from++
    position = (sum - from * dilation) / stride
    move = (-by * dilation) / stride
    if (!Number.isInteger(position)) end = -1
  } else {
    const begin = out * stride - pad
    from = Math.max(0, Math.ceil(-begin / dilation))
    end = Math.min(end, Math.floor((size - 1 - begin) / dilation))
    position = begin + from * dilation
    move = dilation
  }
  dimension.count = Math.max(0, Math.floor((end - from) / by) + 1)
  first[0] = position * strides[0]
  step[0] = move * strides[0]
  for (let v = 1; v < strides.length; v++) {
    first[v] = from * strides[v]
    step[v] = by * strides[v]
  }
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b)
}
