import { syncBuiltinESMExports } from 'node:module'
import timersPromises from 'node:timers/promises'
import { promisify } from 'node:util'

/** How time passes: as it does, or ahead to the next timer once this many turns of the event loop, or ms, brought nothing. */
export type Pace = 'real' | { readonly quietTurns: number } | { readonly quietMs: number }

/** While time runs ahead it does so by at least this part of what has passed: a poll with a rest of 1 ms ends within hundreds of them. */
const STRIDE = 0.05
/** Who never lets the event loop rest, such as a poll without a pause, holds time up for so many turns of it. */
const RESTLESS_TURNS = 2000
/** Deepest frame of the stack that says where a timer was set. */
const FRAMES = 6

/** Those of the process, which virtual time does not change. */
export const real = {
  setInterval: globalThis.setInterval,
  setImmediate: globalThis.setImmediate,
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  now: performance.now.bind(performance),
  hrtime: process.hrtime.bigint,
}

class VirtualTimer {
  readonly #time: VirtualTime
  readonly call: () => void
  readonly delayMs: number
  readonly repeats: boolean
  /** Nobody has to clear it. */
  readonly weak: boolean
  readonly origin: string
  dueMs = 0
  #ref = true

  constructor(time: VirtualTime, call: () => void, delayMs: number, repeats: boolean, weak: boolean) {
    this.#time = time
    this.call = call
    // As Node takes delays: lib/internal/timers.js
    this.delayMs = delayMs >= 1 && delayMs <= 2 ** 31 - 1 ? delayMs : 1
    this.repeats = repeats
    this.weak = weak
    const holder = { stack: '' }
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = FRAMES
    Error.captureStackTrace(holder, VirtualTimer)
    Error.stackTraceLimit = stackTraceLimit
    this.origin = holder.stack
  }

  ref(): this {
    this.#ref = true
    return this
  }

  unref(): this {
    this.#ref = false
    return this
  }

  hasRef(): boolean {
    return this.#ref
  }

  refresh(): this {
    this.#time.clear(this)
    this.#time.add(this)
    return this
  }

  close(): this {
    this.#time.clear(this)
    return this
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/**
 * The time of a process whose waits are to end soon: `setTimeout`, `setInterval`, those of `node:timers/promises`,
 * `AbortSignal.timeout`, `performance.now` and `process.hrtime.bigint` go by it. While nothing happens it runs ahead to the next
 * timer, so that a limit of 10 s passes in milliseconds and is still 10 s for whoever waits. It also knows which timers are set.
 */
export class VirtualTime {
  readonly #timers: VirtualTimer[] = []
  #pace: Pace = 'real'
  #aheadMs = 0
  /** Where the strides are counted from. */
  #beganMs = 0
  #cancelWait: (() => void) | undefined
  #turns = 0
  /** Turns since the last timer was called. */
  #heldUp = 0

  /** Puts it in the place of the process's own timers, for good. */
  install(): void {
    const delayed = (
      call: (...args: unknown[]) => void,
      delayMs = 1,
      repeats = false,
      args: unknown[] = [],
    ) => this.add(new VirtualTimer(this, () => call(...args), Number(delayMs), repeats, false))
    const clear = (timer: unknown) => {
      if (timer instanceof VirtualTimer) this.clear(timer)
      else real.clearTimeout(timer as NodeJS.Timeout)
    }
    const sleep = (delayMs?: number, value?: unknown, options: { signal?: AbortSignal } = {}) =>
      new Promise((resolve, reject) => {
        const { signal } = options
        const aborted = () => {
          clear(timer)
          reject(new DOMException('The operation was aborted', 'AbortError'))
        }
        const timer = delayed(() => {
          signal?.removeEventListener('abort', aborted)
          resolve(value)
        }, delayMs)
        if (signal?.aborted) aborted()
        else signal?.addEventListener('abort', aborted, { once: true })
      })
    const setTimeout = (call: () => void, delayMs?: number, ...args: unknown[]) =>
      delayed(call, delayMs, false, args)
    // Not a timer, but something that happens.
    const setImmediate = (call: (...args: unknown[]) => void, ...args: unknown[]) => {
      this.#turns = 0
      return real.setImmediate(call, ...args)
    }
    const nextTurn = timersPromises.setImmediate
    Object.assign(globalThis, {
      setImmediate: Object.assign(setImmediate, { [promisify.custom]: nextTurn }),
      setTimeout: Object.assign(setTimeout, { [promisify.custom]: sleep }),
      setInterval: (call: () => void, delayMs?: number, ...args: unknown[]) =>
        delayed(call, delayMs, true, args),
      clearTimeout: clear,
      clearInterval: clear,
    })
    Object.assign(timersPromises, {
      setTimeout: sleep,
      setImmediate: (value: unknown, options?: object) => {
        this.#turns = 0
        return nextTurn(value, options)
      },
    })
    syncBuiltinESMExports()
    performance.now = () => this.now()
    process.hrtime.bigint = () => real.hrtime.call(process.hrtime) + BigInt(Math.round(this.#aheadMs * 1e6))
    AbortSignal.timeout = (delayMs) => {
      const controller = new AbortController()
      const expired = () =>
        controller.abort(new DOMException(`The limit of ${delayMs} ms passed`, 'TimeoutError'))
      this.add(new VirtualTimer(this, expired, delayMs, false, true))
      return controller.signal
    }
  }

  now(): number {
    return real.now() + this.#aheadMs
  }

  /** From now on time passes so. */
  pass(pace: Pace): void {
    this.#pace = pace
    this.#beganMs = this.now()
    this.#heldUp = 0
    this.#rest()
  }

  /** Where the timers were set that somebody has to clear and did not. */
  get pending(): readonly string[] {
    return this.#timers
      .filter(({ weak }) => !weak)
      .map(({ delayMs, origin }) => `${delayMs} ms, ${place(origin)}`)
  }

  add(timer: VirtualTimer): VirtualTimer {
    timer.dueMs = this.now() + timer.delayMs
    let at = this.#timers.length
    while (at > 0 && this.#timers[at - 1]!.dueMs > timer.dueMs) at--
    this.#timers.splice(at, 0, timer)
    this.#rest()
    return timer
  }

  clear(timer: VirtualTimer): void {
    const at = this.#timers.indexOf(timer)
    if (at >= 0) this.#timers.splice(at, 1)
  }

  /** Begins anew to wait for the first timer, or for quiet. */
  #rest(): void {
    this.#turns = 0
    this.#cancelWait?.()
    this.#cancelWait = undefined
    const first = this.#timers[0]
    if (first === undefined) return
    const leftMs = Math.max(0, first.dueMs - this.now())
    if (leftMs === 0 || (this.#pace !== 'real' && 'quietTurns' in this.#pace)) {
      const turn = real.setImmediate(() => this.#turn())
      this.#cancelWait = () => clearImmediate(turn)
    } else {
      const restMs =
        this.#pace === 'real' ? leftMs : Math.min(leftMs, (this.#pace as { quietMs: number }).quietMs)
      const rest = real.setTimeout(() => this.#turn(), restMs)
      this.#cancelWait = () => real.clearTimeout(rest)
    }
  }

  /** One timer for each turn of the event loop, so that what it resolves runs before the next. */
  #turn(): void {
    const first = this.#timers[0]
    if (first === undefined) {
      this.#cancelWait = undefined
      return
    }
    const pace = this.#pace
    if (first.dueMs > this.now()) {
      if (pace === 'real') {
        this.#rest()
        return
      }
      const restless = ++this.#heldUp > RESTLESS_TURNS
      if ('quietTurns' in pace && (isBusy() || (++this.#turns < pace.quietTurns && !restless))) {
        const turn = real.setImmediate(() => this.#turn())
        this.#cancelWait = () => clearImmediate(turn)
        return
      }
      const now = this.now()
      this.#aheadMs += Math.max(first.dueMs - now, (now - this.#beganMs) * STRIDE)
    }
    this.#timers.shift()
    this.#heldUp = 0
    if (first.repeats) this.add(first)
    try {
      first.call()
    } finally {
      this.#rest()
    }
  }
}

/** Something is under way on libuv's thread pool, such as reading a file: it ends without a timer. */
function isBusy(): boolean {
  return process
    .getActiveResourcesInfo()
    .some((kind) => kind.endsWith('ReqPromise') || kind.endsWith('ReqCallback'))
}

/** The frame that set a timer: the first outside of what sets timers for others. */
function place(stack: string): string {
  const frames = stack
    .split('\n')
    .slice(1)
    .map((line) => line.trim())
  return (
    frames.find((frame) => !/faults\/virtual-time\.[jt]s|node:|new Promise/.test(frame)) ??
    frames[0] ??
    'unknown'
  )
}
