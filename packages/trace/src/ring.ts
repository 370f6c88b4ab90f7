import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  unlinkSync,
} from 'node:fs'
import type { DeviceTap, Register, RegisterArray, RegisterBlock, RegisterMap } from '@uaccel/core'
import { Mapping } from '@uaccel/sys'
import { type AccelError, accelError, errorTable } from '@uaccel/uapi'
import { attempt } from './attempt.js'
import { EventKind, monotonicNs, RECORD_BYTES, RecordArray } from './event.js'
import { at, HEADER_BYTES, MAGIC, type NameLine, VERSION } from './layout.js'

/** How a ring is made. */
export interface RingOptions {
  /** How many records it holds, a power of two: default 65,536, which take 2 MiB. */
  readonly records?: number
}

/** The number of the queue that a device's subsystem has for the jobs of its clients; others are numbered by its driver. */
export const JOB_QUEUE = 0xffff

const DEFAULT_RECORDS = 65_536
const MAX_RECORDS = 2 ** 26
/** Room for names: pages of it that are not used take no memory. */
const NAMES_BYTES = 2 ** 20
const access = { read: 1, write: 2, readwrite: 3 } as const

/**
 * A trace that is written as it happens, into a mapped file: plain stores, which the kernel keeps however this process ends. The
 * oldest records give way to new ones. Everything is told by the thread that made it.
 */
export class TraceRing implements DeviceTap {
  readonly path: string
  readonly #mapping: Mapping
  readonly #records: RecordArray
  readonly #mask: number
  readonly #f64: Float64Array
  readonly #u32: Uint32Array
  readonly #names: Uint8Array
  readonly #named = new Set<unknown>()
  #written = 0
  #closed = false

  private constructor(path: string, mapping: Mapping, capacity: number) {
    const { buffer, byteOffset } = mapping.window.u8
    const memory = buffer as ArrayBuffer
    this.path = path
    this.#mapping = mapping
    this.#mask = capacity - 1
    this.#f64 = new Float64Array(memory, byteOffset, HEADER_BYTES / 8)
    this.#u32 = new Uint32Array(memory, byteOffset, HEADER_BYTES / 4)
    this.#names = new Uint8Array(memory, byteOffset + HEADER_BYTES, NAMES_BYTES)
    this.#records = new RecordArray(memory, byteOffset + HEADER_BYTES + NAMES_BYTES, capacity)
  }

  /**
   * Makes the file, for its user alone, in the place of an earlier trace; one that a crash has left is kept with `.old` behind its name.
   *
   * @throws ERR_ACCEL_BUSY something else is there; ERR_ACCEL_OUT_OF_RANGE; ERR_ACCEL_SYSTEM and its kin
   */
  static create(path: string, { records = DEFAULT_RECORDS }: RingOptions = {}): TraceRing {
    if (!Number.isInteger(Math.log2(records)) || records < 128 || records > MAX_RECORDS) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `A trace of ${records} records: wanted a power of two from 128 to ${MAX_RECORDS}`,
      )
    }
    removeOld(path)
    const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants
    const fd = attempt(path, 'made', () => openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600))
    try {
      const sizeBytes = HEADER_BYTES + NAMES_BYTES + records * RECORD_BYTES
      attempt(path, 'made', () => ftruncateSync(fd, sizeBytes))
      const ring = new TraceRing(
        path,
        Mapping.map({ fd, offset: 0, sizeBytes, dontFork: true, label: path }),
        records,
      )
      ring.#begin(records)
      return ring
    } catch (error) {
      unlinkSync(path)
      throw error
    } finally {
      closeSync(fd)
    }
  }

  /** Records that were ever written. */
  get written(): number {
    return this.#written
  }

  /** Says what numbers stand for. Of what has no room the file says how much it is. */
  name(line: NameLine): void {
    if (this.#closed) return
    const bytes = Buffer.from(`${JSON.stringify(line)}\n`)
    const used = this.#u32[at.namesBytes / 4]
    if (used + bytes.length > NAMES_BYTES) this.#u32[at.namesLost / 4]++
    else {
      this.#names.set(bytes, used)
      this.#u32[at.namesBytes / 4] = used + bytes.length
    }
  }

  named(region: number, map: RegisterMap): void {
    if (this.#named.has(map)) return
    this.#named.add(map)
    this.name({ region, registers: namesOf(map.definitions as RegisterBlock) })
  }
  read(region: number, offset: number, width: number, value: number | bigint): void {
    this.#put(EventKind.mmioRead, width, region, 0, offset, value)
  }
  write(region: number, offset: number, width: number, value: number | bigint): void {
    this.#put(EventKind.mmioWrite, width, region, 0, offset, value)
  }
  copied(to: 'host' | 'device', region: number, offset: number, sizeBytes: number): void {
    const kind = to === 'host' ? EventKind.mmioRead : EventKind.mmioWrite
    this.#put(kind, 0, region, 0, offset, sizeBytes)
  }
  irq(vector: number, count: number): void {
    this.#put(EventKind.irq, 0, vector, 0, 0, count)
  }
  dmaMapped(iova: bigint, sizeBytes: number, mode: keyof typeof access): void {
    this.#put(EventKind.dmaMap, access[mode], 0, 0, iova, sizeBytes)
  }
  dmaUnmapped(iova: bigint, sizeBytes: number): void {
    this.#put(EventKind.dmaUnmap, 0, 0, 0, iova, sizeBytes)
  }
  queued(queue: number, id: number, open = 0, sizeBytes = 0): void {
    this.#put(EventKind.submit, 0, queue, id, open, sizeBytes)
  }
  started(queue: number, id: number, open = 0): void {
    this.#put(EventKind.start, 0, queue, id, open, 0)
  }
  completed(queue: number, id: number, error: AccelError | undefined, open = 0): void {
    this.#put(EventKind.complete, 0, queue, id, open, errorNumber(error))
  }
  /** A command is given to the driver, which has waited so long for its turn. */
  commandBegan(open: number, command: number, id: number, waitedNs: number): void {
    this.#put(EventKind.commandBegin, 0, command, id, open, waitedNs)
  }
  /** It ended; with an error of the table where it failed. */
  commandEnded(open: number, command: number, id: number, error: AccelError | undefined): void {
    this.#put(EventKind.commandEnd, 0, command, id, open, errorNumber(error))
  }
  /** The device was reset. */
  reset(error: AccelError | undefined): void {
    this.#put(EventKind.reset, 0, 0, 0, 0, errorNumber(error))
  }

  /** Ends it. The file stays, unless it is removed. What is told afterwards is dropped. Idempotent. */
  close({ remove = false } = {}): void {
    if (this.#closed) return
    this.#closed = true
    this.#u32[at.pid / 4] = 0
    this.#mapping.revoke()
    if (remove) removeOld(this.path)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #begin(capacity: number): void {
    const u32 = this.#u32
    u32[at.recordBytes / 4] = RECORD_BYTES
    u32[at.names / 4] = HEADER_BYTES
    u32[at.namesRoom / 4] = NAMES_BYTES
    u32[at.capacity / 4] = capacity
    u32[at.pid / 4] = process.pid
    const realtimeNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint()
    u32[at.realtimeNs / 4] = Number(realtimeNs & 0xffff_ffffn)
    u32[at.realtimeNs / 4 + 1] = Number(realtimeNs >> 32n)
    u32[at.version / 4] = VERSION
    // Last: who finds it finds a whole header.
    for (let i = 0; i < 2; i++) u32[i] = Buffer.from(MAGIC).readUInt32LE(4 * i)
  }

  #put(kind: number, width: number, index: number, id: number, a: number | bigint, b: number | bigint): void {
    if (this.#closed) return
    const written = this.#written
    this.#records.put(written & this.#mask, monotonicNs(), kind, width, index, id, a, b)
    this.#written = written + 1
    this.#f64[at.written / 8] = written + 1
  }
}

/** Of a map, what tells accesses apart: resets may be bigints, which JSON has not, and docs would take the room of names. */
function namesOf(block: RegisterBlock): object {
  return Object.fromEntries(Object.entries(block).map(([name, item]) => [name, nameOf(item)]))
}

function nameOf(item: Register | RegisterArray): object {
  if (item.kind === 'register') {
    const { kind, width, access, offset, fields } = item
    return { kind, width, access, offset, fields }
  }
  const { kind, count, strideBytes, element } = item
  const part = element.kind === 'register' ? nameOf(element as Register) : namesOf(element as RegisterBlock)
  return { kind, count, strideBytes, element: part }
}

/** The number of an error in the table; 0 for none. */
function errorNumber(error: AccelError | undefined): number {
  return error === undefined ? 0 : errorTable[error.code].number
}

/** Removes a trace that is there, and nothing else. One that was not ended, as its writer crashed, gets `.old` behind its name. */
function removeOld(path: string): void {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw notOurs(path, error)
  }
  const header = Buffer.alloc(at.pid + 4)
  try {
    const found = fstatSync(fd).isFile() && readSync(fd, header, 0, header.length, 0) === header.length
    if (!found || header.toString('latin1', 0, MAGIC.length) !== MAGIC) throw notOurs(path)
  } finally {
    closeSync(fd)
  }
  if (header.readUInt32LE(at.pid) === 0) attempt(path, 'made', () => unlinkSync(path))
  else attempt(path, 'made', () => renameSync(path, `${path}.old`))
}

function notOurs(path: string, cause?: unknown): AccelError {
  return accelError(
    'ERR_ACCEL_BUSY',
    `A trace was to be made at ${path}, where something else is: name another place`,
    {
      cause,
    },
  )
}
