import { readFileSync } from 'node:fs'
import { abi, createSealedMemory, Mapping, requireSealed, type SharedRange, sys } from '@uaccel/sys'
import { accelError, isAccelError } from '@uaccel/uapi'
import { createUdmabuf, type DmaBuf } from './dma-buf.js'
import { hugePageBytes } from './iova.js'
import { MemoryViews } from './views.js'

/** How a {@link DmaBuffer} is made. */
export interface DmaBufferOptions {
  /** For errors and /proc/PID/maps. */
  readonly name?: string
  /**
   * Takes memory from the kernel's reserve of 2 MiB pages, which stay where they are; default false. A device without an
   * IOMMU needs that: `DmaDomain.createBuffer` knows when.
   */
  readonly hugePages?: boolean
}

/**
 * Memory that devices and other processes may share: a memfd whose size is sealed. A buffer is not a mapping: it may be
 * mapped in any number of DMA domains, each time at another I/O address.
 */
export class DmaBuffer extends MemoryViews {
  readonly name: string
  /** The memory's file. Stays this buffer's: pass it to another process, or duplicate it, but do not close it. */
  readonly fd: number
  readonly #mapping: Mapping
  readonly #unmaps = new Set<() => void>()

  private constructor(name: string, fd: number, mapping: Mapping) {
    super(mapping.sizeBytes)
    this.name = name
    this.fd = fd
    this.#mapping = mapping
  }

  /**
   * Allocates zeroed memory, its size rounded up to whole pages (of 2 MiB with `hugePages`). `ERR_ACCEL_NO_MEMORY` where there
   * is none.
   */
  static create(
    sizeBytes: number,
    { name = 'uaccel-dma', hugePages = false }: DmaBufferOptions = {},
  ): DmaBuffer {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `a DMA buffer of ${sizeBytes} bytes: wanted a positive integer`,
      )
    }
    const unit = hugePages ? hugePageBytes : abi.PAGE_SIZE_BYTES
    const rounded = Math.ceil(sizeBytes / unit) * unit
    try {
      return DmaBuffer.#create(name, rounded, hugePages)
    } catch (error) {
      throw hugePages ? hugePagesError(rounded, error) : error
    }
  }

  /**
   * Takes memory of another process: a memfd that cannot shrink, whole pages of the ordinary size. The descriptor is duplicated and stays
   * the caller's. Errors: `ERR_ACCEL_INVALID_ARGUMENT` for what is none or not sealed, `ERR_ACCEL_PERMISSION` where it may not be
   * written, `ERR_ACCEL_UNSUPPORTED` for huge pages.
   */
  static import(given: number, { name = 'uaccel-import' }: Pick<DmaBufferOptions, 'name'> = {}): DmaBuffer {
    const fd = sys.dup(given)
    try {
      requireSealed(fd, 1)
      const { sizeBytes, blockBytes } = sys.identify(fd)
      if (blockBytes !== abi.PAGE_SIZE_BYTES) {
        throw accelError('ERR_ACCEL_UNSUPPORTED', `memory of pages of ${blockBytes} bytes was to be imported`)
      }
      if (sizeBytes % abi.PAGE_SIZE_BYTES !== 0) {
        throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${sizeBytes} bytes of memory are not whole pages`)
      }
      const mapping = Mapping.map({ fd, offset: 0, sizeBytes, label: `DMA buffer ${name}` })
      return new DmaBuffer(name, fd, mapping)
    } catch (error) {
      sys.close(fd)
      throw error
    }
  }

  static #create(name: string, sizeBytes: number, hugePages: boolean): DmaBuffer {
    const { fd } = createSealedMemory(
      name,
      sizeBytes,
      sys,
      hugePages ? abi.MFD_HUGETLB | abi.MFD_HUGE_2MB : 0,
    )
    let mapping: Mapping | undefined
    try {
      const alignBytes = sizeBytes >= hugePageBytes ? hugePageBytes : abi.PAGE_SIZE_BYTES
      mapping = Mapping.map({ fd, offset: 0, sizeBytes, alignBytes, label: `DMA buffer ${name}` })
      // Now, with an error: at the first touch, a page that cannot be had would end the process (SIGBUS).
      if (hugePages) sys.madvise(mapping.address, sizeBytes, abi.MADV_POPULATE_WRITE)
      return new DmaBuffer(name, fd, mapping)
    } catch (error) {
      mapping?.revoke()
      sys.close(fd)
      throw error
    }
  }

  /** Where this process sees the memory. */
  get address(): bigint {
    return this.#mapping.address
  }

  /** True after {@link destroy}. */
  get destroyed(): boolean {
    return this.#mapping.revoked
  }

  /** Keeps the address range from being reused until another thread's views are gone. For `DeviceShare`. */
  share(): SharedRange {
    this.bytes()
    return this.#mapping.share()
  }

  /** Registers what takes a mapping of this buffer back; {@link DmaDomain} does. Answers a function that unregisters. */
  onDestroy(unmap: () => void): () => void {
    this.bytes()
    this.#unmaps.add(unmap)
    return () => void this.#unmaps.delete(unmap)
  }

  /**
   * Makes a dma-buf of the whole buffer, for kernel drivers (graphics, cameras, network) and other processes; close it. It
   * holds the memory itself and outlives the buffer. Another process that uses uaccel takes {@link fd} instead, and maps it.
   * Errors: `ERR_ACCEL_UNSUPPORTED` where the kernel has no udmabuf, `ERR_ACCEL_PERMISSION`, `ERR_ACCEL_OUT_OF_RANGE` for
   * more than the kernel takes (64 MiB unless told).
   */
  exportDmaBuf(): DmaBuf {
    this.bytes()
    return createUdmabuf(this.fd, this.sizeBytes)
  }

  /** Unmaps the buffer from every domain, then revokes its views: a stale one reaches inert memory. Idempotent. */
  destroy(): void {
    if (this.destroyed) return
    const errors: unknown[] = []
    for (const unmap of [...this.#unmaps]) {
      try {
        unmap()
      } catch (error) {
        errors.push(error)
      }
    }
    this.#mapping.revoke()
    sys.close(this.fd)
    if (errors.length > 0) throw errors.length === 1 ? errors[0] : new AggregateError(errors)
  }

  [Symbol.dispose](): void {
    this.destroy()
  }

  protected override bytes(): Uint8Array {
    if (this.#mapping.revoked)
      throw accelError('ERR_ACCEL_REVOKED', `DMA buffer ${this.name} was destroyed and then touched`)
    return this.#mapping.window.u8
  }
}

const hugePageFolder = '/sys/kernel/mm/hugepages/hugepages-2048kB'

/** The error for memory of huge pages that cannot be had, with the way to get some. */
function hugePagesError(sizeBytes: number, cause: unknown): unknown {
  if (!isAccelError(cause) || cause.syscall === undefined) return cause
  const wanted = sizeBytes / hugePageBytes
  const count = (name: string) => {
    try {
      return Number(readFileSync(`${hugePageFolder}/${name}`, 'latin1'))
    } catch {
      return undefined
    }
  }
  const [reserved, free] = [count('nr_hugepages'), count('free_hugepages')]
  if (reserved === undefined || free === undefined) {
    return accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `memory of 2 MiB pages was wanted, and ${hugePageFolder} is not there: the kernel has no hugetlbfs (CONFIG_HUGETLBFS)`,
      { cause },
    )
  }
  // EINVAL of madvise: MADV_POPULATE_WRITE came with 5.14.
  if (cause.errno === 'EINVAL') {
    return accelError('ERR_ACCEL_UNSUPPORTED', 'memory of 2 MiB pages needs Linux 5.14 or later', { cause })
  }
  if (!isAccelError(cause, 'ERR_ACCEL_NO_MEMORY')) return cause
  return accelError(
    'ERR_ACCEL_NO_MEMORY',
    `${wanted} huge pages of 2 MiB were wanted, ${free} of the ${reserved} that the kernel keeps in reserve are free. ` +
      `Reserve more, as root: \`echo ${Math.max(64, reserved + wanted)} > /proc/sys/vm/nr_hugepages\``,
    { cause, details: { wanted, free, reserved } },
  )
}
