import type {
  DmaAccess,
  DmaBufMapRequest,
  DmaCopy,
  DmaMapper,
  DmaMapRequest,
  Iova,
  IovaRange,
} from '@uaccel/memory'
import { abi, sys } from '@uaccel/sys'
import { accelError, isAccelError } from '@uaccel/uapi'
import * as iommufd from './iommufd-abi.js'
import { type IommufdContext, type IommufdObject, probed } from './iommufd-context.js'

/** Ranges that fit the first question and any: the kernel has one more than there are reserved windows. */
const usualRanges = 32
const maxRanges = 4096

/** Memory of an I/O address space of iommufd. */
export class IoasMapper implements DmaMapper {
  /** The kernel has no limit but its memory. */
  readonly maxMappings = Number.POSITIVE_INFINITY
  readonly locksMemory = true
  readonly #context: IommufdContext
  readonly #space: IommufdObject
  #mapsFiles = true
  #rangesVersion = 0

  constructor(space: IommufdObject) {
    this.#context = space.context
    this.#space = space
  }

  /** Once the space is closed nothing is mapped in it, as with a device that is gone. */
  get #id(): number {
    try {
      return this.#space.id
    } catch (cause) {
      throw accelError('ERR_ACCEL_NO_DEVICE', 'the I/O address space was closed', { cause })
    }
  }

  get rangesVersion(): number {
    return this.#rangesVersion
  }

  /** A device was attached or detached: each narrows the space by what its IOMMU cannot translate and what is reserved. */
  attachmentChanged(): void {
    this.#rangesVersion++
  }

  /** Known only when a device is attached, and more may follow: asked anew each time. */
  get pageSizeBytes(): number {
    return Math.max(abi.PAGE_SIZE_BYTES, this.#aperture().alignBytes)
  }

  ranges(): readonly IovaRange[] {
    return this.#aperture().ranges
  }

  map(wanted: DmaMapRequest): void {
    if (this.#mapsFiles) {
      try {
        this.#map(iommufd.IOMMU_IOAS_MAP_FILE, wanted, wanted.fd, BigInt(wanted.fdOffset))
        return
      } catch (error) {
        if (!isAccelError(error) || error.errno !== 'ENOTTY') throw error
        this.#mapsFiles = false // kernels before 6.13 map by address only
      }
    }
    this.#map(iommufd.IOMMU_IOAS_MAP, wanted, 0, wanted.address)
  }

  /**
   * Kernels take a dma-buf from 6.19 on, of VFIO's export and in one piece (iopt_map_dmabuf in drivers/iommu/iommufd/pages.c);
   * earlier ones look for memory of a file in it (EINVAL), or do not map files at all (ENOTTY).
   */
  mapDmaBuf(request: DmaBufMapRequest): void {
    try {
      probed(
        () => this.#map(iommufd.IOMMU_IOAS_MAP_FILE, request, request.fd, 0n),
        'the kernel maps no dma-buf of this exporter for a device: only a BAR that VFIO exported, from 6.19 on',
        ['EINVAL'],
      )
    } catch (cause) {
      if (!isAccelError(cause, 'ERR_ACCEL_NO_DEVICE') || cause.errno !== 'ENODEV') throw cause
      throw accelError(
        'ERR_ACCEL_REVOKED',
        'a dma-buf was to be mapped whose device has been closed, or has its memory decoding off: export it anew',
        { cause },
      )
    }
  }

  copy({ iova, sizeBytes, access }: DmaCopy, source: DmaMapper, sourceIova: Iova): void {
    if (!(source instanceof IoasMapper) || source.#context !== this.#context) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        'a mapping was to be copied from another iommufd context: only the address spaces of one device, or of its group, share one',
      )
    }
    const request = Buffer.alloc(iommufd.ioasCopyBytes)
    request.writeUInt32LE(mapFlags(access), 4)
    request.writeUInt32LE(this.#id, 8)
    request.writeUInt32LE(source.#id, 12)
    request.writeBigUInt64LE(BigInt(sizeBytes), 16)
    request.writeBigUInt64LE(iova, 24)
    request.writeBigUInt64LE(sourceIova, 32)
    const what = `IOMMU_IOAS_COPY of ${sizeBytes} bytes at 0x${sourceIova.toString(16)}`
    this.#context.ioctl(iommufd.IOMMU_IOAS_COPY, request, what)
  }

  #map(ioctl: number, { iova, sizeBytes, access }: DmaCopy, fd: number, start: bigint): void {
    const request = Buffer.alloc(iommufd.ioasMapBytes)
    request.writeUInt32LE(mapFlags(access), 4)
    request.writeUInt32LE(this.#id, 8)
    request.writeInt32LE(fd, 12)
    request.writeBigUInt64LE(start, 16)
    request.writeBigUInt64LE(BigInt(sizeBytes), 24)
    request.writeBigUInt64LE(iova, 32)
    const name = ioctl === iommufd.IOMMU_IOAS_MAP ? 'IOMMU_IOAS_MAP' : 'IOMMU_IOAS_MAP_FILE'
    this.#context.ioctl(ioctl, request, `${name} of ${sizeBytes} bytes at 0x${iova.toString(16)}`)
  }

  unmap(iova: Iova, sizeBytes: number): void {
    const request = Buffer.alloc(iommufd.ioasUnmapBytes)
    request.writeUInt32LE(this.#id, 4)
    request.writeBigUInt64LE(iova, 8)
    request.writeBigUInt64LE(BigInt(sizeBytes), 16)
    const what = `IOMMU_IOAS_UNMAP of ${sizeBytes} bytes at 0x${iova.toString(16)}`
    this.#context.ioctl(iommufd.IOMMU_IOAS_UNMAP, request, what)
    const unmapped = request.readBigUInt64LE(16)
    if (unmapped !== BigInt(sizeBytes)) {
      throw accelError(
        'ERR_ACCEL_SYSTEM',
        `${sizeBytes} bytes at I/O address 0x${iova.toString(16)} were to be unmapped, the kernel unmapped ${unmapped}`,
      )
    }
  }

  #aperture(room = usualRanges): { readonly ranges: readonly IovaRange[]; readonly alignBytes: number } {
    const list = Buffer.alloc(16 * room)
    const request = Buffer.alloc(iommufd.iovaRangesBytes)
    request.writeUInt32LE(this.#id, 4)
    request.writeUInt32LE(room, 8)
    request.writeBigUInt64LE(sys.addressOf(list), 16)
    try {
      this.#context.ioctl(iommufd.IOMMU_IOAS_IOVA_RANGES, request, 'IOMMU_IOAS_IOVA_RANGES')
    } catch (error) {
      // EMSGSIZE: the kernel has written how many there are.
      const needed = request.readUInt32LE(8)
      if (!isAccelError(error) || error.errno !== 'EMSGSIZE' || needed <= room || needed > maxRanges)
        throw error
      return this.#aperture(needed)
    }
    const count = Math.min(request.readUInt32LE(8), room)
    return {
      ranges: Array.from({ length: count }, (_, i) => ({
        first: list.readBigUInt64LE(16 * i),
        last: list.readBigUInt64LE(16 * i + 8),
      })),
      alignBytes: Number(request.readBigUInt64LE(24)),
    }
  }
}

/** READABLE and WRITEABLE are the device's. */
function mapFlags(access: DmaAccess): number {
  const readable = access === 'write' ? 0 : iommufd.IOMMU_IOAS_MAP_READABLE
  const writeable = access === 'read' ? 0 : iommufd.IOMMU_IOAS_MAP_WRITEABLE
  return iommufd.IOMMU_IOAS_MAP_FIXED_IOVA | readable | writeable
}
