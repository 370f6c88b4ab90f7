import type { QueueRequest, UserQueue } from '@uaccel/accel'
import type { Device, DeviceTap, Mmio } from '@uaccel/core'
import type { DmaDomain } from '@uaccel/memory'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { ContextMemory } from './buffers.js'
import type { NpuCapabilities } from './capabilities.js'
import { type ContextHost, type ContextOptions, NpuContext } from './context.js'
import { diagnose, fatalError } from './diagnosis.js'
import type { NpuInterrupts } from './interrupts.js'
import { NpuLease } from './lease.js'
import { lend } from './lend.js'
import { NpuQueue, queueLayout } from './queue.js'
import { type NpuBar, QueueControl } from './queue-control.js'
import { BAR, DOORBELL_PAGE_BYTES } from './registers.js'
import { type Card, ContextStore } from './store.js'
import { LocalTenant, type Tenant, type TenantStore } from './tenant.js'
import { npuQueue } from './uapi.js'
import { ClientStore, UserTenant } from './user-tenant.js'

/** How often the queues of worker threads and clients are looked at, who cannot read the registers themselves: a fatal error may be silent. */
const WATCH_MS = 100
const DEFAULT_ENTRIES = 256
const DEFAULT_MEMORY_BYTES = 4 * 1024 * 1024

/** What an NPU tells of itself, besides to those who wait for a job. */
export interface NpuListeners {
  /** A queue was taken or given back. */
  queues?(): void
  /** The controller, or a queue, is broken: its jobs end with this error. */
  broke?(error: AccelError): void
}

/** How a context for a worker thread is made. */
export interface ShareContextOptions extends ContextOptions {
  /** Host memory for its buffers, in bytes, which does not grow. Default 4 MiB. */
  readonly memoryBytes?: number
}

/** What the queues need of the controller. */
export interface Controller {
  /** Resolves when the recovery that is under way has ended; undefined where none is. */
  recovering(): Promise<void> | undefined
  /** See `Npu.recover`. */
  recover(): Promise<void>
}

/** What the queues of an NPU are made of. */
export interface NpuQueuesParts {
  readonly dev: Device
  readonly bar: NpuBar
  readonly doorbells: Mmio
  readonly card: Card
  readonly capabilities: NpuCapabilities
  readonly interrupts: NpuInterrupts
  readonly listeners: NpuListeners
  readonly controller: Controller
}

/** The queues of an NPU, and who holds them. */
export class NpuQueues {
  readonly #dev: Device
  readonly #bar: NpuBar
  readonly #dma: DmaDomain
  readonly #doorbells: Mmio
  readonly #card: Card
  readonly #capabilities: NpuCapabilities
  readonly #interrupts: NpuInterrupts
  readonly #listeners: NpuListeners
  readonly #controller: Controller
  readonly #tenants: (Tenant | undefined)[]
  #watch: NodeJS.Timeout | undefined
  #tap: DeviceTap | undefined

  constructor(parts: NpuQueuesParts) {
    this.#dev = parts.dev
    this.#bar = parts.bar
    this.#dma = parts.dev.dma
    this.#doorbells = parts.doorbells
    this.#card = parts.card
    this.#capabilities = parts.capabilities
    this.#interrupts = parts.interrupts
    this.#listeners = parts.listeners
    this.#controller = parts.controller
    this.#tenants = new Array(parts.capabilities.queues).fill(undefined)
    // Queues of workers and clients are in other threads and processes.
    parts.dev.onFollow((tap) => {
      this.#tap = tap
      for (const tenant of this.#tenants) if (tenant instanceof LocalTenant) tenant.context.queue.follow(tap)
    })
  }

  /** See `Npu.createContext`. */
  async createContext(options: ContextOptions): Promise<NpuContext> {
    await this.#controller.recovering()
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
    if (this.#tap !== undefined) queue.follow(this.#tap)
    const memory = new ContextMemory(store, () => context.inFlight > 0 || context.failure !== undefined)
    const close = () => this.#close(tenant)
    const context: NpuContext = new NpuContext(queue, memory, this.#hostOf(control, close))
    const tenant = new LocalTenant(control, store, context)
    try {
      this.#interrupts.handleQueue(control.index) // a worker may have had its vector
      await take(tenant)
    } catch (error) {
      await undo()
      throw error
    }
    return context
  }

  /** See `Npu.shareContext`. */
  async shareContext(options: ShareContextOptions): Promise<NpuLease> {
    const { memoryBytes = DEFAULT_MEMORY_BYTES } = options
    if (!Number.isSafeInteger(memoryBytes) || memoryBytes <= 0) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `memoryBytes of ${memoryBytes}: wanted a positive whole number of bytes`,
      )
    }
    await this.#controller.recovering()
    const { control, store, take, undo } = this.#takeQueue(
      options.ringEntries ?? DEFAULT_ENTRIES,
      true,
      (control) => this.#storeFor(control, options),
    )
    try {
      const { index } = control
      const share = this.#dev.share()
      try {
        const own = this.#interrupts.ownOf(index)
        // A vector that queues share fires here, for all of them.
        if (own === undefined) this.#interrupts.handleQueue(index)
        const parts = lend(share, control, store, memoryBytes, own ?? this.#interrupts.mode !== 'poll')
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

  /** See `Npu.createUserQueue`. */
  async createUserQueue(request: QueueRequest): Promise<UserQueue> {
    const { entries, ranges, payload } = request
    const { windows } = this.#capabilities
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
    await this.#controller.recovering()
    const { control, store, take, undo } = this.#takeQueue(entries, true, () => new ClientStore(ranges))
    const { index, entriesLog2, memory } = control
    try {
      const doorbell = { offset: DOORBELL_PAGE_BYTES * index, sizeBytes: DOORBELL_PAGE_BYTES }
      const file = this.#dev.barFile(BAR.doorbells, doorbell)
      const tenant = new UserTenant(control, store, request.notify)
      this.#interrupts.handleQueue(index)
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
          interrupts: this.#interrupts.mode !== 'poll',
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
  get inUse(): number {
    return this.#tenants.filter((tenant) => tenant !== undefined).length
  }

  /** Bytes of on-card memory that contexts hold. */
  get cardBytesInUse(): number {
    return this.#tenants.reduce((sum, tenant) => sum + (tenant?.store.card?.sizeBytes ?? 0), 0)
  }

  /** Ends the jobs of all. */
  failAll(error: AccelError): void {
    for (const tenant of this.#tenants) tenant?.fail(error)
  }

  /** The queue's vector fired. */
  poll(queue: number): void {
    this.#tenants[queue]?.poll()
  }

  /** The controller says that something happened: ends the jobs of the queues that are broken. */
  examine(): void {
    for (const tenant of this.#tenants) if (tenant !== undefined) this.#failIfBroken(tenant)
  }

  /** The controller was reset. */
  wereReset(): void {
    for (const tenant of this.#tenants) tenant?.control.wasReset()
  }

  /** Starts the queues anew, after a reset. */
  async restart(): Promise<void> {
    for (const tenant of this.#tenants) await tenant?.restart(() => this.#startQueue(tenant))
  }

  /** Before the device is released. */
  stopWatching(): void {
    clearInterval(this.#watch)
  }

  /** Takes a free queue and memory for it; `take` starts it for its user, `undo` gives all back. */
  #takeQueue<S extends TenantStore>(
    ringEntries: number,
    separate: boolean,
    makeStore: (control: QueueControl) => S,
  ) {
    const { minRingEntries, maxRingEntries, queues } = this.#capabilities
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
        await this.#controller.recover()
      }
      store.destroy()
      control.destroy()
    }
    return { control, store, take, undo }
  }

  #storeFor(control: QueueControl, { cardBytes = 0 }: ContextOptions): ContextStore {
    return new ContextStore(this.#dma, this.#card, cardBytes, this.#capabilities.windows, (at, window) =>
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
    for (let at = 0; at < this.#capabilities.windows; at++) control.allow(at)
    for (const [at, window] of store.windows()) control.allow(at, window)
    await control.start(this.#interrupts.vectorOf(control.index), this.#dev.signal)
  }

  #hostOf(control: QueueControl, close: () => Promise<void>): ContextHost {
    return {
      interrupts: this.#interrupts.mode !== 'poll',
      mapped: this.#doorbells.mapped,
      changed: false,
      sync() {},
      irqCounts: () => this.#interrupts.countsOf(control.index),
      diagnose: () => {
        const broken = diagnose(this.#dev, this.#bar, control)
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
    if (this.#controller.recovering() !== undefined || this.#dev.signal.aborted) return
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

  #failIfBroken(tenant: Tenant): void {
    if (tenant.failure !== undefined || tenant.control.off) return
    const broken = diagnose(this.#dev, this.#bar, tenant.control)
    if (broken === undefined) return
    tenant.poll() // what was completed before is not lost
    tenant.fail(broken)
    this.#listeners.broke?.(broken)
  }

  async #close(tenant: Tenant): Promise<void> {
    await this.#controller.recovering()?.catch(() => {}) // who asked for it gets the error
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
        await this.#controller.recover().catch((error) => {
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

  /** Stops a queue; false where the device does not do so, or answers what cannot be. */
  async #stopped(tenant: Tenant): Promise<boolean> {
    try {
      if (fatalError(this.#bar) !== undefined) return false
      await tenant.control.stop(() => {
        if (tenant instanceof LocalTenant) tenant.context.queue.poll()
      })
      return true
    } catch (error) {
      if (!isAccelError(error)) throw error
      return false
    }
  }
}
