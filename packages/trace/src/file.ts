import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { accelError } from '@uaccel/uapi'
import { attempt } from './attempt.js'
import { decodeRecord, RECORD_BYTES, type TraceEvent } from './event.js'
import { at, HEADER_BYTES, MAGIC, VERSION } from './layout.js'
import { TraceNames } from './names.js'

/** What was there at one look. */
export interface TraceBatch {
  readonly events: readonly TraceEvent[]
  /** Records between the last look and these that were overwritten before anybody read them. */
  readonly lost: number
}

/** Records that are taken at one look. */
const MOST = 65_536
/** Largest room for names that is looked at. */
const MAX_NAMES = 2 ** 24

/**
 * A trace that is read: a ring that another process writes at this moment, one that a process has left, or a file. It is read by copies and
 * nothing in it is believed: it may have been cut, or be anybody's.
 */
export class TraceFile {
  readonly names = new TraceNames()
  readonly #fd: number
  readonly #label: string
  readonly #capacity: number
  readonly #first: number
  readonly #namesRoom: number
  #namesRead = 0
  #partial = Buffer.alloc(0)
  #next = 0
  #lostBefore: number
  #closed = false

  /**
   * @param fd A descriptor of it, which belongs to this from now on, also where this throws.
   * @throws ERR_ACCEL_BAD_SIZE, ERR_ACCEL_VERSION: it is no trace, or none that is known here
   */
  constructor(fd: number, label: string) {
    this.#fd = fd
    this.#label = label
    try {
      const header = fstatSync(fd).isFile() ? this.#bytes(0, HEADER_BYTES) : Buffer.alloc(0)
      if (header.length < HEADER_BYTES || header.toString('latin1', 0, MAGIC.length) !== MAGIC)
        throw accelError(
          'ERR_ACCEL_BAD_SIZE',
          `${label} is not a trace: it does not begin with ${MAGIC} and a page of header`,
        )
      const u32 = (place: number) => header.readUInt32LE(place)
      const [version, recordBytes] = [u32(at.version), u32(at.recordBytes)]
      if (version !== VERSION || recordBytes !== RECORD_BYTES) {
        throw accelError(
          'ERR_ACCEL_VERSION',
          `${label} is a trace of version ${version} with records of ${recordBytes} bytes; this program reads version ${VERSION} with ${RECORD_BYTES}`,
        )
      }
      this.#namesRoom = u32(at.namesRoom)
      this.#capacity = u32(at.capacity)
      this.#first = HEADER_BYTES + this.#namesRoom
      const sizeBytes = fstatSync(fd).size
      const wanted = this.#first + this.#capacity * RECORD_BYTES
      if (
        u32(at.names) !== HEADER_BYTES ||
        this.#namesRoom > MAX_NAMES ||
        this.#capacity === 0 ||
        wanted > sizeBytes
      ) {
        throw accelError(
          'ERR_ACCEL_BAD_SIZE',
          `${label} says that it has ${this.#capacity} records behind ${this.#namesRoom} bytes of names, and has ${sizeBytes} bytes, of ${wanted}: it was cut, or damaged`,
        )
      }
      this.#lostBefore = count(header.readDoubleLE(at.lost))
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /** Opens a file. `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_PERMISSION`, and as for the constructor. */
  static open(path: string): TraceFile {
    const fd = attempt(path, 'read', () => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK))
    return new TraceFile(fd, path)
  }

  /** The process that writes it; 0 where that has ended it. One that was killed is still named. */
  get writer(): number {
    return this.#exactly(at.pid, 4).readUInt32LE(0)
  }

  /** Lines of names that had no room: what they name is shown by its numbers. */
  get namesLost(): number {
    return this.#exactly(at.namesLost, 4).readUInt32LE(0)
  }

  /** CLOCK_REALTIME less CLOCK_MONOTONIC, in ns: add it to the time of a record to know the time of day. */
  get realtimeNs(): bigint {
    return this.#exactly(at.realtimeNs, 8).readBigUInt64LE(0)
  }

  /** What was written since the last look, oldest first; at most 65,536 at once: look again until there is none. */
  read(): TraceBatch {
    const before = this.#written()
    const oldest = Math.max(0, before - this.#capacity)
    // Another trace in its place, or nonsense: what was read is not there any more.
    if (before < this.#next) this.#next = oldest
    let from = Math.max(this.#next, oldest)
    const end = Math.min(before, from + MOST)
    const events = this.#copy(from, end)
    // What was overwritten meanwhile is not what it was: up to the one that may be half written now.
    const safe = this.#capacity < this.#written() + 1 ? this.#written() + 1 - this.#capacity : 0
    const torn = Math.max(0, Math.min(end, safe) - from)
    events.splice(0, torn)
    from += torn
    const lost = from - this.#next + this.#lostBefore
    this.#lostBefore = 0
    this.#next = end
    this.#readNames()
    return { events, lost }
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    closeSync(this.#fd)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #written(): number {
    return count(this.#exactly(at.written, 8).readDoubleLE(0))
  }

  #copy(from: number, end: number): TraceEvent[] {
    const events: TraceEvent[] = []
    for (let next = from; next < end; ) {
      const slot = next % this.#capacity
      const records = Math.min(end - next, this.#capacity - slot)
      const bytes = this.#exactly(this.#first + slot * RECORD_BYTES, records * RECORD_BYTES)
      for (let i = 0; i < records; i++) events.push(decodeRecord(bytes, i * RECORD_BYTES))
      next += records
    }
    return events
  }

  #readNames(): void {
    const used = Math.min(this.#exactly(at.namesBytes, 4).readUInt32LE(0), this.#namesRoom)
    if (used <= this.#namesRead) return
    const bytes = Buffer.concat([
      this.#partial,
      this.#exactly(HEADER_BYTES + this.#namesRead, used - this.#namesRead),
    ])
    this.#namesRead = used
    const end = bytes.lastIndexOf(0x0a) + 1
    this.#partial = bytes.subarray(end)
    for (const line of bytes.toString('utf8', 0, end).split('\n')) if (line !== '') this.names.add(line)
  }

  #exactly(offset: number, sizeBytes: number): Buffer {
    const bytes = this.#bytes(offset, sizeBytes)
    if (bytes.length === sizeBytes) return bytes
    throw accelError('ERR_ACCEL_IO', `The trace ${this.#label} became shorter while it was read`)
  }

  /** As many bytes as there are. */
  #bytes(offset: number, sizeBytes: number): Buffer {
    const bytes = Buffer.alloc(sizeBytes)
    let have = 0
    while (have < sizeBytes) {
      const got = readSync(this.#fd, bytes, have, sizeBytes - have, offset + have)
      if (got === 0) break
      have += got
    }
    return have === sizeBytes ? bytes : bytes.subarray(0, have)
  }
}

/** A counter of a file: anything else counts nothing. */
function count(value: number): number {
  return Number.isSafeInteger(value) && value >= 0 ? value : 0
}
