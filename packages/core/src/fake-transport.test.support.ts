import type { DmaMapper, DmaMapRequest, Iova } from '@uaccel/memory'
import { createSealedMemory, Mapping, sys } from '@uaccel/sys'
import { type AccelError, accelError } from '@uaccel/uapi'
import {
  type AccessWidth,
  type Area,
  type IrqInfo,
  type IrqType,
  PciRegion,
  type PlatformName,
  type RegionInfo,
  type ResetKind,
  type Transport,
} from './transport.js'

/** What a test wants of its device. */
export interface FakeOptions {
  readonly mappable?: readonly Area[]
  readonly irqs?: Partial<Record<IrqType, Partial<IrqInfo>>>
  readonly barBytes?: number
  readonly grants?: number
  readonly resets?: readonly ResetKind[]
  readonly lowPower?: boolean
  /** Not a PCI device: it has no config space. */
  readonly platform?: PlatformName
  /** No IOMMU: the device uses physical addresses. */
  readonly physical?: boolean
}

/**
 * A device for this package's unit tests: memory behind BAR 0 and config space, and a log of what was called. (The
 * loopback transport of the model package stands on this package and cannot be imported here.)
 */
export class FakeTransport implements Transport {
  readonly identity = { kind: 'loopback', address: 'fake', emulated: true } as const
  readonly regions: readonly RegionInfo[]
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
  readonly resets: readonly ResetKind[]
  readonly platform?: PlatformName
  readonly setLowPower?: (on: boolean) => Promise<void>
  readonly dma: DmaMapper
  readonly log: string[] = []
  readonly mapped = new Map<Iova, DmaMapRequest>()
  readonly armed = new Map<IrqType, readonly number[]>()
  readonly fd: number
  readonly config = new Uint8Array(4096)
  /** The BAR's memory, seen past all accessors. */
  readonly bar: Mapping
  failMap: AccelError | undefined
  failReset: AccelError | undefined
  /** What else a reset does to the device. */
  onReset: (() => void) | undefined
  readonly requestListeners = new Set<(reason: AccelError) => void>()
  #grants: number | undefined
  #lost: AccelError | undefined
  readonly #listeners = new Set<(reason: AccelError) => void>()

  constructor({
    mappable,
    irqs = {},
    barBytes = 0x4000,
    grants,
    resets = ['function'],
    lowPower = false,
    physical = false,
    platform,
  }: FakeOptions = {}) {
    this.#grants = grants
    this.resets = resets
    if (platform !== undefined) this.platform = platform
    if (lowPower) {
      this.setLowPower = async (on) => {
        this.#live()
        this.log.push(on ? 'sleep' : 'wake')
        this.armed.clear()
        this.config[4] = 0
      }
    }
    this.fd = createSealedMemory('fake-bar', Math.max(barBytes, 4096)).fd
    this.bar = Mapping.map({ fd: this.fd, offset: 0, sizeBytes: Math.max(barBytes, 4096) })
    const region = (index: number): RegionInfo => {
      const sizeBytes =
        index === 0 ? barBytes : index === PciRegion.CONFIG && platform === undefined ? this.config.length : 0
      const areas = index === 0 ? (mappable ?? [{ offset: 0, sizeBytes: barBytes }]) : []
      return { index, sizeBytes, readable: true, writable: true, mappable: areas }
    }
    this.regions = Array.from({ length: 9 }, (_, i) => region(i))
    const irq = (type: IrqType): IrqInfo => ({
      type,
      count: 0,
      maskable: true,
      autoMasked: type === 'intx',
      ...irqs[type],
    })
    this.irqs = { intx: irq('intx'), msi: irq('msi'), msix: irq('msix'), err: irq('err'), req: irq('req') }
    const view = new DataView(this.config.buffer)
    view.setUint32(0, 0x11e81234, true)
    view.setUint32(8, 0x12000010, true)
    view.setUint32(0x2c, 0x11001af4, true)
    this.dma = {
      pageSizeBytes: 4096,
      maxMappings: 4,
      locksMemory: false,
      ranges: () => [{ first: 0n, last: 0xffff_ffffn }],
      map: (request) => {
        this.#live()
        this.mapped.set(request.iova, request)
        this.log.push('dma map')
      },
      unmap: (iova) => {
        this.#live()
        this.mapped.delete(iova)
        this.log.push('dma unmap')
      },
      ...(physical ? { locate: () => 0x10000n as Iova } : {}),
    }
  }

  read(region: number, offset: number, width: AccessWidth): number {
    const view = this.#view(region)
    if (region === 0) this.log.push(`read${width * 8} 0x${offset.toString(16)}`)
    return width === 1
      ? view.getUint8(offset)
      : width === 2
        ? view.getUint16(offset, true)
        : view.getUint32(offset, true)
  }
  write(region: number, offset: number, width: AccessWidth, value: number): void {
    const view = this.#view(region)
    if (value < 0 || value >= 2 ** (8 * width)) throw new Error(`${value} written in ${width} bytes`)
    if (region === 0) this.log.push(`write${width * 8} 0x${offset.toString(16)} 0x${value.toString(16)}`)
    if (region === PciRegion.CONFIG && offset === 4) this.log.push(`command 0x${value.toString(16)}`)
    if (width === 1) view.setUint8(offset, value)
    else if (width === 2) view.setUint16(offset, value, true)
    else view.setUint32(offset, value, true)
  }
  read64(region: number, offset: number): bigint {
    this.log.push(`read64 0x${offset.toString(16)}`)
    return this.#view(region).getBigUint64(offset, true)
  }
  write64(region: number, offset: number, value: bigint): void {
    this.log.push(`write64 0x${offset.toString(16)} 0x${value.toString(16)}`)
    this.#view(region).setBigUint64(offset, value, true)
  }
  readBytes(region: number, offset: number, into: Uint8Array): void {
    const { buffer, byteOffset } = this.#view(region)
    into.set(new Uint8Array(buffer, byteOffset + offset, into.length))
  }
  writeBytes(region: number, offset: number, from: Uint8Array): void {
    const { buffer, byteOffset } = this.#view(region)
    new Uint8Array(buffer, byteOffset + offset, from.length).set(from)
  }
  map(_region: number, area: Area): Mapping {
    this.#live()
    if (this.failMap !== undefined) throw this.failMap
    this.log.push(`map 0x${area.offset.toString(16)}+0x${area.sizeBytes.toString(16)}`)
    return Mapping.map({ fd: this.fd, offset: area.offset, sizeBytes: area.sizeBytes, label: 'fake BAR' })
  }
  setIrqs(type: IrqType, fds: readonly number[]): void {
    this.#live()
    if (this.#grants !== undefined && fds.length > this.#grants) {
      throw accelError('ERR_ACCEL_OUT_OF_RANGE', 'fewer vectors', { details: { available: this.#grants } })
    }
    this.log.push(`irqs ${type} ${fds.length}`)
    this.armed.set(type, fds)
  }
  disableIrqs(type: IrqType): void {
    this.#live()
    this.log.push(`irqs ${type} off`)
    this.armed.delete(type)
  }
  maskIrq(type: IrqType, vector: number): void {
    this.log.push(`mask ${type} ${vector}`)
  }
  unmaskIrq(type: IrqType, vector: number): void {
    this.log.push(`unmask ${type} ${vector}`)
  }
  async reset(kind?: ResetKind): Promise<void> {
    this.#live()
    this.log.push(`reset ${kind}`)
    this.armed.clear()
    if (this.failReset !== undefined) throw this.failReset
    this.config[4] = 0
    this.onReset?.()
  }
  onRequest(listener: (reason: AccelError) => void): () => void {
    this.requestListeners.add(listener)
    return () => void this.requestListeners.delete(listener)
  }

  onLost(listener: (reason: AccelError) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }
  async close(): Promise<void> {
    if (this.bar.revoked) return
    this.bar.revoke()
    sys.close(this.fd)
  }

  /** The device vanishes. */
  lose(reason: AccelError): void {
    this.#lost = reason
    for (const listener of this.#listeners) listener(reason)
  }
  /** How many listen for the loss. */
  get listeners(): number {
    return this.#listeners.size
  }

  #live(): void {
    if (this.#lost !== undefined)
      throw accelError('ERR_ACCEL_NO_DEVICE', 'fake device is lost', { cause: this.#lost })
  }
  #view(region: number): DataView {
    this.#live()
    const bytes = region === 0 ? this.bar.window.u8 : this.config
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }
}
