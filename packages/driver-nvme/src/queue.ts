import { CompletionRing, type DmaRegion, ProducerRing } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import { COMMAND_BYTES, COMMAND_WORDS, COMPLETION_BYTES, PAGE_BYTES } from './command.js'

/** The phase tag of a completion: bit 16 of DW3 (NVMe base 1.4, 4.6). */
const PHASE = { word: 3, bit: 16 } as const
/** Bytes of a PRP entry (4.3). */
const PRP_BYTES = 8
/** One list of PRP entries fills a page at most: the driver chains none (4.4). */
const MAX_LIST_ENTRIES = PAGE_BYTES / PRP_BYTES
/** What one command moves at most: a page by PRP1, whatever its offset is, and a list of the others. */
export const MAX_TRANSFER_BYTES = MAX_LIST_ENTRIES * PAGE_BYTES
const OFFSET_IN_PAGE = PAGE_BYTES - 1
/** A turn of the watchdog that never comes: of a command without a limit. */
const NEVER = 0x7fff_ffff

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

/** How many bytes the list of PRP entries of a transfer takes: a power of two, so that none crosses a page. */
export function listBytes(maxTransferBytes: number): number {
  const entries = Math.ceil(maxTransferBytes / PAGE_BYTES)
  return 2 ** Math.ceil(Math.log2(Math.max(8, entries) * PRP_BYTES))
}

/**
 * A queue pair as its user sees it: rings, PRP lists, commands under way. Submission and completion make no objects. Addresses, block
 * numbers and words are signed 32-bit halves, which no call has to put on the heap.
 */
export class NvmeQueue {
  readonly id: number
  readonly #doorbells: Doorbells
  readonly #submissionDoorbell: number
  readonly #completionDoorbell: number
  readonly #sq: ProducerRing
  readonly #cq: CompletionRing
  #rung = 0

  // PRP lists by CID.
  readonly #lists: Int32Array
  readonly #listWords: number
  readonly #listLow: Int32Array
  readonly #listHigh: Int32Array

  // Commands under way by CID.
  readonly #listeners: (CommandListener | undefined)[]
  readonly #began: Int32Array
  readonly #aborting: Uint8Array
  readonly #freeCids: Int32Array
  #freeCount: number
  #turn = 0
  #polling = false
  #ringAfter = false
  #abortingCount = 0
  #endless = 0
  /** Completions seen since the queue was made. */
  completions = 0
  /** Writes of the submission doorbell since then. */
  doorbellWrites = 0

  constructor(options: QueueOptions) {
    const { id, entries, memory } = options
    this.id = id
    this.#doorbells = options.doorbells
    this.#submissionDoorbell = options.submissionDoorbell
    this.#completionDoorbell = options.completionDoorbell
    this.#sq = new ProducerRing({ words: memory.submissions.i32, entries, entryBytes: COMMAND_BYTES })
    this.#cq = new CompletionRing({
      words: memory.completions.i32,
      entries,
      entryBytes: COMPLETION_BYTES,
      phaseWord: PHASE.word,
      phaseBit: PHASE.bit,
    })
    // As many commands as the ring holds: their completions fit, and one that has a CID has an entry.
    const depth = entries - 1
    this.#listeners = new Array(depth).fill(undefined)
    this.#began = new Int32Array(depth)
    this.#aborting = new Uint8Array(depth)
    this.#freeCids = Int32Array.from({ length: depth }, (_, i) => depth - 1 - i)
    this.#freeCount = depth
    this.#lists = memory.lists?.i32 ?? new Int32Array(0)
    this.#listWords = Math.floor(this.#lists.length / entries)
    this.#listLow = new Int32Array(depth)
    this.#listHigh = new Int32Array(depth)
    for (let cid = 0; cid < depth && memory.lists !== undefined; cid++) {
      const at = memory.lists.iova + BigInt(cid * this.#listWords * 4)
      this.#listLow[cid] = Number(at & 0xffff_ffffn)
      this.#listHigh[cid] = Number(at >> 32n)
    }
  }

  /** The most commands that can be under way. */
  get depth(): number {
    return this.#listeners.length
  }

  /** How many commands can be submitted now. */
  get free(): number {
    return Math.min(this.#freeCount, this.#sq.free)
  }

  /** Commands under way. */
  get inFlight(): number {
    return this.depth - this.#freeCount
  }

  /** True where commands are under way that are to end. */
  get busy(): boolean {
    return this.inFlight > this.#endless
  }

  /** True where a command is under way that was to be aborted. */
  get stuck(): boolean {
    return this.#abortingCount > 0
  }

  /** The commands that were to be aborted and have not ended. */
  get abortingCids(): number[] {
    return this.#cids((cid) => this.#aborting[cid] !== 0)
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
    const at = this.#sq.next()
    if (at < 0 || this.#freeCount === 0) return -1
    const cid = this.#take(listener)
    const words = this.#sq.words
    // Words 2 to 5 and 13 to 15 are 0 in every command that goes this way, and are never written.
    words[at] = opcode | (cid << 16)
    words[at + 1] = nsid
    this.#pointTo(at, cid, low, high, sizeBytes)
    words[at + 10] = cdw10
    words[at + 11] = cdw11
    words[at + 12] = cdw12
    this.#sq.push()
    return cid
  }

  /**
   * The same for a whole command: its 16 words, but for the CID. For the admin queue, none of whose entries goes through
   * {@link submit}.
   */
  submitWords(command: Int32Array, listener: CommandListener, { endless = false } = {}): number {
    const at = this.#sq.next()
    if (at < 0 || this.#freeCount === 0) return -1
    const cid = this.#take(listener)
    this.#sq.words.set(command.subarray(0, COMMAND_WORDS), at)
    this.#sq.words[at] = (command[0] & 0xffff) | (cid << 16)
    if (endless) {
      this.#began[cid] = NEVER
      this.#endless++
    }
    this.#sq.push()
    return cid
  }

  /** Announces what was submitted: one doorbell for all of it. A listener's waits for the end of the poll that called it. */
  ring(): void {
    // The device has to know first which completions were taken: those of new commands might not fit, which is fatal.
    if (this.#polling) {
      this.#ringAfter = true
      return
    }
    const { tail } = this.#sq
    if (tail === this.#rung) return
    this.#rung = tail
    this.doorbellWrites++
    this.#doorbells.write32(this.#submissionDoorbell, tail)
  }

  /** True where a completion is there, `ahead` entries after the next: polling there first lets a batch grow. */
  peekAhead(ahead: number): boolean {
    return this.#cq.peekAhead(ahead)
  }

  /**
   * Takes the completions that are there and tells whose they are. Answers how many there were; 0 inside a listener.
   * `ERR_ACCEL_IO` for a completion of nothing that is under way: what the device says cannot be trusted any more.
   */
  poll(): number {
    if (this.#polling) return 0
    const cq = this.#cq
    const words = cq.words
    this.#polling = true
    let count = 0
    try {
      // No more than can be under way: the device has to see the head move, and the event loop gets its turn.
      for (let at = cq.peek(); at >= 0 && count < this.#listeners.length; at = cq.peek()) {
        const last = words[at + 3]
        const cid = last & 0xffff
        const queue = words[at + 2]
        if (cid >= this.#listeners.length || this.#listeners[cid] === undefined || queue >>> 16 !== this.id)
          this.#refuse(cid, queue >>> 16)
        this.#sq.consumed(queue & 0xffff)
        const result = words[at]
        cq.advance()
        count++
        this.#end(cid, (last >>> 17) & 0x7fff, result)
      }
    } finally {
      this.#polling = false
      if (count > 0) {
        this.completions += count
        this.#doorbells.write32(this.#completionDoorbell, cq.head)
      }
    }
    if (this.#ringAfter) {
      this.#ringAfter = false
      this.ring()
    }
    return count
  }

  /** Marks a command as one that is to be aborted; false where it is not under way, or marked already. */
  abort(cid: number): boolean {
    if (this.#listeners[cid] === undefined || this.#aborting[cid] !== 0 || this.#began[cid] === NEVER)
      return false
    this.#aborting[cid] = 1
    this.#abortingCount++
    this.#began[cid] = this.#turn
    return true
  }

  /** Commands of that listener. */
  cidsOf(listener: CommandListener): number[] {
    return this.#cids((cid) => this.#listeners[cid] === listener)
  }

  /** A turn of the watchdog. Answers the commands that have been under way, or since they were to be aborted, for more than `turns`. */
  turn(turns: number): { readonly cid: number; readonly aborting: boolean }[] {
    this.#turn = (this.#turn + 1) & (NEVER >>> 1)
    const late = this.#cids((cid) => {
      const began = this.#began[cid]
      return began !== NEVER && ((this.#turn - began) & (NEVER >>> 1)) > turns
    })
    return late.map((cid) => ({ cid, aborting: this.#aborting[cid] !== 0 }))
  }

  /** Ends all commands under way: the device was brought to rest, and forgets them. The rings start over. */
  fail(errorOf: (cid: number) => AccelError): void {
    const ended = this.#cids(() => true).map((cid) => {
      const error = errorOf(cid)
      return { cid, error, listener: this.#release(cid) }
    })
    this.#sq.reset()
    this.#cq.reset()
    this.#rung = 0
    this.#ringAfter = false
    for (const { cid, error, listener } of ended) {
      try {
        listener?.failed(cid, error)
      } catch (thrown) {
        reportLater(thrown)
      }
    }
  }

  /** PRP1 and PRP2 of a transfer (4.4), and its list. */
  #pointTo(at: number, cid: number, low: number, high: number, sizeBytes: number): void {
    const words = this.#sq.words
    words[at + 6] = low
    words[at + 7] = high
    const first = PAGE_BYTES - (low & OFFSET_IN_PAGE)
    if (sizeBytes <= first) {
      words[at + 8] = 0
      words[at + 9] = 0
      return
    }
    let pageLow = ((low & ~OFFSET_IN_PAGE) + PAGE_BYTES) | 0
    let pageHigh = pageLow === 0 ? (high + 1) | 0 : high
    if (sizeBytes - first <= PAGE_BYTES) {
      words[at + 8] = pageLow
      words[at + 9] = pageHigh
      return
    }
    const lists = this.#lists
    let entry = cid * this.#listWords
    for (let left = sizeBytes - first; left > 0; left -= PAGE_BYTES) {
      lists[entry++] = pageLow
      lists[entry++] = pageHigh
      pageLow = (pageLow + PAGE_BYTES) | 0
      if (pageLow === 0) pageHigh = (pageHigh + 1) | 0
    }
    words[at + 8] = this.#listLow[cid]
    words[at + 9] = this.#listHigh[cid]
  }

  #take(listener: CommandListener): number {
    const cid = this.#freeCids[--this.#freeCount]
    this.#listeners[cid] = listener
    this.#began[cid] = this.#turn
    return cid
  }

  #release(cid: number): CommandListener | undefined {
    const listener = this.#listeners[cid]
    this.#listeners[cid] = undefined
    if (this.#began[cid] === NEVER) this.#endless--
    if (this.#aborting[cid] !== 0) {
      this.#aborting[cid] = 0
      this.#abortingCount--
    }
    this.#freeCids[this.#freeCount++] = cid
    return listener
  }

  #end(cid: number, status: number, result: number): void {
    const listener = this.#release(cid)
    try {
      listener?.completed(cid, status, result)
    } catch (error) {
      reportLater(error)
    }
  }

  #cids(wanted: (cid: number) => boolean): number[] {
    const found: number[] = []
    for (let cid = 0; cid < this.depth; cid++)
      if (this.#listeners[cid] !== undefined && wanted(cid)) found.push(cid)
    return found
  }

  #refuse(cid: number, queue: number): never {
    throw accelError(
      'ERR_ACCEL_IO',
      `NVMe queue ${this.id} got a completion for CID ${cid} of queue ${queue}, which is not under way: the controller has to be reset`,
      { details: { cid, queue } },
    )
  }
}

/** One caller's mistake is not to keep the others from their results. */
function reportLater(error: unknown): void {
  queueMicrotask(() => {
    throw error
  })
}
