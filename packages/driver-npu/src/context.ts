import type { IrqCounts } from '@uaccel/core'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import type { ContextMemory, NpuBuffer } from './buffers.js'
import { NpuJob, type RingJob } from './job.js'
import type { Step } from './operations.js'
import type { JobDone, NpuQueue } from './queue.js'
import type { Window } from './store.js'

/** How a context is made. */
export interface ContextOptions {
  /** Entries of its rings, a power of two within the device's limits; one stays free. Default 256. */
  readonly ringEntries?: number
  /** On-card memory for its buffers, in bytes. Default 0. */
  readonly cardBytes?: number
}

/** How a run is limited. */
export interface RunOptions {
  /** Longest time without any progress of the context's queue, in milliseconds. Default 5000. */
  readonly timeoutMs?: number
}

/** What a context needs of its device. @internal */
export interface ContextHost {
  /** True where completions raise interrupts. */
  readonly interrupts: boolean
  /** True where a doorbell is a store: one that is a call, such as a recorder's, takes longer than an interrupt. */
  readonly mapped: boolean
  /** True where another thread announced something that {@link sync} takes. */
  readonly changed: boolean
  /** May end the jobs of the context, or allow new ones. */
  sync(): void
  /** Looks for what stopped the device; answers it, or undefined where nothing is wrong. */
  diagnose(): AccelError | undefined
  /** What the queue's vector has seen, where it is the queue's alone. */
  irqCounts(): IrqCounts | undefined
  /** Changes while the device works (4.1.12). */
  heartbeat(): number
  /** Lets the queue touch a range of memory besides the context's own, or takes window `at` back. Absent in worker threads. */
  allow?(at: number, window?: Window): void
  /** The context found by itself that it cannot go on. */
  broke(error: AccelError): void
  close(): Promise<void>
}

const DEFAULT_TIMEOUT_MS = 5000
/** How often the state of a device with work under way is looked at: an interrupt may be lost, a fatal error silent. */
const WATCH_MS = 100

interface Waiting {
  readonly job: RingJob
  readonly done: JobDone
}

/**
 * What one user of the NPU holds: a queue, and memory that this queue alone may touch. Made by `Npu.createContext`.
 */
export class NpuContext {
  // Declared, not private names: see the rings of @uaccel/memory.
  /** @internal */
  declare readonly queue: NpuQueue
  /** @internal */
  declare readonly memory: ContextMemory
  declare private readonly host: ContextHost
  declare private readonly backlog: Waiting[]
  declare private broken: AccelError | undefined
  declare private closing: Promise<void> | undefined
  declare private resting: boolean
  #told: ((error: AccelError) => void) | undefined
  #watch: NodeJS.Timeout | undefined
  #spin: NodeJS.Immediate | undefined
  #seen = 0
  #seenAt = 0
  #beat = 0
  #timeoutMs = DEFAULT_TIMEOUT_MS
  /** Ends the quiet of this turn; absent where there is none. */
  #noise: NodeJS.Immediate | undefined
  /** Somebody looks in this turn, or did in the last one that was quiet. */
  #isLookedAt = false
  #wasLookedAt = false

  /** @internal */
  constructor(queue: NpuQueue, memory: ContextMemory, host: ContextHost) {
    this.queue = queue
    this.memory = memory
    this.host = host
    this.backlog = []
    this.broken = undefined
    this.closing = undefined
    this.resting = true
  }

  /** Jobs that were submitted and have not ended. */
  get inFlight(): number {
    return this.queue.inFlight + this.backlog.length
  }

  /** Takes zeroed memory that the device can reach; `card` takes it from the context's on-card memory. Errors: `ERR_ACCEL_NO_MEMORY`. */
  allocate(
    sizeBytes: number,
    { place = 'host', name = 'buffer' }: { place?: 'host' | 'card'; name?: string } = {},
  ): NpuBuffer {
    this.#checkOpen()
    return this.memory.alloc(sizeBytes, place, name)
  }

  /** Takes memory and copies `bytes` into it. */
  allocateFrom(bytes: Uint8Array, options: { place?: 'host' | 'card'; name?: string } = {}): NpuBuffer {
    const buffer = this.allocate(bytes.length, options)
    buffer.write(0, bytes)
    return buffer
  }

  /** Checks steps against their buffers and puts them into the form that the ring takes. Errors: see `NpuJob`. */
  encode(steps: readonly Step[]): NpuJob {
    this.#checkOpen()
    if (steps.length > this.queue.capacity) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `A job of ${steps.length} steps does not fit the ring of ${this.queue.capacity}: see ringEntries`,
      )
    }
    return new NpuJob(this.memory, steps)
  }

  /**
   * Queues a job; {@link flush} announces it, with all others since the last. `done` is called from {@link poll}, in a later turn of the
   * event loop or in a poll of the caller's. What does not fit the ring waits here.
   */
  submit(job: NpuJob, done: JobDone): void {
    if (this.broken !== undefined || this.closing !== undefined || !job.isReady(this.memory))
      this.#checkJob(job)
    this.#queue(job, done)
  }

  /** @internal Queues what was checked otherwise, and announces it. */
  send(job: RingJob, done: JobDone): void {
    this.#checkOpen()
    this.#queue(job, done)
    this.flush()
  }

  /** @internal See `ContextHost.allow`. Not while a job is under way. */
  allow(at: number, window?: Window): void {
    this.host.allow!(at, window)
  }

  #queue(job: RingJob, done: JobDone): void {
    const { queue } = this
    if (this.backlog.length === 0 && queue.free >= job.steps) queue.push(job, done)
    else this.backlog.push({ job, done })
  }

  /** Rings the doorbell once for all that was submitted. Where the device cannot be reached, the jobs end with that. */
  flush(): void {
    if (this.broken !== undefined) return
    // Who looked will look for this, too: an interrupt on the way to the first look would be for nothing.
    if (this.#wasLookedAt && this.inFlight > 0) this.#hush()
    try {
      this.queue.ring()
    } catch (error) {
      this.#broke(error)
      return
    }
    if (this.resting && this.inFlight > 0) this.#begin()
  }

  /**
   * Takes completions and tells the jobs that ended. Interrupts call it; a program that would rather spin than sleep may, too.
   * Answers the number of steps that completed.
   */
  poll(): number {
    if (this.host.changed) this.host.sync()
    if (this.broken !== undefined) return 0
    let count = 0
    try {
      count = this.queue.poll()
      if (this.backlog.length > 0 && this.closing === undefined) this.#advance()
    } catch (error) {
      this.#broke(error)
    }
    // Of a context that failed the device may still touch the memory: that is given back by a reset only.
    if (this.inFlight === 0 && this.broken === undefined) this.#idle()
    return count
  }

  /**
   * As {@link poll}, for who looks again and again: the device raises no interrupts until this turn of the event loop has ended. Answers whether it is worth
   * looking on: not for a device that is being woken, which takes its time, or whose doorbells are not mapped.
   */
  look(): boolean {
    if (!this.host.mapped) return false
    this.poll()
    if (this.resting || this.queue.wakes || this.closing !== undefined) return false
    this.#isLookedAt = true
    this.#hush()
    return true
  }

  /** No interrupts before this turn of the event loop has ended. */
  #hush(): void {
    if (this.#noise !== undefined) return
    this.queue.quiet(true)
    this.#noise = setImmediate(this.#loud)
  }

  readonly #loud = (): void => {
    this.#noise = undefined
    this.#wasLookedAt = this.#isLookedAt
    this.#isLookedAt = false
    // What was looked for is looked for in the next turn, too; where it is not, that one ends the quiet.
    if (this.#wasLookedAt && this.inFlight > 0) this.#noise = setImmediate(this.#loud)
    else this.queue.quiet(false)
    this.poll()
  }

  /**
   * Runs jobs, one doorbell for all, in the order given, and waits for them. Rejects with the first error of any, when all have ended:
   * a failed step does not stop later ones. A timeout (no progress for so long) ends all jobs of the context; the
   * device must then be recovered (`Npu.recover`). Answers the cycles that the steps took in the device, in sum.
   */
  run(
    jobs: NpuJob | readonly NpuJob[],
    { timeoutMs = DEFAULT_TIMEOUT_MS }: RunOptions = {},
  ): Promise<number> {
    const list = jobs instanceof NpuJob ? [jobs] : jobs
    this.#timeoutMs = timeoutMs
    return new Promise((resolve, reject) => {
      for (const job of list) this.#checkJob(job)
      let left = list.length
      let first: AccelError | undefined
      let cycles = 0
      const done: JobDone = (error, spent) => {
        first ??= error
        cycles += spent
        if (--left > 0) return
        if (first === undefined) resolve(cycles)
        else reject(first)
      }
      if (left === 0) resolve(0)
      for (const job of list) this.submit(job, done)
      this.flush()
    })
  }

  /**
   * Stops the queue, ends what is under way with `ERR_ACCEL_ABORTED`, and gives all memory back. Idempotent. A context that broke
   * takes a reset to close, which ends the jobs of others, too.
   */
  close(): Promise<void> {
    if (this.closing === undefined && this.#noise !== undefined) {
      // At the end of the turn the rings may be somebody else's memory.
      clearImmediate(this.#noise)
      this.#isLookedAt = false
      this.#loud()
    }
    this.closing ??= this.host.close()
    return this.closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** @internal Ends all jobs. From now on, or until {@link revive}, new ones are refused with `error`. */
  fail(error: AccelError): void {
    this.broken = error
    this.#told?.(error)
    this.queue.fail(error)
    for (const { done } of this.backlog.splice(0)) done(error, 0)
    this.#stopWatch()
  }

  /** @internal The device was reset and the queue started anew. */
  revive(): void {
    this.queue.reset()
    this.broken = undefined
    this.memory.idle()
  }

  /** What the queue's interrupt vector has seen; undefined where there is none, or other queues share it. */
  get irqCounts(): IrqCounts | undefined {
    return this.host.irqCounts()
  }

  /** @internal Has `told` called whenever the context can no longer be used as it is, before its jobs are told. */
  onFailure(told: (error: AccelError) => void): void {
    this.#told = told
    if (this.broken !== undefined) told(this.broken)
  }

  /** Why it takes no work at present; undefined where it does. */
  get failure(): AccelError | undefined {
    return this.broken
  }

  /** The device cannot be reached, or says what cannot be. */
  #broke(error: unknown): void {
    if (!isAccelError(error)) throw error
    if (this.broken !== undefined) return
    this.fail(error)
    this.host.broke(error)
  }

  #checkOpen(): void {
    if (this.broken === undefined) {
      if (this.closing === undefined) return
      throw accelError('ERR_ACCEL_CLOSED', 'The NPU context is being closed and takes no work')
    }
    throw accelError(this.broken.code, `The NPU context takes no work: ${this.broken.message}`, {
      cause: this.broken,
    })
  }

  #checkJob(job: NpuJob): void {
    this.#checkOpen()
    if (!job.belongsTo(this.memory)) {
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', 'The job was encoded for another NPU context')
    }
    job.checkAlive()
  }

  #advance(): void {
    while (this.backlog.length > 0 && this.queue.free >= this.backlog[0].job.steps) {
      const { job, done } = this.backlog.shift()!
      this.queue.push(job, done)
    }
    this.queue.ring()
  }

  #idle(): void {
    this.memory.idle()
    this.resting = true
    clearImmediate(this.#spin)
  }

  /** From rest to work. The watch of earlier work may still be there: a timer for each job would cost more than the job. */
  #begin(): void {
    this.resting = false
    this.#seenAt = performance.now()
    this.#seen = this.queue.completions
    this.#watch ??= setInterval(() => this.#look(), WATCH_MS)
    if (!this.host.interrupts) this.#spinOn()
  }

  #stopWatch(): void {
    this.resting = true
    clearInterval(this.#watch)
    this.#watch = undefined
    clearImmediate(this.#spin)
    this.queue.forget()
  }

  /** Without interrupts: a look in each turn of the event loop while work is under way. */
  readonly #spinOn = (): void => {
    this.#spin = setImmediate(this.#spinOnce)
  }

  readonly #spinOnce = (): void => {
    this.poll()
    if (!this.resting) this.#spinOn()
  }

  #look(): void {
    this.poll()
    if (this.resting) {
      this.#stopWatch()
      return
    }
    try {
      this.#examine()
    } catch (error) {
      this.#broke(error)
    }
  }

  #examine(): void {
    const broken = this.host.diagnose()
    if (broken !== undefined) {
      this.fail(broken)
      return
    }
    const now = performance.now()
    const beat = this.host.heartbeat()
    const beats = beat !== this.#beat
    this.#beat = beat
    if (this.queue.completions !== this.#seen) {
      this.#seen = this.queue.completions
      this.#seenAt = now
    } else if (now - this.#seenAt > this.#timeoutMs) this.#broke(this.#hung(beats))
  }

  #hung(beats: boolean): AccelError {
    const why = beats
      ? 'its heartbeat goes on: a long descriptor, or a lost wake-up'
      : 'its heartbeat stands: it hangs'
    return accelError(
      'ERR_ACCEL_TIMEOUT',
      `NPU queue ${this.queue.index} made no progress for ${this.#timeoutMs} ms with ${this.inFlight} jobs under way; ${why}. It has to be recovered`,
      { details: { heartbeat: beats, inFlight: this.inFlight } },
    )
  }
}
