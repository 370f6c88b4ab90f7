import type { DmaMapper } from '@uaccel/memory'
import { abi, EventFd, Mapping, type Watch, watch } from '@uaccel/sys'
import { type AccelError, accelError } from '@uaccel/uapi'
import { aerStatusIn } from '../faults/aer.js'
import { Listeners } from '../listeners.js'
import { contains } from '../mmio.js'
import { pciCommand, pciConfig } from '../pci/constants.js'
import {
  type AccessWidth,
  type Area,
  type IrqInfo,
  type IrqType,
  irqTypes,
  PciRegion,
  type ResetKind,
  type Transport,
  type TransportIdentity,
} from '../transport.js'
import * as vfio from './abi.js'
import { exportBar } from './bar-export.js'
import { type VfioCalls, within } from './calls.js'
import type { Inquiry, VfioRegion } from './inquiry.js'
import { SharedGroup } from './iommu.js'
import type { IommufdDevice } from './iommufd-device.js'
import { setLowPower } from './low-power.js'
import { functionReset, hotReset } from './reset.js'

/** A PCI device behind the kernel's VFIO, whichever way it was opened. */
export class VfioTransport implements Transport {
  readonly identity: TransportIdentity
  readonly regions: readonly VfioRegion[]
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
  readonly resets: readonly ResetKind[]
  readonly dma: DmaMapper
  /** What only iommufd offers. Absent with type 1. */
  readonly iommufd?: IommufdDevice
  readonly exportDmaBuf?: (region: number, area: Area) => number
  readonly setLowPower?: (on: boolean) => Promise<void>
  readonly #calls: VfioCalls
  readonly #group: SharedGroup
  readonly #fd: number
  readonly #resetTimeoutMs: number
  readonly #listeners = new Listeners<AccelError>()
  readonly #requestListeners = new Listeners<AccelError>()
  readonly #armed = new Set<IrqType>()
  readonly #scratch: Readonly<Record<AccessWidth | 8, Uint8Array>>
  readonly #view: DataView
  readonly #maskRequest = Buffer.alloc(vfio.irqSetBytes)
  readonly #powerState: number | undefined
  /** What the kernel tells of the device, besides the interrupts that its driver asks for. */
  readonly #notices: { readonly type: IrqType; readonly event: EventFd; readonly watching: Watch }[] = []
  #mappings: readonly Mapping[] = []
  #gone: AccelError | undefined
  #closed: Promise<void> | undefined

  constructor(
    calls: VfioCalls,
    bdf: string,
    group: SharedGroup,
    fd: number,
    inquiry: Inquiry,
    resetTimeoutMs: number,
  ) {
    const { kind: iommu, tainted } = group.iommu
    this.identity = { kind: 'vfio', address: bdf, iommu, ...(tainted !== undefined && { tainted }) }
    this.#calls = calls
    this.#group = group
    this.#fd = fd
    this.#resetTimeoutMs = resetTimeoutMs
    this.regions = inquiry.regions
    this.irqs = inquiry.irqs
    // Of a device without an IOMMU the kernel was seen to refuse it: whose bus it is goes by groups.
    this.resets = inquiry.resets.filter((kind) => kind !== 'hot' || group.iommu.kind !== 'none')
    if (inquiry.lowPower) this.setLowPower = (on) => this.#setLowPower(on)
    this.#powerState = inquiry.powerState
    this.dma = group.iommu.mapper
    const iommufd = group.iommu.iommufdOf?.(fd)
    if (iommufd !== undefined) this.iommufd = iommufd
    if (inquiry.exportsBars) {
      this.exportDmaBuf = (region, area) =>
        exportBar(calls, fd, this.#mappableRegion(region, area).index, area)
    }
    const scratch = new ArrayBuffer(8)
    this.#view = new DataView(scratch)
    const bytes = (width: number) => new Uint8Array(scratch, 0, width)
    this.#scratch = { 1: bytes(1), 2: bytes(2), 4: bytes(4), 8: bytes(8) }
    try {
      // Without the request eventfd an unbind of the device hangs in the kernel until the file is closed.
      const name = this.#name()
      this.#notify('req', () => {
        const reason = accelError(
          'ERR_ACCEL_NO_DEVICE',
          `the kernel wants ${name} back: it is unbound or unplugged`,
        )
        if (this.#requestListeners.size === 0) this.#lose(reason)
        this.#requestListeners.tell(reason)
      })
      // PCIe AER: with vfio-pci nobody else recovers the device (vfio_pci_core_aer_err_detected in vfio_pci_core.c).
      this.#notify('err', () =>
        this.#lose(
          accelError(
            'ERR_ACCEL_IO',
            `${name} reported an uncorrectable PCI Express error${this.#linkErrors()}: see \`dmesg\``,
          ),
        ),
      )
    } catch (error) {
      this.#closeNotices()
      throw error
    }
  }

  read(region: number, offset: number, width: AccessWidth): number {
    this.#pread(region, offset, this.#scratch[width])
    if (width === 1) return this.#view.getUint8(0)
    return width === 2 ? this.#view.getUint16(0, true) : this.#view.getUint32(0, true)
  }

  write(region: number, offset: number, width: AccessWidth, value: number): void {
    if (width === 1) this.#view.setUint8(0, value)
    else if (width === 2) this.#view.setUint16(0, value, true)
    else this.#view.setUint32(0, value, true)
    this.#pwrite(region, offset, this.#scratch[width])
  }

  /** One access of 8 bytes from kernel 6.10 on; earlier ones make two of 4 (drivers/vfio/pci/vfio_pci_rdwr.c). A mapped BAR has no such limit. */
  read64(region: number, offset: number): bigint {
    this.#pread(region, offset, this.#scratch[8])
    return this.#view.getBigUint64(0, true)
  }

  write64(region: number, offset: number, value: bigint): void {
    this.#view.setBigUint64(0, value, true)
    this.#pwrite(region, offset, this.#scratch[8])
  }

  readBytes(region: number, offset: number, into: Uint8Array): void {
    this.#pread(region, offset, into)
  }

  writeBytes(region: number, offset: number, from: Uint8Array): void {
    this.#pwrite(region, offset, from)
  }

  map(index: number, area: Area): Mapping {
    const region = this.#mappableRegion(index, area)
    const mapping = Mapping.map({
      fd: this.#fd,
      offset: region.fileOffset + area.offset,
      sizeBytes: area.sizeBytes,
      prot: (region.readable ? abi.PROT_READ : 0) | (region.writable ? abi.PROT_WRITE : 0),
      dontFork: true, // a child must not reach the device
      label: `BAR ${index} of ${this.identity.address}`,
    })
    this.#mappings = [...this.#mappings.filter(({ revoked }) => !revoked), mapping]
    return mapping
  }

  setIrqs(type: IrqType, fds: readonly number[]): void {
    this.#checkAlive()
    if (type === 'err' || type === 'req')
      throw accelError(
        'ERR_ACCEL_BUSY',
        `${this.#name()}: ${type} is the transport's own, listen with onLost()`,
      )
    if (fds.length === 0 || fds.length > this.irqs[type].count) {
      const available = this.irqs[type].count
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `${this.#name()}: ${fds.length} ${type} vectors were wanted, it has ${available}`,
        {
          details: { available },
        },
      )
    }
    if (this.#armed.has(type)) this.disableIrqs(type) // NORESIZE: a set of vectors is changed by taking it down
    const data = Buffer.from(Int32Array.from(fds).buffer)
    const granted = this.#setIrqs(
      type,
      vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER,
      0,
      fds.length,
      data,
    )
    if (granted > 0) {
      // Fewer vectors can be had than asked for: nothing was enabled, and the number is how many would do.
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `${this.#name()}: ${fds.length} ${type} vectors were wanted, the system grants ${granted}`,
        {
          details: { available: granted },
        },
      )
    }
    this.#armed.add(type)
  }

  disableIrqs(type: IrqType): void {
    this.#checkAlive()
    if (!this.#armed.delete(type)) return
    this.#setIrqs(type, vfio.VFIO_IRQ_SET_DATA_NONE | vfio.VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0)
  }

  maskIrq(type: IrqType, vector: number): void {
    this.#mask(type, vector, vfio.VFIO_IRQ_SET_ACTION_MASK)
  }

  unmaskIrq(type: IrqType, vector: number): void {
    this.#mask(type, vector, vfio.VFIO_IRQ_SET_ACTION_UNMASK)
  }

  /** DATA_NONE with ACTION_TRIGGER and a count signals the eventfd (VFIO_DEVICE_SET_IRQS in linux/vfio.h: "loopback"). */
  triggerIrq(type: IrqType, vector: number): void {
    this.#checkAlive()
    if (!this.#armed.has(type) || !(vector >= 0 && vector < this.irqs[type].count)) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `${this.#name()}: ${type} vector ${vector} was to be fired, and is not armed`,
      )
    }
    this.#setIrqs(type, vfio.VFIO_IRQ_SET_DATA_NONE | vfio.VFIO_IRQ_SET_ACTION_TRIGGER, vector, 1)
  }

  async reset(kind: ResetKind = this.resets[0]): Promise<void> {
    this.#checkAlive()
    if (!this.resets.includes(kind))
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${this.#name()} has no ${kind ?? ''} reset that the kernel can trigger`,
      )
    this.#disarm()
    const target = {
      calls: this.#calls,
      bdf: this.identity.address,
      group: this.#group,
      fd: this.#fd,
      limitMs: this.#resetTimeoutMs,
      checkAlive: () => this.#checkAlive(),
    }
    await (kind === 'hot' ? hotReset(target, SharedGroup.all(this.#calls)) : functionReset(target))
    this.#checkAlive()
  }

  onLost(listener: (reason: AccelError) => void): () => void {
    return this.#listeners.add(listener)
  }

  onRequest(listener: (reason: AccelError) => void): () => void {
    return this.#requestListeners.add(listener)
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    const disarm = [...this.#armed, ...this.#notices.map(({ type }) => type)]
    for (const { watching } of this.#notices) watching.close()
    for (const type of disarm) {
      try {
        this.#setIrqs(type, vfio.VFIO_IRQ_SET_DATA_NONE | vfio.VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0)
      } catch {
        // closing the device disarms what is left
      }
    }
    this.#gone ??= accelError('ERR_ACCEL_NO_DEVICE', `${this.#name()} was closed`)
    try {
      await this.#group.iommu.closeDevice(this.#fd)
    } finally {
      this.#closeNotices()
      this.#group.release(this.identity.address)
    }
  }

  async #setLowPower(on: boolean): Promise<void> {
    this.#checkAlive()
    if (on) this.#disarm()
    const call = setLowPower(this.#calls, this.#fd, on)
    await within(this.#resetTimeoutMs, `${on ? 'putting to sleep' : 'waking'} ${this.#name()}`, call)
    this.#checkAlive()
  }

  /** What the device says of its errors, where it still answers. */
  #linkErrors(): string {
    try {
      const config = new Uint8Array(this.regions[PciRegion.CONFIG].sizeBytes)
      this.readBytes(PciRegion.CONFIG, 0, config)
      const errors = aerStatusIn(config)?.uncorrectable ?? []
      return errors.length === 0 ? '' : ` (${errors.join(', ')})`
    } catch {
      return '' // it is being lost: nothing can be asked any more
    }
  }

  #disarm(): void {
    for (const type of [...this.#armed]) this.disableIrqs(type)
  }

  /** The region, where that part of it can be mapped now. */
  #mappableRegion(index: number, { offset, sizeBytes }: Area): VfioRegion {
    this.#checkAlive()
    const region = this.regions[index]
    const whole = offset % abi.PAGE_SIZE_BYTES === 0 && sizeBytes % abi.PAGE_SIZE_BYTES === 0 && sizeBytes > 0
    if (!whole || !region?.mappable.some((a) => contains(a, offset, sizeBytes))) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `${this.#name()}: ${sizeBytes} bytes at ${offset} of region ${index} cannot be mapped`,
      )
    }
    // The kernel answers an access with SIGBUS while memory decoding is off (vfio_pci_mmap_huge_fault in vfio_pci_core.c).
    if ((this.read(PciRegion.CONFIG, pciConfig.command, 2) & pciCommand.memory) === 0) {
      throw accelError(
        'ERR_ACCEL_BUSY',
        `${this.#name()}: memory decoding is off, and an access to a mapped BAR would end the process: enable() the device first`,
      )
    }
    return region
  }

  get attention(): readonly number[] {
    return this.#notices.map(({ event }) => event.fd)
  }

  /** Has `handler` called when the kernel fires that interrupt. */
  #notify(type: 'err' | 'req', handler: () => void): void {
    if (this.irqs[type].count === 0) return
    const event = new EventFd()
    try {
      const data = Buffer.alloc(4)
      data.writeInt32LE(event.fd)
      this.#setIrqs(type, vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, data)
      const fired = () => {
        if (event.drain() > 0) handler()
      }
      this.#notices.push({ type, event, watching: watch(event.fd, fired, { ref: false }) })
    } catch (error) {
      event.close()
      throw error
    }
  }

  #closeNotices(): void {
    for (const { watching, event } of this.#notices.splice(0)) {
      watching.close()
      event.close()
    }
  }

  #lose(reason: AccelError): void {
    if (this.#gone !== undefined) return
    this.#gone = reason
    this.#listeners.tell(reason)
  }

  #mask(type: IrqType, vector: number, action: number): void {
    this.#checkAlive()
    if (!this.irqs[type].maskable) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${this.#name()}: the kernel masks no single ${type} vector; mask the interrupt in the device`,
      )
    }
    // INTx comes here after each interrupt: one request for all of them.
    const request = this.#maskRequest
    request.writeUInt32LE(request.length, 0)
    request.writeUInt32LE(vfio.VFIO_IRQ_SET_DATA_NONE | action, 4)
    request.writeUInt32LE(irqTypes.indexOf(type), 8)
    request.writeUInt32LE(vector, 12)
    request.writeUInt32LE(1, 16)
    this.#calls.ioctl(this.#fd, vfio.VFIO_DEVICE_SET_IRQS, request, 'VFIO_DEVICE_SET_IRQS to mask or unmask')
  }

  #setIrqs(type: IrqType, flags: number, start: number, count: number, data?: Buffer): number {
    const request = Buffer.alloc(vfio.irqSetBytes + (data?.length ?? 0))
    request.writeUInt32LE(request.length, 0)
    request.writeUInt32LE(flags, 4)
    request.writeUInt32LE(irqTypes.indexOf(type), 8)
    request.writeUInt32LE(start, 12)
    request.writeUInt32LE(count, 16)
    data?.copy(request, vfio.irqSetBytes)
    return this.#calls.ioctl(this.#fd, vfio.VFIO_DEVICE_SET_IRQS, request, `VFIO_DEVICE_SET_IRQS of ${type}`)
  }

  #pread(region: number, offset: number, into: Uint8Array): void {
    const at = this.#place(region, offset, into.length)
    this.#whole('read', region, offset, into.length, this.#calls.pread(this.#fd, into, at))
  }

  #pwrite(region: number, offset: number, from: Uint8Array): void {
    const at = this.#place(region, offset, from.length)
    if (region === PciRegion.CONFIG) this.#keepMapped(offset, from)
    this.#whole('written', region, offset, from.length, this.#calls.pwrite(this.#fd, from, at))
  }

  /** Refuses to switch memory decoding or power off under a mapped BAR: the next access would end the process (SIGBUS). */
  #keepMapped(offset: number, from: Uint8Array): void {
    const decodes = from[pciConfig.command - offset] ?? pciCommand.memory
    // PMCSR: bits 1:0 are the power state, 0 is on (PCI Bus Power Management 1.2, 3.2.4).
    const state = this.#powerState === undefined ? 0 : (from[this.#powerState - offset] ?? 0) & 3
    if ((decodes & pciCommand.memory) !== 0 && state === 0) return
    if (this.#mappings.every(({ revoked }) => revoked)) return
    throw accelError(
      'ERR_ACCEL_BUSY',
      `${this.#name()}: memory decoding or power was to be switched off while BARs are mapped, and an access to one would ` +
        'then end the process: release the device first',
    )
  }

  #place(index: number, offset: number, sizeBytes: number): number {
    this.#checkAlive()
    const region = this.regions[index]
    if (region !== undefined && offset >= 0 && offset + sizeBytes <= region.sizeBytes)
      return region.fileOffset + offset
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${this.#name()}: ${sizeBytes} bytes at offset ${offset} of region ${index}, which has ${region?.sizeBytes ?? 0}`,
    )
  }

  #whole(verb: string, region: number, offset: number, wanted: number, done: number): void {
    if (done === wanted) return
    throw accelError(
      'ERR_ACCEL_IO',
      `${this.#name()}: ${done} of ${wanted} bytes at offset ${offset} of region ${region} were ${verb}`,
    )
  }

  #checkAlive(): void {
    if (this.#gone !== undefined)
      throw accelError('ERR_ACCEL_NO_DEVICE', this.#gone.message, { cause: this.#gone })
  }

  #name(): string {
    return `vfio device ${this.identity.address}`
  }
}
