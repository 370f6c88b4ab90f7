import { sys } from '@uaccel/sys'
import { accelError, isAccelError } from '@uaccel/uapi'
import * as vfio from './abi.js'
import { FaultQueue } from './fault-queue.js'
import { decodeHardwareInfo, type IommuHardwareInfo } from './hardware-info.js'
import * as iommufd from './iommufd-abi.js'
import { closeAll, type IommufdContext, IommufdObject, probed } from './iommufd-context.js'
import { AddressSpace, PageTable, type PageTableOptions } from './iommufd-objects.js'

/** What hardware information may take. Intel's has 24 bytes. */
const usualInfoBytes = 256
const maxInfoBytes = 64 * 1024

/** How the kernel refuses page requests for a device (iommufd_fault_iopf_enable and the IOMMU drivers). */
const pageRequestErrnos = ['ENODEV', 'EINVAL', 'EOPNOTSUPP', 'ENOTSUP']

/** What this device, its IOMMU and this kernel can do. */
export interface IommufdCapabilities {
  /** Width of the process address space ids that the device can tag its transfers with. Absent where it has none. */
  readonly pasidBits?: number
  /** The IOMMU records which pages a device wrote: page tables `{ dirtyTracking: true }`. */
  readonly dirtyTracking: boolean
  /** The kernel delivers page requests of devices. Whether this device makes any shows when a page table with a queue is attached. */
  readonly faultQueue: boolean
}

/**
 * What iommufd offers for one device beyond mapping memory for it. What is made here goes with the device, if it
 * was not closed before.
 */
export class IommufdDevice {
  /** The address space that the device was attached to when it was opened: `transport.dma`. Shared by the devices of its group. */
  readonly space: AddressSpace
  /** As page requests name it. */
  readonly id: number
  readonly #context: IommufdContext
  readonly #fd: number
  readonly #name: string
  /** What was made, in order. */
  readonly #made = new Set<{ close(): void }>()
  readonly #pasids = new Map<number, PageTable>()
  #attached: AddressSpace | PageTable | undefined
  #faultQueues: boolean | undefined
  #closed = false

  /** @internal */
  constructor(context: IommufdContext, fd: number, id: number, name: string, space: AddressSpace) {
    this.#context = context
    this.#fd = fd
    this.id = id
    this.#name = name
    this.space = space
  }

  /** What stands between the device and memory. `ERR_ACCEL_UNSUPPORTED` where the kernel does not tell. */
  hardwareInfo(): IommuHardwareInfo {
    return decodeHardwareInfo(...this.#hardwareInfo(usualInfoBytes))
  }

  /** What of the rest can work here. */
  capabilities(): IommufdCapabilities {
    const { pasidBits, dirtyTracking } = this.hardwareInfo()
    this.#faultQueues ??= this.#hasFaultQueues()
    return { ...(pasidBits === undefined ? {} : { pasidBits }), dirtyTracking, faultQueue: this.#faultQueues }
  }

  /** Makes another address space, for a PASID or to take turns with the device's own. */
  createSpace(): AddressSpace {
    this.#checkOpen()
    return this.#make(
      this.#context.allocSpace(),
      'an I/O address space',
      (object) => new AddressSpace(object),
    )
  }

  /**
   * Makes a page table for this device of the mappings of a space. `ERR_ACCEL_UNSUPPORTED` where the IOMMU or the kernel has no
   * such table, `ERR_ACCEL_INVALID_ARGUMENT` for a space or queue of another iommufd context.
   */
  createPageTable(options: PageTableOptions = {}, space: AddressSpace = this.space): PageTable {
    this.#checkOpen()
    const { pasid = false, dirtyTracking = false, faultQueue } = options
    const request = Buffer.alloc(iommufd.hwptAllocBytes)
    request.writeUInt32LE(
      (dirtyTracking ? iommufd.IOMMU_HWPT_ALLOC_DIRTY_TRACKING : 0) |
        (pasid ? iommufd.IOMMU_HWPT_ALLOC_PASID : 0) |
        (faultQueue === undefined ? 0 : iommufd.IOMMU_HWPT_FAULT_ID_VALID),
      4,
    )
    request.writeUInt32LE(this.id, 8)
    request.writeUInt32LE(space.idIn(this.#context), 12)
    request.writeUInt32LE(faultQueue?.idIn(this.#context) ?? 0, 40)
    const wanted = [
      pasid && 'for PASIDs',
      dirtyTracking && 'with dirty tracking',
      faultQueue && 'with a fault queue',
    ]
    probed(
      () => this.#context.ioctl(iommufd.IOMMU_HWPT_ALLOC, request, `IOMMU_HWPT_ALLOC for ${this.#name}`),
      `${this.#name}: its IOMMU, or this kernel, has no page table ${wanted.filter(Boolean).join(', ') || 'of its own'}`,
    )
    const id = request.readUInt32LE(16)
    return this.#make(id, 'a page table', (object) => new PageTable(object, space, options))
  }

  /** Makes a queue for page requests. `ERR_ACCEL_UNSUPPORTED` before kernel 6.10. */
  createFaultQueue(): FaultQueue {
    this.#checkOpen()
    const request = Buffer.alloc(iommufd.faultAllocBytes)
    probed(
      () => this.#context.ioctl(iommufd.IOMMU_FAULT_QUEUE_ALLOC, request, 'IOMMU_FAULT_QUEUE_ALLOC'),
      'this kernel has no fault queues (6.10 and later do)',
    )
    const fd = request.readInt32LE(12)
    return this.#make(request.readUInt32LE(8), 'a fault queue', (object) => new FaultQueue(object, fd))
  }

  /**
   * Has the device reach another space or page table from now on, in one step; default is its own space. `transport.dma`
   * stays the mapper of that. `ERR_ACCEL_BUSY` where the space has memory mapped that the IOMMU cannot translate for this
   * device, `ERR_ACCEL_UNSUPPORTED` where the device makes no page requests for a table's queue, `ERR_ACCEL_INVALID_ARGUMENT`
   * for a target of another iommufd context.
   */
  attach(target: AddressSpace | PageTable = this.space): void {
    this.#checkOpen()
    target.idIn(this.#context) // throws before the device is touched
    try {
      this.#attach(target)
    } catch (error) {
      // Where memory is in the way it was not touched.
      if (!isAccelError(error, 'ERR_ACCEL_BUSY')) this.#reattach(error)
      throw error
    }
    this.#attached?.space.attachmentChanged()
    this.#attached = target
    target.space.attachmentChanged()
  }

  /**
   * Has transfers that the device tags with `pasid` reach that page table. The device itself must be attached to a table
   * `{ pasid: true }` too. `ERR_ACCEL_UNSUPPORTED` where the device has no PASIDs.
   */
  attachPasid(pasid: number, target: PageTable): void {
    const { pasidBits } = this.hardwareInfo()
    if (pasidBits === undefined) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${this.#name}: PASID ${pasid} was to be attached, and the device, its IOMMU or the kernel (6.15 and later) has none`,
      )
    }
    // 0 is what is not tagged (IOMMU_NO_PASID in include/linux/iommu.h).
    if (!Number.isInteger(pasid) || pasid < 1 || pasid >= 2 ** pasidBits) {
      throw accelError('ERR_ACCEL_OUT_OF_RANGE', `PASID ${pasid}: wanted 1 to ${2 ** pasidBits - 1}`)
    }
    const own = this.#attached
    if (!target.pasid || !(own instanceof PageTable) || !own.pasid) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `${this.#name}: a PASID was to be attached, and its page table, or the device's, is not made for that: use ` +
          'attach(createPageTable({ pasid: true })) first',
      )
    }
    this.#attach(target, pasid)
    this.#pasids.get(pasid)?.space.attachmentChanged()
    this.#pasids.set(pasid, target)
    target.space.attachmentChanged()
  }

  /** Ends what {@link attachPasid} began. */
  detachPasid(pasid: number): void {
    this.#checkOpen()
    const table = this.#pasids.get(pasid)
    if (table === undefined)
      throw accelError('ERR_ACCEL_NOT_FOUND', `${this.#name}: PASID ${pasid} is not attached`)
    this.#detach(pasid)
    this.#pasids.delete(pasid)
    table.space.attachmentChanged()
  }

  /** @internal Before the device is closed; what fails is done by closing it. */
  detach(): void {
    for (const pasid of [...this.#pasids.keys(), undefined]) {
      try {
        this.#detach(pasid)
      } catch {
        // closing the device detaches it
      }
    }
    this.#closed = true
  }

  /** @internal After the device was closed. Answers what another device of the group still uses. */
  closeObjects(): { close(): void }[] {
    for (const space of new Set([...this.#pasids.values(), this.#attached].map((each) => each?.space)))
      space?.attachmentChanged()
    return closeAll([...this.#made].reverse())
  }

  /** The kernel gives the number of a closed descriptor to the next that is opened. */
  #checkOpen(): void {
    if (this.#closed) throw accelError('ERR_ACCEL_NO_DEVICE', `${this.#name}: its transport was closed`)
  }

  #make<T extends { close(): void }>(id: number, what: string, create: (object: IommufdObject) => T): T {
    const made = create(new IommufdObject(this.#context, id, what, () => this.#made.delete(made)))
    this.#made.add(made)
    return made
  }

  #attach(target: AddressSpace | PageTable, pasid?: number): void {
    const request = Buffer.alloc(pasid === undefined ? vfio.attachIommufdBytes : vfio.attachPasidBytes)
    request.writeUInt32LE(request.length, 0)
    request.writeUInt32LE(target.idIn(this.#context), 8)
    if (pasid !== undefined) {
      request.writeUInt32LE(vfio.VFIO_DEVICE_ATTACH_PASID, 4)
      request.writeUInt32LE(pasid, 12)
    }
    const what = `VFIO_DEVICE_ATTACH_IOMMUFD_PT of ${this.#name}`
    try {
      this.#context.calls.ioctl(this.#fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, request, what)
    } catch (cause) {
      if (!isAccelError(cause)) throw cause
      if (cause.errno === 'EADDRINUSE') {
        throw accelError(
          'ERR_ACCEL_BUSY',
          `${this.#name}: memory is mapped at I/O addresses that it reserves, or that its IOMMU cannot translate: attach it before mapping, or unmap`,
          { cause },
        )
      }
      const queue = target instanceof PageTable ? target.faultQueue : undefined
      if (queue !== undefined && pageRequestErrnos.includes(cause.errno ?? '')) {
        throw accelError(
          'ERR_ACCEL_UNSUPPORTED',
          `${this.#name}: a page table with a fault queue was to be attached, and the device makes no page requests (PCI Express PRI), or its IOMMU takes none`,
          { cause },
        )
      }
      throw cause
    }
  }

  /**
   * After an attach that failed. Intel's driver has cut the device off by then (intel_iommu_attach_device in
   * drivers/iommu/intel/iommu.c), and the kernel takes an attach to what it believes in force for done already.
   */
  #reattach(cause: unknown): void {
    if (this.#attached === undefined) return
    try {
      this.#detach()
      this.#attach(this.#attached)
    } catch (error) {
      throw accelError(
        'ERR_ACCEL_IO',
        `${this.#name}: an attach failed, and it cannot be attached as before either: it reaches no memory now. Close it`,
        { cause: new AggregateError([cause, error]) },
      )
    }
  }

  #detach(pasid?: number): void {
    const request = Buffer.alloc(pasid === undefined ? vfio.detachIommufdBytes : vfio.detachPasidBytes)
    request.writeUInt32LE(request.length, 0)
    if (pasid !== undefined) {
      request.writeUInt32LE(vfio.VFIO_DEVICE_ATTACH_PASID, 4)
      request.writeUInt32LE(pasid, 8)
    }
    const what = `VFIO_DEVICE_DETACH_IOMMUFD_PT of ${this.#name}`
    this.#context.calls.ioctl(this.#fd, vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, request, what)
  }

  #hardwareInfo(room: number): [answer: Buffer, data: Buffer] {
    this.#checkOpen()
    const data = Buffer.alloc(room)
    const request = Buffer.alloc(iommufd.hwInfoBytes)
    request.writeUInt32LE(this.id, 8)
    request.writeUInt32LE(room, 12)
    request.writeBigUInt64LE(sys.addressOf(data), 16)
    probed(
      () => this.#context.ioctl(iommufd.IOMMU_GET_HW_INFO, request, `IOMMU_GET_HW_INFO of ${this.#name}`),
      'this kernel does not tell what its IOMMU is',
    )
    const length = request.readUInt32LE(12)
    if (length > room && length <= maxInfoBytes) return this.#hardwareInfo(length)
    return [request, data.subarray(0, Math.min(length, room))]
  }

  #hasFaultQueues(): boolean {
    try {
      this.createFaultQueue().close()
      return true
    } catch (error) {
      if (isAccelError(error, 'ERR_ACCEL_UNSUPPORTED')) return false
      throw error
    }
  }
}
