import type { QueueRequest, UserQueue } from '@uaccel/accel'
import { type Device, type IrqVectors, type Mmio, poll } from '@uaccel/core'
import { type DmaDomain, RangeAllocator } from '@uaccel/memory'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { ContextMemory } from './buffers.js'
import { type NpuCapabilities, readCapabilities } from './capabilities.js'
import { type ContextHost, type ContextOptions, NpuContext } from './context.js'
import { NpuLease } from './lease.js'
import { lend } from './lend.js'
import { NpuQueue, queueLayout } from './queue.js'
import { type NpuBar, QueueControl } from './queue-control.js'
import { BAR, DOORBELL_PAGE_BYTES, NpuRegisters } from './registers.js'
import { type Card, ContextStore } from './store.js'
import { LocalTenant, type Tenant, type TenantStore } from './tenant.js'
import { npuQueue } from './uapi.js'
import { ClientStore, UserTenant } from './user-tenant.js'

/** `ID`, 4.1.1, and the version that this driver was written for. */
const ID = 0x3155504e
const MAJOR = 1
/** Bits of INTX_ENABLE: one for each vector. */
const ALL_VECTORS = 0x1ffff
/** How often the queues of worker threads and clients are looked at, who cannot read the registers themselves: a fatal error may be silent. */
const WATCH_MS = 100
const DEFAULT_ENTRIES = 256
const DEFAULT_MEMORY_BYTES = 4 * 1024 * 1024

/** How the device says that work is done. `auto` takes the first of the others that there is. */
export type IrqMode = 'auto' | 'msix' | 'intx' | 'poll'

export interface NpuStartOptions {
  readonly irq?: IrqMode
}

/** What an NPU tells of itself, besides to those who wait for a job. */
export interface NpuListeners {
  /** A queue was taken or given back. */
  queues?(): void
  /** The controller, or a queue, is broken: its jobs end with this error. */
  broke?(error: AccelError): void
}

/** A queue as its registers show it (4.3). */
export interface NpuQueueState {
  readonly index: number
  /** By name; a number that the specification does not have as such. */
  readonly state: string | number
  readonly cause: string | number
}

/** How a context for a worker thread is made. */
export interface ShareContextOptions extends ContextOptions {
  /** Host memory for its buffers, in bytes, which does not grow. Default 4 MiB. */
  readonly memoryBytes?: number
}

/** The performance counters (4.2), since they were last cleared. */
export interface NpuCounters {
  readonly cyclesBusy: number
  readonly descriptors: number
  readonly errors: number
  readonly bytesRead: number
  readonly bytesWritten: number
  readonly macs: number
}

/** An NPU that was brought up. All that it takes comes from its `Device` and is released with it. */
export class Npu {
  readonly capabilities: NpuCapabilities
  readonly irqMode: Exclude<IrqMode, 'auto'>
  readonly #dev: Device
  readonly #bar: NpuBar
  readonly #irqs: IrqVectors | undefined
  readonly #dma: DmaDomain
  readonly #doorbells: Mmio
  readonly #card: Card
  readonly #tenants: (Tenant | undefined)[]
  readonly #listeners: NpuListeners
  #recovering: Promise<void> | undefined
  #watch: NodeJS.Timeout | undefined

  private constructor(
    dev: Device,
    bar: NpuBar,
    irqs: IrqVectors | undefined,
    doorbells: Mmio,
    cardMemory: Mmio,
    listeners: NpuListeners,
  ) {
    this.#dev = dev
    this.#listeners = listeners
    this.#dma = dev.dma
    this.#doorbells = doorbells
    this.#bar = bar
    this.#irqs = irqs
    this.irqMode = irqs === undefined ? 'poll' : irqs.type === 'intx' ? 'intx' : 'msix'
    this.capabilities = readCapabilities(bar)
    const sizeBytes = this.capabilities.cardBytes
    this.#card = {
      base: (BigInt(bar.LMEM_BASE_HI.read()) << 32n) | BigInt(bar.LMEM_BASE_LO.read()),
      sizeBytes,
      free: new RangeAllocator([[0, sizeBytes]]),
      memory: cardMemory,
    }
    this.#tenants = new Array(this.capabilities.queues).fill(undefined)
  }

  /**
   * Brings the device up: sections 12 of the specification, "Initialise". What was taken is released when the device is.
   * Errors: `ERR_ACCEL_UNSUPPORTED` for another device, `ERR_ACCEL_VERSION`, `ERR_ACCEL_TIMEOUT` where it does not get ready.
   */
  static async start(
    dev: Device,
    { irq = 'auto' }: NpuStartOptions = {},
    listeners: NpuListeners = {},
  ): Promise<Npu> {
    await dev.enable({ busMaster: true })
    const bar = await dev.mapBar(BAR.registers, NpuRegisters)
    const id = bar.ID.read()
    if (id !== ID)
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `The NPU's ID reads 0x${id.toString(16)}, wanted 0x${ID.toString(16)}`,
      )
    const { major, minor } = bar.VERSION.get()
    if (major !== MAJOR)
      throw accelError(
        'ERR_ACCEL_VERSION',
        `The NPU is of version ${major}.${minor}, this driver wants ${MAJOR}.x`,
      )
    const irqs = await allocVectors(dev, irq)
    const doorbells = await dev.mapMemory(BAR.doorbells)
    const npu = new Npu(dev, bar, irqs, doorbells, await dev.mapMemory(BAR.card), listeners)
    npu.#handleInterrupts()
    const forgetLost = onAbort(dev.signal, (reason) => npu.#failAll(reason))
    dev.defer(forgetLost)
    dev.defer(() => npu.#shutDown())
    await npu.#enable()
    return npu
  }

  /** Makes a context: a queue and memory of its own. `ERR_ACCEL_BUSY` where all queues are in use. */
  async createContext(options: ContextOptions = {}): Promise<NpuContext> {
    await this.#recovering
    const { control, store, take, undo } = this.#takeQueue(
      options.ringEntries ?? DEFAULT_ENTRIES,
      false,
      (control) => this.#storeFor(control, options),
    )
    const queue = new NpuQueue(control.index, control.entriesLog2, {
      words: control.memory.i32,
      doorbells: this.#doorbells,
      page: DOORBELL_PAGE_BYTES * control.index,
      wake: () => control.wake(),
    })
    const memory = new ContextMemory(store, () => context.inFlight > 0 || context.failure !== undefined)
    const close = () => this.#close(tenant)
    const context: NpuContext = new NpuContext(queue, memory, this.#hostOf(control, close))
    const tenant = new LocalTenant(control, store, context)
    try {
      const vector = this.#vectorOf(control.index)
      if (vector !== undefined && this.irqMode === 'msix') this.#handleVector(vector) // a worker may have had it
      await take(tenant)
    } catch (error) {
      await undo()
      throw error
    }
    return context
  }

  /**
   * Makes a context for a worker thread, which opens it by `attachNpuContext(lease.token)` and then uses the device without this
   * thread. `ERR_ACCEL_UNSUPPORTED` where the doorbells, or with `cardBytes` the card, are not mapped; `ERR_ACCEL_BUSY` as for
   * {@link createContext}.
   */
  async shareContext(options: ShareContextOptions = {}): Promise<NpuLease> {
    const { memoryBytes = DEFAULT_MEMORY_BYTES } = options
    if (!Number.isSafeInteger(memoryBytes) || memoryBytes <= 0) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `memoryBytes of ${memoryBytes}: wanted a positive whole number of bytes`,
      )
    }
    await this.#recovering
    const { control, store, take, undo } = this.#takeQueue(
      options.ringEntries ?? DEFAULT_ENTRIES,
      true,
      (control) => this.#storeFor(control, options),
    )
    try {
      const { index } = control
      const share = this.#dev.share()
      try {
        const own = this.#ownsVector ? { irqs: this.#irqs!, vector: this.#vectorOf(index)! } : undefined
        // A vector that queues share fires here, for all of them.
        if (own === undefined && this.irqMode === 'msix') this.#handleVector(this.#vectorOf(index)!)
        const parts = lend(share, control, store, memoryBytes, own ?? this.irqMode !== 'poll')
        const lease = new NpuLease(parts, (closed) => this.#close(closed))
        await take(lease)
        this.#watchRemote()
        return lease
      } catch (error) {
        share.close()
        throw error
      }
    } catch (error) {
      await undo()
      throw error
    }
  }

  /**
   * Makes a queue that a client in another process fills; its windows are open for exactly the ranges of the request.
   * `ERR_ACCEL_UNSUPPORTED` where the doorbells cannot be handed out, `ERR_ACCEL_OUT_OF_RANGE` for more ranges than a queue has windows,
   * `ERR_ACCEL_BAD_SIZE` for a payload, and as for {@link createContext}.
   */
  async createUserQueue(request: QueueRequest): Promise<UserQueue> {
    const { entries, ranges, payload } = request
    const { windows } = this.capabilities
    if (payload.length > 0) {
      throw accelError(
        'ERR_ACCEL_BAD_SIZE',
        `A queue of an NPU takes no payload, found ${payload.length} bytes`,
      )
    }
    if (ranges.length > windows) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `A queue of an NPU is to touch ${ranges.length} ranges of memory, and has windows for ${windows}`,
      )
    }
    await this.#recovering
    const { control, store, take, undo } = this.#takeQueue(entries, true, () => new ClientStore(ranges))
    const { index, entriesLog2, memory } = control
    try {
      const doorbell = { offset: DOORBELL_PAGE_BYTES * index, sizeBytes: DOORBELL_PAGE_BYTES }
      const file = this.#dev.barFile(BAR.doorbells, doorbell)
      const tenant = new UserTenant(control, store, request.notify)
      if (this.irqMode === 'msix') this.#handleVector(this.#vectorOf(index)!)
      await take(tenant)
      this.#watchRemote()
      const { sq, cq, status, sizeBytes } = queueLayout(entriesLog2)
      return {
        rings: { fd: memory.buffer.fd, offset: memory.offset, sizeBytes },
        doorbell: { ...doorbell, ...file },
        payload: npuQueue.encode({
          index,
          entriesLog2,
          submissions: sq,
          completions: cq,
          status,
          interrupts: this.irqMode !== 'poll',
          addresses: ranges.map(({ iova }) => iova),
        }),
        kick: () => this.#wake(control),
        stop: () => this.#close(tenant),
      }
    } catch (error) {
      await undo()
      throw error
    }
  }

  /** Queues that contexts hold. */
  get queuesInUse(): number {
    return this.#tenants.filter((tenant) => tenant !== undefined).length
  }

  /** Bytes of on-card memory that contexts hold. */
  get cardBytesInUse(): number {
    return this.#tenants.reduce((sum, tenant) => sum + (tenant?.store.card?.sizeBytes ?? 0), 0)
  }

  /** A value that changes while the controller works (4.1.12). */
  get heartbeat(): number {
    return this.#bar.HEARTBEAT.read()
  }

  /** What the registers of a queue say of it. */
  queueState(index: number): NpuQueueState {
    return { index, ...this.#bar.QUEUE[index].QSTS.get() }
  }

  /** Why the controller has to be recovered; `undefined` where it runs. */
  get fatal(): string | undefined {
    if (!this.#bar.CSTS.get().fatal) return undefined
    const { cause, queue } = this.#bar.FATAL.get()
    return `fatal error ${cause}, queue ${queue}`
  }

  /** Reads all counters as of one moment. */
  counters(): NpuCounters {
    this.#bar.PERF_CTRL.write({ freeze: true })
    const value = (at: number) => this.#bar.PERF[at].LO.read() + this.#bar.PERF[at].HI.read() * 2 ** 32
    const counters = {
      cyclesBusy: value(0),
      descriptors: value(1),
      errors: value(2),
      bytesRead: value(3),
      bytesWritten: value(4),
      macs: value(5),
    }
    this.#bar.PERF_CTRL.write({})
    return counters
  }

  clearCounters(): void {
    this.#bar.PERF_CLEAR.write(1)
  }

  /**
   * Brings the device back from a hang, a fatal or a queue error: by a controller reset, else by a function reset. Jobs under way end with
   * `ERR_ACCEL_IO`; contexts and their host memory stay. Errors: `ERR_ACCEL_WEDGED`.
   */
  recover(): Promise<void> {
    this.#recovering ??= this.#recover().finally(() => {
      this.#recovering = undefined
    })
    return this.#recovering
  }

  /** Before somebody else resets the device: ends the jobs under way, and stops the controller where that still listens. */
  async beforeReset(): Promise<void> {
    this.#failAll(accelError('ERR_ACCEL_IO', 'The NPU was reset while the job was under way'))
    try {
      await this.#disable()
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_TIMEOUT')) throw error // the reset is what helps
    }
  }

  /** After somebody else has reset the device: brings it up with the contexts that there are, whose host memory is as it was. */
  afterReset(): Promise<void> {
    this.#recovering ??= this.#bringBack().finally(() => {
      this.#recovering = undefined
    })
    return this.#recovering
  }

  async #recover(): Promise<void> {
    this.#dev.checkPresent()
    this.#failAll(accelError('ERR_ACCEL_IO', 'The NPU was reset while the job was under way'))
    try {
      await this.#disable()
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_TIMEOUT') || !this.#dev.resettable) throw error
      await this.#dev.reset()
    }
    await this.#bringBack()
  }

  /** Brings the controller up, with the contexts that there are. */
  async #bringBack(): Promise<void> {
    for (const tenant of this.#tenants) tenant?.control.wasReset()
    await this.#enable()
    for (const tenant of this.#tenants) await tenant?.restart(() => this.#startQueue(tenant))
  }

  /** Takes a free queue and memory for it; `take` starts it for its user, `undo` gives all back. */
  #takeQueue<S extends TenantStore>(
    ringEntries: number,
    separate: boolean,
    makeStore: (control: QueueControl) => S,
  ) {
    const { minRingEntries, maxRingEntries, queues } = this.capabilities
    const entriesLog2 = Math.log2(ringEntries)
    if (!Number.isInteger(entriesLog2) || ringEntries < minRingEntries || ringEntries > maxRingEntries) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `A ring of ${ringEntries} entries: wanted a power of two in ${minRingEntries}..${maxRingEntries}`,
      )
    }
    const index = this.#tenants.indexOf(undefined)
    if (index < 0)
      throw accelError('ERR_ACCEL_BUSY', `All ${queues} queues of the NPU are in use: close a context first`)
    const control = new QueueControl(index, this.#bar, this.#dma, entriesLog2, separate)
    let store: S
    try {
      store = makeStore(control)
    } catch (error) {
      control.destroy()
      throw error
    }
    const take = async (tenant: Tenant) => {
      this.#put(index, tenant)
      await this.#startQueue(tenant)
    }
    const undo = async () => {
      this.#put(index, undefined)
      // One that did not say that it started may do so late: only a reset takes the memory from the device.
      if (!control.off) {
        if (this.#dev.signal.aborted) return
        await this.recover()
      }
      store.destroy()
      control.destroy()
    }
    return { control, store, take, undo }
  }

  #storeFor(control: QueueControl, { cardBytes = 0 }: ContextOptions): ContextStore {
    return new ContextStore(this.#dma, this.#card, cardBytes, this.capabilities.windows, (at, window) =>
      control.allow(at, window),
    )
  }

  #put(index: number, tenant: Tenant | undefined): void {
    if (this.#tenants[index] === tenant) return
    this.#tenants[index] = tenant
    this.#listeners.queues?.()
  }

  /** Opens exactly the windows of the tenant's memory, then starts its queue. */
  async #startQueue({ control, store }: Tenant): Promise<void> {
    for (let at = 0; at < this.capabilities.windows; at++) control.allow(at)
    for (const [at, window] of store.windows()) control.allow(at, window)
    await control.start(this.#vectorOf(control.index), this.#dev.signal)
  }

  #hostOf(control: QueueControl, close: () => Promise<void>): ContextHost {
    return {
      interrupts: this.irqMode !== 'poll',
      changed: false,
      sync() {},
      irqCounts: () => (this.#ownsVector ? this.#irqs!.counts(this.#vectorOf(control.index)!) : undefined),
      diagnose: () => {
        const broken = this.#diagnose(control)
        if (broken !== undefined) this.#listeners.broke?.(broken)
        return broken
      },
      heartbeat: () => this.#bar.HEARTBEAT.read(),
      allow: (at, window) => control.allow(at, window),
      broke: (error) => this.#listeners.broke?.(error),
      close,
    }
  }

  /** A client woke its queue; where the device cannot be reached, whoever makes it so tells the client. */
  #wake(control: QueueControl): void {
    try {
      if (!control.off) control.wake()
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) throw error
    }
  }

  #watchRemote(): void {
    this.#watch ??= setInterval(() => this.#lookAtRemote(), WATCH_MS).unref()
  }

  /** In place of workers and clients, which cannot read registers. */
  #lookAtRemote(): void {
    const tenants = this.#tenants.filter((tenant) => tenant?.showHeartbeat !== undefined) as Tenant[]
    if (tenants.length === 0) {
      clearInterval(this.#watch)
      this.#watch = undefined
      return
    }
    if (this.#recovering !== undefined || this.#dev.signal.aborted) return
    try {
      const beat = this.#bar.HEARTBEAT.read()
      for (const tenant of tenants) {
        tenant.showHeartbeat?.(beat)
        this.#failIfBroken(tenant)
      }
    } catch (error) {
      if (!isAccelError(error)) throw error
      // While the device cannot be reached, whoever makes it so tells them.
      if (error.code === 'ERR_ACCEL_NO_DEVICE') return
      for (const tenant of tenants) if (tenant.failure === undefined) tenant.fail(error)
    }
  }

  /** Whether each queue has a vector of its own. */
  get #ownsVector(): boolean {
    return this.irqMode === 'msix' && this.#irqs!.count > this.capabilities.queues
  }

  #vectorOf(queue: number): number | undefined {
    if (this.#irqs === undefined) return undefined
    // With fewer vectors than queues, queues share; INTx has a bit for each.
    const vectors = this.irqMode === 'intx' ? this.capabilities.queues + 1 : this.#irqs.count
    return 1 + (queue % (vectors - 1))
  }

  #handleInterrupts(): void {
    const irqs = this.#irqs
    if (irqs === undefined) return
    if (irqs.type === 'intx') {
      irqs.handle(0, () => {
        const fired = this.#bar.INTX_STATUS.read()
        this.#bar.INTX_ACK.write(fired)
        for (let vector = 0; fired >>> vector !== 0; vector++) {
          if (((fired >>> vector) & 1) !== 0) this.#fired(vector)
        }
      })
      return
    }
    this.#handleVector(0)
  }

  #fired(vector: number): void {
    if (vector === 0) {
      this.#handleEvents()
      return
    }
    for (let queue = 0; queue < this.#tenants.length; queue++) {
      if (this.#tenants[queue] !== undefined && this.#vectorOf(queue) === vector) this.#tenants[queue]!.poll()
    }
  }

  #handleEvents(): void {
    const events = this.#bar.EVENTS.read()
    this.#bar.EVENTS.clear(events)
    this.#bar.QUEUE_EVENTS.read()
    for (const tenant of this.#tenants) if (tenant !== undefined) this.#failIfBroken(tenant)
  }

  #failIfBroken(tenant: Tenant): void {
    if (tenant.failure !== undefined || tenant.control.off) return
    const broken = this.#diagnose(tenant.control)
    if (broken === undefined) return
    tenant.poll() // what was completed before is not lost
    tenant.fail(broken)
    this.#listeners.broke?.(broken)
  }

  #diagnose(queue: QueueControl): AccelError | undefined {
    const status = this.#bar.CSTS.read()
    if (status === 0xffff_ffff) {
      this.#dev.checkPresent()
      return accelError('ERR_ACCEL_IO', 'CSTS of the NPU reads all ones: it has to be recovered')
    }
    if (this.#bar.CSTS.extract(status, 'fatal')) {
      const { cause, queue: at } = this.#bar.FATAL.get()
      return accelError(
        'ERR_ACCEL_IO',
        `The NPU reports a fatal error, ${cause}, queue ${at}: it has to be recovered`,
        {
          details: { cause, queue: at },
        },
      )
    }
    const { state, cause } = queue.state
    if (state !== 'error') return undefined
    return accelError(
      'ERR_ACCEL_IO',
      `NPU queue ${queue.index} is in error, ${cause}: it has to be recovered`,
      { details: { cause } },
    )
  }

  async #close(tenant: Tenant): Promise<void> {
    await this.#recovering?.catch(() => {}) // who asked for it gets the error
    await tenant.settled()
    const { control, store } = tenant
    const { signal } = this.#dev
    if (this.#tenants[control.index] !== tenant) return
    // A client may break its queue as it likes: that one is stopped (5.6), and nobody else is to lose by it.
    const mayStop = tenant.failure === undefined || tenant instanceof UserTenant
    const stopped = control.off || (mayStop && (await this.#stopped(tenant)))
    const ended = tenant.end(accelError('ERR_ACCEL_CLOSED', 'The NPU context was closed'))
    if (!stopped) {
      // Of a broken queue nothing says that its descriptors have ended: only a reset takes the memory from the device.
      this.#put(control.index, undefined)
      if (!signal.aborted)
        await this.recover().catch((error) => {
          if (!signal.aborted) throw error
        })
    }
    await ended
    if (stopped) this.#put(control.index, undefined)
    // A device that goes takes its memory with it, once it was brought to rest.
    else if (signal.aborted) {
      if (tenant instanceof UserTenant) {
        throw accelError(
          'ERR_ACCEL_NO_DEVICE',
          `NPU queue ${control.index} did not stop before its device went`,
        )
      }
      return
    }
    store.destroy()
    control.destroy()
  }

  #handleVector(vector: number): void {
    this.#irqs!.handle(vector, () => this.#fired(vector))
  }

  /** Stops a queue; false where the device does not do so, or answers what cannot be. */
  async #stopped(tenant: Tenant): Promise<boolean> {
    try {
      if (this.fatal !== undefined) return false
      await tenant.control.stop(() => {
        if (tenant instanceof LocalTenant) tenant.context.queue.poll()
      })
      return true
    } catch (error) {
      if (!isAccelError(error)) throw error
      return false
    }
  }

  async #enable(): Promise<void> {
    const bar = this.#bar
    if (bar.CC.get().enable || bar.CSTS.get().ready) await this.#disable()
    bar.CC.write({ enable: true })
    await this.#ready(true)
    if (this.#irqs === undefined) return
    bar.EVENTS.clear({ fatal: true, queue: true })
    bar.EVENTS_ENABLE.write({ fatal: true, queue: true })
    if (this.irqMode === 'intx') bar.INTX_ENABLE.write(ALL_VECTORS)
  }

  async #disable(): Promise<void> {
    this.#bar.CC.write({})
    await this.#ready(false)
  }

  async #ready(wanted: boolean): Promise<void> {
    await poll(
      () => this.#bar.CSTS.get().ready,
      (ready) => ready === wanted,
      { timeoutMs: this.capabilities.readyTimeoutMs, what: `CSTS.RDY = ${Number(wanted)} of the NPU` },
    )
  }

  #failAll(error: AccelError): void {
    for (const tenant of this.#tenants) tenant?.fail(error)
  }

  /** Before the device is released: nothing of it may reach memory any more. */
  async #shutDown(): Promise<void> {
    this.#failAll(accelError('ERR_ACCEL_NO_DEVICE', 'The NPU was released by its driver'))
    clearInterval(this.#watch)
    this.#bar.EVENTS_ENABLE.write({})
    this.#bar.INTX_ENABLE.write(0)
    await this.#disable()
  }
}

async function allocVectors(dev: Device, mode: IrqMode): Promise<IrqVectors | undefined> {
  if (mode === 'poll') return undefined
  if (mode !== 'intx') {
    try {
      return await dev.allocIrqVectors({ min: 2, max: 17, types: ['msix'] })
    } catch (error) {
      if (mode === 'msix' || !isAccelError(error, 'ERR_ACCEL_UNSUPPORTED')) throw error
    }
  }
  try {
    return await dev.allocIrqVectors({ min: 1, max: 1, types: ['intx'] })
  } catch (error) {
    if (mode === 'intx' || !isAccelError(error, 'ERR_ACCEL_UNSUPPORTED')) throw error
    return undefined
  }
}

function onAbort(signal: AbortSignal, listener: (reason: AccelError) => void): () => void {
  const aborted = () => listener(signal.reason as AccelError)
  signal.addEventListener('abort', aborted)
  return () => signal.removeEventListener('abort', aborted)
}
