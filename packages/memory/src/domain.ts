import { accelError, isAccelError } from '@uaccel/uapi'
import { Arenas, type DmaRegion, type DmaRegionOptions } from './arena.js'
import { DmaBuffer } from './buffer.js'
import type { DmaBuf } from './dma-buf.js'
import { IovaAllocator } from './iova.js'
import { type MemlockState, mayLock, memlockError, readMemlock } from './memlock.js'
import type { DmaAccess, DmaMapper, DmaMemory, Iova } from './types.js'

/** How a buffer is mapped. */
export interface DmaMapOptions {
  /** What the device may do with it; default `readwrite`. */
  readonly access?: DmaAccess
  /** Alignment of the I/O address, a power of two; default 2 MiB for large buffers, else one page. */
  readonly alignBytes?: number
  /** Bits that the address may have at most; default those of the domain. */
  readonly addressBits?: number
}

/** Memory at an I/O address of one domain. */
export interface DmaRange {
  readonly iova: Iova
  readonly sizeBytes: number
  readonly access: DmaAccess
  /** Takes the device's access back. Idempotent. */
  unmap(): void
}

/** A buffer at an I/O address of one domain. */
export interface DmaMapping extends DmaRange {
  readonly buffer: DmaBuffer
}

/** A dma-buf at an I/O address of one domain. */
export interface DmaBufMapping extends DmaRange {
  readonly dmaBuf: DmaBuf
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
  version: number | undefined
  mappings: number
}

/** How often memory is taken anew in search of some that the device can reach. */
const maxUnfit = 64

const spaces = new WeakMap<DmaMapper, IovaSpace>()

/** Which mapper holds a mapping. */
const sources = new WeakMap<DmaRange, DmaMapper>()

/** Where memory was mapped. */
type Placed = Omit<DmaRange, 'unmap'>

/** How memory is to be mapped. */
interface Placing {
  readonly sizeBytes: number
  readonly access: DmaAccess
  readonly alignBytes: number | undefined
  readonly addressBits?: number | undefined
  /** It counts against the limit on locked memory. */
  readonly locks: boolean
  /** What is mapped, where it may have an address of its own. */
  readonly memory?: DmaMemory
}

/** Told of the mappings of a domain. */
export interface MappingWatcher {
  dmaMapped(iova: Iova, sizeBytes: number, access: DmaAccess): void
  dmaUnmapped(iova: Iova, sizeBytes: number): void
}

/** The memory that one device can reach. */
export class DmaDomain {
  readonly addressBits: number
  readonly #mapper: DmaMapper
  readonly #memlock: () => MemlockState
  readonly #mappings = new Set<DmaRange>()
  readonly #arenas: Arenas
  #mappedBytes = 0
  #destroyed = false
  #watcher: MappingWatcher | undefined

  constructor(mapper: DmaMapper, { addressBits = 64, memlock = readMemlock }: DmaDomainOptions = {}) {
    this.#mapper = mapper
    this.addressBits = addressBits
    this.#memlock = memlock
    this.#arenas = new Arenas(this)
  }

  /** Who is told of mappings from now on; first of those that there are. */
  set watcher(watcher: MappingWatcher | undefined) {
    this.#watcher = watcher
    for (const { iova, sizeBytes, access } of this.#mappings) watcher?.dmaMapped(iova, sizeBytes, access)
  }

  /** True after {@link destroy}: the device reaches nothing of what it was given here. */
  get destroyed(): boolean {
    return this.#destroyed
  }

  /** True where an IOMMU translates, and the domain chooses addresses; elsewhere memory is where it is. */
  get translates(): boolean {
    return this.#mapper.locate === undefined
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
  map(buffer: DmaBuffer, { access = 'readwrite', alignBytes, addressBits }: DmaMapOptions = {}): DmaMapping {
    this.#checkAlive()
    if (buffer.destroyed)
      throw accelError('ERR_ACCEL_REVOKED', `DMA buffer ${buffer.name} was destroyed and cannot be mapped`)
    const { sizeBytes, address, fd } = buffer
    const locks = this.#mapper.locksMemory
    const placed = this.#place(
      { sizeBytes, access, alignBytes, addressBits, locks, memory: buffer },
      (iova) => this.#mapper.map({ iova, sizeBytes, access, address, fd, fdOffset: 0 }),
    )
    return this.#keep({ ...placed, buffer }, buffer)
  }

  /**
   * Makes a dma-buf reachable for the device: on-card memory of another device, which then moves data without going
   * through host memory. The device reaches nothing there once the exporting device is reset or closed, and a
   * mapping made before does not come back: unmap it and import anew.
   * Errors as for {@link map}, and `ERR_ACCEL_UNSUPPORTED` where the kernel, or the interface to it, takes no dma-buf of
   * this exporter, `ERR_ACCEL_REVOKED` where the exporting device is closed or its memory decoding is off.
   */
  importDmaBuf(
    dmaBuf: DmaBuf,
    { access = 'readwrite', alignBytes, addressBits }: DmaMapOptions = {},
  ): DmaBufMapping {
    this.#checkAlive()
    const { sizeBytes, fd } = dmaBuf
    const mapper = this.#mapper
    if (mapper.mapDmaBuf === undefined) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `a dma-buf of ${sizeBytes} bytes was to be mapped for a device, and this way to it maps only memory with an address: open the ` +
          "device with `iommu: 'iommufd'`",
      )
    }
    const placed = this.#place({ sizeBytes, access, alignBytes, addressBits, locks: false }, (iova) =>
      mapper.mapDmaBuf!({ iova, sizeBytes, access, fd }),
    )
    return this.#keep({ ...placed, dmaBuf }, dmaBuf)
  }

  /**
   * Makes what another domain has mapped reachable in this one too, at an address of its own; the kernel shares its
   * record of the memory and counts it as locked once. Both domains must be of one iommufd context (a device and its further
   * address spaces). It goes with the buffer, not with the mapping that it was made from.
   * Errors as for {@link map}, and `ERR_ACCEL_UNSUPPORTED` without iommufd.
   */
  copy<M extends DmaMapping | DmaBufMapping>(
    mapping: M,
    { access = mapping.access, alignBytes, addressBits }: DmaMapOptions = {},
  ): M {
    this.#checkAlive()
    const source = sources.get(mapping)
    if (source === undefined)
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', 'a mapping that was to be copied is unmapped')
    const mapper = this.#mapper
    if (mapper.copy === undefined) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        "a mapping was to be copied, and this way to the device copies none: map its buffer, or open the device with `iommu: 'iommufd'`",
      )
    }
    const { sizeBytes } = mapping
    const placed = this.#place({ sizeBytes, access, alignBytes, addressBits, locks: false }, (iova) =>
      mapper.copy!({ iova, sizeBytes, access }, source, mapping.iova),
    )
    const from: DmaMapping | DmaBufMapping = mapping
    return this.#keep({ ...mapping, ...placed }, 'buffer' in from ? from.buffer : from.dmaBuf)
  }

  /**
   * Makes a buffer of zeroed memory that {@link map} takes, whatever stands before the device: without an IOMMU that is huge
   * pages where its address bits reach. The caller destroys it. Errors as for {@link map}, and `ERR_ACCEL_NO_MEMORY`.
   */
  createBuffer(sizeBytes: number, { name = 'uaccel-dma' }: { readonly name?: string } = {}): DmaBuffer {
    this.#checkAlive()
    if (this.#mapper.locate === undefined) return DmaBuffer.create(sizeBytes, { name })
    const unfit: DmaBuffer[] = []
    let misfit: unknown
    try {
      while (true) {
        const buffer = DmaBuffer.create(sizeBytes, { name, hugePages: true })
        try {
          this.#locate(buffer)
          return buffer
        } catch (error) {
          // Kept until the search is over, or it would be found again.
          unfit.push(buffer)
          if (!isAccelError(error, 'ERR_ACCEL_NO_IOVA') || unfit.length === maxUnfit) throw error
          misfit = error
        }
      }
    } catch (error) {
      throw misfit !== undefined && isAccelError(error, 'ERR_ACCEL_NO_MEMORY') ? misfit : error
    } finally {
      for (const buffer of unfit) buffer.destroy()
    }
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

  /** Takes addresses and has `map` fill them. A failure leaves nothing behind. */
  #place(
    { sizeBytes, access, alignBytes, addressBits = this.addressBits, locks, memory }: Placing,
    map: (iova: Iova) => void,
  ): Placed {
    const space = this.#space()
    this.#checkLimits(space, sizeBytes, locks)
    const iova =
      this.#mapper.locate !== undefined && memory !== undefined
        ? this.#locate(memory, alignBytes)
        : space.iovas.alloc(sizeBytes, {
            addressBits: Math.min(addressBits, this.addressBits),
            ...(alignBytes === undefined ? {} : { alignBytes }),
          })
    try {
      map(iova)
    } catch (error) {
      this.#giveBack(space, iova, sizeBytes)
      // The kernel counts in a way that no look beforehand can match fully (other threads, other containers).
      if (!isAccelError(error, 'ERR_ACCEL_NO_MEMORY') || !locks) throw error
      const state = this.#memlock()
      throw state.limitBytes === Number.POSITIVE_INFINITY ? error : memlockError(sizeBytes, state, error)
    }
    space.mappings++
    this.#mappedBytes += sizeBytes
    return { iova, sizeBytes, access }
  }

  /** The address that memory has by its place, where the device can put it on the bus. */
  #locate(memory: DmaMemory, alignBytes = 1): Iova {
    const { addressBits } = this
    const iova = this.#mapper.locate!(memory)
    const end = iova + BigInt(memory.sizeBytes)
    if (end <= 1n << BigInt(addressBits) && iova % BigInt(alignBytes) === 0n) return iova
    throw accelError(
      'ERR_ACCEL_NO_IOVA',
      `memory is at physical address 0x${iova.toString(16)}, and was wanted within ${addressBits} address bits, aligned to ` +
        `${alignBytes}: no IOMMU translates for this device. Reserve huge pages early (\`hugepages=64\` on the kernel's ` +
        'command line), or use a machine with an IOMMU',
      { details: { address: iova, sizeBytes: memory.sizeBytes, alignBytes, addressBits } },
    )
  }

  #giveBack(space: IovaSpace, iova: Iova, sizeBytes: number): void {
    if (this.#mapper.locate === undefined) space.iovas.free(iova, sizeBytes)
  }

  /** Makes the handle of what was mapped, which goes when its memory does. */
  #keep<M extends object>(
    placed: M & Placed,
    memory: { onDestroy(unmap: () => void): () => void },
  ): M & DmaRange {
    const mapping = { ...placed, unmap: () => this.#unmap(mapping, forget) }
    const forget = memory.onDestroy(mapping.unmap)
    this.#mappings.add(mapping)
    this.#watcher?.dmaMapped(placed.iova, placed.sizeBytes, placed.access)
    sources.set(mapping, this.#mapper)
    return mapping
  }

  #space(): IovaSpace {
    const { rangesVersion } = this.#mapper
    let space = spaces.get(this.#mapper)
    if (space === undefined) {
      const iovas = new IovaAllocator({
        ranges: this.#mapper.ranges(),
        pageSizeBytes: this.#mapper.pageSizeBytes,
      })
      space = { iovas, version: rangesVersion, mappings: 0 }
      spaces.set(this.#mapper, space)
    } else if (space.version !== rangesVersion) {
      space.iovas.setRanges(this.#mapper.ranges())
      space.version = rangesVersion
    }
    return space
  }

  #checkLimits(space: IovaSpace, sizeBytes: number, locks: boolean): void {
    const { maxMappings } = this.#mapper
    if (space.mappings >= maxMappings) {
      throw accelError(
        'ERR_ACCEL_MAPPING_LIMIT',
        `a DMA mapping was wanted and ${space.mappings} exist, of ${maxMappings} that the IOMMU container can hold: ` +
          'use domain.alloc() for small memory, or raise the module parameter dma_entry_limit of vfio_iommu_type1',
        { details: { mappings: space.mappings, maxMappings } },
      )
    }
    if (!locks) return
    const state = this.#memlock()
    if (!mayLock(sizeBytes, state)) throw memlockError(sizeBytes, state)
  }

  #unmap(mapping: DmaRange, forget: () => void): void {
    if (!this.#mappings.delete(mapping)) return
    forget()
    sources.delete(mapping)
    const space = spaces.get(this.#mapper)!
    this.#mappedBytes -= mapping.sizeBytes
    this.#watcher?.dmaUnmapped(mapping.iova, mapping.sizeBytes)
    try {
      this.#mapper.unmap(mapping.iova, mapping.sizeBytes)
    } catch (error) {
      // A device that is gone reaches no memory. After any other failure the address stays taken: it may still be mapped.
      if (!isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) throw error
    }
    space.mappings--
    this.#giveBack(space, mapping.iova, mapping.sizeBytes)
  }
}
