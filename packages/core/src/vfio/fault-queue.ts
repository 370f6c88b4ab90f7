import { accelError } from '@uaccel/uapi'
import * as iommufd from './iommufd-abi.js'
import type { IommufdContext, IommufdObject } from './iommufd-context.js'

/** How many requests one read can bring: a group that does not fit stays in the kernel. */
const usualRequests = 128
/** What Intel's IOMMU lets wait at once, and so the largest group (PRQ_DEPTH in drivers/iommu/intel/iommu.h). */
const maxRequests = 2048

/** A page that a device asked for (PCI Express 6.0, 10.4: page request interface). */
export interface PageRequest {
  /** The device that asked: `IommufdDevice.id`. */
  readonly device: number
  /** Absent where the transfer was not tagged. */
  readonly pasid?: number
  readonly address: bigint
  readonly access: {
    readonly read: boolean
    readonly write: boolean
    readonly execute: boolean
    readonly privileged: boolean
  }
  /** Requests that are answered together. */
  readonly group: number
  /** The last of its group: the one to answer. */
  readonly last: boolean
  readonly cookie: number
}

/** Page requests of the devices that are attached to page tables with this queue. */
export class FaultQueue {
  readonly #object: IommufdObject
  readonly #fd: number
  #users = 0
  #closed = false

  /** @internal */
  constructor(object: IommufdObject, fd: number) {
    this.#object = object
    this.#fd = fd
  }

  /** @internal */
  idIn(context: IommufdContext): number {
    return this.#object.idIn(context)
  }

  /** Readable while requests wait: `watch(queue.fd, ...)`. `ERR_ACCEL_CLOSED` after {@link close}. */
  get fd(): number {
    if (this.#closed)
      throw accelError('ERR_ACCEL_CLOSED', 'a fault queue of iommufd was closed and then used')
    return this.#fd
  }

  /** @internal A page table delivers here. Answers what ends that. */
  use(): () => void {
    this.#users++
    return () => void this.#users--
  }

  /** What waits, whole groups, oldest first; empty where nothing does. */
  read(): PageRequest[] {
    const usual = this.#read(usualRequests)
    return usual.length > 0 ? usual : this.#read(maxRequests)
  }

  #read(room: number): PageRequest[] {
    const bytes = Buffer.alloc(room * iommufd.pageFaultBytes)
    const count = Math.floor((this.#object.context.calls.read(this.fd, bytes) ?? 0) / iommufd.pageFaultBytes)
    return Array.from({ length: count }, (_, i) => decode(bytes.subarray(i * iommufd.pageFaultBytes)))
  }

  /** Answers a group: `mapped` has the device try again, otherwise its transfer fails. */
  respond({ cookie }: Pick<PageRequest, 'cookie'>, mapped: boolean): void {
    const response = Buffer.alloc(iommufd.pageResponseBytes)
    response.writeUInt32LE(cookie, 0)
    response.writeUInt32LE(mapped ? iommufd.IOMMUFD_PAGE_RESP_SUCCESS : iommufd.IOMMUFD_PAGE_RESP_INVALID, 4)
    this.#object.context.calls.write(this.fd, response)
  }

  /** What waits is refused. `ERR_ACCEL_BUSY` while a page table uses it. Idempotent. */
  close(): void {
    if (this.#users > 0) throw this.#object.busy()
    if (!this.#closed) this.#object.context.calls.close(this.#fd) // the kernel keeps the queue while its file is open
    this.#closed = true
    this.#object.close()
  }
}

function decode(record: Buffer): PageRequest {
  const flags = record.readUInt32LE(0)
  const permissions = record.readUInt32LE(16)
  const asks = (bit: number) => (permissions & bit) !== 0
  return {
    device: record.readUInt32LE(4),
    ...((flags & iommufd.IOMMU_PGFAULT_FLAGS_PASID_VALID) === 0 ? {} : { pasid: record.readUInt32LE(8) }),
    address: record.readBigUInt64LE(24),
    access: {
      read: asks(iommufd.IOMMU_PGFAULT_PERM_READ),
      write: asks(iommufd.IOMMU_PGFAULT_PERM_WRITE),
      execute: asks(iommufd.IOMMU_PGFAULT_PERM_EXEC),
      privileged: asks(iommufd.IOMMU_PGFAULT_PERM_PRIV),
    },
    group: record.readUInt32LE(12),
    last: (flags & iommufd.IOMMU_PGFAULT_FLAGS_LAST_PAGE) !== 0,
    cookie: record.readUInt32LE(36),
  }
}
