import { accelError, isAccelError } from '@uaccel/uapi'
import { Arenas, type DmaRegion, type DmaRegionOptions } from './arena.js'
import type { DmaBuffer } from './buffer.js'
import { IovaAllocator } from './iova.js'
import { type MemlockState, mayLock, memlockError, readMemlock } from './memlock.js'
import type { DmaAccess, DmaMapper, Iova } from './types.js'

/** How a buffer is mapped. */
export interface DmaMapOptions {
  /** What the device may do with it; default `readwrite`. */
  readonly access?: DmaAccess
  /** Alignment of the I/O address, a power of two; default 2 MiB for large buffers, else one page. */
  readonly alignBytes?: number
}

/** A buffer at an I/O address of one domain. */
export interface DmaMapping {
  readonly buffer: DmaBuffer
  readonly iova: Iova
  readonly sizeBytes: number
  readonly access: DmaAccess
  /** Takes the device's access back. Idempotent. */
  unmap(): void
}

/** What a domain must know of its device. */
export interface DmaDomainOptions {
  /** Physical address bits that the device can put on the bus; default 64. */
  readonly addressBits?: number
  /** Reads the limits on locked memory; for tests. */
  readonly memlock?: () => MemlockState
}

/** What all domains on one mapper share: devices of one IOMMU group see the same addresses. */
interface IovaSpace {
  readonly iovas: IovaAllocator
  mappings: number
}

const spaces = new WeakMap<DmaMapper, IovaSpace>()

/** The memory that one device can reach. */
export class DmaDomain {
  readonly addressBits: number
  readonly #mapper: DmaMapper
  readonly #memlock: () => MemlockState
  readonly #mappings = new Set<DmaMapping>()
  readonly #arenas: Arenas
  #mappedBytes = 0
  #destroyed = false

  constructor(mapper: DmaMapper, { addressBits = 64, memlock = readMemlock }: DmaDomainOptions = {}) {
    this.#mapper = mapper
    this.addressBits = addressBits
    this.#memlock = memlock
    this.#arenas = new Arenas(this)
  }

  /** How many mappings exist in this domain. */
  get mappings(): number {
    return this.#mappings.size
  }

  /** Their bytes in all. */
  get mappedBytes(): number {
    return this.#mappedBytes
  }

  /**
   * Makes a whole buffer reachable for the device. A map that fails leaves nothing behind.
   * Errors: `ERR_ACCEL_MAPPING_LIMIT`, `ERR_ACCEL_MEMLOCK`, `ERR_ACCEL_NO_IOVA`, `ERR_ACCEL_NO_DEVICE`, `ERR_ACCEL_REVOKED`.
   */
  map(buffer: DmaBuffer, { access = 'readwrite', alignBytes }: DmaMapOptions = {}): DmaMapping {
    this.#checkAlive()
    if (buffer.destroyed)
      throw accelError('ERR_ACCEL_REVOKED', `DMA buffer ${buffer.name} was destroyed and cannot be mapped`)
    const { sizeBytes, address, fd } = buffer
    const space = this.#space()
    this.#checkLimits(space, sizeBytes)
    const iova = space.iovas.alloc(sizeBytes, {
      addressBits: this.addressBits,
      ...(alignBytes === undefined ? {} : { alignBytes }),
    })
    try {
      this.#mapper.map({ iova, sizeBytes, access, address, fd, fdOffset: 0 })
    } catch (error) {
      space.iovas.free(iova, sizeBytes)
      // The kernel counts in a way that no look beforehand can match fully (other threads, other containers).
      if (!isAccelError(error, 'ERR_ACCEL_NO_MEMORY') || !this.#mapper.locksMemory) throw error
      const state = this.#memlock()
      throw state.limitBytes === Number.POSITIVE_INFINITY ? error : memlockError(sizeBytes, state, error)
    }
    space.mappings++
    this.#mappedBytes += sizeBytes
    const mapping: DmaMapping = {
      buffer,
      iova,
      sizeBytes,
      access,
      unmap: () => this.#unmap(mapping, space, forget),
    }
    const forget = buffer.onDestroy(mapping.unmap)
    this.#mappings.add(mapping)
    return mapping
  }

  /**
   * Allocates zeroed memory that the device may read and write. Small regions share 2 MiB arenas, so that they do not cost a mapping each;
   * `buffer` and `offset` say where a region lies. Errors as for {@link map}.
   */
  alloc(sizeBytes: number, options: DmaRegionOptions = {}): DmaRegion {
    this.#checkAlive()
    return this.#arenas.alloc(sizeBytes, options)
  }

  /** Unmaps everything and frees what {@link alloc} gave. The device must not use the memory any more. Idempotent. */
  destroy(): void {
    if (this.#destroyed) return
    this.#destroyed = true
    const errors: unknown[] = []
    const attempt = (step: () => void) => {
      try {
        step()
      } catch (error) {
        errors.push(error)
      }
    }
    for (const mapping of [...this.#mappings].reverse()) attempt(mapping.unmap)
    attempt(() => this.#arenas.destroy())
    if (errors.length === 1) throw errors[0]
    if (errors.length > 1) throw new AggregateError(errors, 'several DMA mappings could not be taken back')
  }

  [Symbol.dispose](): void {
    this.destroy()
  }

  #checkAlive(): void {
    if (this.#destroyed)
      throw accelError('ERR_ACCEL_NO_DEVICE', 'the DMA domain was destroyed: its device is released')
  }

  #space(): IovaSpace {
    let space = spaces.get(this.#mapper)
    // With nothing mapped the apertures are asked for anew: another device's attach narrows them.
    if (space === undefined || space.mappings === 0) {
      const iovas = new IovaAllocator({
        ranges: this.#mapper.ranges(),
        pageSizeBytes: this.#mapper.pageSizeBytes,
      })
      space = { iovas, mappings: 0 }
      spaces.set(this.#mapper, space)
    }
    return space
  }

  #checkLimits(space: IovaSpace, sizeBytes: number): void {
    const { maxMappings, locksMemory } = this.#mapper
    if (space.mappings >= maxMappings) {
      throw accelError(
        'ERR_ACCEL_MAPPING_LIMIT',
        `a DMA mapping was wanted and ${space.mappings} exist, of ${maxMappings} that the IOMMU container can hold: ` +
          'use domain.alloc() for small memory, or raise the module parameter dma_entry_limit of vfio_iommu_type1',
        { details: { mappings: space.mappings, maxMappings } },
      )
    }
    if (!locksMemory) return
    const state = this.#memlock()
    if (!mayLock(sizeBytes, state)) throw memlockError(sizeBytes, state)
  }

  #unmap(mapping: DmaMapping, space: IovaSpace, forget: () => void): void {
    if (!this.#mappings.delete(mapping)) return
    forget()
    this.#mappedBytes -= mapping.sizeBytes
    try {
      this.#mapper.unmap(mapping.iova, mapping.sizeBytes)
    } catch (error) {
      // A device that is gone reaches no memory. After any other failure the address stays taken: it may still be mapped.
      if (!isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) throw error
    }
    space.mappings--
    space.iovas.free(mapping.iova, mapping.sizeBytes)
  }
}
