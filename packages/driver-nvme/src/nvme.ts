import type { Device } from '@uaccel/core'
import type { DmaRegion } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import { AdminQueue } from './admin.js'
import { Admin, Feature } from './command.js'
import { Controller } from './controller.js'
import { Events, type NvmeEvent } from './events.js'
import type { ControllerIdentity, NamespaceIdentity } from './identify.js'
import { allocVectors, type IrqMode, NvmeInterrupts } from './interrupts.js'
import type { NvmeLease, ShareQueueOptions } from './lease.js'
import { type LeaseHost, lendQueue, startQueue } from './leases.js'
import { createPair } from './pair.js'
import type { NvmeQueue } from './queue.js'
import { NvmeQueues } from './queues.js'
import { Recovery } from './recovery.js'
import { DOORBELLS_OFFSET, NvmeRegisters } from './registers.js'
import { allocShadow, configureShadow, shadowFits, shadowFrom } from './shadow.js'
import { endLate, endLateAdmin, startWatchdog } from './watchdog.js'

/** How a controller is brought up. */
export interface NvmeStartOptions {
  /** I/O queue pairs, as far as the controller has so many. Default 4. */
  readonly queues?: number
  /** Entries of each I/O queue, a power of two, as far as the controller takes so many. Default 128. */
  readonly queueEntries?: number
  /** Further queue pairs that are kept for worker threads (`shareQueue`), as far as the controller has so many. Default 0. */
  readonly workerQueues?: number
  /** Announce in memory where the controller offers that, and write doorbells where it asks for it alone; never with INTx. Default true. */
  readonly shadowDoorbells?: boolean
  /** Default `auto`: MSI-X, else MSI, else INTx, else polled. */
  readonly irq?: IrqMode | 'auto'
  /**
   * After a submission look for completions so long, in microseconds, once in each turn of the event loop, before they are left to the interrupt;
   * shorter while that is in vain. Default 0. Without interrupts it polls until all has ended.
   */
  readonly spinUs?: number
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

/** What a controller is made of. */
interface Parts {
  readonly dev: Device
  readonly controller: Controller
  readonly queues: NvmeQueues
  /** Queue pairs that BAR 0 has doorbells for, of those that are wanted. */
  readonly pairs: number
  readonly irqs: Awaited<ReturnType<typeof allocVectors>>
  readonly options: Required<NvmeStartOptions>
  readonly listeners: NvmeListeners
}

/** An NVMe controller that was brought up. All that it takes comes from its `Device` and is released with it. */
export class Nvme {
  readonly irqMode: IrqMode
  readonly timeoutMs: number
  /** Admin commands: identification, log pages, raw ones. */
  readonly admin: AdminQueue
  readonly #dev: Device
  readonly #controller: Controller
  readonly #queues: NvmeQueues
  readonly #interrupts: NvmeInterrupts
  readonly #recovery: Recovery
  readonly #events: Events
  readonly #options: Required<NvmeStartOptions>
  readonly #pairs: number
  #watchdog: NodeJS.Timeout | undefined
  #shadow: DmaRegion | undefined
  #identity!: ControllerIdentity
  #namespaces: readonly NamespaceIdentity[] = []
  #next = 0
  #room: () => void = () => {}

  private constructor({ dev, controller, queues, pairs, irqs, options, listeners }: Parts) {
    this.#dev = dev
    this.#controller = controller
    this.#queues = queues
    this.#options = options
    this.#pairs = pairs
    this.timeoutMs = options.timeoutMs
    const broke = (error: AccelError) => listeners.broke?.(error)
    const room = () => this.#room()
    const recovery = new Recovery(dev, controller, queues, {
      configure: () => this.#configure(),
      settled: room,
      broke,
      timeoutMs: options.timeoutMs,
    })
    this.#recovery = recovery
    this.#interrupts = new NvmeInterrupts(irqs, pairs, options.spinUs, queues, {
      up: () => recovery.up,
      served: room,
      broke: (error) => recovery.breaks(error),
    })
    this.irqMode = this.#interrupts.mode
    this.admin = new AdminQueue(queues.admin.queue, dev.dma, {
      checkUp: () => recovery.checkListens(),
      kick: (queue) => this.kick(queue),
    })
    this.#events = new Events(this.admin, {
      event: (event) => listeners.event?.(event),
      namespacesChanged: () => this.identifyNamespaces(),
      broke,
    })
  }

  /**
   * Brings the controller up (7.6.1): reset, admin queue, identification, I/O queues, events.
   * Errors: `ERR_ACCEL_UNSUPPORTED` for what is no NVM controller with pages of 4 KiB, `ERR_ACCEL_TIMEOUT` where it does not get ready.
   */
  static async start(
    dev: Device,
    {
      queues = 4,
      workerQueues = 0,
      queueEntries = 128,
      shadowDoorbells = true,
      irq = 'auto',
      spinUs = 0,
      timeoutMs = 10_000,
    }: NvmeStartOptions = {},
    listeners: NvmeListeners = {},
  ): Promise<Nvme> {
    const options = { queues, workerQueues, queueEntries, shadowDoorbells, irq, spinUs, timeoutMs }
    checkOptions(options)
    await dev.enable({ busMaster: true })
    const controller = new Controller(dev, await dev.mapBar(0, NvmeRegisters))
    const { doorbellStride, maxEntries } = controller
    const pairs = controller.pairs(1 + queues + workerQueues)
    const sizeBytes = pairs * 2 * doorbellStride
    const doorbells = await dev.mapMemory(0, { offset: DOORBELLS_OFFSET, sizeBytes })
    const irqs = await allocVectors(dev, irq, pairs)
    const nvme = new Nvme({
      ...{ dev, controller, irqs, pairs, listeners },
      queues: new NvmeQueues(dev.dma, doorbells, doorbellStride, maxEntries),
      options: { ...options, queues: Math.min(queues, pairs - 1) },
    })
    dev.defer(() => nvme.#shutDown())
    await controller.disable()
    nvme.#interrupts.start()
    nvme.#watchdog = startWatchdog(timeoutMs, () => nvme.#watch())
    await nvme.#recovery.bringUp()
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
    return this.#queues.io.map(({ queue }) => queue)
  }

  /** Queues announce in memory, and write doorbells where the controller asks for it. */
  get shadowDoorbells(): boolean {
    return this.#shadow !== undefined
  }

  /** Controller resets since it was brought up. */
  get resets(): number {
    return this.#recovery.resets
  }

  /** Why the controller has to be reset; `undefined` where it works. */
  get broken(): string | undefined {
    return this.#recovery.broken
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

  /** Resolves when no reset is under way. `ERR_ACCEL_WEDGED` where the controller did not come back from one. */
  ready(): Promise<void> {
    return this.#recovery.ready()
  }

  /** Calls `listener` when there is room in the queues, or a reset has ended: whoever waited for it can go on. */
  onRoom(listener: () => void): void {
    this.#room = listener
  }

  /** Throws where nothing is to be submitted: `ERR_ACCEL_AGAIN` during a reset, `ERR_ACCEL_WEDGED` where it did not come back from one. */
  checkUp(): void {
    this.#recovery.checkUp()
  }

  /** The I/O queue for the next user: one after the other. `ERR_ACCEL_AGAIN` during a reset, `ERR_ACCEL_WEDGED`. */
  pickQueue(): NvmeQueue {
    this.checkUp()
    const { io } = this.#queues
    this.#next = (this.#next + 1) % io.length
    return io[this.#next].queue
  }

  /** To be called after submissions to an I/O queue, in place of its `ring`: rings, and where nothing interrupts polls until all has ended. */
  kick(queue: NvmeQueue): void {
    this.#recovery.checkListens()
    queue.ring()
    this.#interrupts.spin()
  }

  /** Asks the controller to abort a command (5.1); whether it can, the command's own end tells. */
  abort(queue: NvmeQueue, cid: number): void {
    if (!this.#recovery.up || !queue.abort(cid)) return
    const asked = this.admin.run({ opcode: Admin.abort, cdw10: queue.id | (cid << 16) })
    // A controller takes few at once, and may not find the command: then its time, or a reset, ends it.
    asked.catch(() => {})
  }

  /** Memory that an I/O command of the driver's own names, such as a list of ranges. Free it when the command has ended. */
  allocate(sizeBytes: number): DmaRegion {
    return this.#dev.dma.alloc(sizeBytes, { name: 'NVMe command data' })
  }

  /**
   * A queue pair for a worker thread, which drives it without this thread: give it `token` of what this answers, and transfer `transfer`. A reset reaches it
   * there; when it ends, its queue is deleted and can be lent again. Errors: `ERR_ACCEL_BUSY` where all `workerQueues` are in use,
   * `ERR_ACCEL_UNSUPPORTED` where the doorbells are not mapped.
   */
  shareQueue(options: ShareQueueOptions = {}): Promise<NvmeLease> {
    return lendQueue(this.#leaseHost(), options)
  }

  /** Reads anew which namespaces there are. */
  async identifyNamespaces(): Promise<void> {
    this.#namespaces = await this.admin.namespaces()
  }

  /**
   * Brings the controller to idle where commands that were to end did not: by a controller reset, else by a function reset. Other commands
   * under way end with `ERR_ACCEL_AGAIN`. Errors: `ERR_ACCEL_WEDGED`.
   */
  recover(): Promise<void> {
    return this.#recovery.recover()
  }

  /** Resets the controller and brings it up again; commands under way end with `ERR_ACCEL_AGAIN`. Errors: `ERR_ACCEL_WEDGED`. */
  reset(why: AccelError): Promise<void> {
    return this.#recovery.reset(why)
  }

  /** Before somebody else resets the device: stops the controller where that still listens, and ends what was under way. */
  beforeReset(): Promise<void> {
    return this.#recovery.beforeReset()
  }

  /** After somebody else has reset the device: brings it up again. */
  afterReset(): Promise<void> {
    return this.#recovery.afterReset()
  }

  /** Not with INTx: the pin goes down when the register of the completion doorbell is written, which QEMU 7.2 does not ask for. */
  get #wantsShadow(): boolean {
    return (
      this.#options.shadowDoorbells &&
      this.irqMode !== 'intx' &&
      this.#identity.doorbellBufferConfig &&
      shadowFits(this.#pairs, this.#controller.doorbellStride)
    )
  }

  #leaseHost(): LeaseHost {
    return {
      dev: this.#dev,
      admin: this.admin,
      queues: this.#queues,
      interrupts: this.#interrupts,
      recovery: this.#recovery,
      doorbellStride: this.#controller.doorbellStride,
      timeoutMs: this.timeoutMs,
      shadow: this.#shadow,
      entries: this.#options.queueEntries,
      maxEntries: this.#controller.maxEntries,
      maxTransferBytes: this.#identity.maxTransferBytes,
      namespaces: this.#namespaces,
    }
  }

  /** Gives a controller that was enabled its queues, and learns what it is. */
  async #configure(): Promise<void> {
    const found = await this.admin.controller()
    const { io } = this.#queues
    // The lists of queues that are there were made for so much.
    const most = io.length === 0 ? found.maxTransferBytes : this.#identity.maxTransferBytes
    this.#identity = { ...found, maxTransferBytes: Math.min(found.maxTransferBytes, most) }
    const count = await this.#requestQueues(this.#pairs - 1)
    if (io.length === 0) {
      const entries = Math.min(this.#options.queueEntries, this.#controller.maxEntries)
      this.#queues.grow(Math.min(count, this.#options.queues), entries, this.#identity.maxTransferBytes)
      this.#queues.lendable = count - io.length
    }
    const had = io.length + this.#queues.lendable
    if (count < had)
      throw accelError(
        'ERR_ACCEL_IO',
        `The controller had ${had} I/O queues and offers ${count} after a reset`,
      )
    if (this.#wantsShadow) {
      this.#shadow ??= allocShadow(this.#dev.dma)
      await configureShadow(this.admin, this.#shadow)
    }
    for (const pair of io) {
      const { id } = pair.queue
      await createPair(this.admin, id, pair, this.#interrupts.vectorOf(id))
      if (this.#shadow !== undefined) pair.queue.useShadow(shadowFrom(this.#shadow, 0))
    }
    await this.identifyNamespaces()
    await this.#events.configure(this.#identity.namespaceNotices)
    for (const lease of this.#queues.lent.values())
      void lease.restart(() => startQueue(this.#leaseHost(), lease))
  }

  /** Asks for I/O queue pairs (5.21.1.7), and answers how many of them there may be. */
  async #requestQueues(wanted: number): Promise<number> {
    const got = await this.admin.run({
      opcode: Admin.setFeatures,
      cdw10: Feature.numberOfQueues,
      cdw11: (wanted - 1) | ((wanted - 1) << 16),
    })
    return Math.min(wanted, (got & 0xffff) + 1, (got >>> 16) + 1)
  }

  /** A turn of the watchdog: looks for a dead controller, a lost interrupt, a command that is late. */
  #watch(): void {
    if (!this.#recovery.up) return
    try {
      this.#controller.check()
      if (this.#queues.poll() > 0) this.#room()
      endLateAdmin(this.admin.queue, this.timeoutMs)
      for (const { queue } of this.#queues.io) endLate(queue, this.timeoutMs, (cid) => this.abort(queue, cid))
      this.#events.turn()
    } catch (error) {
      this.#recovery.breaks(error)
    }
  }

  async #shutDown(): Promise<void> {
    clearInterval(this.#watchdog)
    this.#interrupts.stop()
    await this.#recovery.shutDown()
  }
}

function checkOptions({
  queues,
  workerQueues,
  queueEntries,
  spinUs,
  timeoutMs,
}: Required<NvmeStartOptions>): void {
  const refuse = (what: string) => accelError('ERR_ACCEL_INVALID_ARGUMENT', `NVMe: ${what}`)
  if (!Number.isInteger(queues) || queues < 1 || queues > 0xffff)
    throw refuse(`${queues} I/O queues, wanted 1 to 65,535`)
  if (!Number.isInteger(workerQueues) || workerQueues < 0 || workerQueues + queues > 0xffff)
    throw refuse(`${workerQueues} queues for workers, wanted 0 to 65,535 with the others`)
  if (!Number.isInteger(Math.log2(queueEntries)) || queueEntries < 2 || queueEntries > 4096)
    throw refuse(`queues of ${queueEntries} entries, wanted a power of two from 2 to 4,096`)
  if (!(spinUs >= 0 && spinUs <= 1e6)) throw refuse(`spinUs ${spinUs}, wanted 0 to 1,000,000`)
  if (!(timeoutMs >= 1 && timeoutMs <= 3_600_000))
    throw refuse(`timeoutMs ${timeoutMs}, wanted 1 to 3,600,000`)
}
