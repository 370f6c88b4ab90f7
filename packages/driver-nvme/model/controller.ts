import type { ModelBehaviour, ModelContext, RegisterBank, Width } from '@uaccel/model'
import { isAccelError } from '@uaccel/uapi'
import { NvmeFaults } from './faults.js'
import type { NvmeOptions } from './index.js'
import { Medium } from './medium.js'
import { CompletionQueue, SubmissionQueue } from './queues.js'
import { controllerRegisters, type RegisterHost } from './registers.js'
import { ShadowDoorbells } from './shadow.js'
import { Failure, toHost } from './transfer.js'

/** Time from CC.EN to CSTS.RDY, and of a shutdown; CAP.TO says half a second. */
const READY_NS = 20_000
const DOORBELLS = 0x1000
const MOST_QUEUES = 16
const READY = 0x1
const FATAL = 0x2
const SHUTDOWN_COMPLETE = 0x8
/** Status codes: generic, then type 1, command specific (4.6.1.2). */
const INVALID_OPCODE = 0x01
const INVALID_FIELD = 0x02
const DATA_TRANSFER_ERROR = 0x04
const ABORT_REQUESTED = 0x07
const INVALID_NAMESPACE = 0x0b
const COMPLETION_QUEUE_INVALID = 0x100
const QUEUE_ID_INVALID = 0x101
const QUEUE_SIZE = 0x102
const EVENT_LIMIT = 0x105
const VECTOR_INVALID = 0x108
const LOG_PAGE_INVALID = 0x109
const QUEUE_DELETION_INVALID = 0x10c

/** A command that was taken and has not ended. */
interface Pending {
  readonly queue: SubmissionQueue
  readonly cid: number
}

/** The controller: registers, queues, admin commands. */
export class Controller implements ModelBehaviour, RegisterHost {
  readonly capabilities: bigint
  readonly #context: ModelContext
  readonly #options: NvmeOptions
  readonly #faults: NvmeFaults
  readonly #registers: RegisterBank<string>
  readonly #medium: Medium
  readonly #submissions = new Map<number, SubmissionQueue>()
  readonly #completions = new Map<number, CompletionQueue>()
  readonly #stuck = new Set<Pending>()
  #cancel: (() => void)[] = []
  #enabled = false
  #status = 0
  #granted = 0
  #eventRequest: Pending | undefined
  #events: number[] = []
  #masked = new Set<number>()
  #shadow: ShadowDoorbells | undefined

  constructor(context: ModelContext, options: NvmeOptions) {
    this.#context = context
    this.#options = options
    const { maxEntries = 256, doorbellStride = 0 } = options
    // MQES, contiguous queues, TO, DSTRD, the NVM command set; pages of 4 KiB only.
    this.capabilities =
      BigInt(maxEntries - 1) | (1n << 16n) | (1n << 24n) | (BigInt(doorbellStride) << 32n) | (1n << 37n)
    this.#medium = new Medium(
      context,
      options.namespaces ?? [{ blocks: 16_384, blockBytes: 512 }],
      options.mdts ?? 5,
      options.copy ?? { ranges: 4, rangeBlocks: 128, blocks: 256 },
      options.shadowDoorbells ?? true,
    )
    this.#faults = options.faults ?? new NvmeFaults()
    this.#faults.onFatal = () => this.#fail()
    this.#faults.onEvent = (result) => {
      this.#events.push(result)
      this.#tellEvents()
    }
    this.#registers = controllerRegisters(this)
  }

  get enabled(): boolean {
    return this.#enabled
  }

  status(): number {
    return this.#status
  }

  violation(message: string): void {
    this.#context.violation(message)
  }

  read(bar: number, offset: number, width: Width): number | bigint | undefined {
    return bar === 0 ? this.#registers.read(offset, width) : undefined
  }

  write(bar: number, offset: number, width: Width, value: number | bigint): boolean {
    if (bar !== 0) return false
    if (offset < DOORBELLS) return this.#registers.write(offset, width, value)
    const stride = 4 << (this.#options.doorbellStride ?? 0)
    if (width !== 4 || offset % stride !== 0) return false
    this.#ring((offset - DOORBELLS) / stride, Number(value))
    return true
  }

  describe(bar: number, offset: number): string {
    return bar === 0 && offset < DOORBELLS
      ? this.#registers.describe(offset)
      : 'doorbells take writes of 4 bytes'
  }

  /** Power-on; the medium keeps what it has. */
  reset(): void {
    this.#stop()
    this.#registers.reset()
    this.#status = 0
  }

  enable(on: boolean): void {
    this.#enabled = on
    if (!on) {
      // A controller reset: what is under way ends without a completion, and no memory is touched from now on.
      this.#context.atRest(() => {
        this.#stop()
        this.#later(READY_NS, () => {
          this.#status = 0
        })
      })
      return
    }
    const attributes = this.#registers.get('adminAttributes')
    const bases = ['adminSubmission', 'adminCompletion'].map((name) => this.#registers.get64(name))
    if (bases.some((base) => base % 4096n !== 0n)) this.violation('an admin queue is not page-aligned')
    const completions = new CompletionQueue(0, bases[1]!, ((attributes >>> 16) & 0xfff) + 1, 0)
    this.#completions.set(0, completions)
    this.#submissions.set(0, new SubmissionQueue(0, bases[0]!, (attributes & 0xfff) + 1, completions))
    this.#enabled = true
    this.#later(READY_NS, () => {
      this.#status |= READY
    })
  }

  shutDown(): void {
    this.#later(READY_NS, () => {
      this.#status |= SHUTDOWN_COMPLETE
    })
  }

  #stop(): void {
    for (const cancel of this.#cancel.splice(0)) cancel()
    this.#enabled = false
    this.#submissions.clear()
    this.#completions.clear()
    this.#stuck.clear()
    this.#masked.clear()
    this.#events = []
    this.#eventRequest = undefined
    this.#granted = 0
    this.#shadow = undefined
    this.#context.setIntx(false)
  }

  #fail(): void {
    for (const cancel of this.#cancel.splice(0)) cancel()
    this.#status |= FATAL
  }

  #later(delayNs: number, work: () => void): void {
    this.#cancel.push(this.#context.clock.after(delayNs, work))
    if (this.#cancel.length > 4096) this.#cancel.splice(0, 2048) // those have run: cancelling them does nothing
  }

  #ring(index: number, value: number): void {
    const [id, isHead] = [index >> 1, (index & 1) === 1]
    const queue = (isHead ? this.#completions : this.#submissions).get(id)
    const shadow = this.#shadowOf(id)
    const wrong = !(this.#status & READY)
      ? 'the controller is not ready'
      : queue === undefined
        ? 'there is no such queue'
        : shadow === undefined
          ? queue.ring(value)
          : queue.follow(value)
    if (wrong !== undefined) {
      this.violation(`doorbell ${isHead ? 'completion' : 'submission'} ${id}: ${wrong}`)
      return
    }
    if (isHead) {
      this.#driveIntx()
      return
    }
    this.#faults.doorbells++
    this.#later(0, () => this.#fetchAll(queue as SubmissionQueue))
  }

  /** Where doorbells of a queue have a copy in memory. The admin queue is rung by its registers alone. */
  #shadowOf(id: number): ShadowDoorbells | undefined {
    return id === 0 ? undefined : this.#shadow
  }

  /** Takes what doorbell `index` in memory says. */
  #follow(queue: SubmissionQueue | CompletionQueue, index: number): void {
    const shadow = this.#shadowOf(queue.id)
    const wrong = shadow && queue.follow(shadow.read(index))
    if (wrong !== undefined) this.violation(`doorbell ${index} in memory: ${wrong}`)
  }

  #fetchAll(queue: SubmissionQueue): void {
    if (this.#status & FATAL || this.#submissions.get(queue.id) !== queue) return
    const shadow = this.#shadowOf(queue.id)
    try {
      this.#follow(queue, 2 * queue.id)
      for (let command = queue.fetch(this.#context); command; command = queue.fetch(this.#context)) {
        const taken = command
        queue.scheduled++
        this.#later(this.#options.commandNs ?? 2_000, () => this.#execute(queue, taken))
      }
      // As long as there is work it looks by itself.
      if (shadow === undefined || queue.scheduled > 0) return
      shadow.want(2 * queue.id, queue.tail)
      this.#follow(queue, 2 * queue.id)
      if (queue.head !== queue.tail) this.#later(0, () => this.#fetchAll(queue))
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_DMA_FAULT')) throw error
      this.#fail() // a queue that cannot be read is no longer one (7.1)
    }
  }

  #execute(queue: SubmissionQueue, command: DataView): void {
    if (this.#status & FATAL || this.#submissions.get(queue.id) !== queue) return
    queue.scheduled--
    if (this.#shadowOf(queue.id) !== undefined) this.#later(0, () => this.#fetchAll(queue))
    const opcode = command.getUint8(0)
    const cid = command.getUint16(2, true)
    const kind = queue.id === 0 ? opcode + 0x100 : opcode
    this.#faults.received.set(kind, (this.#faults.received.get(kind) ?? 0) + 1)
    const pending = { queue, cid }
    const fate = this.#faults.fateOf({ queue: queue.id, opcode, cid, nsid: command.getUint32(4, true) })
    if (fate === 'stuck') {
      this.#stuck.add(pending)
      return
    }
    if (typeof fate === 'object') {
      this.#complete(pending, 0, fate.status)
      return
    }
    let [result, status]: [number | undefined, number] = [0, 0]
    try {
      this.#checkWords(queue, command)
      if (queue.id === 0) result = this.#admin(command, pending)
      else this.#medium.execute(command)
    } catch (error) {
      if (error instanceof Failure) status = error.status
      else if (isAccelError(error, 'ERR_ACCEL_DMA_FAULT')) status = DATA_TRANSFER_ERROR
      else throw error
    }
    if (result === undefined || fate === 'lost') return
    if (fate === 'wrongCid') this.#complete({ queue, cid: cid ^ 0x4000 }, result, status)
    else this.#complete(pending, result, status, fate === 'wrongHead' ? 0x7fff : undefined)
  }

  /** What no command here has: fused operations, SGLs, metadata, reserved words. */
  #checkWords({ id }: SubmissionQueue, command: DataView): void {
    const reserved =
      command.getUint8(1) !== 0 || [8, 12, 16, 20].some((at) => command.getUint32(at, true) !== 0)
    if (reserved)
      this.violation(`a command of queue ${id} has flags, metadata or reserved words that are not 0`)
  }

  #complete({ queue, cid }: Pending, result: number, status: number, head?: number): void {
    const { completions } = queue
    this.#follow(completions, 2 * completions.id + 1)
    this.#shadowOf(completions.id)?.want(2 * completions.id + 1, completions.head)
    if (!completions.post(this.#context, result, queue, cid, status, head)) {
      this.violation(
        `completion queue ${completions.id} is full: the driver submitted more than it has room for`,
      )
      this.#fail()
      return
    }
    if (completions.vector !== undefined) this.#context.raise(completions.vector)
    this.#driveIntx()
  }

  #driveIntx(): void {
    this.#context.setIntx(
      [...this.#completions.values()].some((queue) => queue.vector !== undefined && !queue.empty),
    )
  }

  /** DW0 of the completion, or undefined for a command that ends later. */
  #admin(command: DataView, pending: Pending): number | undefined {
    const [cdw10, cdw11] = [command.getUint32(40, true), command.getUint32(44, true)]
    switch (command.getUint8(0)) {
      case 0x00:
        return this.#deleteSubmission(cdw10)
      case 0x04:
        return this.#deleteCompletion(cdw10)
      case 0x01:
        return this.#createSubmission(command, cdw10, cdw11)
      case 0x02:
        return this.#logPage(command, cdw10, cdw11)
      case 0x05:
        return this.#createCompletion(command, cdw10, cdw11)
      case 0x06:
        return this.#identify(command, cdw10 & 0xff)
      case 0x08:
        return this.#abort(cdw10 & 0xffff, cdw10 >>> 16)
      case 0x09:
        return this.#setFeatures(cdw10 & 0xff, cdw11)
      case 0x7c:
        return this.#shareDoorbells(command)
      case 0x0c:
        if (this.#eventRequest) throw new Failure(EVENT_LIMIT)
        this.#eventRequest = pending
        this.#tellEvents()
        return undefined
      default:
        throw new Failure(INVALID_OPCODE)
    }
  }

  #abort(queue: number, cid: number): number {
    for (const pending of this.#stuck) {
      if (pending.queue.id !== queue || pending.cid !== cid) continue
      this.#stuck.delete(pending)
      this.#complete(pending, 0, ABORT_REQUESTED)
      return 0
    }
    return 1 // not aborted
  }

  #setFeatures(feature: number, value: number): number {
    if (feature === 0x0b) return 0
    if (feature !== 0x07 || (value & 0xffff) === 0xffff || value >>> 16 === 0xffff)
      throw new Failure(INVALID_FIELD)
    this.#granted = Math.min(MOST_QUEUES, this.#options.queues ?? 4)
    return (this.#granted - 1) * 0x1_0001
  }

  #shareDoorbells(command: DataView): number {
    if (this.#options.shadowDoorbells === false) throw new Failure(INVALID_OPCODE)
    const [doorbells, events] = [command.getBigUint64(24, true), command.getBigUint64(32, true)]
    if (!ShadowDoorbells.areValid(doorbells, events)) throw new Failure(INVALID_FIELD)
    this.#shadow = new ShadowDoorbells(
      this.#context,
      doorbells,
      events,
      4 << (this.#options.doorbellStride ?? 0),
    )
    return 0
  }

  #queueAt(command: DataView, cdw10: number, cdw11: number, taken: ReadonlyMap<number, unknown>) {
    const [id, entries] = [cdw10 & 0xffff, (cdw10 >>> 16) + 1]
    if (id === 0 || id > this.#granted || taken.has(id)) throw new Failure(QUEUE_ID_INVALID)
    if (entries < 2 || entries > (this.#options.maxEntries ?? 256)) throw new Failure(QUEUE_SIZE)
    const base = command.getBigUint64(24, true)
    if ((cdw11 & 1) === 0 || base % 4096n !== 0n) throw new Failure(INVALID_FIELD)
    return { id, entries, base }
  }

  #createCompletion(command: DataView, cdw10: number, cdw11: number): number {
    const { id, entries, base } = this.#queueAt(command, cdw10, cdw11, this.#completions)
    const vector = cdw11 >>> 16
    if (vector > MOST_QUEUES) throw new Failure(VECTOR_INVALID)
    this.#completions.set(id, new CompletionQueue(id, base, entries, cdw11 & 2 ? vector : undefined))
    return 0
  }

  #createSubmission(command: DataView, cdw10: number, cdw11: number): number {
    const { id, entries, base } = this.#queueAt(command, cdw10, cdw11, this.#submissions)
    const completions = this.#completions.get(cdw11 >>> 16)
    if (completions === undefined || completions.id === 0) throw new Failure(COMPLETION_QUEUE_INVALID)
    this.#submissions.set(id, new SubmissionQueue(id, base, entries, completions))
    return 0
  }

  /** What of it is under way ends without a completion (5.6). */
  #deleteSubmission(id: number): number {
    const queue = this.#submissions.get(id)
    if (id === 0 || queue === undefined) throw new Failure(QUEUE_ID_INVALID)
    this.#submissions.delete(id)
    for (const pending of this.#stuck) if (pending.queue === queue) this.#stuck.delete(pending)
    return 0
  }

  #deleteCompletion(id: number): number {
    const queue = this.#completions.get(id)
    if (id === 0 || queue === undefined) throw new Failure(QUEUE_ID_INVALID)
    if ([...this.#submissions.values()].some(({ completions }) => completions === queue))
      throw new Failure(QUEUE_DELETION_INVALID)
    this.#completions.delete(id)
    this.#driveIntx()
    return 0
  }

  #identify(command: DataView, what: number): number {
    const nsid = command.getUint32(4, true)
    const page = new Uint8Array(4096)
    if (what === 0) {
      const namespace = this.#medium.identify(nsid)
      if (namespace === undefined) throw new Failure(INVALID_NAMESPACE)
      page.set(namespace)
    } else if (what === 1) page.set(this.#medium.identifyController())
    else if (what === 2) page.set(this.#medium.list(nsid))
    else throw new Failure(INVALID_FIELD)
    toHost(this.#context, command, page)
    return 0
  }

  #logPage(command: DataView, cdw10: number, cdw11: number): number {
    const page = cdw10 & 0xff
    const sizeBytes = ((cdw10 >>> 16) + (cdw11 & 0xffff) * 0x1_0000 + 1) * 4
    if (page < 1 || page > 4) throw new Failure(LOG_PAGE_INVALID)
    const bytes = new Uint8Array(sizeBytes)
    bytes.set(page === 2 ? this.#medium.health().subarray(0, sizeBytes) : [])
    toHost(this.#context, command, bytes)
    this.#masked.clear()
    return 0
  }

  /** One event of a type at a time: the next comes after its log page was read. */
  #tellEvents(): void {
    const request = this.#eventRequest
    const at = this.#events.findIndex((event) => !this.#masked.has(event & 7))
    if (request === undefined || at < 0) return
    const [event] = this.#events.splice(at, 1)
    this.#eventRequest = undefined
    this.#masked.add(event! & 7)
    this.#later(0, () => this.#complete(request, event!, 0))
  }
}
