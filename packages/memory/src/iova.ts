import { accelError } from '@uaccel/uapi'
import { RangeAllocator, type UnitRange } from './ranges.js'
import type { Iova, IovaRange } from './types.js'

/** A mapping of this size and alignment can use a 2 MiB entry of the IOMMU's page table (Intel VT-d 9.3, AMD IOMMU 2.2.3). */
export const hugePageBytes = 0x20_0000

/** What an {@link IovaAllocator} may hand out. */
export interface IovaAllocatorOptions {
  /** What the IOMMU translates, both ends included. */
  readonly ranges: readonly IovaRange[]
  /** What must stay free of mappings, both ends included, such as an MSI window. */
  readonly reserved?: readonly IovaRange[]
  /** Unit of allocation in bytes, a power of two of at least 4096. */
  readonly pageSizeBytes: number
}

/** How one range of addresses is wanted. */
export interface IovaRequest {
  /** A power of two; default 2 MiB where the size is that large and such an address is free, else one page. */
  readonly alignBytes?: number
  /** Bits that the device can put on the bus; default 64. */
  readonly addressBits?: number
}

/**
 * Hands out I/O virtual addresses, lowest first. Never 0: devices and drivers take a zero address for "none".
 */
export class IovaAllocator {
  readonly pageSizeBytes: number
  readonly #reserved: readonly IovaRange[]
  #pages = new RangeAllocator([])
  #apertures: readonly IovaRange[] = []
  /** The apertures in whole pages, without what is reserved: ascending and disjoint. */
  #usable: readonly UnitRange[] = []
  /** What is taken outside of them. */
  #stranded: readonly UnitRange[] = []

  constructor({ ranges, reserved = [], pageSizeBytes }: IovaAllocatorOptions) {
    if (!isPowerOfTwo(pageSizeBytes) || pageSizeBytes < 4096) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `a page size of ${pageSizeBytes} bytes: wanted a power of two >= 4096`,
      )
    }
    this.pageSizeBytes = pageSizeBytes
    this.#reserved = reserved
    this.setRanges(ranges)
  }

  /**
   * Takes over what the IOMMU translates now, as another device's attach narrows it. Addresses that are taken stay so;
   * those outside the new ranges are not handed out again after they are freed.
   */
  setRanges(ranges: readonly IovaRange[]): void {
    const page = BigInt(this.pageSizeBytes)
    // Apertures shrink to whole pages, reserved ranges grow to them. Exclusive ends, so that `last` of 2^64-1 needs no care.
    const inside = ranges.map(
      ({ first, last }): UnitRange => [Number((first + page - 1n) / page), Number((last + 1n) / page)],
    )
    const holes = this.#reserved.map(
      ({ first, last }): UnitRange => [Number(first / page), Number(last / page) + 1],
    )
    const taken = [...subtract(this.#usable, this.#pages.free), ...this.#stranded]
    this.#usable = new RangeAllocator(subtract(inside, [[0, 1], ...holes])).free
    this.#pages = new RangeAllocator(subtract(this.#usable, taken))
    this.#stranded = subtract(taken, this.#usable)
    this.#apertures = ranges
  }

  /** Takes `sizeBytes` (rounded up to pages) of addresses. `ERR_ACCEL_NO_IOVA` where no such range is free. */
  alloc(sizeBytes: number, { alignBytes, addressBits = 64 }: IovaRequest = {}): Iova {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `an address range of ${sizeBytes} bytes: wanted a positive integer`,
      )
    }
    if (alignBytes !== undefined && !isPowerOfTwo(alignBytes)) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `an alignment of ${alignBytes} bytes: wanted a power of two`,
      )
    }
    const pages = Math.ceil(sizeBytes / this.pageSizeBytes)
    const limit = 2 ** addressBits / this.pageSizeBytes
    const start = this.#find(pages, sizeBytes, alignBytes, limit)
    if (start !== undefined) return (BigInt(start) * BigInt(this.pageSizeBytes)) as Iova
    throw accelError(
      'ERR_ACCEL_NO_IOVA',
      `no free I/O addresses for ${sizeBytes} bytes aligned to ${alignBytes ?? this.pageSizeBytes} within ${addressBits} address bits ` +
        `(the IOMMU translates ${this.#apertures.map(formatRange).join(', ') || 'nothing'}): unmap buffers, or map smaller ones`,
      { details: { sizeBytes, alignBytes, addressBits } },
    )
  }

  /** Gives back exactly what {@link alloc} answered. */
  free(iova: Iova, sizeBytes: number): void {
    const start = Number(iova / BigInt(this.pageSizeBytes))
    const range: UnitRange = [start, start + Math.ceil(sizeBytes / this.pageSizeBytes)]
    const stranded = subtract([range], this.#usable)
    if (subtract(stranded, this.#stranded).length > 0) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `${sizeBytes} bytes at I/O address 0x${iova.toString(16)} were to be freed, but are not all allocated`,
      )
    }
    for (const [from, to] of subtract([range], stranded)) this.#pages.release(from, to - from)
    this.#stranded = subtract(this.#stranded, stranded)
  }

  #find(pages: number, sizeBytes: number, alignBytes: number | undefined, limit: number): number | undefined {
    if (alignBytes !== undefined)
      return this.#pages.alloc(pages, Math.max(1, alignBytes / this.pageSizeBytes), limit)
    const huge = hugePageBytes / this.pageSizeBytes
    const aligned = sizeBytes >= hugePageBytes && huge > 1 ? this.#pages.alloc(pages, huge, limit) : undefined
    return aligned ?? this.#pages.alloc(pages, 1, limit)
  }
}

/** True for 1, 2, 4, ... up to 2^52. */
export function isPowerOfTwo(n: number): boolean {
  return Number.isSafeInteger(n) && n > 0 && 2 ** Math.round(Math.log2(n)) === n
}

function subtract(ranges: readonly UnitRange[], holes: readonly UnitRange[]): UnitRange[] {
  return holes.reduce<UnitRange[]>(
    (left, [from, to]) =>
      left
        .flatMap(([start, end]): UnitRange[] => [
          [start, Math.max(start, Math.min(end, from))],
          [Math.min(end, Math.max(start, to)), end],
        ])
        .filter(([start, end]) => end > start),
    [...ranges],
  )
}

function formatRange({ first, last }: IovaRange): string {
  return `0x${first.toString(16)}-0x${last.toString(16)}`
}
