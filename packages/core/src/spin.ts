/** What is spun for. */
export interface SpinOptions {
  /** How long to look after a submission, and after each completion, in microseconds. Infinity where nothing interrupts; 0 never. */
  readonly forUs: number
  /** Takes completions. Answers how many there were. */
  look(): number
  /** Whether there is anything to wait for. */
  busy(): boolean
}

/** A spin is halved down to that part of what it may be: one that is in vain costs next to nothing then, and still sees a device that became fast. */
const LEAST_PART = 64

/**
 * Adaptive completion: looks for completions once in each turn of the event loop, for a time, and then leaves them to the interrupt. Spinning is
 * faster where the device is faster than an interrupt's way, and in vain where it is not: so each spin that found nothing halves the next,
 * each that did doubles it again.
 */
export class Spin {
  readonly #options: SpinOptions
  #forMs: number
  #until = 0
  #found = false
  #next: NodeJS.Immediate | undefined
  readonly #turn = () => {
    this.#next = undefined
    const { forUs, look, busy } = this.#options
    if (look() > 0) {
      this.#found = true
      this.#until = performance.now() + this.#forMs
    }
    if (busy() && (forUs === Infinity || performance.now() < this.#until))
      this.#next ??= setImmediate(this.#turn)
    else if (this.#next === undefined) this.#adapt()
  }

  constructor(options: SpinOptions) {
    this.#options = options
    this.#forMs = options.forUs / 1e3
  }

  /** To be called after submissions. */
  start(): void {
    if (this.#forMs === 0) return
    this.#until = performance.now() + this.#forMs
    if (this.#next !== undefined) return
    this.#found = false
    this.#next = setImmediate(this.#turn)
  }

  stop(): void {
    clearImmediate(this.#next)
    this.#next = undefined
  }

  #adapt(): void {
    const most = this.#options.forUs / 1e3
    this.#forMs = this.#found ? Math.min(2 * this.#forMs, most) : Math.max(this.#forMs / 2, most / LEAST_PART)
  }
}
