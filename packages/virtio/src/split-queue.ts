import { isPowerOfTwo, memoryFence } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'

/** struct virtq_desc (virtio 1.2, 2.7.5), in 32-bit words: address, length, flags with `next` in the upper half. */
const DESCRIPTOR_BYTES = 16
const DESCRIPTOR_WORDS = 4
const FLAG = { next: 1, write: 2, indirect: 4 } as const
/** struct virtq_avail (2.7.6) in 16-bit words: flags, index, ring, used_event. */
const AVAIL = { flags: 0, index: 1, ring: 2 } as const
const NO_INTERRUPT = 1
/** struct virtq_used (2.7.8): in 16-bit words flags and index; in 32-bit words the ring, of id and length. */
const USED = { flags: 0, index: 1, ring: 1 } as const
const NO_NOTIFY = 1
/** Indices run freely in 16 bits (2.7.6, 2.7.8). */
const INDEX_MASK = 0xffff
/** Queue Size (2.7). */
const MAX_ENTRIES = 32_768
/** What became of a slot: free, put in by `end`, told to the device by `flush`, answered by `next`. */
const STATE = { free: 0, put: 1, told: 2, used: 3 } as const
/** Cache lines: what the driver writes shares none with what the device writes. */
const ALIGN_BYTES = 64

const aligned = (bytes: number) => Math.ceil(bytes / ALIGN_BYTES) * ALIGN_BYTES

/** Where the parts of a queue lie in its memory, in bytes from the start. */
export interface SplitLayout {
  readonly descriptors: number
  readonly avail: number
  readonly used: number
  /** One table for each descriptor; none where `tableEntries` is 0. */
  readonly tables: number
  readonly tableBytes: number
  readonly sizeBytes: number
}

/** Lays a queue out; `tableEntries` are the descriptors of an indirect table, 0 without these. */
export function splitLayout(entries: number, tableEntries: number): SplitLayout {
  if (!isPowerOfTwo(entries) || entries > MAX_ENTRIES) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `A virtqueue of ${entries} entries: wanted a power of two up to ${MAX_ENTRIES}`,
    )
  }
  const avail = entries * DESCRIPTOR_BYTES
  const used = aligned(avail + 6 + 2 * entries)
  const tables = aligned(used + 6 + 8 * entries)
  const tableBytes = tableEntries * DESCRIPTOR_BYTES
  return { descriptors: 0, avail, used, tables, tableBytes, sizeBytes: tables + entries * tableBytes }
}

/** Memory that the device reaches: a `DmaRegion`. */
export interface QueueMemory {
  readonly i32: Int32Array
  readonly u16: Uint16Array
  readonly iova: bigint
}

/** Where a queue is notified. */
export interface Notifier {
  /** Exactly one write of that width. */
  write16(offset: number, value: number): void
}

/** What a queue is made of. */
export interface SplitQueueOptions {
  /** Its number, which a notification carries. */
  readonly index: number
  /** A power of two. */
  readonly entries: number
  /** The most segments of a chain. */
  readonly maxSegments: number
  /** VIRTIO_F_INDIRECT_DESC and VIRTIO_F_EVENT_IDX, as they were negotiated. */
  readonly indirect: boolean
  readonly eventIndex: boolean
  /** Zeroed, of the size that {@link splitLayout} says for `maxSegments` with `indirect`, else for 0. */
  readonly memory: QueueMemory
  readonly notifier: Notifier
  /** Offset for `notifier`. */
  readonly notifyAt: number
}

/**
 * A split virtqueue (virtio 1.2, 2.7), the driver's side. A chain of segments is put in by `begin`, `add` for each segment, `end`;
 * `flush` tells the device of all that were put in since. `next` takes one that the device has used, and `release` gives its slot back:
 *
 *     const slot = queue.begin(2) // -1: full
 *     queue.add(low, high, 88, false)
 *     queue.add(low, high, 1, true)
 *     queue.end()
 *     queue.flush()
 *     for (let slot = queue.next(); slot >= 0; slot = queue.next()) {
 *       // queue.written bytes were written to the segments of that slot
 *       queue.release(slot)
 *     }
 *
 * A slot is a number below `entries`; who uses the queue keeps by it what belongs to a chain. Nothing here allocates. What the device
 * says is checked, and what it was given is kept where it cannot write: a queue whose device lies is broken until `reset`.
 */
export class SplitQueue {
  readonly index: number
  readonly entries: number
  readonly maxSegments: number
  readonly layout: SplitLayout
  /** Bytes that the device says it has written to the chain that {@link next} answered last: at most what that chain has room for. */
  written = 0
  readonly #memory: QueueMemory
  readonly #notifier: Notifier
  readonly #notifyAt: number
  readonly #mask: number
  readonly #eventIndex: boolean
  readonly #descriptors: Int32Array
  readonly #tables: Int32Array | undefined
  /** Addresses of the indirect tables, by slot. */
  readonly #tableLow: Int32Array
  readonly #tableHigh: Int32Array
  readonly #avail: Uint16Array
  readonly #used: Uint16Array
  readonly #usedRing: Int32Array
  /** Where the two events are in `#avail` and `#used` (2.7.7, 2.7.10). */
  readonly #usedEvent: number
  readonly #availEvent: number

  // Kept here and not in the descriptors, which the device can write.
  /** The next free descriptor, or the next of its chain. */
  readonly #links: Int32Array
  readonly #states: Uint8Array
  /** By slot: descriptors of its chain. */
  readonly #taken: Int32Array
  /** By place in the available ring. */
  readonly #heads: Int32Array
  /** By slot: bytes that its chain has room for. */
  readonly #room: Float64Array
  #firstFree = 0
  #free = 0
  #inFlight = 0
  /** Free-running, 16 bits: put in, told to the device, taken from it. */
  #added = 0
  #published = 0
  #last = 0
  #interrupts = true
  /** At which index the device was last asked to interrupt; -1 where it was asked not to. */
  #armedAt = 0
  #broken: AccelError | undefined

  // The chain that is being put in.
  #head = -1
  #left = 0
  #segments = 0
  #writable = 0

  constructor(options: SplitQueueOptions) {
    const { index, entries, maxSegments, indirect, memory } = options
    if (maxSegments < 1 || maxSegments > entries) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `Virtqueue ${index} has ${entries} entries, and chains of ${maxSegments} segments were wanted: no chain is longer than its queue`,
      )
    }
    const layout = splitLayout(entries, indirect ? maxSegments : 0)
    const { avail, used, tables, tableBytes } = layout
    this.index = index
    this.entries = entries
    this.maxSegments = maxSegments
    this.layout = layout
    this.#memory = memory
    this.#notifier = options.notifier
    this.#notifyAt = options.notifyAt
    this.#mask = entries - 1
    this.#eventIndex = options.eventIndex
    this.#descriptors = memory.i32.subarray(0, avail / 4)
    this.#tables = indirect ? memory.i32.subarray(tables / 4) : undefined
    this.#tableLow = new Int32Array(entries)
    this.#tableHigh = new Int32Array(entries)
    for (let slot = 0; slot < entries; slot++) {
      const iova = memory.iova + BigInt(tables + slot * tableBytes)
      this.#tableLow[slot] = Number(iova & 0xffff_ffffn)
      this.#tableHigh[slot] = Number(iova >> 32n)
    }
    this.#avail = memory.u16.subarray(avail / 2)
    this.#used = memory.u16.subarray(used / 2)
    this.#usedRing = memory.i32.subarray(used / 4)
    this.#usedEvent = AVAIL.ring + entries
    this.#availEvent = 2 + 4 * entries
    this.#links = new Int32Array(entries)
    this.#states = new Uint8Array(entries)
    this.#taken = new Int32Array(entries)
    this.#heads = new Int32Array(entries)
    this.#room = new Float64Array(entries)
    this.#start()
  }

  /** Chains that the device was told of and has not used. */
  get inFlight(): number {
    return this.#inFlight
  }

  /** Whether a chain of so many segments can be put in now. */
  fits(segments: number): boolean {
    return this.#free >= (this.#tables !== undefined && segments > 1 ? 1 : segments)
  }

  /** Why it takes nothing: the device broke its rules. */
  get broken(): AccelError | undefined {
    return this.#broken
  }

  /** Begins a chain of exactly so many segments. Answers its slot, or -1 where there is no room. `ERR_ACCEL_IO` where it is broken. */
  begin(segments: number): number {
    if (this.#broken !== undefined) throw this.#broken
    if (!(segments >= 1 && segments <= this.maxSegments) || this.#left !== 0) this.#misused(segments)
    if (!this.fits(segments)) return -1
    this.#head = this.#firstFree
    this.#left = segments
    this.#segments = segments
    this.#writable = 0
    if (this.#tables !== undefined && segments > 1) {
      this.#firstFree = this.#links[this.#head]
      this.#free--
    } else this.#free -= segments
    return this.#head
  }

  /**
   * Adds a segment to the chain: `sizeBytes`, at least 1, at the I/O address whose halves these are. Those that the device may write
   * come behind those that it reads (2.7.4.2).
   */
  add(low: number, high: number, sizeBytes: number, writable: boolean): void {
    if (this.#left === 0 || !(sizeBytes >= 1) || (!writable && this.#writable > 0)) this.#misused(sizeBytes)
    this.#left--
    if (writable) this.#writable += sizeBytes
    const more = this.#left > 0
    const flags = (writable ? FLAG.write : 0) | (more ? FLAG.next : 0)
    let words = this.#descriptors
    let at: number
    let next: number
    if (this.#tables !== undefined && this.#segments > 1) {
      const position = this.#segments - this.#left - 1
      words = this.#tables
      at = (this.#head * this.maxSegments + position) * DESCRIPTOR_WORDS
      next = position + 1
    } else {
      at = this.#firstFree * DESCRIPTOR_WORDS
      this.#firstFree = this.#links[this.#firstFree]
      next = this.#firstFree
    }
    words[at] = low
    words[at + 1] = high
    words[at + 2] = sizeBytes
    words[at + 3] = more ? flags | (next << 16) : flags
  }

  /** Ends the chain: {@link flush} tells the device of it. */
  end(): void {
    const head = this.#head
    if (head < 0 || this.#left !== 0) this.#misused(this.#left)
    const indirect = this.#tables !== undefined && this.#segments > 1
    if (indirect) {
      const at = head * DESCRIPTOR_WORDS
      this.#descriptors[at] = this.#tableLow[head]
      this.#descriptors[at + 1] = this.#tableHigh[head]
      this.#descriptors[at + 2] = this.#segments * DESCRIPTOR_BYTES
      this.#descriptors[at + 3] = FLAG.indirect
    }
    this.#taken[head] = indirect ? 1 : this.#segments
    this.#room[head] = this.#writable
    this.#states[head] = STATE.put
    const place = this.#added & this.#mask
    this.#heads[place] = head
    this.#avail[AVAIL.ring + place] = head
    this.#added = (this.#added + 1) & INDEX_MASK
    this.#head = -1
  }

  /** Tells the device of all chains that were put in; one notification, where the device wants one (2.7.13). Answers whether it did. */
  flush(): boolean {
    const from = this.#published
    const to = this.#added
    if (to === from) return false
    for (let i = from; i !== to; i = (i + 1) & INDEX_MASK)
      this.#states[this.#heads[i & this.#mask]] = STATE.told
    // x86-64 keeps stores in order: descriptors and ring entries are seen before the index.
    this.#avail[AVAIL.index] = to
    this.#published = to
    this.#inFlight += (to - from) & INDEX_MASK
    memoryFence() // the index is seen before the device's wish is read (2.7.13.4.1)
    const wanted = this.#eventIndex
      ? ((to - this.#used[this.#availEvent] - 1) & INDEX_MASK) < ((to - from) & INDEX_MASK)
      : (this.#used[USED.flags] & NO_NOTIFY) === 0
    if (wanted) this.#notifier.write16(this.#notifyAt, this.index)
    return wanted
  }

  /**
   * Takes a chain that the device has used. Answers its slot, which is the caller's until {@link release}, or -1 where there is none:
   * then the device interrupts for the next one. `ERR_ACCEL_IO` for what cannot be: the queue is broken.
   */
  next(): number {
    if (this.#broken !== undefined) throw this.#broken
    const last = this.#last
    if (this.#used[USED.index] === last && !this.#arm()) return -1
    const ready = (this.#used[USED.index] - last) & INDEX_MASK
    if (ready === 0) return -1
    const at = USED.ring + 2 * (last & this.#mask)
    // Each is read once: the device may change them between a check and a use.
    const slot = this.#usedRing[at]
    const written = this.#usedRing[at + 1] >>> 0
    if (ready > this.#inFlight || !(slot >= 0 && slot < this.entries)) this.#refuse(ready, slot, written)
    if (this.#states[slot] !== STATE.told || written > this.#room[slot]) this.#refuse(ready, slot, written)
    this.#last = (last + 1) & INDEX_MASK
    this.#inFlight--
    this.#states[slot] = STATE.used
    this.written = written
    return slot
  }

  /** Gives back a slot that {@link next} answered. */
  release(slot: number): void {
    if (this.#states[slot] !== STATE.used) this.#misused(slot)
    const count = this.#taken[slot]
    let tail = slot
    for (let i = 1; i < count; i++) tail = this.#links[tail]
    this.#links[tail] = this.#firstFree
    this.#firstFree = slot
    this.#free += count
    this.#states[slot] = STATE.free
  }

  /** Whether the device is to interrupt: off for one that is polled. It may interrupt all the same (2.7.7). */
  set interrupts(on: boolean) {
    this.#interrupts = on
    if (on) return
    this.#armedAt = -1
    if (this.#eventIndex) this.#avail[this.#usedEvent] = (this.#last - 1) & INDEX_MASK
    else this.#avail[AVAIL.flags] = NO_INTERRUPT
  }

  /** Back to empty, after the device was reset and before it is told of the queue again. */
  reset(): void {
    this.#memory.i32.fill(0, 0, this.layout.sizeBytes / 4)
    this.#start()
  }

  #start(): void {
    for (let i = 0; i < this.entries; i++) this.#links[i] = i + 1
    this.#links[this.entries - 1] = 0
    this.#states.fill(STATE.free)
    this.#firstFree = this.#added = this.#published = this.#last = 0
    this.#free = this.entries
    this.#inFlight = 0
    this.#head = -1
    this.#left = 0
    this.#armedAt = 0
    this.#broken = undefined
    if (!this.#interrupts) this.interrupts = false
  }

  /** Asks for an interrupt at the next used chain. True where one may have come meanwhile, which no interrupt will tell of. */
  #arm(): boolean {
    if (!this.#interrupts) return false
    if (this.#eventIndex) {
      if (this.#armedAt === this.#last) return false
      this.#avail[this.#usedEvent] = this.#last
    } else {
      if (this.#armedAt >= 0) return false
      this.#avail[AVAIL.flags] = 0
    }
    this.#armedAt = this.#last
    memoryFence()
    return true
  }

  #refuse(ready: number, slot: number, written: number): never {
    this.#broken = accelError(
      'ERR_ACCEL_IO',
      `The device says of virtqueue ${this.index} that it used ${ready} chains, with ${this.#inFlight} under way, and wrote ${written} ` +
        `bytes for descriptor ${slot}: that cannot be, and it has to be reset`,
      { details: { queue: this.index, ready, slot, written, inFlight: this.#inFlight, idle: false } },
    )
    throw this.#broken
  }

  #misused(value: number): never {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `Virtqueue ${this.index}: chains have 1 to ${this.maxSegments} segments of at least one byte, as many as begin() was told, ` +
        `those to be written last, and a slot is released once; found ${value}`,
    )
  }
}
