import { CompletionRing, type DmaRegion, memoryFence, ProducerRing, withOwnCode } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import { COMMAND_BYTES, COMMAND_WORDS, COMPLETION_BYTES, PAGE_BYTES } from './command.js'
import { PrpLists } from './prp.js'

const OFFSET_IN_PAGE = PAGE_BYTES - 1
/** The phase tag of a completion: bit 16 of DW3 (NVMe base 1.4, 4.6). */
const PHASE = { word: 3, bit: 16 } as const

// What is known of a CID: the turn of the watchdog in which its command began, or was to be aborted, and these bits. Of one that is free
// the number of the next that is free, inverted, which is negative; `depth` ends that list.
const TURNS_MASK = (1 << 28) - 1
/** It is to be aborted. */
const ABORTING = 1 << 28
/** It ends when something happens, and not before: no limit in time counts for it. */
const ENDLESS = 1 << 29
/** Behind the states of `depth` CIDs: the first that is free; of a poll the next slot, the phase bit of what is new there, and the slot where it ends. */
const STATE = { firstFree: 0, slot: 1, phase: 2, end: 3, words: 4 } as const

/** Told how a command ended. One object serves any number of commands, which it tells apart by their CID. */
export interface CommandListener {
  /** @param status 15 bits, without the phase bit; 0 is success. @param result DW0 of the completion, signed. */
  completed(cid: number, status: number, result: number): void
  /** The device will not answer, and does not touch the command's memory any more. */
  failed(cid: number, error: AccelError): void
}

/** The registers of doorbells. */
export interface Doorbells {
  /** Exactly one write of that width. */
  write32(offset: number, value: number): void
}

/** DMA memory, of this thread or of one that shares it. */
export type QueueRegion = Pick<DmaRegion, 'i32' | 'iova'>

/** The memory of a queue pair. */
export interface QueueMemory {
  /** `entries` of 64 bytes, page-aligned, zeroed. */
  readonly submissions: QueueRegion
  /** `entries` of 16 bytes, page-aligned, zeroed. */
  readonly completions: QueueRegion
  /** For each command a list of PRP entries, none of which crosses a page. Absent where commands move two pages at most. */
  readonly lists?: QueueRegion
}

/**
 * Doorbells in memory, which a controller in software looks at while it works (NVMe base 1.4, 5.7 and 7.13). Every doorbell of the controller has
 * its word at the same distance from the start as its register has from the first one.
 */
export interface ShadowDoorbells {
  /** What PRP1 of Doorbell Buffer Config names: where the driver writes. */
  readonly doorbells: Int32Array
  /** What PRP2 names: the value of each doorbell from which on the controller wants its register written. */
  readonly eventIndexes: Int32Array
}

/** Where a queue pair stands. */
export interface QueueOptions {
  readonly id: number
  /** Entries of both rings, a power of two. One entry stays free. */
  readonly entries: number
  readonly memory: QueueMemory
  readonly doorbells: Doorbells
  /** Bytes from the first doorbell to the two of this queue. */
  readonly submissionDoorbell: number
  readonly completionDoorbell: number
}

/** The calls of a loop that drives a queue. They belong to it, and want no `this`. */
export type QueueCalls = Pick<NvmeQueue, 'submit' | 'ring' | 'poll'>

const makeCalls = (queue: NvmeQueue): Omit<QueueCalls, 'poll'> => ({
  submit: (opcode, nsid, low, high, sizeBytes, cdw10, cdw11, cdw12, listener) =>
    queue.submit(opcode, nsid, low, high, sizeBytes, cdw10, cdw11, cdw12, listener),
  ring: () => queue.ring(),
})
const makeDrain = (queue: { drain(): number }) => () => queue.drain()

/**
 * A queue pair as its user sees it: rings, PRP lists, commands under way. Submission and completion make no objects. Addresses, block
 * numbers and words are signed 32-bit halves, which no call has to put on the heap.
 */
export class NvmeQueue {
  // Declared, not private names, and each stored first as what it is: see the rings of @uaccel/memory.
  declare readonly id: number
  /** The most commands that can be under way. */
  declare readonly depth: number
  declare private readonly registers: Doorbells
  declare private readonly submissionDoorbell: number
  declare private readonly completionDoorbell: number
  declare private readonly sq: ProducerRing
  declare private readonly cq: CompletionRing
  declare private readonly commands: Int32Array
  declare private readonly answers: Int32Array
  declare private readonly lists: PrpLists
  declare private shadow: ShadowDoorbells | undefined
  declare private rung: number

  // Commands under way by CID.
  declare private readonly listeners: (CommandListener | undefined)[]
  /** What is known of each, and what {@link STATE} says behind that. */
  declare private readonly states: Int32Array
  declare private turns: number
  declare private aborting: number
  declare private endless: number

  declare private readonly ownDrain: () => number
  declare private polling: boolean
  declare private ringAfter: boolean
  /** Completions seen since the queue was made. */
  declare completions: number

  constructor(options: QueueOptions) {
    const { id, entries, memory } = options
    // As many commands as the ring holds: their completions fit, and one that has a CID has an entry.
    const depth = entries - 1
    this.id = id
    this.depth = depth
    this.registers = options.doorbells
    this.submissionDoorbell = options.submissionDoorbell
    this.completionDoorbell = options.completionDoorbell
    this.sq = new ProducerRing({ words: memory.submissions.i32, entries, entryBytes: COMMAND_BYTES })
    this.cq = new CompletionRing({
      words: memory.completions.i32,
      entries,
      entryBytes: COMPLETION_BYTES,
      phaseWord: PHASE.word,
      phaseBit: PHASE.bit,
    })
    this.commands = memory.submissions.i32
    this.answers = memory.completions.i32
    this.lists = new PrpLists(memory.lists, entries)
    this.shadow = undefined
    this.rung = 0
    this.listeners = Array.from({ length: depth }, () => undefined)
    this.states = new Int32Array(new ArrayBuffer(4 * (depth + STATE.words))).map((_, i) =>
      i < depth ? ~(i + 1) : 0,
    )
    this.turns = 0
    this.aborting = 0
    this.endless = 0
    this.polling = false
    this.ringAfter = false
    this.completions = 0
    this.ownDrain = withOwnCode(makeDrain)(this)
  }

  /** How many commands can be submitted now. */
  get free(): number {
    return Math.min(this.depth - this.inFlight, this.sq.free)
  }

  /** Commands under way. */
  get inFlight(): number {
    // Each command has its entry in both rings; of a poll that is under way the ring of completions does not know yet.
    const head = this.polling ? this.states[this.depth + STATE.slot] : this.cq.head
    return (this.sq.tail - head) & this.depth
  }

  /** True where commands are under way that are to end. */
  get busy(): boolean {
    return this.inFlight > this.endless
  }

  /** True where a command is under way that was to be aborted. */
  get stuck(): boolean {
    return this.aborting > 0
  }

  /** The commands that were to be aborted and have not ended. */
  get abortingCids(): number[] {
    return this.cids((cid) => (this.states[cid] & ABORTING) !== 0)
  }

  /**
   * Puts a command without metadata into the ring, for {@link ring} to announce. Its data is `sizeBytes` from I/O address `low`, `high` on,
   * a multiple of 4; 0 bytes for none. Answers its CID, or -1 where the queue is full. The caller holds `sizeBytes` to what the device and
   * the queue take.
   */
  submit(
    opcode: number,
    nsid: number,
    low: number,
    high: number,
    sizeBytes: number,
    cdw10: number,
    cdw11: number,
    cdw12: number,
    listener: CommandListener,
  ): number {
    const { sq, commands, states, depth } = this
    const cid = states[depth]
    if (sq.free === 0 || cid === depth) return -1
    states[depth] = ~states[cid]
    states[cid] = this.turns
    // Mostly it is there already, and a store would have to be noted for the garbage collector.
    if (this.listeners[cid] !== listener) this.listeners[cid] = listener
    // A slot fits 16 bits (CAP.MQES), and a command has 16 words: numerals, from which V8 sees that no index overflows.
    const at = (sq.tail & 0xffff) << 4
    // Words 2 to 5 and 13 to 15 are 0 in every command that goes this way, and are never written.
    commands[at] = opcode | (cid << 16)
    commands[at + 1] = nsid | 0
    commands[at + 6] = low | 0
    commands[at + 7] = high | 0
    commands[at + 10] = cdw10 | 0
    commands[at + 11] = cdw11 | 0
    commands[at + 12] = cdw12 | 0
    sq.push()
    // A call comes last: V8 would have to load everything anew after it.
    if ((low & 0xfff) + sizeBytes <= 4096) {
      commands[at + 8] = 0
      commands[at + 9] = 0
    } else this.pointOn(at, cid, low, high, sizeBytes)
    return cid
  }

  /**
   * The same for a whole command: its 16 words, but for the CID. For the admin queue, none of whose entries goes through
   * {@link submit}.
   */
  submitWords(command: Int32Array, listener: CommandListener, { endless = false } = {}): number {
    const { sq, commands, states, depth } = this
    const at = sq.next()
    const cid = states[depth]
    if (at < 0 || cid === depth) return -1
    states[depth] = ~states[cid]
    states[cid] = endless ? ENDLESS : this.turns
    if (endless) this.endless++
    this.listeners[cid] = listener
    commands.set(command.subarray(0, COMMAND_WORDS), at)
    commands[at] = (command[0] & 0xffff) | (cid << 16)
    sq.push()
    return cid
  }

  /** Announces what was submitted: one doorbell for all of it. A listener's waits for the end of the poll that called it. */
  ring(): void {
    // The device has to know first which completions were taken: those of new commands might not fit, which is fatal.
    if (this.polling) {
      this.ringAfter = true
      return
    }
    const before = this.rung
    const { tail } = this.sq
    if (tail === before) return
    this.rung = tail
    const { submissionDoorbell: doorbell, shadow } = this
    if (shadow === undefined || announce(shadow, doorbell, tail, before))
      this.registers.write32(doorbell, tail)
  }

  /** True where a completion is there, `ahead` entries after the next: polling there first lets a batch grow. */
  peekAhead(ahead: number): boolean {
    return this.cq.peekAhead(ahead)
  }

  /**
   * Looks for a completion up to `looks` times and, as soon as there is one, polls: for who expects it sooner than an interrupt would tell of it. A look
   * takes a nanosecond or so. Answers how many there were.
   */
  spin(looks: number): number {
    const { cq } = this
    for (let look = 0; look < looks; look++) if (cq.peek() >= 0) return this.poll()
    return 0
  }

  /**
   * Takes the completions that are there and tells whose they are. Answers how many there were; 0 inside a listener.
   * `ERR_ACCEL_IO` for a completion of nothing that is under way: what the device says cannot be trusted any more.
   */
  poll(): number {
    const { cq, states, depth } = this
    if (this.polling || cq.peek() < 0) return 0
    const before = cq.head
    states[depth + STATE.slot] = before
    states[depth + STATE.phase] = cq.phase
    // After as many as can be under way: the device has to see the head move, and the event loop gets its turn.
    states[depth + STATE.end] = (before + depth) & depth
    this.polling = true
    let end = 1
    while (end === 1) end = this.ownDrain()
    this.polling = false
    const count = (states[depth + STATE.slot] - before) & depth
    if (count > 0) {
      cq.advance(count)
      this.completions += count
      const { shadow, completionDoorbell: doorbell } = this
      if (shadow === undefined || announce(shadow, doorbell, cq.head, before))
        this.registers.write32(doorbell, cq.head)
    }
    if (end === 2) this.refuse(cq.at(0))
    if (this.ringAfter) {
      this.ringAfter = false
      this.ring()
    }
    return count
  }

  /**
   * `submit`, `ring` and `poll` with code of their own, for a thread that has this queue alone, or spends its time with it: a third faster. A
   * place in a program that calls those of several queues in turn is slower with them than with the methods, which all queues share.
   */
  specialize(): QueueCalls {
    // The loop of a poll has code of its own in any case.
    return { ...withOwnCode(makeCalls)(this), poll: () => this.poll() }
  }

  /**
   * Takes completions, up to the slot where the poll ends: until none is new (0), a listener has thrown (1), or one cannot be (2). Its numbers are
   * numerals, and what changes is in a typed array: no tag, and no check of overflow is left for V8 to make.
   * @internal Called through `ownDrain`.
   */
  drain(): number {
    const { sq, answers, states, listeners, depth } = this
    const slotAt = depth + 1
    const phaseAt = depth + 2
    const end = states[depth + 3]
    const queue = this.id << 16
    let slot = states[slotAt]
    let phase = states[phaseAt]
    let known = queue | sq.head
    do {
      const at = (slot & 0xffff) << 2
      const last = answers[at + 3]
      if ((last & 0x1_0000) !== phase) return 0
      // Nothing of it is believed before it was held to what is under way.
      const from = answers[at + 2]
      const result = answers[at]
      const cid = last & 0xffff
      if (cid >= depth) return 2
      const state = states[cid]
      if (state < 0) return 2
      if (from !== known) {
        // Completions of commands that were fetched together name the same head.
        const head = (from ^ queue) >>> 0
        if (head > depth || !sq.take(head)) return 2
        known = from
      }
      slot = (slot + 1) & depth
      if (slot === 0) {
        phase ^= 0x1_0000
        states[phaseAt] = phase
      }
      states[slotAt] = slot
      states[cid] = ~states[depth]
      states[depth] = cid
      if (state > 0xfff_ffff) this.forget(state)
      try {
        ;(listeners[cid] as CommandListener).completed(cid, last >>> 17, result)
      } catch (error) {
        reportLater(error)
        return 1
      }
    } while (slot !== end)
    return 0
  }

  /**
   * Has the queue announce through memory, from now on until it {@link fail}s. To be called when the controller has taken the
   * addresses (Doorbell Buffer Config) and made the queue, before anything of it was announced: `ERR_ACCEL_BUSY` afterwards.
   * Both memories are a zeroed page.
   */
  useShadow(shadow: ShadowDoorbells): void {
    if (this.rung !== 0 || this.cq.head !== 0) {
      throw accelError(
        'ERR_ACCEL_BUSY',
        `NVMe queue ${this.id} was to get shadow doorbells, and is in use: give it them before its first command`,
      )
    }
    const words = Math.max(this.submissionDoorbell, this.completionDoorbell) / 4 + 1
    if (shadow.doorbells.length < words || shadow.eventIndexes.length < words) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `The shadow doorbells of NVMe queue ${this.id} want ${words} words, found ${shadow.doorbells.length} and ${shadow.eventIndexes.length}`,
      )
    }
    this.shadow = shadow
  }

  /** Marks a command as one that is to be aborted; false where it is not under way, or marked already. */
  abort(cid: number): boolean {
    const state = this.states[cid]
    if (!(state >= 0 && state <= TURNS_MASK)) return false
    this.states[cid] = ABORTING | this.turns
    this.aborting++
    return true
  }

  /** Commands of that listener. */
  cidsOf(listener: CommandListener): number[] {
    return this.cids((cid) => this.listeners[cid] === listener)
  }

  /** A turn of the watchdog. Answers the commands that have been under way, or since they were to be aborted, for more than `turns`. */
  turn(turns: number): { readonly cid: number; readonly aborting: boolean }[] {
    this.turns = (this.turns + 1) & TURNS_MASK
    // A completion leaves its listener in place, for the next command of its; what nobody uses is let go here.
    for (let cid = 0; cid < this.depth; cid++) if (this.states[cid] < 0) this.listeners[cid] = undefined
    const late = this.cids((cid) => {
      const state = this.states[cid]
      return state !== ENDLESS && ((this.turns - state) & TURNS_MASK) > turns
    })
    return late.map((cid) => ({ cid, aborting: (this.states[cid] & ABORTING) !== 0 }))
  }

  /**
   * Ends all commands under way: the device was brought to rest, and forgets them. The rings start over, without shadow doorbells.
   * `ERR_ACCEL_BUSY` inside a listener.
   */
  fail(errorOf: (cid: number) => AccelError): void {
    if (this.polling)
      throw accelError(
        'ERR_ACCEL_BUSY',
        `NVMe queue ${this.id} is polled: fail it when the listener has returned`,
      )
    const ended = this.cids(() => true).map((cid) => {
      const error = errorOf(cid)
      return { cid, error, listener: this.release(cid) }
    })
    this.sq.reset()
    this.cq.reset()
    this.shadow = undefined
    this.rung = 0
    this.ringAfter = false
    for (const { cid, error, listener } of ended) {
      try {
        listener?.failed(cid, error)
      } catch (thrown) {
        reportLater(thrown)
      }
    }
  }

  /** PRP2 of a transfer that goes beyond the page of PRP1 (4.4). */
  private pointOn(at: number, cid: number, low: number, high: number, sizeBytes: number): void {
    const { commands, lists } = this
    const nextLow = ((low & ~OFFSET_IN_PAGE) + PAGE_BYTES) | 0
    const nextHigh = nextLow === 0 ? (high + 1) | 0 : high
    const left = sizeBytes - (PAGE_BYTES - (low & OFFSET_IN_PAGE))
    if (left <= PAGE_BYTES) {
      commands[at + 8] = nextLow
      commands[at + 9] = nextHigh
      return
    }
    lists.name(cid, nextLow, nextHigh, Math.ceil(left / PAGE_BYTES))
    commands[at + 8] = lists.low(cid)
    commands[at + 9] = lists.high(cid)
  }

  private release(cid: number): CommandListener | undefined {
    const state = this.states[cid]
    this.states[cid] = ~this.states[this.depth]
    this.states[this.depth] = cid
    if (state > TURNS_MASK) this.forget(state)
    return this.listeners[cid]
  }

  /** A command has ended that was to be aborted, or endless. */
  private forget(state: number): void {
    if ((state & ABORTING) !== 0) this.aborting--
    if ((state & ENDLESS) !== 0) this.endless--
  }

  private cids(wanted: (cid: number) => boolean): number[] {
    const found: number[] = []
    for (let cid = 0; cid < this.depth; cid++) if (this.states[cid] >= 0 && wanted(cid)) found.push(cid)
    return found
  }

  private refuse(at: number): never {
    const [cid, queue, head] = [
      this.answers[at + 3] & 0xffff,
      this.answers[at + 2] >>> 16,
      this.answers[at + 2] & 0xffff,
    ]
    throw accelError(
      'ERR_ACCEL_IO',
      `NVMe queue ${this.id} got a completion for CID ${cid} of queue ${queue} with head ${head}: that is not under way, or the head is none of what was announced. The controller has to be reset`,
      { details: { cid, queue, head } },
    )
  }
}

/**
 * Writes a doorbell in memory; true where the controller wants the register written, too: where its event index is among the values from
 * `before` on that this one passes. Both are numbers of slots, whose difference counts modulo 2^16 (7.13).
 */
function announce(shadow: ShadowDoorbells, offset: number, value: number, before: number): boolean {
  shadow.doorbells[offset >> 2] = value
  // The controller writes its index and then looks at the doorbell once more: one of the two sees what the other wrote.
  memoryFence()
  return ((value - shadow.eventIndexes[offset >> 2] - 1) & 0xffff) < ((value - before) & 0xffff)
}

/** One caller's mistake is not to keep the others from their results. */
function reportLater(error: unknown): void {
  queueMicrotask(() => {
    throw error
  })
}
