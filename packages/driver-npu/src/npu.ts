import { type Device, type IrqVectors, type Mmio, poll } from '@uaccel/core'
import { type DmaDomain, RangeAllocator } from '@uaccel/memory'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { type Card, ContextMemory } from './buffers.js'
import { type ContextHost, type ContextOptions, NpuContext } from './context.js'
import { type NpuBar, NpuQueue } from './queue.js'
import { NpuRegisters } from './registers.js'

/** BARs: docs/devices/npu.md, section 2. */
const BAR = { registers: 0, doorbells: 1, card: 2 } as const
/** `ID`, 4.1.1, and the version that this driver was written for. */
const ID = 0x3155504e
const MAJOR = 1
/** Bits of INTX_ENABLE: one for each vector. */
const ALL_VECTORS = 0x1ffff

/** How the device says that work is done. `auto` takes the first of the others that there is. */
export type IrqMode = 'auto' | 'msix' | 'intx' | 'poll'

export interface NpuStartOptions {
  readonly irq?: IrqMode
}

/** What the device can do (4.1). */
export interface NpuCapabilities {
  readonly version: string
  readonly queues: number
  readonly windows: number
  readonly minRingEntries: number
  readonly maxRingEntries: number
  readonly maxDimension: number
  readonly maxElements: number
  readonly maxMacs: number
  /** Bit n: opcode n. */
  readonly opcodes: bigint
  /** Bit n: data type n. */
  readonly dataTypes: number
  readonly cardBytes: number
  readonly clockKhz: number
  readonly readyTimeoutMs: number
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
  readonly #contexts: (NpuContext | undefined)[]
  #recovering: Promise<void> | undefined

  private constructor(
    dev: Device,
    bar: NpuBar,
    irqs: IrqVectors | undefined,
    doorbells: Mmio,
    cardMemory: Mmio,
  ) {
    this.#dev = dev
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
    this.#contexts = new Array(this.capabilities.queues).fill(undefined)
  }

  /**
   * Brings the device up: sections 12 of the specification, "Initialise". What was taken is released when the device is.
   * Errors: `ERR_ACCEL_UNSUPPORTED` for another device, `ERR_ACCEL_VERSION`, `ERR_ACCEL_TIMEOUT` where it does not get ready.
   */
  static async start(dev: Device, { irq = 'auto' }: NpuStartOptions = {}): Promise<Npu> {
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
    const npu = new Npu(dev, bar, irqs, await dev.mapMemory(BAR.doorbells), await dev.mapMemory(BAR.card))
    npu.#handleInterrupts()
    const forgetLost = onAbort(dev.signal, (reason) => npu.#failAll(reason))
    dev.defer(forgetLost)
    dev.defer(() => npu.#shutDown())
    await npu.#enable()
    return npu
  }

  /** Makes a context: a queue and memory of its own. `ERR_ACCEL_BUSY` where all queues are in use. */
  async createContext({ ringEntries = 256, cardBytes = 0 }: ContextOptions = {}): Promise<NpuContext> {
    const { minRingEntries, maxRingEntries, windows, queues } = this.capabilities
    await this.#recovering
    const entriesLog2 = Math.log2(ringEntries)
    if (!Number.isInteger(entriesLog2) || ringEntries < minRingEntries || ringEntries > maxRingEntries) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `A ring of ${ringEntries} entries: wanted a power of two in ${minRingEntries}..${maxRingEntries}`,
      )
    }
    const index = this.#contexts.indexOf(undefined)
    if (index < 0)
      throw accelError('ERR_ACCEL_BUSY', `All ${queues} queues of the NPU are in use: close a context first`)
    const queue = new NpuQueue(index, this.#bar, this.#doorbells, this.#dma, entriesLog2)
    let memory: ContextMemory | undefined
    try {
      memory = new ContextMemory(
        this.#dma,
        this.#card,
        cardBytes,
        windows,
        (at, window) => queue.allow(at, window),
        () => context.inFlight > 0 || context.failure !== undefined,
      )
      const context = new NpuContext(queue, memory, this.#host)
      this.#contexts[index] = context
      await this.#startQueue(context)
      return context
    } catch (error) {
      this.#contexts[index] = undefined
      memory?.destroy()
      queue.destroy()
      throw error
    }
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
    await this.#enable()
    for (const context of this.#contexts) {
      if (context === undefined) continue
      await this.#startQueue(context)
      context.revive()
    }
  }

  /** Opens exactly the windows of the context's memory, then starts its queue. */
  async #startQueue({ queue, memory }: NpuContext): Promise<void> {
    for (let at = 0; at < this.capabilities.windows; at++) queue.allow(at)
    for (const [at, window] of memory.windows()) queue.allow(at, window)
    await queue.start(this.#vectorOf(queue.index), this.#dev.signal)
  }

  get #host(): ContextHost {
    return {
      interrupts: this.irqMode !== 'poll',
      diagnose: (queue) => this.#diagnose(queue),
      heartbeat: () => this.#bar.HEARTBEAT.read(),
      close: (context) => this.#close(context),
    }
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
    for (let vector = 0; vector < irqs.count; vector++) irqs.handle(vector, () => this.#fired(vector))
  }

  #fired(vector: number): void {
    if (vector === 0) {
      this.#handleEvents()
      return
    }
    for (let queue = 0; queue < this.#contexts.length; queue++) {
      if (this.#contexts[queue] !== undefined && this.#vectorOf(queue) === vector)
        this.#contexts[queue]!.poll()
    }
  }

  #handleEvents(): void {
    const events = this.#bar.EVENTS.read()
    this.#bar.EVENTS.clear(events)
    this.#bar.QUEUE_EVENTS.read()
    for (const context of this.#contexts) {
      if (context === undefined || context.failure !== undefined) continue
      const broken = this.#diagnose(context.queue)
      if (broken === undefined) continue
      context.poll() // what was completed before is not lost
      context.fail(broken)
    }
  }

  #diagnose(queue: NpuQueue): AccelError | undefined {
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

  async #close(context: NpuContext): Promise<void> {
    await this.#recovering?.catch(() => {}) // who asked for it gets the error
    const { index } = context.queue
    if (this.#contexts[index] !== context) return
    const stopped = context.failure === undefined && (await this.#stopped(context.queue))
    context.fail(accelError('ERR_ACCEL_CLOSED', 'The NPU context was closed'))
    this.#contexts[index] = undefined
    // Of a broken queue nothing says that its descriptors have ended: only a reset takes the memory from the device.
    if (!stopped) {
      // A device that is about to be released is only stopped. What is not there touches no memory.
      const { signal } = this.#dev
      await (signal.aborted ? this.#disable() : this.recover()).catch((error) => {
        if (!signal.aborted) throw error
      })
    }
    context.memory.destroy()
    context.queue.destroy()
  }

  /** Stops a queue; false where the device does not do so, or answers what cannot be. */
  async #stopped(queue: NpuQueue): Promise<boolean> {
    try {
      await queue.stop()
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
    for (const context of this.#contexts) context?.fail(error)
  }

  /** Before the device is released: nothing of it may reach memory any more. */
  async #shutDown(): Promise<void> {
    this.#failAll(accelError('ERR_ACCEL_NO_DEVICE', 'The NPU was released by its driver'))
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

function readCapabilities(bar: NpuBar): NpuCapabilities {
  const { major, minor, patch } = bar.VERSION.get()
  const { queues, windows, readyTimeoutMs } = bar.CAP0.get()
  const limits = bar.CAP1.get()
  return {
    version: `${major}.${minor}.${patch}`,
    // Both are of 8 bits; this version of the register map has room for so many.
    queues: Math.min(queues, bar.QUEUE.length),
    windows: Math.min(windows, bar.QUEUE[0].WINDOW.length),
    minRingEntries: 2 ** limits.minEntriesLog2,
    maxRingEntries: 2 ** limits.maxEntriesLog2,
    maxDimension: bar.MAX_DIM.read(),
    maxElements: 2 ** limits.maxElementsLog2,
    maxMacs: 2 ** limits.maxMacsLog2,
    opcodes: (BigInt(bar.OPCODES_HI.read()) << 32n) | BigInt(bar.OPCODES_LO.read()),
    dataTypes: bar.DTYPES.read(),
    cardBytes: bar.LMEM_SIZE_LO.read() + bar.LMEM_SIZE_HI.read() * 2 ** 32,
    clockKhz: bar.CLOCK_KHZ.read(),
    readyTimeoutMs,
  }
}
