import type { ModelContext } from '@uaccel/model'

/** Time between two looks while doorbells change, and when nothing has changed for a while. */
const BUSY_NS = 1_000
const IDLE_NS = 1_000_000
const LOOKS_UNTIL_IDLE = 500

/**
 * Doorbells that are memory of the BAR, which a driver maps: nobody tells the controller of a write, so it looks, as targets in user space do. It
 * sees the last value of each.
 */
export class DoorbellMemory {
  readonly #context: ModelContext
  readonly #strideWords: number
  readonly #rung: (index: number, value: number) => void
  readonly #seen: Uint32Array
  #idle = 0
  #cancel: (() => void) | undefined

  /** @param count Doorbells there are. */
  constructor(
    context: ModelContext,
    count: number,
    strideBytes: number,
    rung: (index: number, value: number) => void,
  ) {
    this.#context = context
    this.#strideWords = strideBytes / 4
    this.#rung = rung
    this.#seen = new Uint32Array(count)
  }

  /** Looks from now on, until {@link stop}. */
  start(): void {
    this.#cancel ??= this.#context.clock.after(0, () => this.#look())
  }

  stop(): void {
    this.#cancel?.()
    this.#cancel = undefined
    this.#words().fill(0)
    this.#seen.fill(0)
  }

  /** Both doorbells of a new queue pair start at 0. */
  clear(queue: number): void {
    for (const index of [2 * queue, 2 * queue + 1])
      this.#words()[index * this.#strideWords] = this.#seen[index] = 0
  }

  #words(): Uint32Array {
    const { buffer, byteOffset, byteLength } = this.#context.memory('doorbells')
    return new Uint32Array(buffer, byteOffset, byteLength / 4)
  }

  #look(): void {
    const words = this.#words()
    this.#idle++
    for (let index = 0; index < this.#seen.length; index++) {
      const value = words[index * this.#strideWords]!
      if (value === this.#seen[index]) continue
      this.#seen[index] = value
      this.#idle = 0
      this.#rung(index, value)
    }
    const delay = this.#idle < LOOKS_UNTIL_IDLE ? BUSY_NS : IDLE_NS
    this.#cancel = this.#context.clock.after(delay, () => this.#look())
  }
}
