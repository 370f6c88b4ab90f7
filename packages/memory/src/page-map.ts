const address = new BigUint64Array(1)
const halves = new Uint32Array(address.buffer)

/**
 * The page of 4 KiB that an I/O address lies in. 52 bits, which a JavaScript number holds exactly; taken apart in place, because
 * arithmetic on a bigint allocates.
 */
export function pageOf(iova: bigint): number {
  address[0] = iova
  return halves[1] * 0x10_0000 + (halves[0] >>> 12)
}

/** The bytes from the start of its page to an I/O address. */
export function offsetInPage(iova: bigint): number {
  address[0] = iova
  return halves[0] & 0xfff
}

/** A half-open range of pages, as {@link pageOf} numbers them. */
export interface PageRange {
  readonly firstPage: number
  readonly endPage: number
}

/** Disjoint ranges of pages in order. Found by halving, without an allocation: a device may have 10,000s of them. */
export class PageMap<Range extends PageRange> {
  readonly #ranges: Range[] = []
  /** Where each starts, by itself: a search stays in one stretch of memory. */
  readonly #starts: number[] = []
  #lastHit: Range | undefined

  get size(): number {
    return this.#ranges.length
  }

  /** The range that a page is in. */
  find(page: number): Range | undefined {
    const last = this.#lastHit
    if (last !== undefined && page >= last.firstPage && page < last.endPage) return last
    const range = this.#ranges[this.#after(page) - 1]
    if (range === undefined || page >= range.endPage) return undefined
    this.#lastHit = range
    return range
  }

  /** Those that have pages in common with a range, ascending. */
  meeting({ firstPage, endPage }: PageRange): Range[] {
    const met: Range[] = []
    const before = this.#after(firstPage) - 1
    for (let i = Math.max(before, 0); i < this.#ranges.length; i++) {
      const range = this.#ranges[i]
      if (range.firstPage >= endPage) break
      if (range.endPage > firstPage) met.push(range)
    }
    return met
  }

  /** The next range at or below a page, and the next above it. */
  around(page: number): [below: Range | undefined, above: Range | undefined] {
    const after = this.#after(page)
    return [this.#ranges[after - 1], this.#ranges[after]]
  }

  /** Adds a range that meets none of those here. */
  add(range: Range): void {
    const at = this.#after(range.firstPage)
    this.#ranges.splice(at, 0, range)
    this.#starts.splice(at, 0, range.firstPage)
  }

  /** Takes out a range that is here. */
  delete(range: Range): void {
    const at = this.#after(range.firstPage) - 1
    this.#ranges.splice(at, 1)
    this.#starts.splice(at, 1)
    this.#lastHit = undefined
  }

  /** Takes out all, and answers them. */
  clear(): Range[] {
    this.#lastHit = undefined
    this.#starts.length = 0
    return this.#ranges.splice(0)
  }

  /** The index of the first range that starts above a page. */
  #after(page: number): number {
    const starts = this.#starts
    let low = 0
    let high = starts.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (starts[middle] <= page) low = middle + 1
      else high = middle
    }
    return low
  }
}
