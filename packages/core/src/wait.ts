import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'

/** Limits of a wait. */
export interface WaitOptions {
  readonly timeoutMs?: number
  /** Ends the wait: with its reason where that is an AccelError, else with `ERR_ACCEL_ABORTED` and the reason as cause. */
  readonly signal?: AbortSignal | undefined
  /** What is waited for, for errors. */
  readonly what?: string
}

/** The error for a wait that its signal ended. */
export function abortError(signal: AbortSignal, what: string): AccelError {
  const reason: unknown = signal.reason
  const code = isAccelError(reason) ? reason.code : 'ERR_ACCEL_ABORTED'
  return accelError(code, `${what}: given up, ${reason instanceof Error ? reason.message : String(reason)}`, {
    cause: reason,
  })
}

/** setTimeout fires at once for a longer delay. */
const maxTimeoutMs = 2 ** 31 - 1

/** Refuses what is no limit: a wait with NaN would never end, one of a month would end at once. */
function checkLimit(timeoutMs: number, what: string): void {
  if (timeoutMs >= 0 && timeoutMs <= maxTimeoutMs) return
  throw accelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `${what}: timeoutMs ${timeoutMs}, wanted 0 to ${maxTimeoutMs} milliseconds`,
  )
}

interface Waiter {
  wake: () => void
  fail: (error: unknown) => void
}

/**
 * Something that happens once per turn: an interrupt handler completes it, a command waits for it. It stays complete
 * until `reinit`, so that a completion before the wait is not lost.
 */
export class Completion {
  readonly #what: string
  readonly #waiters = new Set<Waiter>()
  #done = false

  /** @param what What completes, for errors. */
  constructor(what = 'completion') {
    this.#what = what
  }

  /** True from `complete` to `reinit`. */
  get done(): boolean {
    return this.#done
  }

  /** Forgets the last turn. Call it before the device is started. */
  reinit(): void {
    this.#done = false
  }

  /** Wakes all who wait, and those who come later. */
  complete(): void {
    this.#done = true
    for (const waiter of this.#waiters) waiter.wake()
  }

  /** Ends the waits that are pending with an error. */
  fail(error: unknown): void {
    for (const waiter of this.#waiters) waiter.fail(error)
  }

  /** Waits until complete. Errors: `ERR_ACCEL_TIMEOUT`, `ERR_ACCEL_ABORTED` or the reason that `signal` carries. */
  async wait({ timeoutMs, signal, what = this.#what }: WaitOptions = {}): Promise<void> {
    if (timeoutMs !== undefined) checkLimit(timeoutMs, what)
    if (this.#done) return
    if (signal?.aborted) throw abortError(signal, what)
    await new Promise<void>((resolve, reject) => {
      const settle = () => {
        this.#waiters.delete(waiter)
        clearTimeout(timer)
        signal?.removeEventListener('abort', aborted)
      }
      const waiter: Waiter = {
        wake: () => {
          settle()
          resolve()
        },
        fail: (error) => {
          settle()
          reject(error)
        },
      }
      const aborted = () => waiter.fail(abortError(signal!, what))
      const late = () =>
        waiter.fail(accelError('ERR_ACCEL_TIMEOUT', `${what} did not happen within ${timeoutMs} ms`))
      const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs)
      signal?.addEventListener('abort', aborted)
      this.#waiters.add(waiter)
    })
  }
}

/** Limits of a poll. */
export interface PollOptions extends WaitOptions {
  readonly timeoutMs: number
  /** Rest between two reads once the first 2 ms have passed; default 1 ms. */
  readonly intervalMs?: number
}

/** Reads without a rest before the event loop gets a turn: what a device answers at once costs no turn of it. */
const spins = 16
const eagerMs = 2

/**
 * Reads until the value satisfies the predicate, and answers it. At first in quick succession, then with rests; the
 * event loop runs meanwhile. The value is read once more after the limit, so that a process that was asleep does not
 * report a timeout that never was. Errors: `ERR_ACCEL_TIMEOUT` with the last value, `ERR_ACCEL_ABORTED`, what `read` throws.
 */
export async function poll<T>(
  read: () => T,
  predicate: (value: T) => boolean,
  { timeoutMs, intervalMs = 1, signal, what = 'the awaited value' }: PollOptions,
): Promise<T> {
  checkLimit(timeoutMs, what)
  const start = performance.now()
  for (let tries = 0; ; tries++) {
    if (signal?.aborted) throw abortError(signal, what)
    const elapsedMs = performance.now() - start
    const value = read()
    if (predicate(value)) return value
    if (elapsedMs >= timeoutMs) {
      throw accelError(
        'ERR_ACCEL_TIMEOUT',
        `${what} did not come within ${timeoutMs} ms; the last value was ${show(value)}`,
        {
          details: { timeoutMs, last: value },
        },
      )
    }
    if (tries < spins) continue
    if (elapsedMs < eagerMs) await nextTurn()
    else {
      const restMs = Math.min(intervalMs, Math.max(1, timeoutMs - elapsedMs))
      await sleep(restMs, undefined, signal === undefined ? {} : { signal }).catch(() => {}) // the loop sees the signal
    }
  }
}

function show(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'bigint')
    return value < 0 ? String(value) : `0x${value.toString(16)}`
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))
}
