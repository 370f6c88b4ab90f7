import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import { attempt } from './attempt.js'
import { encodeRecord, RECORD_BYTES, type TraceEvent } from './event.js'
import { at, HEADER_BYTES, MAGIC, VERSION } from './layout.js'

/** Room for names that come after the first records. It is a hole in the file until they do. */
const SPARE_NAMES_BYTES = 65_536

/** Writes events that were read into a file of the same form, which holds all of them. It can be read whenever this is between two calls. */
export class TraceWriter {
  readonly #path: string
  readonly #fd: number
  #first = 0
  #written = 0
  #lost = 0
  #names = 0

  /**
   * Makes the file, in the place of another, which whoever has it open keeps: were it a ring that is being written, its writer would not
   * survive that it is cut.
   *
   * @throws ERR_ACCEL_NOT_FOUND there is no such folder; ERR_ACCEL_PERMISSION; ERR_ACCEL_IO
   */
  constructor(path: string) {
    this.#path = path
    this.#fd = attempt(path, 'made', () => {
      rmSync(path, { force: true })
      return openSync(path, 'wx', 0o600)
    })
  }

  /**
   * Appends events. `lost` of them were lost before; `lines` are all the names that are known by now.
   *
   * @throws ERR_ACCEL_IO it cannot be written, as where the disk is full
   */
  add(events: readonly TraceEvent[], lost: number, lines: readonly string[], realtimeNs: bigint): void {
    attempt(this.#path, 'written', () => this.#add(events, lost, lines, realtimeNs))
  }

  close(): void {
    closeSync(this.#fd)
  }

  #add(events: readonly TraceEvent[], lost: number, lines: readonly string[], realtimeNs: bigint): void {
    const text = Buffer.concat(lines.map((line) => Buffer.from(`${line}\n`)))
    if (this.#first === 0) {
      const room = Math.ceil((text.length + SPARE_NAMES_BYTES) / HEADER_BYTES) * HEADER_BYTES
      this.#first = HEADER_BYTES + room
    }
    const room = this.#first - HEADER_BYTES
    if (text.length <= room) {
      this.#names = text.length
      this.#write(text, HEADER_BYTES)
    }
    // The room is one more than there are: the oldest of a full one would not be believed.
    const records = new Uint8Array((events.length + 1) * RECORD_BYTES)
    for (const [i, event] of events.entries()) encodeRecord(event, records, i * RECORD_BYTES)
    this.#write(records, this.#first + this.#written * RECORD_BYTES)
    this.#written += events.length
    this.#lost += lost
    const header = Buffer.alloc(HEADER_BYTES)
    header.write(MAGIC, 'latin1')
    header.writeUInt32LE(VERSION, at.version)
    header.writeUInt32LE(RECORD_BYTES, at.recordBytes)
    header.writeUInt32LE(HEADER_BYTES, at.names)
    header.writeUInt32LE(room, at.namesRoom)
    header.writeUInt32LE(this.#written + 1, at.capacity)
    header.writeDoubleLE(this.#written, at.written)
    header.writeUInt32LE(this.#names, at.namesBytes)
    header.writeUInt32LE(Number(text.length > room), at.namesLost)
    header.writeDoubleLE(this.#lost, at.lost)
    header.writeBigUInt64LE(realtimeNs, at.realtimeNs)
    this.#write(header, 0)
  }

  /** All of the bytes: the system may take fewer at once. */
  #write(bytes: Uint8Array, position: number): void {
    for (let done = 0; done < bytes.length; )
      done += writeSync(this.#fd, bytes, done, bytes.length - done, position + done)
  }
}
