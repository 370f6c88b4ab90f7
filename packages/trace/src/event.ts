/**
 * One event, as the ring, the binary file and a recording hold it: 32 bytes, little-endian.
 *
 * | byte | type | name   |                                                          |
 * |-----:|------|--------|----------------------------------------------------------|
 * |    0 | u64  | timeNs | CLOCK_MONOTONIC                                          |
 * |    8 | u8   | kind   | a number of {@link EventKind}                            |
 * |    9 | u8   | width  | bytes of one access; what an access kind says, elsewhere |
 * |   10 | u16  | index  | region, vector, queue or number of a command             |
 * |   12 | u32  | id     | open, or number of a command or job                      |
 * |   16 | u64  | a      | offset, address                                          |
 * |   24 | u64  | b      | value, size, status                                      |
 *
 * What each kind holds where is in {@link EventKind}; what it has no use for is 0.
 */
export const RECORD_BYTES = 32

/**
 * What happened. Append-only, as files outlive programs. 1 to 63 are those of every device; 64 to 127 are for what a recording
 * has besides; 128 and above are whose file it is.
 */
export const EventKind = {
  /** A read of `width` bytes (0: a copy of many) of region `index` at offset `a` gave `b` (a copy: so many bytes). */
  mmioRead: 1,
  /** A write of `width` bytes (0: a copy of many) of `b` (a copy: so many bytes) to region `index` at offset `a`. */
  mmioWrite: 2,
  /** Vector `index` fired; `b` is how often since its handler ran. */
  irq: 3,
  /** `b` bytes became reachable for the device at IOVA `a`; `width`: 1 it may read them, 2 write, 3 both. */
  dmaMap: 4,
  /** `b` bytes at IOVA `a` are not reachable any more. */
  dmaUnmap: 5,
  /** Call `id` of command `index` of open `a` was given to the driver; it has waited `b` ns for its turn. */
  commandBegin: 6,
  /** Call `id` of command `index` of open `a` ended with error number `b` (0: none). */
  commandEnd: 7,
  /** Job `id` came to queue `index` of open `a`; `b` is the size of what it says, in bytes. */
  submit: 8,
  /** Job `id` of queue `index` of open `a` was given to the device. */
  start: 9,
  /** Job `id` of queue `index` of open `a` ended with error number `b` (0: none). */
  complete: 10,
  /** The device was reset; `b` is the error number (0: it works). */
  reset: 11,
} as const

export type EventKindName = keyof typeof EventKind

const names: readonly (EventKindName | undefined)[] = Object.entries(EventKind).reduce<EventKindName[]>(
  (list, [name, number]) => {
    list[number] = name as EventKindName
    return list
  },
  [],
)

/** The name of a kind; `undefined` where this version does not know it. */
export function kindName(kind: number): EventKindName | undefined {
  return names[kind]
}

/** A record that was read. */
export interface TraceEvent {
  readonly timeNs: bigint
  /** A number of {@link EventKind}, or one that this version does not know. */
  readonly kind: number
  readonly width: number
  readonly index: number
  readonly id: number
  readonly a: bigint
  readonly b: bigint
}

const WORD = 2 ** 32

/**
 * Records over memory, such as a mapped file: written without making any object, by plain stores. Numbers are unsigned and
 * whole, up to 2^53; a store takes what a field has room for.
 */
export class RecordArray {
  /** How many there is room for. */
  readonly length: number
  readonly #u8: Uint8Array
  readonly #u16: Uint16Array
  readonly #u32: Uint32Array
  readonly #u64: BigUint64Array

  /** @param byteOffset A multiple of 8. */
  constructor(buffer: ArrayBuffer, byteOffset: number, length: number) {
    this.length = length
    this.#u8 = new Uint8Array(buffer, byteOffset, length * RECORD_BYTES)
    this.#u16 = new Uint16Array(buffer, byteOffset, (length * RECORD_BYTES) / 2)
    this.#u32 = new Uint32Array(buffer, byteOffset, (length * RECORD_BYTES) / 4)
    this.#u64 = new BigUint64Array(buffer, byteOffset, (length * RECORD_BYTES) / 8)
  }

  /** Writes record `slot`, which is less than `length`. `a` and `b` may be bigints: addresses and values of 64 bits, which no number holds. */
  put(
    slot: number,
    timeNs: number,
    kind: number,
    width: number,
    index: number,
    id: number,
    a: number | bigint,
    b: number | bigint,
  ): void {
    const u32 = this.#u32
    const word = slot * 8
    u32[word] = timeNs
    u32[word + 1] = timeNs / WORD
    this.#u8[slot * 32 + 8] = kind
    this.#u8[slot * 32 + 9] = width
    this.#u16[slot * 16 + 5] = index
    u32[word + 3] = id
    if (typeof a === 'bigint') this.#u64[slot * 4 + 2] = a
    else {
      u32[word + 4] = a
      u32[word + 5] = a / WORD
    }
    if (typeof b === 'bigint') this.#u64[slot * 4 + 3] = b
    else {
      u32[word + 6] = b
      u32[word + 7] = b / WORD
    }
  }
}

/** Writes a record into bytes, which have room for it at `offset`: for what is not on a hot path. */
export function encodeRecord(event: TraceEvent, into: Uint8Array, offset = 0): void {
  const view = new DataView(into.buffer, into.byteOffset + offset, RECORD_BYTES)
  view.setBigUint64(0, event.timeNs, true)
  view.setUint8(8, event.kind)
  view.setUint8(9, event.width)
  view.setUint16(10, event.index, true)
  view.setUint32(12, event.id, true)
  view.setBigUint64(16, event.a, true)
  view.setBigUint64(24, event.b, true)
}

/** Reads the record at `offset` of bytes that hold all of it. Any bytes are a record: what its numbers mean is checked by who uses them. */
export function decodeRecord(from: Uint8Array, offset = 0): TraceEvent {
  const view = new DataView(from.buffer, from.byteOffset + offset, RECORD_BYTES)
  return {
    timeNs: view.getBigUint64(0, true),
    kind: view.getUint8(8),
    width: view.getUint8(9),
    index: view.getUint16(10, true),
    id: view.getUint32(12, true),
    a: view.getBigUint64(16, true),
    b: view.getBigUint64(24, true),
  }
}

// CLOCK_MONOTONIC is what libuv's clock is, and `performance.now` counts it from the start of the process, in a double whose
// nanoseconds are exact for the first hundred days of a machine. Asked directly, the clock answers a bigint, which is an object.
const originNs = (() => {
  let best = { spanNs: Number.POSITIVE_INFINITY, originNs: 0 }
  for (let i = 0; i < 16; i++) {
    const before = Number(process.hrtime.bigint())
    const now = performance.now() * 1e6
    const spanNs = Number(process.hrtime.bigint()) - before
    if (spanNs < best.spanNs) best = { spanNs, originNs: before + spanNs / 2 - now }
  }
  return best.originNs
})()

/** CLOCK_MONOTONIC, in nanoseconds. Threads and processes of a machine agree on it to within a microsecond. */
export function monotonicNs(): number {
  return originNs + performance.now() * 1e6
}
