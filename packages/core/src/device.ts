import { DmaDomain } from '@uaccel/memory'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import type { Mapped, Place, Trace } from './accessors.js'
import { ConfigSpace } from './config-access.js'
import { type DeviceIdentity, identify } from './identity.js'
import { type IrqRequest, IrqVectors } from './irq.js'
import {
  BarTrap,
  BarWindow,
  buildBar,
  contains,
  goneError,
  MappedMmio,
  type Mmio,
  pagesOf,
  TrappedMmio,
} from './mmio.js'
import { pciCommand, pciConfig } from './pci/constants.js'
import type { RegisterEntry, RegisterMap } from './registers.js'
import { type Disposer, Scope } from './scope.js'
import { DeviceShare, type OpenWindow, type ShareHost } from './share/owner.js'
import { type Area, PciRegion, type RegionInfo, type Transport } from './transport.js'

/** How a device is opened. */
export interface DeviceOptions {
  /** Reaches every BAR by calls, even what could be mapped: for test suites that run both ways. */
  readonly trapBars?: boolean
  /** Called at each register access. Chosen when a BAR is mapped; without it accesses cost nothing more. */
  readonly trace?: Trace
}

/** How a BAR is mapped. */
export interface MapBarOptions {
  /** Reaches every register by calls. */
  readonly trapped?: boolean
}

/** A part of a BAR. */
export interface MapMemoryOptions extends MapBarOptions {
  /** Bytes from the start of the BAR, a multiple of 8; default 0. */
  readonly offset?: number
  /** Default: up to the end of the BAR. */
  readonly sizeBytes?: number
}

/**
 * A device as its driver sees it. Everything that comes from it is given back by {@link release}, in reverse order;
 * after that, and after the device is lost, every touch answers `ERR_ACCEL_NO_DEVICE` with the reason as `cause`.
 */
export class Device {
  readonly identity: DeviceIdentity
  readonly config: ConfigSpace
  readonly #transport: Transport
  readonly #options: DeviceOptions
  readonly #scope: Scope
  readonly #abort = new AbortController()
  readonly #windows = new Set<BarWindow>()
  readonly #traps = new Set<BarTrap>()
  readonly #shares = new Set<DeviceShare>()
  readonly #configTrap: BarTrap
  readonly #forgetLost: () => void
  #irqs: IrqVectors | undefined
  #dma: DmaDomain | undefined
  #dmaAddressBits = 64
  #gone: AccelError | undefined
  #lost = false
  #resetting: Promise<void> | undefined

  constructor(transport: Transport, options: DeviceOptions = {}) {
    this.#transport = transport
    this.#options = options
    this.#scope = new Scope(this.#name())
    this.#configTrap = new BarTrap(transport, PciRegion.CONFIG, `config space of ${this.#name()}`)
    this.config = new ConfigSpace(this.#configTrap, transport.regions[PciRegion.CONFIG].sizeBytes)
    this.identity = identify(this.config, transport.identity)
    this.#forgetLost = transport.onLost((reason) => this.#lose(reason))
  }

  /** Aborted when the device is removed or lost, with an `ERR_ACCEL_NO_DEVICE` as its reason. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** BARs, ROM and config space, indexed by {@link PciRegion}. */
  get regions(): readonly RegionInfo[] {
    return this.#transport.regions
  }

  /** True where {@link reset} can work. */
  get resettable(): boolean {
    return this.#transport.resets.length > 0
  }

  /**
   * Sees that something still answers on the bus: for a driver that read all ones where that cannot be, or that waited in
   * vain. Where nothing does, the device is lost, and with it all that waits for it ends.
   *
   * Asks for class and revision: the vendor id that VFIO answers is its own copy (PCI_VENDOR_ID in
   * drivers/vfio/pci/vfio_pci_config.c).
   *
   * @throws ERR_ACCEL_NO_DEVICE it is gone
   */
  checkPresent(): void {
    this.#checkReachable()
    if (this.#transport.regions[PciRegion.CONFIG].sizeBytes === 0) return // not PCI: nothing to ask for
    if (this.config.read32(pciConfig.classRevision) !== 0xffff_ffff) return
    this.#lose(
      accelError(
        'ERR_ACCEL_NO_DEVICE',
        `${this.#name()} answers all ones: it was pulled out or lost its power`,
      ),
    )
    this.#checkAlive()
  }

  /** Switches memory decoding on and, where asked, lets the device master the bus (DMA and MSI need it). */
  async enable({ busMaster = false }: { readonly busMaster?: boolean } = {}): Promise<void> {
    this.#checkReachable()
    const wanted = pciCommand.memory | (busMaster ? pciCommand.busMaster : 0)
    this.#setCommand(this.config.read16(pciConfig.command) | wanted)
    if (busMaster) this.defer(() => this.#stopBusMaster())
  }

  /**
   * Maps the registers of a BAR. Registers that cannot be mapped (holes of a sparse mmap, the MSI-X table, a BAR smaller than
   * a page) are reached by calls, with the same accessors.
   * Errors: `ERR_ACCEL_NOT_FOUND` without such a BAR, `ERR_ACCEL_OUT_OF_RANGE` for registers beyond its end.
   */
  async mapBar<D>(
    index: number,
    map: RegisterMap<D>,
    { trapped = false }: MapBarOptions = {},
  ): Promise<Mapped<D>> {
    const region = this.#region(index, map.sizeBytes)
    const trap = this.#trap(region)
    const places = trapped || this.#options.trapBars ? [] : this.#mapAreas(region, map.entries)
    const placeOf = (entry: RegisterEntry): Place => {
      const window = places.find(({ area }) => contains(area, entry.offset, entry.width / 8))
      return window === undefined ? { trap } : { window, windowOffset: window.area.offset }
    }
    return buildBar(map, placeOf, this.#options.trace)
  }

  /** Maps memory of the device, or a page of doorbells, to be reached by offset. Errors as for {@link mapBar}. */
  async mapMemory(index: number, options: MapMemoryOptions = {}): Promise<Mmio> {
    const { offset = 0, trapped = false } = options
    const sizeBytes = this.#checkPart(index, offset, options.sizeBytes)
    const region = this.#region(index, offset + sizeBytes)
    const area = region.mappable.find((a) => contains(a, offset, sizeBytes))
    if (area === undefined || sizeBytes === 0 || trapped || this.#options.trapBars) {
      return new TrappedMmio(this.#trap(region), this.#barName(index), offset, sizeBytes)
    }
    const window = this.#window(region, pagesOf(area, offset, offset + sizeBytes))
    return new MappedMmio(window, offset - window.area.offset, sizeBytes)
  }

  /**
   * Takes interrupt vectors, all of one kind, the first of `types` that has enough. `ERR_ACCEL_UNSUPPORTED` where none has,
   * `ERR_ACCEL_BUSY` where the driver holds some already.
   */
  async allocIrqVectors(request: IrqRequest = {}): Promise<IrqVectors> {
    this.#checkReachable()
    if (this.#irqs !== undefined) {
      throw accelError(
        'ERR_ACCEL_BUSY',
        `${this.#name()}: interrupts were taken already, and a device has one kind at a time; release them first`,
      )
    }
    const irqs = IrqVectors.allocate(this.#transport, request)
    const forget = this.defer(() => irqs.release())
    irqs.onRelease = () => {
      this.#irqs = undefined
      forget()
    }
    this.#irqs = irqs
    return irqs
  }

  /** The memory that the device can reach. Made at first use. */
  get dma(): DmaDomain {
    this.#checkAlive()
    if (this.#dma === undefined) {
      const domain = new DmaDomain(this.#transport.dma, { addressBits: this.#dmaAddressBits })
      this.defer(() => {
        try {
          this.#stopBusMaster() // whatever the driver left running shall not reach memory that is not its own any more
        } finally {
          domain.destroy()
        }
      })
      this.#dma = domain
    }
    return this.#dma
  }

  /** Says how many address bits the device can put on the bus (64 unless told), before {@link dma} is used. */
  setDmaAddressBits(addressBits: number): void {
    if (this.#dma !== undefined)
      throw accelError('ERR_ACCEL_BUSY', `${this.#name()}: DMA is in use, its address width is settled`)
    if (!Number.isInteger(addressBits) || addressBits < 16 || addressBits > 64) {
      throw accelError('ERR_ACCEL_OUT_OF_RANGE', `${addressBits} DMA address bits: wanted 16 to 64`)
    }
    this.#dmaAddressBits = addressBits
  }

  /** Lets a worker thread use what is mapped of this device: see {@link DeviceShare}. One for each worker. */
  share(): DeviceShare {
    this.#checkReachable()
    const share = new DeviceShare({
      name: this.#name(),
      signal: this.signal,
      open: (index, offset, sizeBytes) => this.#openShared(index, offset, sizeBytes),
      ended: () => this.#shares.delete(share),
    })
    this.#shares.add(share)
    return share
  }

  /** Has `dispose` run at release, before everything that was taken earlier. Answers a function that takes it out again. */
  defer(dispose: Disposer): () => void {
    this.#checkAlive()
    return this.#scope.defer(async () => {
      try {
        await dispose()
      } catch (error) {
        // What cannot be undone because the device is gone needs no undoing.
        if (!this.#lost || !isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) throw error
      }
    })
  }

  /**
   * Resets the device to its power-on state. BARs answer `ERR_ACCEL_NO_DEVICE` meanwhile and work again afterwards;
   * the command register and the interrupt triggers are set as before. Errors: `ERR_ACCEL_UNSUPPORTED`, and
   * `ERR_ACCEL_WEDGED`, after which the device is lost.
   */
  reset(): Promise<void> {
    this.#resetting ??= this.#reset().finally(() => {
      this.#resetting = undefined
    })
    return this.#resetting
  }

  /**
   * Gives back everything that was taken, last first; the transport stays open and is its opener's to close.
   * Rejects with the errors of steps that failed. Idempotent.
   */
  async release(): Promise<void> {
    if (this.#scope.released) return this.#scope.release()
    const reason =
      this.#gone ?? accelError('ERR_ACCEL_NO_DEVICE', `${this.#name()} was released by its driver`)
    this.#abort.abort(reason)
    await this.#resetting?.catch(() => {}) // its caller gets the error
    try {
      await this.#scope.release()
    } finally {
      this.#forgetLost()
      this.#gone ??= reason
      this.#cutOff(this.#gone)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release()
  }

  async #reset(): Promise<void> {
    this.#checkAlive()
    if (!this.resettable)
      throw accelError('ERR_ACCEL_UNSUPPORTED', `${this.#name()} has no reset that its transport can trigger`)
    const command = this.config.read16(pciConfig.command)
    this.#cutOff(accelError('ERR_ACCEL_NO_DEVICE', `${this.#name()} is being reset`))
    try {
      await this.#transport.reset()
      if (this.#gone !== undefined) throw this.#gone
      this.#configTrap.restore()
      this.#setCommand(command)
      for (const window of this.#windows) window.expose(this.#transport.map(window.region, window.area))
      for (const trap of this.#traps) trap.restore()
      for (const share of this.#shares) share.resume()
      this.#irqs?.rearm()
    } catch (cause) {
      if (this.#gone !== undefined) throw this.#gone
      const wedged = accelError(
        'ERR_ACCEL_WEDGED',
        `${this.#name()} did not come back from its reset: ${String((cause as Error).message)}`,
        {
          cause,
        },
      )
      this.#lose(wedged)
      throw wedged
    }
  }

  #lose(reason: AccelError): void {
    if (this.#gone !== undefined) return
    this.#lost = true
    this.#gone =
      reason.code === 'ERR_ACCEL_NO_DEVICE'
        ? reason
        : accelError('ERR_ACCEL_NO_DEVICE', `${this.#name()} was lost: ${reason.message}`, { cause: reason })
    this.#cutOff(this.#gone)
    this.#abort.abort(this.#gone)
  }

  /** Ends all access through what was handed out. */
  #cutOff(reason: AccelError): void {
    for (const share of this.#shares) share.suspend(reason)
    for (const window of this.#windows) window.revoke(reason)
    for (const trap of this.#traps) trap.revoke(reason)
    this.#configTrap.revoke(reason)
    this.#irqs?.silence()
  }

  /** Writes the command register and sees that memory decoding and bus mastering are as wanted. */
  #setCommand(command: number): void {
    this.config.write16(pciConfig.command, command)
    const found = this.config.read16(pciConfig.command)
    const wanted = command & (pciCommand.memory | pciCommand.busMaster)
    if ((found & wanted) === wanted) return
    throw accelError(
      'ERR_ACCEL_IO',
      `${this.#name()}: bits 0x${wanted.toString(16)} of the command register were set, it reads 0x${found.toString(16)}`,
    )
  }

  #stopBusMaster(): void {
    const command = this.config.read16(pciConfig.command)
    if ((command & pciCommand.busMaster) !== 0)
      this.config.write16(pciConfig.command, command & ~pciCommand.busMaster)
  }

  #mapAreas(region: RegionInfo, entries: readonly RegisterEntry[]): BarWindow[] {
    return region.mappable.flatMap((area) => {
      const inside = entries.filter((e) => contains(area, e.offset, e.width / 8))
      if (inside.length === 0) return []
      const end = Math.max(...inside.map((e) => e.offset + e.width / 8))
      return [this.#window(region, pagesOf(area, inside[0].offset, end))]
    })
  }

  #window(region: RegionInfo, area: Area): BarWindow {
    return this.#openWindow(region, area).window
  }

  #openWindow(region: RegionInfo, area: Area): OpenWindow {
    const mapping = this.#transport.map(region.index, area)
    const window = new BarWindow(region.index, area, this.#barName(region.index), mapping)
    this.#windows.add(window)
    const revoke = () => {
      window.revoke(
        this.#gone ?? accelError('ERR_ACCEL_NO_DEVICE', `${this.#name()} was released by its driver`),
      )
      this.#windows.delete(window)
    }
    const forget = this.defer(revoke)
    return {
      window,
      close: () => {
        forget()
        revoke()
      },
    }
  }

  /** All that can be mapped of a part of a BAR, in windows of its own. */
  #openShared(index: number, offset: number, wanted?: number): ReturnType<ShareHost['open']> {
    const sizeBytes = this.#checkPart(index, offset, wanted)
    const region = this.#region(index, offset + sizeBytes)
    const end = offset + sizeBytes
    const areas = region.mappable
      .map(
        (area) => [Math.max(offset, area.offset), Math.min(end, area.offset + area.sizeBytes), area] as const,
      )
      .filter(([first, last]) => first < last)
    if (areas.length === 0 || this.#options.trapBars) {
      const why = this.#options.trapBars
        ? 'this device was opened with trapBars'
        : 'its transport maps nothing of it'
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${this.#barName(index)} cannot be shared with a worker thread: ${why}, and calls of the transport belong to the thread that opened it`,
      )
    }
    const windows = areas.map(([first, last, area]) => this.#openWindow(region, pagesOf(area, first, last)))
    return { label: this.#barName(index), sizeBytes, windows }
  }

  #trap(region: RegionInfo): BarTrap {
    const trap = new BarTrap(this.#transport, region.index, this.#barName(region.index))
    this.#traps.add(trap)
    this.defer(() => {
      trap.revoke(
        this.#gone ?? accelError('ERR_ACCEL_NO_DEVICE', `${this.#name()} was released by its driver`),
      )
      this.#traps.delete(trap)
    })
    return trap
  }

  /** The size of a part of a BAR, by default up to its end. */
  #checkPart(index: number, offset: number, wanted: number | undefined): number {
    const sizeBytes = wanted ?? (this.#transport.regions[index]?.sizeBytes ?? 0) - offset
    if (
      Number.isSafeInteger(offset) &&
      offset >= 0 &&
      offset % 8 === 0 &&
      Number.isSafeInteger(sizeBytes) &&
      sizeBytes >= 0
    )
      return sizeBytes
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `BAR ${index}: ${sizeBytes} bytes at offset ${offset}, wanted a multiple of 8 and a size`,
    )
  }

  #region(index: number, endBytes: number): RegionInfo {
    this.#checkReachable()
    const region =
      Number.isInteger(index) && index >= 0 && index <= PciRegion.BAR5
        ? this.#transport.regions[index]
        : undefined
    if (region === undefined || region.sizeBytes === 0) {
      const bars = this.#transport.regions
        .filter((r) => r.index <= PciRegion.BAR5 && r.sizeBytes > 0)
        .map((r) => r.index)
      throw accelError(
        'ERR_ACCEL_NOT_FOUND',
        `${this.#name()} has no BAR ${index}; it has ${bars.join(', ') || 'none'}`,
      )
    }
    if (endBytes > region.sizeBytes) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `${this.#barName(index)} has ${region.sizeBytes} bytes, and ${endBytes} were wanted: another device or revision?`,
      )
    }
    return region
  }

  #checkAlive(): void {
    if (this.#gone !== undefined) throw goneError(this.#name(), this.#gone)
    if (this.#scope.released)
      throw accelError('ERR_ACCEL_NO_DEVICE', `${this.#name()} was released by its driver`)
  }

  /** Alive, and not in the middle of a reset: what is mapped or armed then would reach a device that is not there. */
  #checkReachable(): void {
    this.#checkAlive()
    if (this.#resetting !== undefined)
      throw accelError('ERR_ACCEL_NO_DEVICE', `${this.#name()} is being reset: wait for that first`)
  }

  #name(): string {
    const { kind, address } = this.#transport.identity
    return `${kind} device ${address}`
  }

  #barName(index: number): string {
    return `BAR ${index} of ${this.#name()}`
  }
}

/** Makes the handle that a driver's probe gets. Does not take the transport over: close it after `release()`. */
export function openDevice(transport: Transport, options: DeviceOptions = {}): Device {
  return new Device(transport, options)
}
