import { abi, createSealedMemory, Mapping, type SharedRange, sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { createUdmabuf, type DmaBuf } from './dma-buf.js'
import { hugePageBytes } from './iova.js'
import { MemoryViews } from './views.js'

/** How a {@link DmaBuffer} is made. */
export interface DmaBufferOptions {
  /** For errors and /proc/PID/maps. */
  readonly name?: string
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

  /** Allocates zeroed memory, its size rounded up to whole pages. `ERR_ACCEL_NO_MEMORY` where there is none. */
  static create(sizeBytes: number, { name = 'uaccel-dma' }: DmaBufferOptions = {}): DmaBuffer {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `a DMA buffer of ${sizeBytes} bytes: wanted a positive integer`,
      )
    }
    const rounded = Math.ceil(sizeBytes / abi.PAGE_SIZE_BYTES) * abi.PAGE_SIZE_BYTES
    const { fd } = createSealedMemory(name, rounded)
    try {
      const alignBytes = rounded >= hugePageBytes ? hugePageBytes : abi.PAGE_SIZE_BYTES
      return new DmaBuffer(
        name,
        fd,
        Mapping.map({ fd, offset: 0, sizeBytes: rounded, alignBytes, label: `DMA buffer ${name}` }),
      )
    } catch (error) {
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
