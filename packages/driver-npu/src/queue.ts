import { CompletionRing, memoryFence, ProducerRing } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import { DESCRIPTOR_WORDS, type RingJob } from './job.js'
import { stepError } from './status.js'

/** Layout of docs/devices/npu.md, 5.3, 5.4 and 7.2. */
const DESCRIPTOR_BYTES = 64
const COMPLETION_BYTES = 16
const STATUS_BYTES = 64
const DOORBELL = { SQ_TAIL: 0x0, CQ_HEAD: 0x4 } as const
const PHASE = { word: 3, bit: 16 } as const

/** Words of the status block that are the driver's (5.4), where the queue is in another process than the registers. */
export const SHARED = {
  /** Number of the error that the queue has failed with. */ failed: 1,
  /** HEARTBEAT. */ heartbeat: 2,
} as const

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
}

/**
 * One queue pair as its user sees it: rings, doorbell, jobs under way. Submission and completion make no objects and touch
 * no register while the device is awake. It is started and stopped by its `QueueControl`, which may be in another thread.
 */
export class NpuQueue {
  readonly index: number
  readonly #port: QueuePort
  readonly #doorbells: Doorbells
  readonly #page: number
  readonly #sq: ProducerRing
  readonly #cq: CompletionRing
  readonly #wakeAt: Int32Array
  // The counters of the doorbell page: they wrap at 2^32, while the rings count slots.
  #tail = 0
  #rung = 0
  #head = 0

  // Jobs under way, by slot; the slot's number is the CID of its descriptors.
  readonly #left: Int32Array
  readonly #jobs: (RingJob | undefined)[]
  readonly #done: (JobDone | undefined)[]
  readonly #cycles: Float64Array
  readonly #failedStep: Int32Array
  readonly #failedStatus: Int32Array
  readonly #failedDetail: Int32Array
  readonly #freeSlots: Int32Array
  #freeCount: number
  readonly #ended: Int32Array
  #endedCount = 0
  #telling = false
  /** Completions seen since the queue was made. */
  completions = 0

  /** Rings of 2^`entriesLog2` entries; one entry stays free. */
  constructor(index: number, entriesLog2: number, port: QueuePort) {
    const { entries, cq, status } = queueLayout(entriesLog2)
    const { words } = port
    this.index = index
    this.#port = port
    this.#doorbells = port.doorbells
    this.#page = port.page
    this.#sq = new ProducerRing({ words: words.subarray(0, cq / 4), entries, entryBytes: DESCRIPTOR_BYTES })
    this.#cq = new CompletionRing({
      words: words.subarray(cq / 4, status / 4),
      entries,
      entryBytes: COMPLETION_BYTES,
      phaseWord: PHASE.word,
      phaseBit: PHASE.bit,
    })
    this.#wakeAt = words.subarray(status / 4, (status + STATUS_BYTES) / 4)
    this.#left = new Int32Array(entries)
    this.#jobs = new Array(entries).fill(undefined)
    this.#done = new Array(entries).fill(undefined)
    this.#cycles = new Float64Array(entries)
    this.#failedStep = new Int32Array(entries)
    this.#failedStatus = new Int32Array(entries)
    this.#failedDetail = new Int32Array(entries)
    this.#ended = new Int32Array(entries)
    this.#freeSlots = Int32Array.from({ length: entries }, (_, i) => i)
    this.#freeCount = entries
  }

  /** Jobs under way. */
  get inFlight(): number {
    return this.#freeSlots.length - this.#freeCount
  }

  /** How many steps the ring can take now. */
  get free(): number {
    return this.#sq.free
  }

  /** The most steps that a job may have. */
  get capacity(): number {
    return this.#sq.entries - 1
  }

  /** Back to empty: its memory was cleared and the queue is started anew. */
  reset(): void {
    this.#sq.reset()
    this.#cq.reset()
    this.#tail = this.#rung = this.#head = 0
  }

  /** Puts the steps of a job into the ring, for {@link ring} to announce. The caller saw that `free` is enough. */
  push(job: RingJob, done: JobDone): void {
    const { words } = job
    const slot = this.#freeSlots[--this.#freeCount]
    this.#left[slot] = words.length / DESCRIPTOR_WORDS
    this.#jobs[slot] = job
    this.#done[slot] = done
    this.#failedStatus[slot] = 0
    this.#cycles[slot] = 0
    const ring = this.#sq.words
    for (let from = 0; from < words.length; from += DESCRIPTOR_WORDS) {
      const at = this.#sq.next()
      ring[at] = words[from] | (slot << 16)
      for (let i = 1; i < DESCRIPTOR_WORDS; i++) ring[at + i] = words[from + i]
      this.#sq.push()
    }
    this.#tail = (this.#tail + words.length / DESCRIPTOR_WORDS) | 0
  }

  /** Announces what was pushed: one doorbell, and the WAKE register where the device went idle (5.4). */
  ring(): void {
    const old = this.#rung
    const tail = this.#tail
    if (tail === old) return
    this.#rung = tail
    this.#doorbells.write32(this.#page + DOORBELL.SQ_TAIL, tail)
    memoryFence()
    if ((tail - this.#wakeAt[0] - 1) >>> 0 < (tail - old) >>> 0) this.#port.wake()
  }

  /**
   * Takes the completions that are there, then tells the jobs that ended. Answers how many completions there were.
   * `ERR_ACCEL_IO` for a completion of nothing that is under way: what the device says cannot be trusted any more.
   */
  poll(): number {
    if (this.#telling) return 0
    const cq = this.#cq
    const words = cq.words
    const limit = this.#sq.pending
    let count = 0
    let forged = -1
    for (let at = cq.peek(); at >= 0; at = cq.peek()) {
      if (count === limit || !this.#complete(words[at + 3], words[at], words[at + 1])) {
        forged = at
        break
      }
      cq.advance()
      count++
    }
    if (count > 0) {
      this.completions += count
      this.#head = (this.#head + count) | 0
      this.#doorbells.write32(this.#page + DOORBELL.CQ_HEAD, this.#head)
      // As many slots are free as completions were consumed, in whatever order those came (5.1).
      this.#sq.consumed((this.#sq.head + count) & (this.#sq.entries - 1))
      this.#tellEnded()
    }
    if (forged >= 0) this.#refuse(words[forged + 3], words[forged])
    return count
  }

  /** Ends all jobs under way with `error`: the device will not answer for them. */
  fail(error: AccelError): void {
    for (let slot = 0; slot < this.#jobs.length; slot++) {
      const done = this.#done[slot]
      if (done === undefined) continue
      this.#release(slot)
      done(error, 0)
    }
  }

  /** Counts a completion to its job; false where there is no such job or step. It comes from another process. */
  #complete(last: number, step: number, detail: number): boolean {
    const slot = last & 0xffff
    if (slot >= this.#left.length || this.#left[slot] === 0) return false
    if (step < 0 || step >= this.#jobs[slot]!.steps) return false
    const status = last >>> 24
    if (status === 0) this.#cycles[slot] += detail >>> 0
    else if (this.#failedStatus[slot] === 0) {
      this.#failedStatus[slot] = status
      this.#failedStep[slot] = step
      this.#failedDetail[slot] = detail
    }
    if (--this.#left[slot] === 0) this.#ended[this.#endedCount++] = slot
    return true
  }

  #refuse(last: number, step: number): never {
    const cid = last & 0xffff
    throw accelError(
      'ERR_ACCEL_IO',
      `NPU queue ${this.index} got a completion for CID ${cid}, step ${step}, which is not under way: it has to be recovered`,
      { details: { cid, step } },
    )
  }

  #tellEnded(): void {
    this.#telling = true
    for (let i = 0; i < this.#endedCount; i++) {
      try {
        this.#tell(this.#ended[i])
      } catch (error) {
        // One caller's mistake is not to keep the others from their results.
        queueMicrotask(() => {
          throw error
        })
      }
    }
    this.#endedCount = 0
    this.#telling = false
  }

  #tell(slot: number): void {
    const done = this.#done[slot]
    const job = this.#jobs[slot]
    const status = this.#failedStatus[slot]
    const cycles = this.#cycles[slot]
    if (done === undefined || job === undefined) return
    this.#release(slot)
    if (status === 0) done(undefined, cycles)
    else {
      const step = this.#failedStep[slot]
      done(stepError(step, job.stepNames[step], status, this.#failedDetail[slot] >>> 0), cycles)
    }
  }

  #release(slot: number): void {
    this.#left[slot] = 0
    this.#jobs[slot] = undefined
    this.#done[slot] = undefined
    this.#freeSlots[this.#freeCount++] = slot
  }
}
