import { accelError } from '@uaccel/uapi'

/** A half-open range of whole units: `[start, end)`. */
export type UnitRange = readonly [start: number, end: number]

/**
 * The free part of an address space, in units of the caller's choice (pages of an IOVA space, bytes of an arena).
 * Ranges stay sorted, disjoint and merged, so that first fit finds the lowest address. With pages of 4 KiB a whole
 * 64-bit space is 2^52 units, which a JavaScript number holds exactly.
 */
export class RangeAllocator {
  readonly #starts: number[] = []
  readonly #ends: number[] = []

  constructor(free: Iterable<UnitRange>) {
    const sorted = [...free].filter(([start, end]) => end > start).sort((a, b) => a[0] - b[0])
    for (const [start, end] of sorted) {
      const last = this.#ends.length - 1
      if (last >= 0 && start <= this.#ends[last]) this.#ends[last] = Math.max(this.#ends[last], end)
      else this.#insert(this.#starts.length, start, end)
    }
  }

  /** What is free, ascending. */
  get free(): UnitRange[] {
    return this.#starts.map((start, i) => [start, this.#ends[i]] as const)
  }

  /** Takes the lowest `size` units whose start is a multiple of `align` and that end at or below `limit`. `undefined` where none is free. */
  alloc(size: number, align = 1, limit = Number.MAX_SAFE_INTEGER): number | undefined {
    for (let i = 0; i < this.#starts.length; i++) {
      const start = Math.ceil(this.#starts[i] / align) * align
      if (start + size > limit) return undefined
      if (start + size <= this.#ends[i]) {
        this.#cut(i, start, start + size)
        return start
      }
    }
    return undefined
  }

  /** Gives units back. `ERR_ACCEL_INVALID_ARGUMENT` where a part of them is free already. */
  release(start: number, size: number): void {
    const end = start + size
    let i = this.#starts.findIndex((s) => s >= start)
    if (i < 0) i = this.#starts.length
    const overlapsNext = i < this.#starts.length && this.#starts[i] < end
    const overlapsPrevious = i > 0 && this.#ends[i - 1] > start
    if (size <= 0 || overlapsNext || overlapsPrevious) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `units ${start} to ${end} were to be freed, but are not all allocated`,
      )
    }
    const joinsPrevious = i > 0 && this.#ends[i - 1] === start
    const joinsNext = i < this.#starts.length && this.#starts[i] === end
    if (joinsPrevious && joinsNext) {
      this.#ends[i - 1] = this.#ends[i]
      this.#remove(i)
    } else if (joinsPrevious) this.#ends[i - 1] = end
    else if (joinsNext) this.#starts[i] = start
    else this.#insert(i, start, end)
  }

  #cut(i: number, start: number, end: number): void {
    const [freeStart, freeEnd] = [this.#starts[i], this.#ends[i]]
    if (freeStart === start && freeEnd === end) this.#remove(i)
    else if (freeStart === start) this.#starts[i] = end
    else {
      this.#ends[i] = start
      if (freeEnd !== end) this.#insert(i + 1, end, freeEnd)
    }
  }

  #insert(i: number, start: number, end: number): void {
    this.#starts.splice(i, 0, start)
    this.#ends.splice(i, 0, end)
  }

  #remove(i: number): void {
    this.#starts.splice(i, 1)
    this.#ends.splice(i, 1)
  }
}
