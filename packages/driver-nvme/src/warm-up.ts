import { scratchMmio } from '@uaccel/core'
import type { DmaRegion } from '@uaccel/memory'
import { accelError } from '@uaccel/uapi'
import { COMMAND_BYTES, COMMAND_WORDS, COMPLETION_BYTES, PAGE_BYTES } from './command.js'
import { listBytes } from './prp.js'
import { type CommandListener, NvmeQueue } from './queue.js'

const ENTRIES = 16
const COMPLETION_WORDS = COMPLETION_BYTES / 4
const PHASE = 1 << 16
/** Any status that is none of success: Internal Error (NVMe base 1.4, figure 127). */
const FAILED = 0x06
/** Enough that V8 compiles all of it: it does so after some thousand turns of a loop. */
const ROUNDS = 1_500
/** More windows onto doorbells than V8 tells apart in one place (four): a window has a class of its own, and that of the real doorbells is never seen here. */
const WINDOWS = 5
const MAX_BYTES = 3 << 20 // a list of two pages
/** Every way to name memory: none, PRP1 alone, PRP1 and PRP2, a list, a list of two pages. */
const SIZES = [0, PAGE_BYTES, 2 * PAGE_BYTES, 16 * PAGE_BYTES, MAX_BYTES] as const

/** Lower halves of addresses: before a border of 4 GiB, and far from one. */
const LOWS = [-PAGE_BYTES, 0x7fff_f004, -2 * PAGE_BYTES, 0] as const

/** What this thread had of {@link warmUp}. */
const had = { plain: false, shadow: false }

/** What is rehearsed. */
export interface WarmUpOptions {
  /** V8 compiles the call of a listener for the classes that it has seen: this one is called, too, of commands that are none. */
  readonly listener?: CommandListener
  /** With shadow doorbells, which make every doorbell a little slower in this thread. Default false. */
  readonly shadow?: boolean
}

/**
 * Runs a queue pair on private memory through everything that the loops of a real one do: commands of all sizes, full and empty rings and their
 * ends, errors, aborted commands. V8 compiles code for what it has seen: without that it throws code away, and compiles anew, in the
 * middle of real commands. Once in a thread is enough; it takes some 10 ms. Every queue of `Nvme` was preceded by one.
 */
export function warmUp({ listener, shadow = false }: WarmUpOptions = {}): void {
  if (listener === undefined && (shadow ? had.shadow : had.plain)) return
  had[shadow ? 'shadow' : 'plain'] = true
  const rehearsals = Array.from({ length: WINDOWS }, () => new Rehearsal(listener))
  for (let round = 0; round < ROUNDS; round++) rehearsals[(round >> 5) % WINDOWS].run(round, shadow)
}

/** A controller and its driver on a stage: both ends of the rings of one queue. */
class Rehearsal {
  readonly #queue: NvmeQueue
  readonly #given: CommandListener
  readonly #sq: Int32Array
  readonly #cq: Int32Array
  readonly #shadow = {
    doorbells: new Int32Array(PAGE_BYTES / 4),
    eventIndexes: new Int32Array(PAGE_BYTES / 4),
  }
  readonly #words = new Int32Array(COMMAND_WORDS)
  readonly #quiet: CommandListener = { completed() {}, failed() {} }
  #taken = 0
  #posted = 0

  constructor(listener: CommandListener | undefined) {
    const region = (sizeBytes: number, iova = 0n) =>
      ({ i32: new Int32Array(new ArrayBuffer(sizeBytes)), iova }) as unknown as DmaRegion
    const memory = {
      submissions: region(ENTRIES * COMMAND_BYTES),
      completions: region(ENTRIES * COMPLETION_BYTES),
      lists: region(ENTRIES * listBytes(MAX_BYTES), 0xffff_f000n), // the first goes over a border of 4 GiB
    }
    this.#sq = memory.submissions.i32
    this.#cq = memory.completions.i32
    this.#queue = new NvmeQueue({
      id: 1,
      entries: ENTRIES,
      memory,
      doorbells: scratchMmio(16),
      submissionDoorbell: 8,
      completionDoorbell: 12,
    })
    this.#given = listener ?? this.#quiet
  }

  run(round: number, shadow: boolean): void {
    const queue = this.#queue
    if (round % 32 === 0) this.#startOver(shadow)
    const high = round % 3 === 0 ? -1 : 1
    const lba = round % 2 === 0 ? round : -round
    const wanted = 1 + (round % ENTRIES)
    let count = 0
    for (let i = 0; i < wanted; i++) {
      // Long ones are few: what V8 sees often, it puts into its callers, and then they have no room for the rest.
      const special = (round + i) % 64 === 0
      const sizeBytes = special ? SIZES[(round >> 2) % SIZES.length] : PAGE_BYTES
      const low = special ? LOWS[round % LOWS.length] : 0
      if (queue.submit(2, 1, low, high, sizeBytes, lba, i, 7, this.#given) >= 0) count++
    }
    if (round % 8 === 7) {
      if (queue.submitWords(this.#words, this.#given, { endless: true }) >= 0) count++
      queue.abort(0)
      queue.turn(4)
    }
    queue.ring()
    queue.ring()
    queue.poll()
    queue.spin(2)
    const half = count >> 1
    this.#complete(half, round % 4 === 0 ? FAILED : 0)
    if (queue.peekAhead(half & 7)) queue.spin(4)
    queue.poll()
    this.#complete(count - half, 0)
    queue.spin(2)
    queue.poll()
    if (queue.inFlight > 0 || queue.stuck) {
      throw accelError(
        'ERR_ACCEL_IO',
        `The rehearsal of an NVMe queue left ${queue.inFlight} commands behind`,
      )
    }
  }

  /** What the controller does. */
  #complete(count: number, status: number): void {
    for (let i = 0; i < count; i++) {
      const cid = this.#sq[this.#taken * COMMAND_WORDS] >>> 16
      const at = (this.#posted % ENTRIES) * COMPLETION_WORDS
      const phase = (Math.floor(this.#posted / ENTRIES) & 1) === 0 ? PHASE : 0
      this.#taken = (this.#taken + 1) % ENTRIES
      this.#cq[at] = status
      this.#cq[at + 2] = this.#taken | (1 << 16)
      this.#cq[at + 3] = cid | phase | (status << 17)
      this.#posted++
    }
    this.#shadow.eventIndexes.fill(count % 2 === 0 ? this.#taken : 0, 2, 3)
  }

  #startOver(shadow: boolean): void {
    this.#queue.fail(() => accelError('ERR_ACCEL_AGAIN', 'a rehearsal'))
    this.#taken = 0
    this.#posted = 0
    this.#shadow.doorbells.fill(0)
    this.#shadow.eventIndexes.fill(0)
    if (shadow) this.#queue.useShadow(this.#shadow)
  }
}
