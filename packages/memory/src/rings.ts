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

// The fields of a ring are declared, not private names, and the constructor stores each of them first as what it is: V8 keeps the
// shape of such an object in one place, and takes what is never stored again for a constant. That halves the time of an entry.

/**
 * A ring that the driver fills and the device empties. One slot stays free, so that full and empty differ: a ring of n
 * entries holds n - 1. Nothing here allocates or touches the device: write the words of `next()`, `push()`, and once per
 * batch write `tail` to the doorbell. Of several entries `at(0)` to `at(n - 1)` are filled, then `push(n)`: cheaper than one by one.
 */
export class ProducerRing {
  declare readonly words: Int32Array
  declare readonly entries: number
  declare readonly entryWords: number
  declare private readonly mask: number
  declare private headSlot: number
  declare private tailSlot: number

  constructor(layout: RingLayout) {
    checkLayout(layout)
    this.words = layout.words
    this.entries = layout.entries
    this.entryWords = layout.entryBytes / 4
    this.mask = layout.entries - 1
    this.headSlot = 0
    this.tailSlot = 0
  }

  /** Index of the slot to be filled next: what the doorbell takes. */
  get tail(): number {
    return this.tailSlot
  }

  /** Index of the oldest entry that the device has not taken, as far as it said so. */
  get head(): number {
    return this.headSlot
  }

  /** How many entries can be pushed now. */
  get free(): number {
    return (this.headSlot - this.tailSlot - 1) & this.mask
  }

  /** How many entries the device has not taken yet. */
  get pending(): number {
    return (this.tailSlot - this.headSlot) & this.mask
  }

  /** Index in `words` of the slot to be filled next, or -1 where the ring is full. */
  next(): number {
    const slot = this.tailSlot
    return ((slot + 1) & this.mask) === this.headSlot ? -1 : slot * this.entryWords
  }

  /** Index in `words` of the slot that is `ahead` of the one to be filled next. The caller saw that as many are {@link free}. */
  at(ahead: number): number {
    return ((this.tailSlot + ahead) & this.mask) * this.entryWords
  }

  /** Adds the next `count` entries, which are filled. Answers the slot of the first. The caller saw that the ring is not full. */
  push(count = 1): number {
    const slot = this.tailSlot
    this.tailSlot = (slot + count) & this.mask
    return slot
  }

  /**
   * Takes the device's word that it has consumed the entries before slot `head`. A value outside the pending entries is
   * refused: `ERR_ACCEL_IO`.
   */
  consumed(head: number): void {
    if (head < 0 || head > this.mask || !this.take(head)) this.refuse(head)
  }

  /** As {@link consumed}, of a head that the caller saw to be a slot of the ring: answers false for what it refuses. */
  take(head: number): boolean {
    const { mask, headSlot } = this
    if (((head - headSlot) & mask) > ((this.tailSlot - headSlot) & mask)) return false
    this.headSlot = head
    return true
  }

  /** Back to empty, after the device's queue was reset. */
  reset(): void {
    this.headSlot = 0
    this.tailSlot = 0
  }

  private refuse(head: number): never {
    throw accelError(
      'ERR_ACCEL_IO',
      `the device says that it has taken the entries before slot ${head}, and the pending ones are ${this.headSlot} to ${this.tailSlot} of ${this.entries}`,
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
 * zeroed memory and flips at each turn, so that no index is read from the device. Nothing here allocates. One by one: `peek()`, then
 * `advance()`. Cheaper, all that are there: `ready(limit)` counts them, `at(i)` is where each is, `advance(n)` consumes them.
 */
export class CompletionRing {
  declare readonly words: Int32Array
  declare readonly entries: number
  declare readonly entryWords: number
  declare private readonly mask: number
  declare private readonly phaseWord: number
  declare private readonly phaseMask: number
  declare private expected: number
  declare private headSlot: number

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
    this.mask = entries - 1
    this.phaseWord = phaseWord
    this.phaseMask = 1 << phaseBit
    this.expected = this.phaseMask
    this.headSlot = 0
  }

  /** Index of the next entry to be consumed: what the doorbell takes. */
  get head(): number {
    return this.headSlot
  }

  /** The phase bit of entries that are new, in its place: for a loop of the caller's own over `words`, which ends with {@link advance}. */
  get phase(): number {
    return this.expected
  }

  /** Index in `words` of the oldest entry that is new, or -1 where there is none. A plain load: V8 does not hoist it out of a polling loop. */
  peek(): number {
    const index = this.headSlot * this.entryWords
    return (this.words[index + this.phaseWord] & this.phaseMask) === this.expected ? index : -1
  }

  /** As {@link peek}, `ahead` entries later (less than `entries`): polling there first lets a batch grow. */
  peekAhead(ahead: number): boolean {
    const { mask, phaseMask } = this
    const slot = this.headSlot + ahead
    const index = (slot & mask) * this.entryWords
    const expected = slot > mask ? this.expected ^ phaseMask : this.expected
    return (this.words[index + this.phaseWord] & phaseMask) === expected
  }

  /** How many entries are new, in a row from the oldest on: up to `limit`, at most `entries`. */
  ready(limit: number): number {
    const { words, mask, entryWords, phaseWord, phaseMask } = this
    let slot = this.headSlot
    let expected = this.expected
    let count = 0
    while (count < limit && (words[slot * entryWords + phaseWord] & phaseMask) === expected) {
      count++
      slot = (slot + 1) & mask
      if (slot === 0) expected ^= phaseMask
    }
    return count
  }

  /** Index in `words` of the entry that is `ahead` of the oldest (less than `entries`). */
  at(ahead: number): number {
    return ((this.headSlot + ahead) & this.mask) * this.entryWords
  }

  /** Consumes `count` entries, which are new: the one of `peek()`, or as many as `ready()` answered. */
  advance(count = 1): void {
    const head = this.headSlot + count
    if (head > this.mask) this.expected ^= this.phaseMask
    this.headSlot = head & this.mask
  }

  /** Zeroes the memory and starts over, after the device's queue was reset. */
  reset(): void {
    this.words.fill(0, 0, this.entries * this.entryWords)
    this.headSlot = 0
    this.expected = this.phaseMask
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
