import { type DmaMapper, isPowerOfTwo } from '@uaccel/memory'
import { sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import type { FaultQueue } from './fault-queue.js'
import { IoasMapper } from './ioas.js'
import * as iommufd from './iommufd-abi.js'
import { type IommufdContext, type IommufdObject, probed } from './iommufd-context.js'

/** What one look at dirty pages covers: 1 TiB in pages of 4 KiB, a bitmap of 32 MiB. */
const maxDirtyPages = 2 ** 28

/** How a page table is wanted. */
export interface PageTableOptions {
  /** To be attached to a PASID, or to the device beside others that are. */
  readonly pasid?: boolean
  /** See {@link PageTable.setDirtyTracking}. */
  readonly dirtyTracking?: boolean
  /** Where page requests of the devices that are attached go. */
  readonly faultQueue?: FaultQueue
}

/** An I/O address space: mappings that any number of devices can be attached to. `new DmaDomain(space.dma)` maps memory in it. */
export class AddressSpace {
  readonly dma: DmaMapper
  readonly #object: IommufdObject
  readonly #mapper: IoasMapper
  readonly #shared: boolean

  /** @internal A shared one belongs to the group. */
  constructor(object: IommufdObject, shared = false) {
    this.#object = object
    this.#mapper = new IoasMapper(object)
    this.dma = this.#mapper
    this.#shared = shared
  }

  /** @internal */
  idIn(context: IommufdContext): number {
    return this.#object.idIn(context)
  }

  /** @internal */
  get space(): AddressSpace {
    return this
  }

  /** @internal */
  attachmentChanged(): void {
    this.#mapper.attachmentChanged()
  }

  /** Unmaps all and gives it back. `ERR_ACCEL_BUSY` while a device or page table uses it, and for the device's own. Idempotent. */
  close(): void {
    if (this.#shared) throw this.#object.busy()
    this.#object.close()
  }
}

/** A page table in the IOMMU's own format, which follows the mappings of its address space. */
export class PageTable {
  readonly space: AddressSpace
  readonly pasid: boolean
  readonly faultQueue: FaultQueue | undefined
  readonly #object: IommufdObject
  #leaveQueue: (() => void) | undefined

  /** @internal */
  constructor(object: IommufdObject, space: AddressSpace, { pasid = false, faultQueue }: PageTableOptions) {
    this.#object = object
    this.space = space
    this.pasid = pasid
    this.faultQueue = faultQueue
    this.#leaveQueue = faultQueue?.use()
  }

  /** @internal */
  idIn(context: IommufdContext): number {
    return this.#object.idIn(context)
  }

  /** Has the IOMMU record which pages are written, from now on. `ERR_ACCEL_UNSUPPORTED` for a table that was not made so. */
  setDirtyTracking(on: boolean): void {
    const request = Buffer.alloc(iommufd.setDirtyTrackingBytes)
    request.writeUInt32LE(on ? iommufd.IOMMU_HWPT_DIRTY_TRACKING_ENABLE : 0, 4)
    request.writeUInt32LE(this.#object.id, 8)
    probed(
      () =>
        this.#object.context.ioctl(
          iommufd.IOMMU_HWPT_SET_DIRTY_TRACKING,
          request,
          'IOMMU_HWPT_SET_DIRTY_TRACKING',
        ),
      'the IOMMU does not record the pages that are written through this page table: make it with { dirtyTracking: true }',
      ['EINVAL'],
    )
  }

  /**
   * Which pages were written since the last look: one bit each, the lowest address first in the lowest bit.
   * `pageSizeBytes` is a power of two, `sizeBytes` a multiple of it. `ERR_ACCEL_UNSUPPORTED` where nothing is recorded.
   */
  takeDirtyPages(iova: bigint, sizeBytes: number, pageSizeBytes = 4096): Uint8Array {
    // Of another page size the kernel takes the lowest bit, and would write more bits than there is room for.
    const pages = sizeBytes / pageSizeBytes
    if (!isPowerOfTwo(pageSizeBytes) || !Number.isInteger(pages) || pages < 1 || pages > maxDirtyPages) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `dirty pages of ${sizeBytes} bytes in pages of ${pageSizeBytes}: wanted a power of two, and 1 to ${maxDirtyPages} such pages`,
      )
    }
    // In words of 64 bits (iova_bitmap_alloc in drivers/iommu/iommufd/iova_bitmap.c).
    const bitmap = Buffer.alloc(Math.ceil(pages / 64) * 8)
    const request = Buffer.alloc(iommufd.getDirtyBitmapBytes)
    request.writeUInt32LE(this.#object.id, 4)
    request.writeBigUInt64LE(iova, 16)
    request.writeBigUInt64LE(BigInt(sizeBytes), 24)
    request.writeBigUInt64LE(BigInt(pageSizeBytes), 32)
    request.writeBigUInt64LE(sys.addressOf(bitmap), 40)
    probed(
      () =>
        this.#object.context.ioctl(
          iommufd.IOMMU_HWPT_GET_DIRTY_BITMAP,
          request,
          'IOMMU_HWPT_GET_DIRTY_BITMAP',
        ),
      'the IOMMU has not recorded the pages that were written through this page table: setDirtyTracking(true) first',
    )
    return bitmap
  }

  /** `ERR_ACCEL_BUSY` while a device is attached to it. Idempotent. */
  close(): void {
    this.#object.close()
    this.#leaveQueue?.()
    this.#leaveQueue = undefined
  }
}
