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
  // Declared, not private names: see the rings of @uaccel/memory.
  declare readonly index: number
  declare private readonly port: QueuePort
  declare private readonly doorbells: Doorbells
  declare private readonly page: number
  declare private readonly sq: ProducerRing
  declare private readonly cq: CompletionRing
  declare private readonly wakeAt: Int32Array
  // The counters of the doorbell page: they wrap at 2^32, while the rings count slots.
  declare private tail: number
  declare private rung: number
  declare private head: number

  // Jobs under way, by slot; the slot's number is the CID of its descriptors.
  declare private readonly left: Int32Array
  declare private readonly jobs: (RingJob | undefined)[]
  declare private readonly done: (JobDone | undefined)[]
  declare private readonly cycles: Float64Array
  declare private readonly failedStep: Int32Array
  declare private readonly failedStatus: Int32Array
  declare private readonly failedDetail: Int32Array
  declare private readonly freeSlots: Int32Array
  declare private freeCount: number
  declare private readonly ended: Int32Array
  declare private endedCount: number
  declare private telling: boolean
  /** Completions seen since the queue was made. */
  declare completions: number

  /** Rings of 2^`entriesLog2` entries; one entry stays free. */
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
    this.wakeAt = words.subarray(status / 4, (status + STATUS_BYTES) / 4)
    this.tail = 0
    this.rung = 0
    this.head = 0
    this.left = new Int32Array(entries)
    this.jobs = new Array(entries).fill(undefined)
    this.done = new Array(entries).fill(undefined)
    this.cycles = new Float64Array(entries)
    this.failedStep = new Int32Array(entries)
    this.failedStatus = new Int32Array(entries)
    this.failedDetail = new Int32Array(entries)
    this.freeSlots = Int32Array.from({ length: entries }, (_, i) => i)
    this.freeCount = entries
    this.ended = new Int32Array(entries)
    this.endedCount = 0
    this.telling = false
    this.completions = 0
  }

  /** Jobs under way. */
  get inFlight(): number {
    return this.freeSlots.length - this.freeCount
  }

  /** How many steps the ring can take now. */
  get free(): number {
    return this.sq.free
  }

  /** The most steps that a job may have. */
  get capacity(): number {
    return this.sq.entries - 1
  }

  /** Back to empty: its memory was cleared and the queue is started anew. */
  reset(): void {
    this.sq.reset()
    this.cq.reset()
    this.tail = this.rung = this.head = 0
  }

  /** Puts the steps of a job into the ring, for {@link ring} to announce. The caller saw that `free` is enough. */
  push(job: RingJob, done: JobDone): void {
    const { words } = job
    const { sq } = this
    const slot = this.freeSlots[--this.freeCount]
    const steps = (words.length / DESCRIPTOR_WORDS) | 0
    this.left[slot] = steps
    this.jobs[slot] = job
    this.done[slot] = done
    this.failedStatus[slot] = 0
    this.cycles[slot] = 0
    for (let step = 0; step < steps; step++)
      putEntry(sq.words, sq.at(step), words, step * DESCRIPTOR_WORDS, slot)
    sq.push(steps)
    this.tail = (this.tail + steps) | 0
  }

  /** Announces what was pushed: one doorbell, and the WAKE register where the device went idle (5.4). */
  ring(): void {
    const old = this.rung
    const tail = this.tail
    if (tail === old) return
    this.rung = tail
    this.doorbells.write32(this.page + DOORBELL.SQ_TAIL, tail)
    memoryFence()
    if ((tail - this.wakeAt[0] - 1) >>> 0 < (tail - old) >>> 0) this.port.wake()
  }

  /**
   * Takes the completions that are there, then tells the jobs that ended. Answers how many completions there were.
   * `ERR_ACCEL_IO` for a completion of nothing that is under way: what the device says cannot be trusted any more.
   */
  poll(): number {
    if (this.telling) return 0
    const { cq, sq } = this
    const { words } = cq
    const limit = sq.pending
    const ready = cq.ready(limit + 1)
    let count = 0
    while (count < ready && count < limit) {
      const at = cq.at(count)
      if (!this.complete(words[at + 3], words[at], words[at + 1])) break
      count++
    }
    // What was not taken is behind the last descriptor, or of none.
    const forged = count < ready ? cq.at(count) : -1
    if (count > 0) {
      cq.advance(count)
      this.completions += count
      this.head = (this.head + count) | 0
      this.doorbells.write32(this.page + DOORBELL.CQ_HEAD, this.head)
      // As many slots are free as completions were consumed, in whatever order those came (5.1).
      sq.consumed((sq.head + count) & (sq.entries - 1))
      this.tellEnded()
    }
    if (forged >= 0) this.refuse(words[forged + 3], words[forged])
    return count
  }

  /** Ends all jobs under way with `error`: the device will not answer for them. */
  fail(error: AccelError): void {
    for (let slot = 0; slot < this.jobs.length; slot++) {
      const done = this.done[slot]
      if (done === undefined) continue
      this.release(slot)
      done(error, 0)
    }
  }

  /** Counts a completion to its job; false where there is no such job or step. It comes from another process. */
  private complete(last: number, step: number, detail: number): boolean {
    const slot = last & 0xffff
    if (slot >= this.left.length || this.left[slot] === 0) return false
    if (step < 0 || step >= this.jobs[slot]!.steps) return false
    const status = last >>> 24
    if (status === 0) this.cycles[slot] += detail >>> 0
    else if (this.failedStatus[slot] === 0) {
      this.failedStatus[slot] = status
      this.failedStep[slot] = step
      this.failedDetail[slot] = detail
    }
    if (--this.left[slot] === 0) this.ended[this.endedCount++] = slot
    return true
  }

  private refuse(last: number, step: number): never {
    const cid = last & 0xffff
    throw accelError(
      'ERR_ACCEL_IO',
      `NPU queue ${this.index} got a completion for CID ${cid}, step ${step}, which is not under way: it has to be recovered`,
      { details: { cid, step } },
    )
  }

  private tellEnded(): void {
    this.telling = true
    for (let i = 0; i < this.endedCount; i++) {
      try {
        this.tell(this.ended[i])
      } catch (error) {
        // One caller's mistake is not to keep the others from their results.
        queueMicrotask(() => {
          throw error
        })
      }
    }
    this.endedCount = 0
    this.telling = false
  }

  private tell(slot: number): void {
    const done = this.done[slot]
    const job = this.jobs[slot]
    const status = this.failedStatus[slot]
    const cycles = this.cycles[slot]
    if (done === undefined || job === undefined) return
    this.release(slot)
    if (status === 0) done(undefined, cycles)
    else {
      const step = this.failedStep[slot]
      done(stepError(step, job.stepNames[step], status, this.failedDetail[slot] >>> 0), cycles)
    }
  }

  private release(slot: number): void {
    this.left[slot] = 0
    this.jobs[slot] = undefined
    this.done[slot] = undefined
    this.freeSlots[this.freeCount++] = slot
  }
}

/** Copies a descriptor into the ring, with its CID. Spelt out: V8 takes half as long for it as for a loop, and less than for `set`. */
function putEntry(ring: Int32Array, at: number, words: Int32Array, from: number, cid: number): void {
  ring[at] = words[from] | (cid << 16)
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
