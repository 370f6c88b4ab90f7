import type { QueueRequest, UserQueue } from '@uaccel/accel'
import { type Device, poll } from '@uaccel/core'
import { RangeAllocator } from '@uaccel/memory'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { type NpuCapabilities, readCapabilities } from './capabilities.js'
import type { ContextOptions, NpuContext } from './context.js'
import { fatalError } from './diagnosis.js'
import { allocVectors, type IrqMode, NpuInterrupts } from './interrupts.js'
import type { NpuLease } from './lease.js'
import type { NpuBar } from './queue-control.js'
import { type NpuListeners, NpuQueues, type NpuQueuesParts, type ShareContextOptions } from './queues.js'
import { BAR, NpuRegisters } from './registers.js'

/** `ID`, 4.1.1, and the version that this driver was written for. */
const ID = 0x3155504e
const MAJOR = 1

export interface NpuStartOptions {
  readonly irq?: IrqMode
}

/** A queue as its registers show it (4.3). */
export interface NpuQueueState {
  readonly index: number
  /** By name; a number that the specification does not have as such. */
  readonly state: string | number
  readonly cause: string | number
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
  readonly #interrupts: NpuInterrupts
  readonly #queues: NpuQueues
  #recovering: Promise<void> | undefined

  private constructor(parts: Omit<NpuQueuesParts, 'controller'>) {
    const { dev, bar, interrupts, capabilities } = parts
    this.capabilities = capabilities
    this.irqMode = interrupts.mode
    this.#dev = dev
    this.#bar = bar
    this.#interrupts = interrupts
    this.#queues = new NpuQueues({
      ...parts,
      controller: { recovering: () => this.#recovering, recover: () => this.recover() },
    })
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
    const cardMemory = await dev.mapMemory(BAR.card)
    const capabilities = readCapabilities(bar)
    const interrupts = new NpuInterrupts(bar, irqs, capabilities.queues)
    const sizeBytes = capabilities.cardBytes
    const card = {
      base: (BigInt(bar.LMEM_BASE_HI.read()) << 32n) | BigInt(bar.LMEM_BASE_LO.read()),
      sizeBytes,
      free: new RangeAllocator([[0, sizeBytes]]),
      memory: cardMemory,
    }
    const npu = new Npu({ dev, bar, doorbells, card, capabilities, interrupts, listeners })
    const queues = npu.#queues
    interrupts.listen({ events: () => queues.examine(), completions: (queue) => queues.poll(queue) })
    const forgetLost = onAbort(dev.signal, (reason) => queues.failAll(reason))
    dev.defer(forgetLost)
    dev.defer(() => npu.#shutDown())
    await npu.#enable()
    return npu
  }

  /** Makes a context: a queue and memory of its own. `ERR_ACCEL_BUSY` where all queues are in use. */
  createContext(options: ContextOptions = {}): Promise<NpuContext> {
    return this.#queues.createContext(options)
  }

  /**
   * Makes a context for a worker thread, which opens it by `attachNpuContext(lease.token)` and then uses the device without this
   * thread. `ERR_ACCEL_UNSUPPORTED` where the doorbells, or with `cardBytes` the card, are not mapped; `ERR_ACCEL_BUSY` as for
   * {@link createContext}.
   */
  shareContext(options: ShareContextOptions = {}): Promise<NpuLease> {
    return this.#queues.shareContext(options)
  }

  /**
   * Makes a queue that a client in another process fills; its windows are open for exactly the ranges of the request.
   * `ERR_ACCEL_UNSUPPORTED` where the doorbells cannot be handed out, `ERR_ACCEL_OUT_OF_RANGE` for more ranges than a queue has windows,
   * `ERR_ACCEL_BAD_SIZE` for a payload, and as for {@link createContext}.
   */
  createUserQueue(request: QueueRequest): Promise<UserQueue> {
    return this.#queues.createUserQueue(request)
  }

  /** Queues that contexts hold. */
  get queuesInUse(): number {
    return this.#queues.inUse
  }

  /** Bytes of on-card memory that contexts hold. */
  get cardBytesInUse(): number {
    return this.#queues.cardBytesInUse
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
    return fatalError(this.#bar)
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
    this.#queues.failAll(accelError('ERR_ACCEL_IO', 'The NPU was reset while the job was under way'))
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
    this.#queues.failAll(accelError('ERR_ACCEL_IO', 'The NPU was reset while the job was under way'))
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
    this.#queues.wereReset()
    await this.#enable()
    await this.#queues.restart()
  }

  async #enable(): Promise<void> {
    const bar = this.#bar
    if (bar.CC.get().enable || bar.CSTS.get().ready) await this.#disable()
    bar.CC.write({ enable: true })
    await this.#ready(true)
    this.#interrupts.enable()
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

  /** Before the device is released: nothing of it may reach memory any more. */
  async #shutDown(): Promise<void> {
    this.#queues.failAll(accelError('ERR_ACCEL_NO_DEVICE', 'The NPU was released by its driver'))
    this.#queues.stopWatching()
    this.#interrupts.disable()
    await this.#disable()
  }
}

function onAbort(signal: AbortSignal, listener: (reason: AccelError) => void): () => void {
  const aborted = () => listener(signal.reason as AccelError)
  signal.addEventListener('abort', aborted)
  return () => signal.removeEventListener('abort', aborted)
}
