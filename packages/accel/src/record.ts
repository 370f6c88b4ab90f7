import { type AccelError, type ErrorCode, errorTable } from '@uaccel/uapi'
import type { Call } from './call.js'
import { EventLog, nowNs } from './events.js'
import type { OpenRecord } from './open.js'

/** What became of the commands of an open, or of all of a node. Moments are those of `performance.now`. */
export class CallCounters {
  submissions = 0
  completions = 0
  failures = 0
  /** Of the failures: those that the driver never saw. */
  drops = 0
  #busyMs = 0
  #since: number | undefined

  /** A command ended for its caller. */
  count(succeeded: boolean, started: boolean): void {
    if (succeeded) this.completions++
    else {
      this.failures++
      if (!started) this.drops++
    }
  }

  /** A command that takes the device's turn was given to the driver. */
  began(now: number): void {
    this.#since = now
  }

  ended(now: number): void {
    this.#busyMs += now - (this.#since ?? now)
    this.#since = undefined
  }

  /** How long such commands have run, the present one included, in nanoseconds. */
  busyNs(now = performance.now()): bigint {
    const runningMs = this.#since === undefined ? 0 : now - this.#since
    return BigInt(Math.round((this.#busyMs + runningMs) * 1e6))
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
  readonly counters = new CallCounters()
  readonly resets = new History<ResetRecord>(HISTORY)
  readonly opens = new History<OpenRecord>(HISTORY)
  /** Failures by number of the error table. */
  readonly errors = new Map<number, number>()
  /** Commands that were refused before they were submitted. */
  refusals = 0

  submitted({ open }: Call): void {
    this.counters.submissions++
    open.counters.submissions++
  }

  began({ open, command }: Call): void {
    if (command.concurrent) return
    const now = performance.now()
    this.counters.began(now)
    open.counters.began(now)
  }

  /** The handler that {@link began} has ended. */
  left({ open, command }: Call): void {
    if (command.concurrent) return
    const now = performance.now()
    this.counters.ended(now)
    open.counters.ended(now)
  }

  /** The call ended for its caller. */
  ended({ open, started }: Call, error?: AccelError): void {
    this.counters.count(error === undefined, started)
    open.counters.count(error === undefined, started)
    if (error === undefined) return
    const { number } = errorTable[error.code]
    this.errors.set(number, (this.errors.get(number) ?? 0) + 1)
    const kind = eventOf[error.code]
    if (kind) this.events.publish({ kind, reason: error.message, error: error.code, open: open.id })
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

/** Failures of commands that concern more than their caller. */
const eventOf: { readonly [K in ErrorCode]?: 'timeout' | 'pageFault' } = {
  ERR_ACCEL_TIMEOUT: 'timeout',
  ERR_ACCEL_DMA_FAULT: 'pageFault',
}
