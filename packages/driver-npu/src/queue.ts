import { type Bar, type Mmio, poll } from '@uaccel/core'
import { CompletionRing, type DmaDomain, type DmaRegion, memoryFence, ProducerRing } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { Window } from './buffers.js'
import { DESCRIPTOR_WORDS, type NpuJob } from './job.js'
import type { NpuRegisters } from './registers.js'
import { stepError } from './status.js'

export type NpuBar = Bar<typeof NpuRegisters>

/** Layout of docs/devices/npu.md, 5.3, 5.4 and 7.2. */
const DESCRIPTOR_BYTES = 64
const COMPLETION_BYTES = 16
const STATUS_BYTES = 64
const DOORBELL_PAGE_BYTES = 4096
const DOORBELL = { SQ_TAIL: 0x0, CQ_HEAD: 0x4 } as const
const PHASE = { word: 3, bit: 16 } as const

/** Told when a job ends: without an error where all of its steps succeeded. `cycles` is what they took in the device, in sum. */
export type JobDone = (error: AccelError | undefined, cycles: number) => void

/** Limit for a queue to start or stop. */
const STATE_TIMEOUT_MS = 2000

/**
 * One queue pair: rings, doorbell, jobs under way. Submission and completion make no objects and touch no register
 * while the device is awake.
 */
export class NpuQueue {
  readonly index: number
  readonly #bar: NpuBar['QUEUE'][number]
  readonly #doorbells: Mmio
  readonly #page: number
  readonly #entriesLog2: number
  readonly #memory: readonly [sq: DmaRegion, cq: DmaRegion, status: DmaRegion]
  readonly #sq: ProducerRing
  readonly #cq: CompletionRing
  readonly #wakeAt: Int32Array
  // The counters of the doorbell page: they wrap at 2^32, while the rings count slots.
  #tail = 0
  #rung = 0
  #head = 0

  // Jobs under way, by slot; the slot's number is the CID of its descriptors.
  readonly #left: Int32Array
  readonly #jobs: (NpuJob | undefined)[]
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

  /** Takes rings of 2^`entriesLog2` entries; one entry stays free. */
  constructor(index: number, bar: NpuBar, doorbells: Mmio, dma: DmaDomain, entriesLog2: number) {
    const entries = 1 << entriesLog2
    this.index = index
    this.#bar = bar.QUEUE[index]
    this.#doorbells = doorbells
    this.#page = DOORBELL_PAGE_BYTES * index
    this.#entriesLog2 = entriesLog2
    const sq = dma.alloc(entries * DESCRIPTOR_BYTES, { name: `NPU submission ring ${index}` })
    const cq = dma.alloc(entries * COMPLETION_BYTES, { name: `NPU completion ring ${index}` })
    const status = dma.alloc(STATUS_BYTES, { name: `NPU status block ${index}` })
    this.#memory = [sq, cq, status]
    this.#sq = new ProducerRing({ words: sq.i32, entries, entryBytes: DESCRIPTOR_BYTES })
    this.#cq = new CompletionRing({
      words: cq.i32,
      entries,
      entryBytes: COMPLETION_BYTES,
      phaseWord: PHASE.word,
      phaseBit: PHASE.bit,
    })
    this.#wakeAt = status.i32
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

  /** Programs the queue and starts it. `ERR_ACCEL_IO` with the device's cause where it refuses, `ERR_ACCEL_TIMEOUT`. */
  async start(vector: number | undefined, signal?: AbortSignal): Promise<void> {
    const [sq, cq, status] = this.#memory
    this.#sq.reset()
    this.#cq.reset()
    status.u8.fill(0)
    this.#tail = this.#rung = this.#head = 0
    const bar = this.#bar
    bar.SQ_BASE_LO.write(sq.iovaLow)
    bar.SQ_BASE_HI.write(sq.iovaHigh)
    bar.CQ_BASE_LO.write(cq.iovaLow)
    bar.CQ_BASE_HI.write(cq.iovaHigh)
    bar.STATUS_BASE_LO.write(status.iovaLow)
    bar.STATUS_BASE_HI.write(status.iovaHigh)
    bar.QSIZE.write({ entriesLog2: this.#entriesLog2 })
    bar.QVECTOR.write(vector === undefined ? {} : { vector, enable: true })
    bar.QCTL.write({ enable: true })
    const { state, cause } = await poll(
      () => bar.QSTS.get(),
      (found) => found.state === 'running' || found.state === 'error',
      { timeoutMs: STATE_TIMEOUT_MS, signal, what: `start of NPU queue ${this.index}` },
    )
    if (state === 'error') {
      bar.QCTL.write({}) // back to disabled, for whoever gets the queue next
      throw accelError('ERR_ACCEL_IO', `NPU queue ${this.index} refused to start: ${cause}`, {
        details: { cause },
      })
    }
  }

  /** Lets the queue read, and unless told otherwise write, the memory of `window`; without one, takes window `at` back. */
  allow(at: number, window?: Window, { write = true }: { readonly write?: boolean } = {}): void {
    const bar = this.#bar.WINDOW[at]
    bar.PERM.write({})
    if (window === undefined) return
    bar.BASE_LO.write(Number(window.first & 0xffff_ffffn))
    bar.BASE_HI.write(Number(window.first >> 32n))
    bar.LIMIT_LO.write(Number(window.last & 0xffff_ffffn))
    bar.LIMIT_HI.write(Number(window.last >> 32n))
    bar.PERM.write({ read: true, write })
  }

  /** The device's word on the queue. */
  get state() {
    return this.#bar.QSTS.get()
  }

  /** Puts the steps of a job into the ring, for {@link ring} to announce. The caller saw that `free` is enough. */
  push(job: NpuJob, done: JobDone): void {
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
    if ((tail - this.#wakeAt[0] - 1) >>> 0 < (tail - old) >>> 0) this.#bar.WAKE.write(1)
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

  /** Asks the device to finish what it began and to abort the rest, and waits for it. `ERR_ACCEL_TIMEOUT`. */
  async stop(): Promise<void> {
    this.#bar.QCTL.write({})
    await poll(
      () => {
        this.poll()
        return this.#bar.QSTS.get().state
      },
      (state) => state === 'disabled',
      { timeoutMs: STATE_TIMEOUT_MS, what: `stop of NPU queue ${this.index}` },
    )
    this.poll()
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

  /** Gives the rings back. The queue is stopped, or the controller reset. */
  destroy(): void {
    for (const region of this.#memory) region.free()
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
