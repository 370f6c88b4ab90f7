import { accelError } from '@uaccel/uapi'
import { isPowerOfTwo } from './iova.js'

const fenceWord = new Int32Array(new SharedArrayBuffer(4))

/**
 * A full memory fence: every load and store before it is done before any after it. On x86-64 an atomic read-modify-write
 * is a locked instruction, which orders all memory of the thread (Intel SDM 3A, 8.2.3.9); the word is private, so that no
 * device sees it. V8 compiles it as a call with side effects and moves no memory access across it.
 *
 * x86-64 keeps stores in order, so filling a descriptor and then ringing a doorbell needs none. It is needed where a
 * store must be seen before a later load: publish the tail, fence, then read the device's "wake me" word. Costs 25-80 ns.
 */
export function memoryFence(): void {
  Atomics.add(fenceWord, 0, 1)
}

/** Where a ring lies and how its entries look. */
export interface RingLayout {
  /** The ring's memory, from its first entry on: a `DmaRegion`'s `i32`. */
  readonly words: Int32Array
  /** Number of entries, a power of two of at least 2. */
  readonly entries: number
  /** Size of an entry in bytes, a multiple of 4. */
  readonly entryBytes: number
}

/**
 * A ring that the driver fills and the device empties. One slot stays free, so that full and empty differ: a ring of n
 * entries holds n - 1. Nothing here allocates or touches the device: write the words of `next()`, `push()`, and once per
 * batch write `tail` to the doorbell.
 */
export class ProducerRing {
  readonly words: Int32Array
  readonly entries: number
  readonly entryWords: number
  readonly #mask: number
  #head = 0
  #tail = 0

  constructor(layout: RingLayout) {
    checkLayout(layout)
    this.words = layout.words
    this.entries = layout.entries
    this.entryWords = layout.entryBytes / 4
    this.#mask = layout.entries - 1
  }

  /** Index of the slot to be filled next: what the doorbell takes. */
  get tail(): number {
    return this.#tail
  }

  /** Index of the oldest entry that the device has not taken, as far as it said so. */
  get head(): number {
    return this.#head
  }

  /** How many entries can be pushed now. */
  get free(): number {
    return (this.#head - this.#tail - 1) & this.#mask
  }

  /** How many entries the device has not taken yet. */
  get pending(): number {
    return (this.#tail - this.#head) & this.#mask
  }

  /** Index in `words` of the slot to be filled next, or -1 where the ring is full. */
  next(): number {
    return ((this.#tail + 1) & this.#mask) === this.#head ? -1 : this.#tail * this.entryWords
  }

  /** Adds the entry at `next()`. Answers its slot. The caller saw that the ring is not full. */
  push(): number {
    const slot = this.#tail
    this.#tail = (slot + 1) & this.#mask
    return slot
  }

  /**
   * Takes the device's word that it has consumed the entries before slot `head`. A value outside the pending entries is
   * refused: `ERR_ACCEL_IO`.
   */
  consumed(head: number): void {
    if (((head - this.#head) & this.#mask) > this.pending || head < 0 || head > this.#mask) this.#refuse(head)
    this.#head = head
  }

  /** Back to empty, after the device's queue was reset. */
  reset(): void {
    this.#head = 0
    this.#tail = 0
  }

  #refuse(head: number): never {
    throw accelError(
      'ERR_ACCEL_IO',
      `the device says that it has taken the entries before slot ${head}, and the pending ones are ${this.#head} to ${this.#tail} of ${this.entries}`,
    )
  }
}

/** A completion ring's layout: besides the entries, where their phase bit is. */
export interface CompletionLayout extends RingLayout {
  /** Index of the word in an entry that carries the phase bit. It must be the last that the device writes. */
  readonly phaseWord: number
  /** The phase bit in that word, 0-31. */
  readonly phaseBit: number
}

/**
 * A ring that the device fills and the driver empties. A new entry is known by its phase bit, which starts as 1 in
 * zeroed memory and flips at each turn, so that no index is read from the device. Nothing here allocates.
 */
export class CompletionRing {
  readonly words: Int32Array
  readonly entries: number
  readonly entryWords: number
  readonly #mask: number
  readonly #phaseWord: number
  readonly #phaseMask: number
  #expected: number
  #head = 0
  #index = 0

  constructor(layout: CompletionLayout) {
    checkLayout(layout)
    const { words, entries, entryBytes, phaseWord, phaseBit } = layout
    if (!(phaseWord >= 0 && phaseWord < entryBytes / 4 && phaseBit >= 0 && phaseBit < 32)) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `phase bit ${phaseBit} of word ${phaseWord} is not in an entry of ${entryBytes} bytes`,
      )
    }
    this.words = words
    this.entries = entries
    this.entryWords = entryBytes / 4
    this.#mask = entries - 1
    this.#phaseWord = phaseWord
    this.#phaseMask = 1 << phaseBit
    this.#expected = this.#phaseMask
  }

  /** Index of the next entry to be consumed: what the doorbell takes. */
  get head(): number {
    return this.#head
  }

  /** Index in `words` of the oldest entry that is new, or -1 where there is none. A plain load: V8 does not hoist it out of a polling loop. */
  peek(): number {
    const index = this.#index
    return (this.words[index + this.#phaseWord] & this.#phaseMask) === this.#expected ? index : -1
  }

  /** As {@link peek}, `ahead` entries later (less than `entries`): polling there first lets a batch grow. */
  peekAhead(ahead: number): boolean {
    const slot = this.#head + ahead
    const index = (slot & this.#mask) * this.entryWords
    const expected = slot > this.#mask ? this.#expected ^ this.#phaseMask : this.#expected
    return (this.words[index + this.#phaseWord] & this.#phaseMask) === expected
  }

  /** Consumes the entry at `peek()`, which answered one. */
  advance(): void {
    this.#head = (this.#head + 1) & this.#mask
    this.#index = this.#head * this.entryWords
    if (this.#head === 0) this.#expected ^= this.#phaseMask
  }

  /** Zeroes the memory and starts over, after the device's queue was reset. */
  reset(): void {
    this.words.fill(0, 0, this.entries * this.entryWords)
    this.#head = 0
    this.#index = 0
    this.#expected = this.#phaseMask
  }
}

function checkLayout({ words, entries, entryBytes }: RingLayout): void {
  if (
    !isPowerOfTwo(entries) ||
    entries < 2 ||
    !Number.isInteger(entryBytes) ||
    entryBytes < 4 ||
    entryBytes % 4 !== 0
  ) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `a ring of ${entries} entries of ${entryBytes} bytes: wanted a power of two >= 2, and a multiple of 4`,
    )
  }
  if (words.length * 4 < entries * entryBytes) {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `a ring of ${entries} entries of ${entryBytes} bytes does not fit ${words.length * 4} bytes`,
    )
  }
}
