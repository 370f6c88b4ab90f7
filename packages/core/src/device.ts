import { DmaBuf, DmaDomain } from '@uaccel/memory'
import { sys } from '@uaccel/sys'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import type { Mapped, Trace } from './accessors.js'
import { Bars, type MapBarOptions, type MapMemoryOptions } from './bars.js'
import { ConfigSpace } from './config-access.js'
import { type DeviceIdentity, identify } from './identity.js'
import { interposed } from './interpose.js'
import { type IrqRequest, IrqVectors } from './irq.js'
import { BarTrap, goneError, type Mmio } from './mmio.js'
import { pciCommand, pciConfig } from './pci/constants.js'
import { setCommand } from './pci/state.js'
import { Presence, type PresenceHost } from './presence.js'
import type { RegisterMap } from './registers.js'
import { type DeferOptions, type Disposer, Scope } from './scope.js'
import { DeviceShare } from './share/owner.js'
import type { DeviceTap } from './tap.js'
import { PciRegion, type RegionFile, type RegionInfo, type ResetKind, type Transport } from './transport.js'

const RELEASE_MS = 30_000

/** How a device is opened. */
export interface DeviceOptions {
  /** Reaches every BAR by calls, even what could be mapped: for test suites that run both ways. */
  readonly trapBars?: boolean
  /** Called at each register access. Chosen when a BAR is mapped; without it accesses cost nothing more. */
  readonly trace?: Trace
}

/** How a device is reset. */
export interface ResetOptions {
  /** Default: `function`, where the device has that, else `hot`. */
  readonly kind?: ResetKind
}

/** How a device is released. */
export interface ReleaseOptions {
  /** What all of the driver's own steps together may take; one that has not ended by then has failed. Default 30,000. */
  readonly limitMs?: number
}

/**
 * A device as its driver sees it. Everything that comes from it is given back by {@link release}, in reverse order;
 * after that, and after the device is lost, every touch answers `ERR_ACCEL_NO_DEVICE` with the reason as `cause`.
 */
export class Device {
  readonly identity: DeviceIdentity
  readonly config: ConfigSpace
  readonly #transport: Transport
  readonly #scope: Scope
  readonly #abort = new AbortController()
  readonly #bars: Bars
  readonly #presence: Presence
  readonly #shares = new Set<DeviceShare>()
  readonly #configTrap: BarTrap
  readonly #forgetLost: () => void
  #irqs: IrqVectors | undefined
  #dma: DmaDomain | undefined
  #dmaAddressBits = 64
  #gone: AccelError | undefined
  #lost = false
  #tap: DeviceTap | undefined
  readonly #tapListeners = new Set<(tap: DeviceTap | undefined) => void>()

  constructor(opened: Transport, options: DeviceOptions = {}) {
    const transport = interposed(opened)
    this.#transport = transport
    this.#scope = new Scope(this.#name())
    this.#bars = new Bars(transport, {
      name: this.#name(),
      trapBars: options.trapBars ?? false,
      trace: options.trace,
      checkReachable: () => this.#checkReachable(),
      defer: (dispose) => this.#own(dispose),
      gone: () => this.#gone ?? this.#released(),
    })
    this.#configTrap = new BarTrap(transport, PciRegion.CONFIG, `config space of ${this.#name()}`)
    this.config = new ConfigSpace(this.#configTrap, transport.regions[PciRegion.CONFIG].sizeBytes)
    this.identity = identify(this.config, transport)
    this.#presence = new Presence(transport, this.#presenceHost())
    this.#forgetLost = transport.onLost((reason) => this.#lose(reason))
  }

  /**
   * Aborted when the device is removed or lost, with an `ERR_ACCEL_NO_DEVICE` as its reason: nobody needs to wait for
   * work of the device any more. One that is removed can still be reached, for the steps that were deferred.
   */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** BARs, ROM and config space, indexed by {@link PciRegion}. */
  get regions(): readonly RegionInfo[] {
    return this.#transport.regions
  }

  /** The ways in which {@link reset} can work. */
  get resets(): readonly ResetKind[] {
    return this.#transport.resets
  }

  /** True where {@link reset} can work. */
  get resettable(): boolean {
    return this.resets.length > 0
  }

  /** True where {@link sleep} can work. */
  get canSleep(): boolean {
    return this.#transport.setLowPower !== undefined
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

  /** Switches memory decoding on and, where asked, lets the device master the bus (DMA and MSI need it). For PCI; elsewhere there is nothing to switch. */
  async enable({ busMaster = false }: { readonly busMaster?: boolean } = {}): Promise<void> {
    this.#checkReachable()
    const wanted = pciCommand.memory | (busMaster ? pciCommand.busMaster : 0)
    if (this.config.sizeBytes === 0) return
    setCommand(this.config, this.config.read16(pciConfig.command) | wanted)
    if (busMaster) this.#own(() => this.#stopBusMaster())
  }

  /**
   * Maps the registers of a BAR. Registers that cannot be mapped (holes of a sparse mmap, the MSI-X table, a BAR smaller than
   * a page) are reached by calls, with the same accessors.
   * Errors: `ERR_ACCEL_NOT_FOUND` without such a BAR, `ERR_ACCEL_OUT_OF_RANGE` for registers beyond its end.
   */
  async mapBar<D>(index: number, map: RegisterMap<D>, options: MapBarOptions = {}): Promise<Mapped<D>> {
    return this.#bars.registers(index, map, options)
  }

  /** Maps memory of the device, or a page of doorbells, to be reached by offset. Errors as for {@link mapBar}. */
  async mapMemory(index: number, options: MapMemoryOptions = {}): Promise<Mmio> {
    return this.#bars.memory(index, options)
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
    const forget = this.#own(() => irqs.release())
    irqs.onRelease = () => {
      this.#irqs = undefined
      forget()
    }
    irqs.follow(this.#tap)
    this.#irqs = irqs
    return irqs
  }

  /** The interrupt vectors that the driver holds. */
  get irqs(): IrqVectors | undefined {
    return this.#irqs
  }

  /**
   * Makes a dma-buf of a part of a BAR, whole pages, for another device's domain (`importDmaBuf`) or another process. The
   * device's release closes it, after what this process has mapped of it; a reset or the end of the transport revokes it
   * for all others. Errors as for {@link mapMemory}, and `ERR_ACCEL_UNSUPPORTED` where the transport exports nothing.
   */
  exportBar(index: number, options: Omit<MapMemoryOptions, 'trapped'> = {}): DmaBuf {
    const fd = this.#bars.exportDmaBuf(index, options)
    try {
      const dmaBuf = DmaBuf.adopt(fd)
      dmaBuf.onDestroy(this.defer(() => dmaBuf.close()))
      return dmaBuf
    } catch (error) {
      sys.close(fd)
      throw error
    }
  }

  /**
   * The file in which whole pages of a BAR lie, for a process that is to map them itself, such as the doorbells of a queue of its
   * own; `fd` stays the transport's. It gives all of that BAR, cannot be taken back, and nothing else of the device. Errors as for
   * {@link mapMemory}, `ERR_ACCEL_UNSUPPORTED` where the transport has no such file: with the kernel's VFIO and UIO.
   */
  barFile(index: number, options: Omit<MapMemoryOptions, 'trapped'> = {}): RegionFile {
    return this.#bars.file(index, options)
  }

  /** The memory that the device can reach. Made at first use. */
  get dma(): DmaDomain {
    this.#checkAlive()
    if (this.#dma === undefined) {
      const domain = new DmaDomain(this.#transport.dma, { addressBits: this.#dmaAddressBits })
      this.#own(async () => {
        try {
          await this.#keepFromMemory()
        } catch (error) {
          // An IOMMU takes the memory from a device that nothing stopped. Without one it may still be written: nobody gets it again.
          const removed = this.#lost && !isAccelError(this.#gone?.cause, 'ERR_ACCEL_WEDGED')
          if (removed || this.#transport.dma.locate === undefined) domain.destroy()
          throw error
        }
        domain.destroy()
      })
      domain.watcher = this.#tap
      this.#dma = domain
    }
    return this.#dma
  }

  /** How much of {@link dma} is in use; `undefined` where it was not made yet, and asking does not make it. */
  get dmaUse(): Pick<DmaDomain, 'mappings' | 'mappedBytes'> | undefined {
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

  /** What {@link setDmaAddressBits} said; 64 unless told. */
  get dmaAddressBits(): number {
    return this.#dmaAddressBits
  }

  /**
   * Has `tap` told of every access of registers and device memory, every interrupt and DMA mapping, from now on until the function that
   * this answers is called, or the device is released. What worker threads and other processes do is not seen. `ERR_ACCEL_BUSY` where
   * one is told already.
   */
  follow(tap: DeviceTap): () => void {
    this.#checkAlive()
    if (this.#tap !== undefined) {
      throw accelError(
        'ERR_ACCEL_BUSY',
        `${this.#name()} is followed already: one at a time is told of what it does`,
      )
    }
    this.#setTap(tap)
    return () => {
      if (this.#tap === tap) this.#setTap(undefined)
    }
  }

  /** For a driver that has queues: calls `listener` with who is told of them, now and when that changes; undefined for nobody. */
  onFollow(listener: (tap: DeviceTap | undefined) => void): void {
    this.#tapListeners.add(listener)
    if (this.#tap !== undefined) listener(this.#tap)
  }

  #setTap(tap: DeviceTap | undefined): void {
    // A store is what costs: who was never followed is not to notice.
    if (this.#tap === tap) return
    this.#tap = tap
    this.#bars.follow(tap)
    this.#configTrap.follow(tap)
    this.#irqs?.follow(tap)
    if (this.#dma !== undefined) this.#dma.watcher = tap
    for (const listener of this.#tapListeners) listener(tap)
  }

  /** Lets a worker thread use what is mapped of this device: see {@link DeviceShare}. One for each worker. */
  share(): DeviceShare {
    this.#checkReachable()
    const share = new DeviceShare({
      name: this.#name(),
      signal: this.signal,
      open: (index, offset, sizeBytes) => this.#bars.openShared(index, offset, sizeBytes),
      ended: () => this.#shares.delete(share),
    })
    this.#shares.add(share)
    return share
  }

  /**
   * Has `dispose` run at release, before everything that was taken earlier: it brings the device to rest. Where it fails, or
   * takes longer than the release may, the device is kept from memory by other means. Answers a function that takes it out again.
   */
  defer(dispose: Disposer): () => void {
    return this.#own(dispose, { limited: true })
  }

  /**
   * Resets the device to its power-on state. BARs answer `ERR_ACCEL_NO_DEVICE` meanwhile and work again afterwards;
   * the command register and the interrupt triggers are set as before, and what fired before is forgotten. Who asks during a
   * reset gets that one. Errors: `ERR_ACCEL_UNSUPPORTED`; `ERR_ACCEL_BUSY` where it would have hit others, or the device sleeps:
   * then nothing was reset; and `ERR_ACCEL_WEDGED`, after which the device is lost.
   */
  reset({ kind }: ResetOptions = {}): Promise<void> {
    return this.#presence.reset(kind)
  }

  /**
   * Puts the device into its low-power state, where the kernel offers that. Until {@link wake} every touch answers
   * `ERR_ACCEL_NO_DEVICE`, saying so, and no handler runs. Bring it to rest before. Idempotent. `ERR_ACCEL_UNSUPPORTED`.
   */
  async sleep(): Promise<void> {
    this.#checkAlive()
    await this.#presence.sleep()
  }

  /**
   * Wakes the device: views work again, interrupts are armed, the command register is as before. What else it remembers is
   * its own affair: many come out of it as out of a reset. Idempotent. `ERR_ACCEL_WEDGED` where it does not answer.
   */
  async wake(): Promise<void> {
    this.#checkAlive()
    await this.#presence.wake()
  }

  /**
   * Has `listener` called when the administrator wants the device back (unbind, orderly removal). It still works: end the work,
   * {@link release} it and close the transport soon, since whoever waits is blocked until then. Comes again while that did not
   * happen. Without a listener the device counts as lost. Answers a function that takes the listener back.
   */
  onRequest(listener: (reason: AccelError) => void): () => void {
    this.#checkAlive()
    const forget = this.#transport.onRequest(listener)
    const taken = this.#own(forget)
    return () => {
      forget()
      taken()
    }
  }

  /** Says that the device is about to be released, so that nobody waits for its work any more: aborts {@link signal}. */
  withdraw(reason: AccelError): void {
    this.#abort.abort(this.#noDevice(reason))
  }

  /**
   * Gives back everything that was taken, last first; the transport stays open and is its opener's to close.
   * Where one of the driver's own steps fails, or they take longer than `limitMs`, the device is reset, where it has a function
   * reset, before its memory is unmapped. Rejects with the errors of steps that failed. Idempotent.
   */
  async release({ limitMs = RELEASE_MS }: ReleaseOptions = {}): Promise<void> {
    if (this.#scope.released) return this.#scope.release()
    const reason = this.#gone ?? this.#released()
    this.#abort.abort(reason)
    this.#scope.defer(() => this.#presence.wake(), { limited: true }) // the first of all steps, once no reset is under way
    try {
      await this.#scope.release(limitMs)
    } finally {
      this.#setTap(undefined)
      this.#forgetLost()
      this.#gone ??= reason
      this.#cutOff(this.#gone)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release()
  }

  /** As {@link defer}, for steps of ours, which take no longer than they must. */
  #own(dispose: Disposer, options?: DeferOptions): () => void {
    this.#checkAlive()
    return this.#scope.defer(async () => {
      try {
        await dispose()
      } catch (error) {
        // What cannot be undone because the device is gone needs no undoing.
        if (!this.#lost || !isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) throw error
      }
    }, options)
  }

  #presenceHost(): PresenceHost {
    const device = this
    return {
      name: this.#name(),
      config: this.config,
      get gone() {
        return device.#gone
      },
      cutOff: (reason) => this.#cutOff(reason),
      reachConfig: () => this.#configTrap.restore(),
      restore: () => {
        this.#bars.restore()
        for (const share of this.#shares) share.resume()
        this.#irqs?.rearm()
      },
      lose: (reason) => this.#lose(reason),
    }
  }

  /**
   * Whatever the driver left running shall not reach memory that is not its own any more. A device that was not brought to
   * rest may ignore the bus master bit, or go on where it stopped when somebody sets it: it is reset, as is one whose bit cannot
   * be cleared.
   */
  async #keepFromMemory(): Promise<void> {
    const resettable = this.resets.includes('function')
    let atRest = this.#scope.failed === 0
    try {
      this.#stopBusMaster()
    } catch (error) {
      if (this.#lost || !resettable) throw error
      atRest = false
    }
    if (atRest) return
    if (resettable) return this.#presence.reset('function')
    if (this.config.sizeBytes > 0 || this.#transport.dma.locate === undefined) return
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${this.#name()} was not brought to rest, has no reset, and no IOMMU keeps it from memory: its DMA memory is not given back`,
    )
  }

  #released(): AccelError {
    return accelError('ERR_ACCEL_NO_DEVICE', `${this.#name()} was released by its driver`)
  }

  #lose(reason: AccelError): void {
    if (this.#gone !== undefined) return
    this.#lost = true
    this.#gone = this.#noDevice(reason)
    this.#cutOff(this.#gone)
    this.#abort.abort(this.#gone)
  }

  #noDevice(reason: AccelError): AccelError {
    if (reason.code === 'ERR_ACCEL_NO_DEVICE') return reason
    return accelError('ERR_ACCEL_NO_DEVICE', `${this.#name()} was lost: ${reason.message}`, { cause: reason })
  }

  /** Ends all access through what was handed out. */
  #cutOff(reason: AccelError): void {
    for (const share of this.#shares) share.suspend(reason)
    this.#bars.revoke(reason)
    this.#configTrap.revoke(reason)
    this.#irqs?.silence(reason)
  }

  #stopBusMaster(): void {
    if (this.config.sizeBytes === 0) return
    const command = this.config.read16(pciConfig.command)
    if ((command & pciCommand.busMaster) !== 0)
      this.config.write16(pciConfig.command, command & ~pciCommand.busMaster)
  }

  #checkAlive(): void {
    if (this.#gone !== undefined) throw goneError(this.#name(), this.#gone)
    if (this.#scope.released) throw this.#released()
  }

  /** Alive, not in the middle of a reset, and awake: what is mapped or armed else would reach a device that is not there. */
  #checkReachable(): void {
    this.#checkAlive()
    const { away } = this.#presence
    if (away !== undefined) throw goneError(this.#name(), away)
  }

  #name(): string {
    const { kind, address } = this.#transport.identity
    return `${kind} device ${address}`
  }
}

/** Makes the handle that a driver's probe gets. Does not take the transport over: close it after `release()`. */
export function openDevice(transport: Transport, options: DeviceOptions = {}): Device {
  return new Device(transport, options)
}
