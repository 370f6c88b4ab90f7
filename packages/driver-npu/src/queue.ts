import type { DeviceTap } from '@uaccel/core'
import { CompletionRing, memoryFence, ProducerRing, withOwnCode } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import { DESCRIPTOR_WORDS, type RingJob } from './job.js'
import { stepError } from './status.js'

/** Layout of docs/devices/npu.md, 5.3, 5.4 and 7.2. */
const DESCRIPTOR_BYTES = 64
const COMPLETION_BYTES = 16
const STATUS_BYTES = 64
const DOORBELL = { SQ_TAIL: 0x0, CQ_HEAD: 0x4 } as const
const PHASE = { word: 3, bit: 16 } as const
const PHASE_MASK = 1 << PHASE.bit

/** Words of the status block that are the driver's (5.4), where the queue is in another process than the registers. */
export const SHARED = {
  /** Number of the error that the queue has failed with. */ failed: 1,
  /** HEARTBEAT. */ heartbeat: 2,
} as const
/** Word of the status block in which the driver asks for quiet (5.4). */
const QUIET = 3

/** Told when a job ends: without an error where all of its steps succeeded. `cycles` is what they took in the device, in sum. */
export type JobDone = (error: AccelError | undefined, cycles: number) => void

/** Where the parts of a queue lie in its memory, in bytes. */
export function queueLayout(entriesLog2: number) {
  const entries = 1 << entriesLog2
  const cq = entries * DESCRIPTOR_BYTES
  // The status block starts on a multiple of 64, as the rings do.
  const status = Math.ceil((cq + entries * COMPLETION_BYTES) / STATUS_BYTES) * STATUS_BYTES
  return { entries, sq: 0, cq, status, sizeBytes: status + STATUS_BYTES }
}

/** Memory of the device with doorbells in it. */
export interface Doorbells {
  /** Exactly one write of that width. */
  write32(offset: number, value: number): void
}

/** What a queue works on, in the thread that uses it. */
export interface QueuePort {
  /** Both rings and the status block, as {@link queueLayout} says. */
  readonly words: Int32Array
  /** Holds its doorbell page, `page` bytes from the start. */
  readonly doorbells: Doorbells
  readonly page: number
  /** Writes the register WAKE. */
  wake(): void
  /** Where another thread may take `words` back: true from before it does, so that what was read there is nothing. The queue is failed soon. */
  takenBack?(): boolean
}

/** The state of a slot that no job has. */
const FREE = -1

/** What changes with each job, in one array: V8 neither tags such numbers nor checks them for overflow. */
const NOW = {
  /** How many slots are free. */
  free: 0,
  /** Counters of the doorbell page, which wrap at 2^32, while the rings count slots: what was announced, and what was consumed. */
  rung: 1,
  head: 2,
  /** What was announced of `head`. */
  told: 3,
  /** What `take` found: jobs that ended, and the index of a completion that cannot be, or -1. */
  ended: 4,
  forged: 5,
  /** 1 from a write of WAKE to the next completion. */
  woken: 6,
  words: 7,
} as const

/**
 * One queue pair as its user sees it: rings, doorbell, jobs under way. Submission and completion make no objects and touch
 * no register while the device is awake. It is started and stopped by its `QueueControl`, which may be in another thread.
 */
export class NpuQueue {
  // Declared, not private names: see the rings of @uaccel/memory.
  declare readonly index: number
  declare private readonly port: QueuePort
  declare private doorbells: Doorbells
  declare private readonly page: number
  declare private readonly sq: ProducerRing
  declare private readonly cq: CompletionRing
  declare private readonly submissions: Int32Array
  declare private readonly answers: Int32Array
  declare private readonly statusBlock: Int32Array
  declare private readonly now: Int32Array
  /** Which descriptor each entry of the ring holds: see `RingJob.image`. */
  declare private readonly images: Float64Array

  // Jobs under way, by slot; the slot's number is the CID of its descriptors.
  declare private readonly freeSlots: Int32Array
  /** The steps of a job (upper half) and how many of them are left; 0 where it has ended and was not told, FREE where there is none. */
  declare private readonly states: Int32Array
  declare private readonly jobs: (RingJob | undefined)[]
  declare private readonly done: (JobDone | undefined)[]
  declare private readonly cycles: Float64Array
  declare private readonly failedStatus: Int32Array
  declare private readonly failedStep: Int32Array
  declare private readonly failedDetail: Int32Array
  declare private readonly ended: Int32Array
  /** Puts the steps of a job into the ring, for {@link ring} to announce. The caller saw that {@link free} is enough. */
  declare push: (job: RingJob, done: JobDone) => void
  declare private readonly ownTake: () => number
  declare private readonly ownTell: () => void
  declare private telling: boolean
  /** The number of the last job that a tap was told of. */
  declare private followed: number
  /** Completions seen since the queue was made. */
  declare completions: number

  /** Rings of 2^`entriesLog2` entries, at most 2^15; one entry stays free. */
  constructor(index: number, entriesLog2: number, port: QueuePort) {
    const { entries, cq, status } = queueLayout(entriesLog2)
    const { words } = port
    this.index = index
    this.port = port
    this.doorbells = port.doorbells
    this.page = port.page
    this.sq = new ProducerRing({ words: words.subarray(0, cq / 4), entries, entryBytes: DESCRIPTOR_BYTES })
    this.cq = new CompletionRing({
      words: words.subarray(cq / 4, status / 4),
      entries,
      entryBytes: COMPLETION_BYTES,
      phaseWord: PHASE.word,
      phaseBit: PHASE.bit,
    })
    this.submissions = this.sq.words
    this.answers = this.cq.words
    this.statusBlock = words.subarray(status / 4, (status + STATUS_BYTES) / 4)
    this.now = numbers(NOW.words)
    this.images = new Float64Array(new ArrayBuffer(8 * entries))
    this.now[NOW.free] = entries
    this.freeSlots = numbers(entries).map((_, i) => i)
    this.states = numbers(entries).fill(FREE)
    this.jobs = new Array(entries).fill(undefined)
    this.done = new Array(entries).fill(undefined)
    this.cycles = new Float64Array(new ArrayBuffer(8 * entries))
    this.failedStatus = numbers(entries)
    this.failedStep = numbers(entries)
    this.failedDetail = numbers(entries)
    this.ended = numbers(entries)
    this.telling = false
    this.followed = 0
    this.completions = 0
    this.push = withOwnCode(makePush)(this)
    this.ownTake = withOwnCode(makeTake)(this)
    this.ownTell = withOwnCode(makeTell)(this)
  }

  /** Jobs under way. */
  get inFlight(): number {
    return this.states.length - this.now[NOW.free]
  }

  /** How many steps the ring can take now. While ended jobs are told, those that were not yet have slots, though no entries. */
  get free(): number {
    return this.now[NOW.free] > 0 ? this.sq.free : 0
  }

  /**
   * Has a tap told of jobs, or nobody. What is called is exchanged: a queue that nobody ever followed has no code for it. Jobs are numbered as
   * they come, from 1 on.
   */
  follow(tap: DeviceTap | undefined): void {
    const plain = withOwnCode(makePush)(this)
    if (tap === undefined) {
      this.push = plain
      this.doorbells = this.port.doorbells
      return
    }
    const { index, port, page } = this
    let unrung: number[] = []
    this.push = (job, done) => {
      const id = ++this.followed >>> 0
      tap.queued(index, id)
      unrung.push(id)
      plain(job, (error, cycles) => {
        tap.completed(index, id, error)
        done(error, cycles)
      })
    }
    this.doorbells = {
      write32: (offset, value) => {
        if (offset === page + DOORBELL.SQ_TAIL) {
          for (const id of unrung) tap.started(index, id)
          unrung = []
        }
        port.doorbells.write32(offset, value)
      },
    }
  }

  /** Has the device raise no interrupts, or has it raise them again: then what it was silent about is to be taken by {@link poll}. */
  quiet(on: boolean): void {
    this.statusBlock[QUIET] = Number(on)
    memoryFence()
  }

  /** The most steps that a job may have. */
  get capacity(): number {
    return this.sq.entries - 1
  }

  /** Back to empty: its memory was cleared and the queue is started anew. */
  reset(): void {
    this.sq.reset()
    this.cq.reset()
    this.now[NOW.rung] = this.now[NOW.head] = this.now[NOW.told] = this.now[NOW.woken] = 0
    this.images.fill(0)
  }

  /** As {@link push}. @internal */
  put(job: RingJob, done: JobDone): void {
    const { sq, submissions, now, images } = this
    const { words, steps, image } = job
    const left = (now[NOW.free] - 1) | 0
    now[NOW.free] = left
    const slot = this.freeSlots[left]
    this.states[slot] = steps * 0x1_0001
    // Mostly they are there already, and a store would have to be noted for the garbage collector.
    if (this.jobs[slot] !== job) this.jobs[slot] = job
    if (this.done[slot] !== done) this.done[slot] = done
    for (let step = 0; step < steps; step++) {
      const at = sq.at(step)
      const from = step * DESCRIPTOR_WORDS
      if (images[at >> 4] !== image + step) {
        images[at >> 4] = image + step
        putEntry(submissions, at, words, from)
      }
      submissions[at] = words[from] | (slot << 16)
    }
    sq.push(steps)
  }

  /** Announces what was pushed: one doorbell, and the WAKE register where the device went idle (5.4). */
  ring(): void {
    const { sq, now } = this
    const old = now[NOW.rung]
    const count = (sq.tail - old) & (sq.entries - 1)
    if (count === 0) return
    const tail = (old + count) | 0
    now[NOW.rung] = tail
    // Only here, where the device takes its look: alone it would cost that the line of its doorbells once more (5.1).
    if (now[NOW.told] !== now[NOW.head]) {
      now[NOW.told] = now[NOW.head]
      this.doorbells.write32(this.page + DOORBELL.CQ_HEAD, now[NOW.head])
    }
    this.doorbells.write32(this.page + DOORBELL.SQ_TAIL, tail)
    memoryFence()
    if ((tail - this.statusBlock[0] - 1) >>> 0 < count) {
      now[NOW.woken] = 1
      this.port.wake()
    }
  }

  /** Whether the device was idle when work was announced to it, and has completed nothing since. */
  get wakes(): boolean {
    return this.now[NOW.woken] !== 0
  }

  /**
   * Takes the completions that are there, then tells the jobs that ended. Answers how many completions there were.
   * `ERR_ACCEL_IO` for a completion of nothing that is under way: what the device says cannot be trusted any more.
   */
  poll(): number {
    if (this.telling) return 0
    const { sq, cq, now, answers } = this
    const count = this.ownTake()
    // As many as are ended are told before what was found behind them is refused.
    const forged = now[NOW.forged]
    if ((count > 0 || forged >= 0) && this.port.takenBack?.()) return 0
    if (count > 0) {
      cq.advance(count)
      this.completions += count
      now[NOW.woken] = 0
      now[NOW.head] += count
      // As many slots are free as completions were consumed, in whatever order those came (5.1).
      sq.consumed((sq.head + count) & (sq.entries - 1))
      this.telling = true
      this.ownTell()
      this.telling = false
    }
    if (forged >= 0) this.refuse(answers[forged + 3], answers[forged])
    return count
  }

  /** Counts completions to their jobs. Answers how many, and notes which jobs have ended, and the index of one that cannot be. @internal */
  take(): number {
    const { sq, cq, now, answers, states, cycles, ended } = this
    const limit = sq.pending
    const mask = sq.entries - 1
    let { head, phase } = cq
    let count = 0
    let jobs = 0
    let forged = -1
    for (;;) {
      const at = (head & 0xffff) << 2
      const last = answers[at + 3]
      if ((last & PHASE_MASK) !== phase) break
      // It comes from another process: nothing of it is believed before it was held to what is under way.
      const step = answers[at]
      const slot = last & 0xffff
      const state = slot > mask || count === limit ? 0 : states[slot]
      if (state <= 0 || step < 0 || step >= state >> 16) {
        forged = at
        break
      }
      const status = last >>> 24
      const before = state >> 16 === (state & 0xffff) ? 0 : cycles[slot]
      cycles[slot] = status === 0 ? before + (answers[at + 1] >>> 0) : before
      if (status !== 0) this.noteFailure(slot, status, step, answers[at + 1])
      if (((state - 1) & 0xffff) !== 0) states[slot] = state - 1
      else {
        states[slot] = 0
        ended[jobs] = slot
        jobs = (jobs + 1) | 0
      }
      count = (count + 1) | 0
      head = (head + 1) & mask
      if (head === 0) phase ^= PHASE_MASK
    }
    now[NOW.ended] = jobs
    now[NOW.forged] = forged
    return count
  }

  /** Tells the jobs that {@link take} noted. @internal */
  tell(): void {
    const { now, states, ended, done, cycles, failedStatus } = this
    const jobs = now[NOW.ended]
    for (let i = 0; i < jobs; i++) {
      const slot = ended[i]
      // A callback may have failed the queue, and with it what had not been told.
      if (states[slot] !== 0) continue
      const listener = done[slot] as JobDone
      this.release(slot)
      try {
        listener(failedStatus[slot] === 0 ? undefined : this.takeFailure(slot), cycles[slot])
      } catch (error) {
        reportLater(error)
      }
    }
  }

  /** Ends all jobs under way with `error`: the device will not answer for them. */
  fail(error: AccelError): void {
    const ended: (JobDone | undefined)[] = []
    for (let slot = 0; slot < this.states.length; slot++) {
      if (this.states[slot] === FREE) continue
      this.failedStatus[slot] = 0
      ended.push(this.done[slot])
      this.release(slot)
    }
    // Only now: one that hears of a restart already, and submits again, is not to find its new jobs ended.
    for (const done of ended) {
      try {
        done?.(error, 0)
      } catch (thrown) {
        reportLater(thrown)
      }
    }
  }

  /** Lets go of jobs that have ended: their slots keep them for the next ones. */
  forget(): void {
    for (let slot = 0; slot < this.states.length; slot++) {
      if (this.states[slot] !== FREE) continue
      this.jobs[slot] = undefined
      this.done[slot] = undefined
    }
  }

  /** The first failure of a job is the one that is told. */
  private noteFailure(slot: number, status: number, step: number, detail: number): void {
    if (this.failedStatus[slot] !== 0) return
    this.failedStatus[slot] = status
    this.failedStep[slot] = step
    this.failedDetail[slot] = detail
  }

  private refuse(last: number, step: number): never {
    const cid = last & 0xffff
    throw accelError(
      'ERR_ACCEL_IO',
      `NPU queue ${this.index} got a completion for CID ${cid}, step ${step}, which is not under way: it has to be recovered`,
      { details: { cid, step } },
    )
  }

  private takeFailure(slot: number): AccelError {
    const [status, step, job] = [this.failedStatus[slot], this.failedStep[slot], this.jobs[slot] as RingJob]
    this.failedStatus[slot] = 0
    return stepError(step, job.stepNames[step], status, this.failedDetail[slot] >>> 0)
  }

  private release(slot: number): void {
    const { now } = this
    const free = now[NOW.free]
    this.states[slot] = FREE
    this.freeSlots[free] = slot
    now[NOW.free] = free + 1
  }
}

/** One caller's mistake is not to keep the others from their results. */
function reportLater(error: unknown): void {
  queueMicrotask(() => {
    throw error
  })
}

const makePush = (queue: Pick<NpuQueue, 'put'>) => (job: RingJob, done: JobDone) => queue.put(job, done)
const makeTake = (queue: { take(): number }) => () => queue.take()
const makeTell = (queue: { tell(): void }) => () => queue.tell()

/** So many words whose address V8 knows: they have a buffer of their own, outside of the heap. */
function numbers(words: number): Int32Array {
  return new Int32Array(new ArrayBuffer(4 * words))
}

/** Copies a descriptor into the ring, but for its first word. Spelt out: V8 takes half as long for it as for a loop, and less than for `set`. */
function putEntry(ring: Int32Array, at: number, words: Int32Array, from: number): void {
  ring[at + 1] = words[from + 1]
  ring[at + 2] = words[from + 2]
  ring[at + 3] = words[from + 3]
  ring[at + 4] = words[from + 4]
  ring[at + 5] = words[from + 5]
  ring[at + 6] = words[from + 6]
  ring[at + 7] = words[from + 7]
  ring[at + 8] = words[from + 8]
  ring[at + 9] = words[from + 9]
  ring[at + 10] = words[from + 10]
  ring[at + 11] = words[from + 11]
  ring[at + 12] = words[from + 12]
  ring[at + 13] = words[from + 13]
  ring[at + 14] = words[from + 14]
  ring[at + 15] = words[from + 15]
}
