import type { DmaMapper } from '@uaccel/memory'
import { EventFd, type Mapping, sys, type Watch, watch } from '@uaccel/sys'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { Listeners } from '../listeners.js'
import { contains } from '../mmio.js'
import {
  type AccessWidth,
  type Area,
  type IrqInfo,
  type IrqType,
  irqTypes,
  PciRegion,
  type PlatformName,
  type RegionInfo,
  type ResetKind,
  type Transport,
  type TransportIdentity,
} from '../transport.js'
import type { RegionAccess } from './access.js'

/** A region, and how it is reached. */
export interface UioRegion extends RegionInfo {
  readonly access?: RegionAccess
}

/** Keeps the device's one interrupt line from firing, and lets it fire again. */
export interface UioLine {
  mask(): void
  unmask(): void
}

/** What the transport is made of: how a PCI device and one of another bus differ. */
export interface UioParts {
  readonly identity: TransportIdentity
  readonly platform?: PlatformName
  /** Indexed by {@link PciRegion}. */
  readonly regions: readonly UioRegion[]
  readonly line: UioLine
  readonly dma: DmaMapper
  /** Resets the device; absent where it has no reset. `checkAlive` throws once the transport is closed. */
  readonly reset?: (checkAlive: () => void) => Promise<void>
}

/** Regions of a device by their index, and none at the others. */
export function allRegions(present: ReadonlyMap<number, Omit<UioRegion, 'index'>>): UioRegion[] {
  const absent = { sizeBytes: 0, readable: false, writable: false, mappable: [] }
  return Array.from({ length: PciRegion.VGA + 1 }, (_, index) => ({
    index,
    ...(present.get(index) ?? absent),
  }))
}

/** A device behind the kernel's UIO: memory through mapped files, one interrupt line through a counter. */
export class UioTransport implements Transport {
  readonly identity: TransportIdentity
  declare readonly platform?: PlatformName
  readonly regions: readonly UioRegion[]
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
  readonly resets: readonly ResetKind[]
  readonly dma: DmaMapper
  readonly #parts: UioParts
  readonly #node: number
  readonly #listeners = new Listeners<AccelError>()
  readonly #count = new Uint32Array(1)
  readonly #countBytes = new Uint8Array(this.#count.buffer)
  readonly #watching: Watch | undefined
  #seen: number
  /** The caller's eventfd, or none, while the interrupt is armed. */
  #armed: { readonly event: EventFd | undefined } | undefined
  #gone: AccelError | undefined
  #closed: Promise<void> | undefined

  /**
   * @param node The open and locked node, which the transport takes over.
   * @param events What its counter of interrupts was before.
   */
  constructor(node: number, events: number, parts: UioParts) {
    this.identity = parts.identity
    if (parts.platform !== undefined) this.platform = parts.platform
    this.regions = parts.regions
    this.resets = parts.reset === undefined ? [] : ['function']
    this.dma = parts.dma
    this.#parts = parts
    this.#node = node
    this.#seen = events
    sys.setNonblocking(node)
    const hasLine = this.#hasLine()
    const info = (type: IrqType): IrqInfo => {
      const offered = type === 'intx' && hasLine
      return { type, count: offered ? 1 : 0, maskable: offered, autoMasked: offered }
    }
    this.irqs = Object.fromEntries(irqTypes.map((type) => [type, info(type)])) as Record<IrqType, IrqInfo>
    if (!hasLine) return
    parts.line.mask()
    // Always, for the end of the device too: an unbind wakes whoever waits.
    this.#watching = watch(node, () => this.#readEvents(), { ref: false })
  }

  read(region: number, offset: number, width: AccessWidth): number {
    return this.#access(region, offset).read(offset, width)
  }
  write(region: number, offset: number, width: AccessWidth, value: number): void {
    this.#access(region, offset).write(offset, width, value)
  }
  read64(region: number, offset: number): bigint {
    return this.#access(region, offset).read64(offset)
  }
  write64(region: number, offset: number, value: bigint): void {
    this.#access(region, offset).write64(offset, value)
  }
  readBytes(region: number, offset: number, into: Uint8Array): void {
    this.#access(region, offset).readBytes(offset, into)
  }
  writeBytes(region: number, offset: number, from: Uint8Array): void {
    this.#access(region, offset).writeBytes(offset, from)
  }

  map(index: number, area: Area): Mapping {
    this.#checkAlive()
    const region = this.regions[index]
    const fits = region?.mappable.some((a) => contains(a, area.offset, area.sizeBytes))
    if (fits && region.access?.map !== undefined) return region.access.map(area)
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${this.#name()}: ${area.sizeBytes} bytes at ${area.offset} of region ${index} cannot be mapped`,
    )
  }

  setIrqs(type: IrqType, fds: readonly number[]): void {
    this.#checkAlive()
    const available = this.irqs[type].count
    if (fds.length === 0 || fds.length > available) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `${this.#name()}: ${fds.length} ${type} vectors were wanted, it has ${available}` +
          (type.startsWith('msi') ? ': UIO hands out the interrupt line only' : ''),
        { details: { available } },
      )
    }
    this.disableIrqs(type)
    this.#readEvents() // what came before was not for this one
    this.#armed = { event: fds[0] < 0 ? undefined : new EventFd(sys, sys.dup(fds[0])) }
    this.#parts.line.unmask()
  }

  disableIrqs(type: IrqType): void {
    this.#checkAlive()
    if (type !== 'intx' || this.#armed === undefined) return
    this.#parts.line.mask()
    this.#disarm()
  }

  maskIrq(type: IrqType, vector: number): void {
    this.#checkVector(type, vector)
    this.#parts.line.mask()
  }

  unmaskIrq(type: IrqType, vector: number): void {
    this.#checkVector(type, vector)
    this.#parts.line.unmask()
  }

  async reset(kind: ResetKind = 'function'): Promise<void> {
    this.#checkAlive()
    const { reset } = this.#parts
    if (reset === undefined || kind !== 'function') {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${this.#name()}: a reset of the kind ${kind} was wanted, the kernel offers ${this.resets.join(', ') || 'none'} through UIO`,
      )
    }
    this.disableIrqs('intx')
    await reset(() => this.#checkAlive())
    this.#checkAlive()
  }

  onLost(listener: (reason: AccelError) => void): () => void {
    return this.#listeners.add(listener)
  }

  /** UIO never asks: an unbind does not wait for anybody, and is a loss. */
  onRequest(): () => void {
    return () => {}
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#watching?.close()
    try {
      if (this.irqs.intx.count > 0 && this.#gone === undefined) this.#parts.line.mask()
    } catch {
      // a device that went away masks itself
    }
    this.#disarm()
    this.#gone ??= accelError('ERR_ACCEL_NO_DEVICE', `${this.#name()} was closed`)
    for (const { access } of this.regions) access?.close()
    sys.close(this.#node) // uio_pci_generic switches bus mastering off
  }

  #disarm(): void {
    this.#armed?.event?.close()
    this.#armed = undefined
  }

  /** EIO: the driver has no interrupt (uio_read in drivers/uio/uio.c). */
  #hasLine(): boolean {
    try {
      const bytes = sys.read(this.#node, this.#countBytes)
      if (bytes === this.#countBytes.length) this.#seen = this.#count[0]
      return true
    } catch (error) {
      if (isAccelError(error) && error.errno === 'EIO') return false
      throw error
    }
  }

  /** Reads how often the line has fired, of all time and modulo 2^32, and passes on what is new. */
  #readEvents(): void {
    let bytes: number | undefined
    try {
      bytes = sys.read(this.#node, this.#countBytes)
    } catch (error) {
      this.#lose(error)
      return
    }
    if (bytes === undefined) return
    if (bytes !== this.#countBytes.length) {
      this.#lose(
        accelError('ERR_ACCEL_IO', `${bytes} bytes of its counter of interrupts came, 4 were wanted`),
      )
      return
    }
    const fired = (this.#count[0] - this.#seen) >>> 0
    this.#seen = this.#count[0]
    if (fired > 0) this.#armed?.event?.signal(fired)
  }

  #lose(cause: unknown): void {
    if (this.#gone !== undefined) return
    this.#watching?.close()
    const why = cause instanceof Error ? cause.message : String(cause)
    const reason = accelError(
      'ERR_ACCEL_NO_DEVICE',
      `${this.#name()} is gone: it was unbound or pulled out (${why})`,
      { cause },
    )
    this.#gone = reason
    this.#disarm()
    this.#listeners.tell(reason)
  }

  #access(region: number, offset: number): RegionAccess {
    this.#checkAlive()
    const access = this.regions[region]?.access
    if (access !== undefined) return access
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${this.#name()}: an access at offset ${offset} of region ${region}, which it does not have`,
    )
  }

  #checkVector(type: IrqType, vector: number): void {
    this.#checkAlive()
    if (type === 'intx' && vector === 0 && this.irqs.intx.count > 0) return
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${this.#name()}: UIO masks the interrupt line only, and ${type} ${vector} was to be masked or unmasked`,
    )
  }

  #checkAlive(): void {
    if (this.#gone !== undefined)
      throw accelError('ERR_ACCEL_NO_DEVICE', this.#gone.message, { cause: this.#gone })
  }

  #name(): string {
    return `uio device ${this.identity.address}`
  }
}
