import type { Polling } from './accelerator.js'

/** A spin is halved down to that part of what it may be; one wait in so many is spun for in full, to see whether that has become worth it. */
const LEAST_PART = 32
const PROBE = 32
/** How often the clock is read while all of a spin is used up: reading it takes longer than a look, and makes an object. */
const READINGS = 8
/** A turn of the event loop is spun for as long as so many waits: to go to the next one takes as long as several small graphs. */
const WAITS_A_TURN = 4

/** What is waited for. */
interface Awaited {
  readonly settled: boolean
  whenSettled(): Promise<void>
}

/**
 * Looks for the end of a device's work for a time, before its interrupt is waited for: that takes longer than a small graph. A turn of the event
 * loop is spun for no longer than a few such times, whatever is waited for in it. Where work takes longer, or the device has no processor of its own,
 * spinning is in vain: each that was halves the next.
 */
export class Spin {
  readonly #polling: Polling
  readonly #mostMs: number
  /** What a wait is spun for. */
  #forMs: number
  readonly #turnMs: number
  /** What is left of this turn. */
  #leftMs: number
  #turn: Promise<void> | undefined
  #vain = 0
  /** Looks between two readings of the clock. */
  #looks = READINGS

  constructor(polling: Polling) {
    this.#polling = polling
    this.#mostMs = polling.forUs / 1e3
    this.#forMs = this.#mostMs
    this.#leftMs = this.#turnMs = WAITS_A_TURN * this.#mostMs
  }

  /** Looks in this turn, for what is left of it. Answers whether it is worth looking on in the next. */
  look(awaited: Awaited): boolean {
    const polling = this.#polling
    const start = performance.now()
    const end = start + Math.min(this.#forMs, this.#leftMs)
    let now = start
    let worth = true
    while (worth && !awaited.settled && now < end) {
      const before = now
      let left = this.#looks
      for (; left > 0 && worth && !awaited.settled; left--) worth = polling.look()
      now = performance.now()
      if (left === 0) this.#pace((now - before) / this.#mostMs)
    }
    this.#leftMs -= now - start
    if (awaited.settled) this.#forMs = this.#mostMs
    this.#turn ??= new Promise((resolve) => {
      setImmediate(() => {
        this.#turn = undefined
        this.#leftMs = this.#turnMs
        resolve()
      })
    })
    return worth
  }

  /** Looks as many times between two readings of the clock as take a part of the longest spin. `part` is what the last ones took. */
  #pace(part: number): void {
    if (part < 0.5 / READINGS) this.#looks *= 2
    else if (part > 2 / READINGS) this.#looks = Math.max(1, this.#looks >> 1)
  }

  /** Looks in the turns that follow, while that is worth it, and then waits. */
  async wait(awaited: Awaited, isWorth: boolean): Promise<void> {
    const start = performance.now()
    for (let worth = isWorth; worth && !awaited.settled && performance.now() - start < this.#forMs; ) {
      await this.#turn
      if (!awaited.settled) worth = this.look(awaited)
    }
    if (awaited.settled) return
    if (isWorth) {
      this.#vain++
      this.#forMs =
        this.#vain % PROBE === 0 ? this.#mostMs : Math.max(this.#forMs / 2, this.#mostMs / LEAST_PART)
    }
    await awaited.whenSettled()
  }
}
