import type { ModelContext } from '@uaccel/model'

/** Time between two looks while doorbells change, and when nothing has changed for a while. */
const BUSY_NS = 1_000
const IDLE_NS = 1_000_000
const LOOKS_UNTIL_IDLE = 500

/** What a doorbell holds that was looked at: no value of one, all of which have 16 bits. */
const TAKEN = 0xffff_ffff

/**
 * Doorbells that are memory of the BAR, which a driver maps: nobody tells the controller of a write, so it looks, as targets in user space do. It
 * sees the last value of each, and takes it away: with shadow doorbells a register is written so seldom that the same value may come twice.
 */
export class DoorbellMemory {
  readonly #context: ModelContext
  readonly #strideWords: number
  readonly #rung: (index: number, value: number) => void
  readonly #count: number
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
    this.#count = count
  }

  /** Looks from now on, until {@link stop}. */
  start(): void {
    this.#words().fill(TAKEN)
    this.#cancel ??= this.#context.clock.after(0, () => this.#look())
  }

  stop(): void {
    this.#cancel?.()
    this.#cancel = undefined
  }

  /** What was written for a queue pair of before is none of the new one's. */
  clear(queue: number): void {
    for (const index of [2 * queue, 2 * queue + 1]) this.#words()[index * this.#strideWords] = TAKEN
  }

  #words(): Uint32Array {
    const { buffer, byteOffset, byteLength } = this.#context.memory('doorbells')
    return new Uint32Array(buffer, byteOffset, byteLength / 4)
  }

  #look(): void {
    const words = this.#words()
    this.#idle++
    for (let index = 0; index < this.#count; index++) {
      const at = index * this.#strideWords
      if (words[at] === TAKEN) continue
      const value = Atomics.exchange(words, at, TAKEN) // the driver may write meanwhile
      this.#idle = 0
      this.#rung(index, value)
    }
    const delay = this.#idle < LOOKS_UNTIL_IDLE ? BUSY_NS : IDLE_NS
    this.#cancel = this.#context.clock.after(delay, () => this.#look())
  }
}
