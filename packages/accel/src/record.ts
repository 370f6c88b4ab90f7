import type { TraceRing } from '@uaccel/trace'
import { type AccelError, type ErrorCode, errorTable } from '@uaccel/uapi'
import { EventLog, nowNs } from './events.js'
import type { Open, OpenRecord } from './open.js'

/** How long something was worked on; what is worked on at the same time adds up. Moments are those of `performance.now`. */
export class BusyTime {
  #busyMs = 0
  #running = 0
  #since = 0

  began(now: number): void {
    this.#settle(now)
    this.#running++
  }

  ended(now: number): void {
    this.#settle(now)
    this.#running--
  }

  /** In nanoseconds, up to now. */
  ns(now = performance.now()): bigint {
    this.#settle(now)
    return BigInt(Math.round(this.#busyMs * 1e6))
  }

  #settle(now: number): void {
    this.#busyMs += this.#running * (now - this.#since)
    this.#since = now
  }
}

/** What a node gives its driver: commands of the driver's own one at a time, and jobs. */
export type WorkKind = 'command' | 'job'

/** What became of the commands and jobs of an open, or of all of a node. */
export class WorkCounters {
  submissions = 0
  completions = 0
  failures = 0
  /** Of the failures: those that the driver never saw. */
  drops = 0
  /** How long commands that take the device's turn, and jobs, were with the driver. */
  readonly busy: Readonly<Record<WorkKind, BusyTime>> = { command: new BusyTime(), job: new BusyTime() }

  /** A command ended for its caller, or a job. */
  count(succeeded: boolean, started: boolean): void {
    if (succeeded) this.completions++
    else {
      this.failures++
      if (!started) this.drops++
    }
  }

  /** How long both were, in nanoseconds. */
  busyNs(): bigint {
    return this.busy.command.ns() + this.busy.job.ns()
  }
}

/** The latest of many. */
export class History<T> {
  readonly #capacity: number
  readonly #kept: T[] = []
  /** How many there were in all. */
  total = 0

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  add(entry: T): void {
    this.total++
    if (this.#kept.unshift(entry) > this.#capacity) this.#kept.pop()
  }

  /** Newest first. */
  get latest(): readonly T[] {
    return this.#kept
  }
}

/** A reset that is over. */
export interface ResetRecord {
  readonly kind: 'default' | 'function' | 'hot'
  readonly startedNs: bigint
  readonly durationNs: bigint
  readonly reason: string
  readonly error?: ErrorCode
}

/** Resets and opens that a node remembers. */
const HISTORY = 32

/** What a node has seen since it is there. */
export class NodeRecord {
  readonly events = new EventLog()
  readonly counters = new WorkCounters()
  readonly resets = new History<ResetRecord>(HISTORY)
  readonly opens = new History<OpenRecord>(HISTORY)
  /** Failures by number of the error table. */
  readonly errors = new Map<number, number>()
  /** Commands and jobs that were refused before they were submitted. */
  refusals = 0
  /** Told of commands and jobs one by one, while the node is traced. */
  trace: TraceRing | undefined
  #jobs = 0

  /** A number for a job, from 1 on; what has 32 bits starts over. */
  nextJob(): number {
    this.#jobs = this.#jobs === 0xffff_ffff ? 1 : this.#jobs + 1
    return this.#jobs
  }

  submitted(open: Open): void {
    this.counters.submissions++
    open.counters.submissions++
  }

  /** The driver was given something that keeps the device busy. */
  began(open: Open, kind: WorkKind): void {
    const now = performance.now()
    this.counters.busy[kind].began(now)
    open.counters.busy[kind].began(now)
  }

  /** The device is done with what {@link began}. */
  left(open: Open, kind: WorkKind): void {
    const now = performance.now()
    this.counters.busy[kind].ended(now)
    open.counters.busy[kind].ended(now)
  }

  /** A command ended for its caller, or a job. */
  ended(open: Open, kind: WorkKind, started: boolean, error?: AccelError): void {
    this.counters.count(error === undefined, started)
    open.counters.count(error === undefined, started)
    if (error === undefined) return
    const { number } = errorTable[error.code]
    this.errors.set(number, (this.errors.get(number) ?? 0) + 1)
    // A job that was not run has the error of the one that it waited for, which was told.
    const event = kind === 'command' || started ? eventOf[error.code] : undefined
    if (event) this.events.publish({ kind: event, reason: error.message, error: error.code, open: open.id })
  }

  /** A reset began; answers what says that it is over, which is told unless the device is `gone` with it. */
  resetting(
    kind: ResetRecord['kind'],
    reason: string,
  ): (failure: AccelError | undefined, gone: boolean) => void {
    const startedNs = nowNs()
    const began = process.hrtime.bigint()
    return (failure, gone) => {
      const durationNs = process.hrtime.bigint() - began
      this.trace?.reset(failure)
      this.resets.add({
        kind,
        startedNs,
        durationNs,
        reason,
        ...(failure === undefined ? {} : { error: failure.code }),
      })
      if (gone) return
      if (failure) this.events.publish({ kind: 'error', reason: failure.message, error: failure.code })
      else this.events.publish({ kind: 'reset', reason, error: 'ERR_ACCEL_IO' })
    }
  }
}

/** Failures that concern more than their caller. */
const eventOf: { readonly [K in ErrorCode]?: 'timeout' | 'pageFault' } = {
  ERR_ACCEL_TIMEOUT: 'timeout',
  ERR_ACCEL_DMA_FAULT: 'pageFault',
}
