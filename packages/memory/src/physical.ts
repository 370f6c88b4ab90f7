import { closeSync, openSync, readSync, statfsSync } from 'node:fs'
import { abi } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import type { DmaMapper, DmaMapRequest, DmaMemory, Iova, IovaRange } from './types.js'

/** What has to be known of memory to find it on the bus. */
export interface PhysicalMemory {
  /** Size in bytes of the huge pages that the file's memory is made of; `undefined` where it is made of others. */
  hugePageBytes(fd: number): number | undefined
  /** Physical address of what this process sees there. `undefined` where no memory is there yet, 0 where it may not know. */
  physicalAddress(address: bigint): bigint | undefined
}

/** Bits of an entry (Documentation/admin-guide/mm/pagemap.rst): 54-0 the page frame number, 63 "present". */
const FRAME = (1n << 55n) - 1n
const PRESENT = 1n << 63n
const page = BigInt(abi.PAGE_SIZE_BYTES)

const kernelMemory: PhysicalMemory = {
  hugePageBytes(fd) {
    const { type, bsize } = statfsSync(`/proc/self/fd/${fd}`)
    return type === abi.HUGETLBFS_MAGIC ? bsize : undefined
  },
  physicalAddress(address) {
    const entry = Buffer.alloc(8)
    const fd = openSync('/proc/self/pagemap', 'r')
    try {
      if (readSync(fd, entry, 0, 8, (address / page) * 8n) !== 8) return undefined
    } finally {
      closeSync(fd)
    }
    const value = entry.readBigUInt64LE()
    return (value & PRESENT) === 0n ? undefined : (value & FRAME) * page
  },
}

export interface PhysicalMapperOptions {
  /** Why the device cannot reach memory by its physical address, where it cannot. */
  readonly blocked?: string | undefined
  /** Where memory is; for tests. */
  readonly memory?: PhysicalMemory
}

/**
 * Memory for a device behind no IOMMU: it reaches all of the machine's memory, by physical addresses. Nothing is mapped:
 * memory has to be where the kernel leaves it, in huge pages, and its place is its I/O address.
 */
export class PhysicalMapper implements DmaMapper {
  readonly pageSizeBytes = abi.PAGE_SIZE_BYTES
  readonly maxMappings = Number.POSITIVE_INFINITY
  /** Huge pages are never swapped, and count against no limit. */
  readonly locksMemory = false
  readonly #blocked: string | undefined
  readonly #memory: PhysicalMemory

  constructor({ blocked, memory = kernelMemory }: PhysicalMapperOptions = {}) {
    this.#blocked = blocked
    this.#memory = memory
  }

  ranges(): readonly IovaRange[] {
    return [{ first: 0n, last: (1n << 64n) - 1n }]
  }

  /**
   * The physical address of memory that is one stretch. `ERR_ACCEL_INVALID_ARGUMENT` for memory of ordinary pages, which the
   * kernel moves and swaps; `ERR_ACCEL_NO_IOVA` for several huge pages that do not follow each other; `ERR_ACCEL_PERMISSION`
   * without the right to see physical addresses.
   */
  locate({ address, fd, sizeBytes }: DmaMemory): Iova {
    if (this.#blocked !== undefined) throw accelError('ERR_ACCEL_UNSUPPORTED', this.#blocked)
    const stride = this.#memory.hugePageBytes(fd)
    if (stride === undefined) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        'a DMA buffer of ordinary pages was to be mapped for a device without an IOMMU: the kernel may move or swap them under ' +
          'the device. Take the memory from the domain, `domain.createBuffer(sizeBytes)` or `domain.alloc(sizeBytes)`, which is ' +
          'right for every device, or make it of huge pages, `DmaBuffer.create(sizeBytes, { hugePages: true })`',
      )
    }
    const first = this.#physical(address)
    for (let offset = stride; offset < sizeBytes; offset += stride) {
      const found = this.#physical(address + BigInt(offset))
      if (found === first + BigInt(offset)) continue
      throw accelError(
        'ERR_ACCEL_NO_IOVA',
        `a DMA buffer of ${sizeBytes} bytes lies in huge pages of ${stride} bytes that do not follow each other in memory, and no ` +
          `IOMMU joins them: use buffers of at most ${stride} bytes, or reserve huge pages soon after boot, while memory is whole`,
        { details: { sizeBytes, hugePageBytes: stride, offset } },
      )
    }
    return first as Iova
  }

  /** Checks, and changes nothing. */
  map(request: DmaMapRequest): void {
    const { iova, sizeBytes } = request
    const unit = this.pageSizeBytes
    if (iova % BigInt(unit) !== 0n || sizeBytes <= 0 || sizeBytes % unit !== 0) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `${sizeBytes} bytes at I/O address 0x${iova.toString(16)} are not whole pages`,
      )
    }
    const found = this.locate(request)
    if (found === iova) return
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `memory was to be mapped at I/O address 0x${iova.toString(16)}, it is at 0x${found.toString(16)} and no IOMMU translates`,
    )
  }

  unmap(): void {}

  #physical(address: bigint): bigint {
    const found = this.#memory.physicalAddress(address)
    if (found === undefined) {
      throw accelError(
        'ERR_ACCEL_IO',
        `/proc/self/pagemap has no page at 0x${address.toString(16)}: the memory was not filled, or is not this process's`,
      )
    }
    if (found !== 0n) return found
    throw accelError(
      'ERR_ACCEL_PERMISSION',
      'the kernel hides physical addresses from this process (/proc/self/pagemap shows page frame 0), and a device without an IOMMU ' +
        'needs them: run as root or with CAP_SYS_ADMIN',
    )
  }
}
