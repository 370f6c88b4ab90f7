import { type Bar, type Device, type IrqVectors, type Mmio, poll } from '@uaccel/core'
import type { DmaRegion } from '@uaccel/memory'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { AdminQueue } from './admin.js'
import { Admin, COMMAND_BYTES, COMPLETION_BYTES, Feature, LogPage, PAGE_BYTES } from './command.js'
import { type ControllerIdentity, HEALTH_BYTES, type NamespaceIdentity } from './identify.js'
import { createPair, makePair, maxEntries, type Pair } from './pair.js'
import type { NvmeQueue } from './queue.js'
import { DOORBELL_BYTES, DOORBELLS_OFFSET, NvmeRegisters } from './registers.js'

export type NvmeBar = Bar<typeof NvmeRegisters>
/** How completions are learnt of. */
export type IrqMode = 'msix' | 'msi' | 'intx' | 'poll'

/** How a controller is brought up. */
export interface NvmeStartOptions {
  /** I/O queue pairs, as far as the controller has so many. Default 4. */
  readonly queues?: number
  /** Entries of each I/O queue, a power of two, as far as the controller takes so many. Default 128. */
  readonly queueEntries?: number
  /** Default `auto`: MSI-X, else MSI, else INTx, else polled. */
  readonly irq?: IrqMode | 'auto'
  /** After so long a command is aborted, and after as long again the controller is reset. Default 10,000. */
  readonly timeoutMs?: number
}

/** What happened that no command is told of. */
export interface NvmeListeners {
  /** The controller had to be reset, or could not be: commands under way ended with an error. */
  broke?(error: AccelError): void
  /** An asynchronous event (NVMe base 1.4, 5.2), its log page read. */
  event?(event: NvmeEvent): void
}

/** What the controller reported by itself. */
export interface NvmeEvent {
  readonly type: 'error' | 'health' | 'notice' | 'other'
  /** Its code within the type (figures 146 to 149). */
  readonly info: number
  readonly logPage: number
}

const ADMIN_ENTRIES = 32
const DEFAULT_QUEUES = 4
const DEFAULT_ENTRIES = 128
const DEFAULT_TIMEOUT_MS = 10_000
/** Unit of CAP.TO (NVMe base 1.4, 3.1.1). */
const READY_UNIT_MS = 500
/** Nothing says how long a shutdown takes where RTD3E is 0 (7.6.2). */
const SHUTDOWN_MS = 5_000
/** The watchdog looks so often in the time that a command has. */
const TURNS = 4
const ALL_ONES = 0xffff_ffff
/** Log pages that an event names, by the bytes that are read of each: reading them is what allows the next event (5.2). */
const EVENT_LOG_BYTES: Readonly<Record<number, number>> = {
  [LogPage.errors]: 64,
  [LogPage.health]: HEALTH_BYTES,
  [LogPage.changedNamespaces]: PAGE_BYTES,
}
const EVENT_TYPES = { 0: 'error', 1: 'health', 2: 'notice' } as const
/** CDW11 of feature Asynchronous Event Configuration (5.21.1.11): all health warnings; bit 8, changed namespaces. */
const HEALTH_WARNINGS = 0x1f
const NAMESPACE_NOTICES = 0x100

/** An NVMe controller that was brought up. All that it takes comes from its `Device` and is released with it. */
export class Nvme {
  readonly irqMode: IrqMode
  readonly timeoutMs: number
  /** Admin commands: identification, log pages, raw ones. */
  readonly admin: AdminQueue
  readonly #dev: Device
  readonly #bar: NvmeBar
  readonly #irqs: IrqVectors | undefined
  readonly #doorbells: Mmio
  readonly #listeners: NvmeListeners
  readonly #readyTimeoutMs: number
  readonly #doorbellStride: number
  readonly #pair: Pair
  #io: Pair[] = []
  #identity!: ControllerIdentity
  #namespaces: readonly NamespaceIdentity[] = []
  /** The controller takes commands. */
  #up = false
  /** Its bringing up has ended. */
  #settled = false
  #dead: AccelError | undefined
  #recovering: Promise<void> | undefined
  #watchdog: NodeJS.Timeout | undefined
  #spin: NodeJS.Immediate | undefined
  #eventsWanted = false
  #next = 0
  #room: () => void = () => {}
  /** Controller resets since it was brought up. */
  resets = 0

  private constructor(
    dev: Device,
    bar: NvmeBar,
    irqs: IrqVectors | undefined,
    doorbells: Mmio,
    timeoutMs: number,
    listeners: NvmeListeners,
  ) {
    this.#dev = dev
    this.#bar = bar
    this.#irqs = irqs
    this.#doorbells = doorbells
    this.#listeners = listeners
    this.timeoutMs = timeoutMs
    this.irqMode = irqs?.type ?? 'poll'
    const cap = bar.CAP.get()
    this.#readyTimeoutMs = (cap.readyTimeout + 1) * READY_UNIT_MS
    this.#doorbellStride = DOORBELL_BYTES << cap.doorbellStride
    this.#pair = this.#makePair(0, Math.min(ADMIN_ENTRIES, maxEntries(cap.maxQueueEntries)), 0)
    this.admin = new AdminQueue(this.#pair.queue, dev.dma, {
      checkUp: () => this.#checkListens(),
      kick: (queue) => this.kick(queue),
    })
  }

  /**
   * Brings the controller up (7.6.1): reset, admin queue, identification, I/O queues, events.
   * Errors: `ERR_ACCEL_UNSUPPORTED` for what is no NVM controller with pages of 4 KiB, `ERR_ACCEL_TIMEOUT` where it does not get ready.
   */
  static async start(
    dev: Device,
    {
      queues = DEFAULT_QUEUES,
      queueEntries = DEFAULT_ENTRIES,
      irq = 'auto',
      timeoutMs = DEFAULT_TIMEOUT_MS,
    }: NvmeStartOptions = {},
    listeners: NvmeListeners = {},
  ): Promise<Nvme> {
    checkOptions(queues, queueEntries, timeoutMs)
    await dev.enable({ busMaster: true })
    const bar = await dev.mapBar(0, NvmeRegisters)
    const cap = bar.CAP.get()
    if (bar.VS.read() === ALL_ONES) dev.checkPresent()
    if (!cap.nvmCommandSet || cap.minPageSize !== 0) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `The controller was to have the NVM command set and pages of 4 KiB; CAP reads 0x${bar.CAP.read().toString(16)}`,
      )
    }
    const stride = DOORBELL_BYTES << cap.doorbellStride
    const room = Math.floor((dev.regions[0].sizeBytes - DOORBELLS_OFFSET) / (2 * stride))
    const pairs = Math.min(queues + 1, room)
    if (pairs < 2)
      throw accelError('ERR_ACCEL_UNSUPPORTED', `BAR 0 has doorbells for ${room} queue pairs, wanted 2`)
    const doorbells = await dev.mapMemory(0, { offset: DOORBELLS_OFFSET, sizeBytes: pairs * 2 * stride })
    const irqs = await allocVectors(dev, irq, pairs)
    const nvme = new Nvme(dev, bar, irqs, doorbells, timeoutMs, listeners)
    dev.defer(() => nvme.#shutDown())
    await nvme.#disable()
    nvme.#handleInterrupts()
    nvme.#watchdog = setInterval(() => nvme.#watch(), timeoutMs / TURNS).unref()
    await nvme.#bringUp(pairs - 1, queueEntries)
    return nvme
  }

  /** What the controller says of itself. */
  get identity(): ControllerIdentity {
    return this.#identity
  }

  /** The namespaces, as of the start or the last notice of a change. */
  get namespaces(): readonly NamespaceIdentity[] {
    return this.#namespaces
  }

  /** The I/O queues. Whoever submits to one itself rings and, with `irqMode` poll or for speed, polls it. */
  get queues(): readonly NvmeQueue[] {
    return this.#io.map(({ queue }) => queue)
  }

  /** A namespace that can be read and written. `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_UNSUPPORTED`. */
  namespace(nsid: number): NamespaceIdentity {
    const found = this.#namespaces.find((each) => each.nsid === nsid)
    if (found === undefined) {
      const there = this.#namespaces.map((each) => each.nsid).join(', ') || 'none'
      throw accelError('ERR_ACCEL_NOT_FOUND', `There is no namespace ${nsid}; active are ${there}`)
    }
    if (found.usable) return found
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `Namespace ${nsid} has ${found.blocks} blocks of ${found.blockBytes} bytes with ${found.metadataBytes} of metadata: wanted blocks of 512 to 65,536 bytes without`,
    )
  }

  /** Why the controller has to be reset; `undefined` where it works. */
  get broken(): string | undefined {
    if (this.#dead !== undefined) return this.#dead.message
    if (this.#recovering !== undefined) return 'it is being reset'
    return this.#bar.CSTS.get().fatal ? 'CSTS.CFS says that it failed' : undefined
  }

  /** Resolves when no reset is under way. `ERR_ACCEL_WEDGED` where the controller did not come back from one. */
  async ready(): Promise<void> {
    await this.#recovering?.catch(() => {}) // who asked for it gets the error
    if (this.#dead !== undefined) throw this.#dead
  }

  /** Calls `listener` when there is room in the queues, or a reset has ended: whoever waited for it can go on. */
  onRoom(listener: () => void): void {
    this.#room = listener
  }

  /** Throws where nothing is to be submitted: `ERR_ACCEL_AGAIN` during a reset, `ERR_ACCEL_WEDGED` where it did not come back from one. */
  checkUp(): void {
    if (this.#up && this.#settled) return
    throw (
      this.#dead ??
      accelError('ERR_ACCEL_AGAIN', 'The NVMe controller is being reset: try again when it is up')
    )
  }

  /** As {@link checkUp}, for the admin queue, which works before the others do. */
  #checkListens(): void {
    if (!this.#up) this.checkUp()
  }

  /** The I/O queue for the next user: one after the other. `ERR_ACCEL_AGAIN` during a reset, `ERR_ACCEL_WEDGED`. */
  pickQueue(): NvmeQueue {
    this.checkUp()
    this.#next = (this.#next + 1) % this.#io.length
    return this.#io[this.#next].queue
  }

  /** To be called after submissions to an I/O queue, in place of its `ring`: rings, and where nothing interrupts polls until all has ended. */
  kick(queue: NvmeQueue): void {
    this.#checkListens()
    queue.ring()
    if (this.#irqs === undefined) this.#spin ??= setImmediate(() => this.#spinOnce())
  }

  /** Asks the controller to abort a command (5.1); whether it can, the command's own end tells. */
  abort(queue: NvmeQueue, cid: number): void {
    if (!this.#up || !queue.abort(cid)) return
    const asked = this.admin.run({ opcode: Admin.abort, cdw10: queue.id | (cid << 16) })
    // A controller takes few at once, and may not find the command: then its time, or a reset, ends it.
    asked.catch(() => {})
  }

  /** Memory that an I/O command of the driver's own names, such as a list of ranges. Free it when the command has ended. */
  allocate(sizeBytes: number): DmaRegion {
    return this.#dev.dma.alloc(sizeBytes, { name: 'NVMe command data' })
  }

  /** Reads anew which namespaces there are. */
  async identifyNamespaces(): Promise<void> {
    this.#namespaces = await this.admin.namespaces()
  }

  /**
   * Brings the controller to idle where commands that were to end did not: by a controller reset, else by a function reset. Other commands
   * under way end with `ERR_ACCEL_AGAIN`. Errors: `ERR_ACCEL_WEDGED`.
   */
  async recover(): Promise<void> {
    await this.#recovering?.catch(() => {})
    const pairs = [this.#pair, ...this.#io]
    if (this.#up && !pairs.some(({ queue }) => queue.stuck)) return
    await this.reset(accelError('ERR_ACCEL_IO', 'commands were given up and did not end'))
  }

  /** Resets the controller and brings it up again; commands under way end with `ERR_ACCEL_AGAIN`. Errors: `ERR_ACCEL_WEDGED`. */
  reset(why: AccelError): Promise<void> {
    this.#recovering ??= this.#recover(why).finally(() => {
      this.#recovering = undefined
      this.#room()
    })
    return this.#recovering
  }

  /** Before somebody else resets the device: stops the controller where that still listens, and ends what was under way. */
  async beforeReset(): Promise<void> {
    this.#up = false
    try {
      await this.#disable()
      this.#failAll(
        accelError('ERR_ACCEL_AGAIN', 'The NVMe controller was reset while the command was under way'),
      )
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_TIMEOUT')) throw error // the reset is what helps
    }
  }

  /** After somebody else has reset the device: brings it up again. */
  async afterReset(): Promise<void> {
    this.#failAll(
      accelError('ERR_ACCEL_AGAIN', 'The NVMe controller was reset while the command was under way'),
    )
    await this.#bringBack()
    this.#room()
  }

  async #recover(why: AccelError): Promise<void> {
    this.#dev.checkPresent()
    this.#up = false
    this.resets++
    try {
      this.#poll(true) // what was acknowledged is not lost
      try {
        await this.#disable()
      } catch (error) {
        if (!isAccelError(error, 'ERR_ACCEL_TIMEOUT') || !this.#dev.resettable) throw error
        await this.#dev.reset()
      }
      this.#failAll(why)
      await this.#bringBack()
    } catch (cause) {
      // Nothing says that it left the memory alone: whoever waits is told so.
      const dead = accelError(
        'ERR_ACCEL_WEDGED',
        `The NVMe controller did not come back from a reset (${why.message})`,
        {
          cause,
          details: { idle: false },
        },
      )
      this.#dead = dead
      this.#failAll(dead)
      throw dead
    }
  }

  async #bringBack(): Promise<void> {
    const [first] = this.#io
    await this.#bringUp(this.#io.length, first?.entries ?? DEFAULT_ENTRIES)
    this.#dead = undefined
  }

  async #bringUp(queues: number, entries: number): Promise<void> {
    this.#settled = false
    const { submissions, completions, entries: adminEntries } = this.#pair
    const bar = this.#bar
    bar.AQA.write({ submissionEntries: adminEntries - 1, completionEntries: adminEntries - 1 })
    bar.ASQ.write(submissions.iova)
    bar.ACQ.write(completions.iova)
    bar.CC.write({
      enable: true,
      submissionEntryLog2: Math.log2(COMMAND_BYTES),
      completionEntryLog2: Math.log2(COMPLETION_BYTES),
    })
    await this.#waitReady(true)
    this.#up = true
    try {
      await this.#configure(queues, entries)
      this.#settled = true
    } catch (error) {
      this.#up = false
      throw error
    }
  }

  async #configure(wanted: number, wantedEntries: number): Promise<void> {
    const found = await this.admin.controller()
    const [first] = this.#io
    // The lists of queues that are there were made for so much.
    const most = first === undefined ? found.maxTransferBytes : this.#identity.maxTransferBytes
    this.#identity = { ...found, maxTransferBytes: Math.min(found.maxTransferBytes, most) }
    const { maxQueueEntries } = this.#bar.CAP.get()
    const entries = Math.min(wantedEntries, maxEntries(maxQueueEntries))
    const asked = (wanted - 1) | ((wanted - 1) << 16)
    const got = await this.admin.run({
      opcode: Admin.setFeatures,
      cdw10: Feature.numberOfQueues,
      cdw11: asked,
    })
    const count = Math.min(wanted, (got & 0xffff) + 1, (got >>> 16) + 1)
    // They are kept over resets: users hold them.
    while (this.#io.length < count) {
      this.#io.push(this.#makePair(this.#io.length + 1, entries, this.#identity.maxTransferBytes))
    }
    if (count < this.#io.length) {
      throw accelError(
        'ERR_ACCEL_IO',
        `The controller had ${this.#io.length} I/O queues and offers ${count} after a reset`,
      )
    }
    for (const pair of this.#io) await createPair(this.admin, pair, this.#vectorOf(pair.queue.id))
    await this.identifyNamespaces()
    await this.admin.run({
      opcode: Admin.setFeatures,
      cdw10: Feature.asyncEvents,
      cdw11: HEALTH_WARNINGS | (this.#identity.namespaceNotices ? NAMESPACE_NOTICES : 0),
    })
    this.#requestEvent()
  }

  #makePair(id: number, entries: number, maxTransferBytes: number): Pair {
    return makePair(this.#dev.dma, this.#doorbells, this.#doorbellStride, { id, entries, maxTransferBytes })
  }

  /** One request for an event is always with the controller (5.2); the next goes at a turn of the watchdog, however many events there are. */
  #requestEvent(): void {
    this.#eventsWanted = false
    this.admin.run({ opcode: Admin.asyncEventRequest }, { endless: true }).then(
      (result) => this.#tellEvent(result),
      () => {}, // a reset ended it, and makes another
    )
  }

  async #tellEvent(result: number): Promise<void> {
    const type = EVENT_TYPES[(result & 7) as keyof typeof EVENT_TYPES] ?? 'other'
    const logPage = (result >>> 16) & 0xff
    try {
      const sizeBytes = EVENT_LOG_BYTES[logPage]
      if (sizeBytes !== undefined) await this.admin.logPage(logPage, sizeBytes)
      if (logPage === LogPage.changedNamespaces) await this.identifyNamespaces()
      this.#eventsWanted = true
      this.#listeners.event?.({ type, info: (result >>> 8) & 0xff, logPage })
    } catch (error) {
      this.#eventsWanted = true
      if (isAccelError(error)) this.#listeners.broke?.(error)
      else throw error
    }
  }

  #vectorOf(id: number): number | undefined {
    return this.#irqs === undefined ? undefined : id % this.#irqs.count
  }

  #handleInterrupts(): void {
    const irqs = this.#irqs
    if (irqs === undefined) return
    // INTx goes away when the completions are taken: there is nothing to acknowledge (7.5).
    for (let vector = 0; vector < irqs.count; vector++) irqs.handle(vector, () => this.#serve(vector))
  }

  #serve(vector: number): void {
    let count = 0
    try {
      if (this.#vectorOf(0) === vector) count += this.admin.queue.poll()
      for (const { queue } of this.#io) if (this.#vectorOf(queue.id) === vector) count += queue.poll()
    } catch (error) {
      this.#breaks(error)
    }
    if (count > 0) this.#room()
  }

  /** Polls all queues; what cannot be trusted is for the caller, or passed over before a reset. */
  #poll(before: boolean): number {
    let count = 0
    for (const { queue } of [this.#pair, ...this.#io]) {
      try {
        count += queue.poll()
      } catch (error) {
        if (!before) throw error
      }
    }
    return count
  }

  #spinOnce(): void {
    this.#spin = undefined
    if (!this.#up) return
    try {
      if (this.#poll(false) > 0) this.#room()
    } catch (error) {
      this.#breaks(error)
      return
    }
    const busy = this.admin.queue.busy || this.#io.some(({ queue }) => queue.busy)
    if (busy) this.#spin ??= setImmediate(() => this.#spinOnce())
  }

  /** A turn of the watchdog: looks for a dead controller, a lost interrupt, a command that is late. */
  #watch(): void {
    if (!this.#up) return
    try {
      const status = this.#bar.CSTS.read()
      if (status === ALL_ONES) this.#dev.checkPresent()
      if (this.#bar.CSTS.extract(status, 'fatal'))
        throw accelError('ERR_ACCEL_IO', 'The NVMe controller failed: CSTS.CFS is set')
      if (this.#poll(false) > 0) this.#room()
      for (const { queue } of [this.#pair, ...this.#io]) this.#endLate(queue)
      if (this.#eventsWanted) this.#requestEvent()
    } catch (error) {
      this.#breaks(error)
    }
  }

  #endLate(queue: NvmeQueue): void {
    for (const { cid, aborting } of queue.turn(TURNS)) {
      if (queue === this.admin.queue) queue.abort(cid) // only marked: nothing aborts on the queue that is stuck
      if (aborting || queue === this.admin.queue) {
        throw accelError(
          'ERR_ACCEL_TIMEOUT',
          `NVMe command ${cid} of queue ${queue.id} did not end within ${this.timeoutMs} ms, nor after it was to be aborted`,
        )
      }
      this.abort(queue, cid)
    }
  }

  /** Something that only a reset helps against. */
  #breaks(error: unknown): void {
    if (!isAccelError(error)) throw error
    if (error.code === 'ERR_ACCEL_NO_DEVICE') {
      // Of one that is not there nothing touches memory any more.
      this.#up = false
      this.#failAll(error)
      return
    }
    if (!this.#settled) {
      // Whoever brings it up waits for a command that does not end, and is told.
      this.#up = false
      this.#failAll(
        accelError('ERR_ACCEL_WEDGED', `The NVMe controller does not come up: ${error.message}`, {
          cause: error,
          details: { idle: false },
        }),
      )
      return
    }
    this.#listeners.broke?.(error)
    this.reset(error).catch((failure) => {
      if (isAccelError(failure)) this.#listeners.broke?.(failure)
      else throw failure
    })
  }

  /** The device is at rest: ends what was under way. A command that was late ends with that, all others may be repeated. */
  #failAll(why: AccelError): void {
    for (const { queue } of [this.#pair, ...this.#io]) {
      const late = new Set(queue.stuck ? queue.abortingCids : [])
      queue.fail((cid) => {
        if (why.code !== 'ERR_ACCEL_TIMEOUT' && why.code !== 'ERR_ACCEL_IO') return why
        const code = late.has(cid) ? 'ERR_ACCEL_TIMEOUT' : 'ERR_ACCEL_AGAIN'
        const advice = late.has(cid) ? '' : ': it was not acknowledged, and may be repeated'
        return accelError(
          code,
          `The NVMe controller was reset while the command was under way${advice}; ${why.message}`,
          {
            cause: why,
          },
        )
      })
    }
  }

  async #disable(): Promise<void> {
    this.#bar.CC.write({})
    await this.#waitReady(false)
  }

  async #waitReady(wanted: boolean): Promise<void> {
    const bar = this.#bar
    await poll(
      () => {
        const status = bar.CSTS.read()
        if (status === ALL_ONES) this.#dev.checkPresent()
        if (wanted && bar.CSTS.extract(status, 'fatal'))
          throw accelError('ERR_ACCEL_IO', 'The NVMe controller failed when it was enabled: CSTS.CFS is set')
        return bar.CSTS.extract(status, 'ready')
      },
      (ready) => ready === wanted,
      { timeoutMs: this.#readyTimeoutMs, what: `CSTS.RDY = ${Number(wanted)} of the NVMe controller` },
    )
  }

  /** Before the device is released: an orderly end (7.6.2), and nothing of it may reach memory any more. */
  async #shutDown(): Promise<void> {
    const wasUp = this.#up
    this.#up = false
    clearInterval(this.#watchdog)
    clearImmediate(this.#spin)
    const gone = accelError('ERR_ACCEL_NO_DEVICE', 'The NVMe controller was released by its driver')
    try {
      if (wasUp) {
        this.#poll(true)
        const cc = this.#bar.CC
        cc.update({ shutdown: 'normal' })
        await poll(
          () => this.#bar.CSTS.get().shutdown,
          (state) => state === 'complete',
          { timeoutMs: SHUTDOWN_MS, what: 'the shutdown of the NVMe controller' },
        )
      }
      await this.#disable()
    } finally {
      this.#failAll(gone)
    }
  }
}

function checkOptions(queues: number, entries: number, timeoutMs: number): void {
  const refuse = (what: string) => accelError('ERR_ACCEL_INVALID_ARGUMENT', `NVMe: ${what}`)
  if (!Number.isInteger(queues) || queues < 1 || queues > 0xffff)
    throw refuse(`${queues} I/O queues, wanted 1 to 65,535`)
  if (!Number.isInteger(Math.log2(entries)) || entries < 2 || entries > 4096)
    throw refuse(`queues of ${entries} entries, wanted a power of two from 2 to 4,096`)
  if (!(timeoutMs >= 1 && timeoutMs <= 3_600_000))
    throw refuse(`timeoutMs ${timeoutMs}, wanted 1 to 3,600,000`)
}

/** A vector for each queue pair, or as many as there are. */
async function allocVectors(
  dev: Device,
  mode: IrqMode | 'auto',
  pairs: number,
): Promise<IrqVectors | undefined> {
  if (mode === 'poll') return undefined
  try {
    return mode === 'auto'
      ? await dev.allocIrqVectors({ min: 1, max: pairs })
      : await dev.allocIrqVectors({ min: 1, max: mode === 'intx' ? 1 : pairs, types: [mode] })
  } catch (error) {
    if (mode !== 'auto' || !isAccelError(error, 'ERR_ACCEL_UNSUPPORTED')) throw error
    return undefined
  }
}
