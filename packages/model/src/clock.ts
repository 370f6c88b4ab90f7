import { accelError } from '@uaccel/uapi'
import type { ModelClock } from './types.js'

/** How delays are changed so that work which a device may finish in any order does so. */
export interface ClockOptions {
  /** Adds a random delay below this, in nanoseconds, to each piece of work. Default 0: work runs in the order of its delays. */
  readonly spreadNs?: number
  /** Where the random delays start: the same seed gives the same order. Default 1. */
  readonly seed?: number
}

interface Work {
  readonly dueNs: number
  /** Counts up with each piece of work that was ever added. */
  readonly order: number
  readonly run: () => void
}

/** Pending work, in order of time and, at the same time, of arrival. */
class Agenda {
  readonly #work: Work[] = []
  readonly #spreadNs: number
  #random: number
  /** The `order` of what was added last. */
  lastOrder = 0

  constructor({ spreadNs = 0, seed = 1 }: ClockOptions) {
    this.#spreadNs = spreadNs
    this.#random = seed | 0
  }

  get length(): number {
    return this.#work.length
  }

  get first(): Work | undefined {
    return this.#work[0]
  }

  add(nowNs: number, delayNs: number, run: () => void): () => void {
    if (!(delayNs >= 0)) {
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `A delay is 0 ns or more, not ${delayNs}.`)
    }
    const work: Work = { dueNs: nowNs + delayNs + this.#spread(), order: ++this.lastOrder, run }
    let at = this.#work.length
    while (at > 0 && this.#work[at - 1]!.dueNs > work.dueNs) at--
    this.#work.splice(at, 0, work)
    return () => {
      const index = this.#work.indexOf(work)
      if (index >= 0) this.#work.splice(index, 1)
    }
  }

  take(): Work | undefined {
    return this.#work.shift()
  }

  #spread(): number {
    if (this.#spreadNs === 0) return 0
    // mulberry32: small, seeded, good enough to shuffle.
    this.#random = (this.#random + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#random ^ (this.#random >>> 15), this.#random | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * this.#spreadNs
  }
}

/** Time that stands still until a test moves it. An error thrown by work reaches the caller of `step`. */
export class ManualClock implements ModelClock {
  readonly #agenda: Agenda
  #nowNs = 0
  #running = false

  constructor(options: ClockOptions = {}) {
    this.#agenda = new Agenda(options)
  }

  now(): number {
    return this.#nowNs
  }

  /** How many pieces of work wait. */
  get pending(): number {
    return this.#agenda.length
  }

  after(delayNs: number, work: () => void): () => void {
    return this.#agenda.add(this.#nowNs, delayNs, work)
  }

  /** Moves time on by `ns` and runs what falls due on the way, new work included. Answers how many pieces ran. */
  step(ns = 0): number {
    const end = this.#nowNs + ns
    return this.#run(
      () => {
        const due = this.#agenda.first?.dueNs
        return due !== undefined && due <= end
      },
      () => {
        this.#nowNs = end
      },
    )
  }

  /**
   * Moves time on until nothing is left to do. Answers how many pieces ran.
   *
   * @param limit Pieces of work after which the device is taken to be one that never comes to rest.
   * @throws ERR_ACCEL_TIMEOUT at the limit.
   */
  runUntilIdle(limit = 100_000): number {
    let left = limit
    return this.#run(() => {
      if (this.#agenda.length === 0) return false
      if (left-- > 0) return true
      throw accelError(
        'ERR_ACCEL_TIMEOUT',
        `The device did not come to rest within ${limit} pieces of work, ${this.#agenda.length} wait. A model that polls never does: use step().`,
      )
    })
  }

  #run(more: () => boolean, done?: () => void): number {
    if (this.#running) {
      throw accelError('ERR_ACCEL_DEADLOCK', 'Work of the clock tried to step the clock that runs it.')
    }
    this.#running = true
    try {
      let count = 0
      for (; more(); count++) {
        const work = this.#agenda.take()!
        this.#nowNs = Math.max(this.#nowNs, work.dueNs)
        work.run()
      }
      done?.()
      return count
    } finally {
      this.#running = false
    }
  }
}

/** Delays shorter than this are not waited for: a timer of the event loop is no finer. */
const TIMER_GRAIN_NS = 1_000_000
/** How long work that asks for more work, and polls, may keep the event loop from others. */
const TURN_NS = 50_000
/** Looks between two readings of the clock, which takes longer than a look. */
const LOOKS = 16

interface Poll {
  readonly untilNs: number
  readonly look: () => boolean
  readonly work: () => void
}

/**
 * Real time, on the event loop: work runs in a later turn, never inside the access that asked for it. Pending work
 * keeps the process alive. Delays are kept in order, but below a millisecond not waited for.
 */
export class AutoClock implements ModelClock {
  readonly #agenda: Agenda
  readonly #polls = new Set<Poll>()
  #cancelTurn: (() => void) | undefined
  #turnDueNs = Number.POSITIVE_INFINITY
  #turning = false
  /** When the pass of a turn began: what it starts counts from then, as reading the clock takes longer than most of that. */
  #passNs = 0

  constructor(options: ClockOptions = {}) {
    this.#agenda = new Agenda(options)
  }

  now(): number {
    return performance.now() * 1e6
  }

  get pending(): number {
    return this.#agenda.length + this.#polls.size
  }

  after(delayNs: number, work: () => void): () => void {
    const cancel = this.#agenda.add(this.#turning ? this.#passNs : this.now(), delayNs, work)
    this.#schedule()
    return () => {
      cancel()
      this.#forgetWhereIdle()
    }
  }

  poll(forNs: number, look: () => boolean, work: () => void): () => void {
    const poll = { untilNs: (this.#turning ? this.#passNs : this.now()) + forNs, look, work }
    this.#polls.add(poll)
    this.#schedule()
    return () => {
      this.#polls.delete(poll)
      this.#forgetWhereIdle()
    }
  }

  #schedule(): void {
    if (this.#turning) return
    const dueNs = this.#polls.size > 0 ? 0 : (this.#agenda.first?.dueNs ?? Number.POSITIVE_INFINITY)
    if (dueNs >= this.#turnDueNs) return
    this.#forgetTurn()
    this.#turnDueNs = dueNs
    const waitNs = dueNs - this.now()
    if (waitNs < TIMER_GRAIN_NS) {
      const turn = setImmediate(this.#turn)
      this.#cancelTurn = () => clearImmediate(turn)
    } else {
      const turn = setTimeout(this.#turn, waitNs / TIMER_GRAIN_NS)
      this.#cancelTurn = () => clearTimeout(turn)
    }
  }

  #forgetWhereIdle(): void {
    if (this.pending === 0) this.#forgetTurn()
  }

  #forgetTurn(): void {
    this.#cancelTurn?.()
    this.#cancelTurn = undefined
    this.#turnDueNs = Number.POSITIVE_INFINITY
  }

  /**
   * Runs what is due. Where a device looks, new work is run, too, and it looks on: for a time, since a device that never rests must let the event loop
   * breathe.
   */
  readonly #turn = (): void => {
    this.#forgetTurn()
    this.#turning = true
    try {
      let now = this.now()
      const end = now + TURN_NS
      const looks = this.#polls.size > 0
      while (now < end && this.#work(now) && looks) now = this.now()
    } finally {
      this.#turning = false
      this.#schedule()
    }
  }

  /** One pass, at what waited when it began. Answers whether there is more to do at once. */
  #work(now: number): boolean {
    this.#passNs = now
    const agenda = this.#agenda
    const { lastOrder } = agenda
    const limit = now + TIMER_GRAIN_NS
    for (let next = agenda.first; next !== undefined; next = agenda.first) {
      if (next.dueNs > limit || next.order > lastOrder) break
      agenda.take()
      next.run()
    }
    let polls = this.#polls.size
    for (const poll of this.#polls) {
      if (polls-- === 0) break
      let found = now >= poll.untilNs
      for (let look = 0; look < LOOKS && !found; look++) found = poll.look()
      if (!found) continue
      this.#polls.delete(poll)
      poll.work()
    }
    return this.#polls.size > 0 || (agenda.first?.dueNs ?? Number.POSITIVE_INFINITY) <= limit
  }
}
