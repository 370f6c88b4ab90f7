import { accelError, isAccelError } from '@uaccel/uapi'
import type { DmaBuffer } from './buffer.js'
import type { DmaDomain, DmaMapping } from './domain.js'
import { hugePageBytes, isPowerOfTwo } from './iova.js'
import { RangeAllocator } from './ranges.js'
import type { Iova } from './types.js'
import { MemoryViews } from './views.js'

/** How a region is wanted. */
export interface DmaRegionOptions {
  /** Alignment of the I/O address, a power of two of at least 8; default 64, a cache line. */
  readonly alignBytes?: number
  /** For errors. */
  readonly name?: string
  /** In a buffer of its own and not in an arena: for what another thread or process gets to see. Default false. */
  readonly separate?: boolean
}

/** A stretch of DMA memory, mapped for the device of its domain. */
export class DmaRegion extends MemoryViews {
  readonly name: string
  readonly iova: Iova
  /** The address in the two halves that descriptors and registers take. */
  readonly iovaLow: number
  readonly iovaHigh: number
  readonly buffer: DmaBuffer
  /** Bytes from the start of `buffer`. */
  readonly offset: number
  /** True where nothing else is in `buffer`. */
  readonly separate: boolean
  #bytes: Uint8Array | undefined
  readonly #release: () => void

  /** @internal */
  constructor(
    name: string,
    mapping: DmaMapping,
    offset: number,
    sizeBytes: number,
    separate: boolean,
    release: () => void,
  ) {
    super(sizeBytes)
    this.name = name
    this.separate = separate
    this.buffer = mapping.buffer
    this.offset = offset
    this.iova = (mapping.iova + BigInt(offset)) as Iova
    this.iovaLow = Number(this.iova & 0xffff_ffffn)
    this.iovaHigh = Number(this.iova >> 32n)
    this.#bytes = this.buffer.u8.subarray(offset, offset + sizeBytes)
    this.#release = release
  }

  /** Gives the memory back; the device must be done with it. Idempotent. */
  free(): void {
    if (this.#bytes === undefined) return
    this.#bytes = undefined
    this.#release()
  }

  [Symbol.dispose](): void {
    this.free()
  }

  protected override bytes(): Uint8Array {
    if (this.#bytes === undefined || this.buffer.destroyed) {
      throw accelError('ERR_ACCEL_REVOKED', `DMA region ${this.name} was freed and then touched`)
    }
    return this.#bytes
  }
}

interface Arena {
  readonly mapping: DmaMapping
  readonly free: RangeAllocator
  regions: number
}

/** Size of an arena: one large page of the IOMMU, and one mapping for thousands of small regions. */
export const arenaBytes = hugePageBytes

/** The small regions of one domain. */
export class Arenas {
  readonly #domain: DmaDomain
  readonly #arenas = new Set<Arena>()
  readonly #buffers = new Set<DmaBuffer>()

  constructor(domain: DmaDomain) {
    this.#domain = domain
  }

  alloc(
    sizeBytes: number,
    { alignBytes = 64, name = 'dma-region', separate = false }: DmaRegionOptions,
  ): DmaRegion {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || !isPowerOfTwo(alignBytes) || alignBytes < 8) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `DMA region ${name} of ${sizeBytes} bytes aligned to ${alignBytes}: wanted a positive size and a power of two of at least 8`,
      )
    }
    if (separate || sizeBytes > arenaBytes / 2 || alignBytes > 4096)
      return this.#own(sizeBytes, alignBytes, name)
    for (const arena of this.#arenas) {
      const region = this.#carve(arena, sizeBytes, alignBytes, name)
      if (region !== undefined) return region
    }
    try {
      return this.#carve(this.#grow(), sizeBytes, alignBytes, name)!
    } catch (error) {
      // There may be too little left to lock for a whole arena, and enough for this.
      if (isAccelError(error, 'ERR_ACCEL_MEMLOCK')) return this.#own(sizeBytes, alignBytes, name)
      throw error
    }
  }

  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy()
    this.#buffers.clear()
    this.#arenas.clear()
  }

  #own(sizeBytes: number, alignBytes: number, name: string): DmaRegion {
    const mapping = this.#map(sizeBytes, name, alignBytes > 4096 ? { alignBytes } : {})
    return new DmaRegion(name, mapping, 0, sizeBytes, true, () => this.#drop(mapping))
  }

  #carve(arena: Arena, sizeBytes: number, alignBytes: number, name: string): DmaRegion | undefined {
    // In whole cache lines, so that the device's writes to one region never share a line with another.
    const taken = Math.ceil(sizeBytes / 64) * 64
    const offset = arena.free.alloc(taken, Math.max(64, alignBytes))
    if (offset === undefined) return undefined
    arena.mapping.buffer.u8.fill(0, offset, offset + taken)
    arena.regions++
    return new DmaRegion(name, arena.mapping, offset, sizeBytes, false, () => {
      if (arena.mapping.buffer.destroyed) return
      arena.free.release(offset, taken)
      if (--arena.regions > 0 || this.#arenas.size === 1) return
      this.#arenas.delete(arena)
      this.#drop(arena.mapping)
    })
  }

  #grow(): Arena {
    const mapping = this.#map(arenaBytes, 'uaccel-arena', {})
    const arena = { mapping, free: new RangeAllocator([[0, arenaBytes]]), regions: 0 }
    this.#arenas.add(arena)
    return arena
  }

  #map(sizeBytes: number, name: string, options: { alignBytes?: number }): DmaMapping {
    const buffer = this.#domain.createBuffer(sizeBytes, { name })
    try {
      const mapping = this.#domain.map(buffer, options)
      this.#buffers.add(buffer)
      return mapping
    } catch (error) {
      buffer.destroy()
      throw error
    }
  }

  #drop({ buffer }: DmaMapping): void {
    this.#buffers.delete(buffer)
    buffer.destroy()
  }
}
