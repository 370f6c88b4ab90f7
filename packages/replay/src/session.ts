import { readFileSync } from 'node:fs'
import { irqTypes, PciRegion, type RegisterMap, resetKinds } from '@uaccel/core'
import type { DmaAccess } from '@uaccel/memory'
import { decodeRecord, RECORD_BYTES, type TraceEvent } from '@uaccel/trace'
import { accelError } from '@uaccel/uapi'
import { decodeHeader, type RecordedDevice } from './header.js'
import { accessNumbers, Kind, MAX_PAYLOAD_BYTES, payloadBytes } from './kinds.js'
import { decodeRegisters } from './names.js'

/** One record of a recording, checked: its region, mapping, vector and range exist. Numbers that fit are numbers. */
export interface Step extends Omit<TraceEvent, 'a' | 'b'> {
  /** Counted from 1: what errors call it. */
  readonly number: number
  readonly a: number
  readonly b: bigint
  /** What follows the record. */
  readonly payload: Buffer
}

/** Memory that was mapped for the device while it was recorded. */
export interface RecordedMapping {
  readonly id: number
  readonly iova: bigint
  readonly sizeBytes: number
  readonly access: DmaAccess
  /** Indices of the steps between which it was there. */
  readonly from: number
  to: number
}

/** A session, as its file tells it. */
export interface Session {
  /** The file. */
  readonly name: string
  readonly device: RecordedDevice
  readonly steps: readonly Step[]
  readonly mappings: readonly RecordedMapping[]
  /** What the driver called registers, by region. */
  readonly registers: ReadonlyMap<number, RegisterMap>
  /** How it ended: `cut` where the file ends in the middle, as after a crash. */
  readonly end: 'closed' | 'ended' | 'limit' | 'cut'
}

/** What `Kind.end` says, by its number. */
export const ends = ['closed', 'ended', 'limit'] as const
/** Mappings of a session: more than a VFIO container holds at once. */
const MAX_MAPPINGS = 1 << 20
const none = Buffer.alloc(0)

/**
 * Reads a recording. A file that ends in the middle of a record is one up to there.
 *
 * @throws ERR_ACCEL_NOT_FOUND; ERR_ACCEL_PROTOCOL it is no recording, or damaged; ERR_ACCEL_VERSION
 */
export function readSession(path: string): Session {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT') throw accelError('ERR_ACCEL_NOT_FOUND', `there is no recording ${path}`, { cause })
    throw accelError('ERR_ACCEL_SYSTEM', `${path} cannot be read: ${message}`, { cause })
  }
  return decodeSession(bytes, path)
}

/** As {@link readSession}, of bytes. `name` is what errors call them. */
export function decodeSession(bytes: Buffer, name: string): Session {
  const { device, endOffset } = decodeHeader(bytes, name)
  const reader = new Reader(name, device)
  for (let at = endOffset; reader.end === 'cut' && at + RECORD_BYTES <= bytes.length; ) {
    const record = decodeRecord(bytes, at)
    at += RECORD_BYTES
    const sizeBytes = payloadBytes(record)
    if (sizeBytes > MAX_PAYLOAD_BYTES) throw reader.wrong(`${sizeBytes} bytes in one record`)
    const size = Number(sizeBytes)
    if (at + size > bytes.length) break
    reader.add(record, size === 0 ? none : bytes.subarray(at, at + size))
    at += Math.ceil(size / 8) * 8
  }
  const { steps, mappings, registers, end } = reader
  return { name, device, steps, mappings, registers, end }
}

class Reader {
  readonly steps: Step[] = []
  readonly mappings: RecordedMapping[] = []
  readonly registers = new Map<number, RegisterMap>()
  end: Session['end'] = 'cut'
  readonly #name: string
  readonly #device: RecordedDevice

  constructor(name: string, device: RecordedDevice) {
    this.#name = name
    this.#device = device
  }

  wrong(what: string): Error {
    return accelError(
      'ERR_ACCEL_PROTOCOL',
      `${this.#name} is damaged at step ${this.steps.length + 1}: ${what}`,
    )
  }

  /** Of a kind that this version does not know nothing is checked: nothing depends on it. */
  add(record: TraceEvent, payload: Buffer): void {
    this.#check(record, payload)
    this.#push(record, payload)
  }

  #push(record: TraceEvent, payload: Buffer): void {
    const a = record.a <= Number.MAX_SAFE_INTEGER ? Number(record.a) : Number.MAX_SAFE_INTEGER
    this.steps.push({ ...record, a, payload, number: this.steps.length + 1 })
  }

  #check(record: TraceEvent, payload: Buffer): void {
    const { kind, width, index, id, a, b } = record
    switch (kind) {
      case Kind.mmioRead:
      case Kind.mmioWrite: {
        if (![0, 1, 2, 4, 8].includes(width)) throw this.wrong(`an access of ${width} bytes`)
        // Its offset may be anything: what the driver tried and was refused is in the recording too.
        if (index > PciRegion.VGA) throw this.wrong(`an access of region ${index}`)
        if (width > 0 && width < 8 && b >> BigInt(8 * width) !== 0n)
          throw this.wrong(`0x${b.toString(16)} in ${width} bytes`)
        return
      }
      case Kind.irq:
      case Kind.irqMask:
        if (index >= this.#device.irqs[this.#irqType(id)].count) throw this.wrong(`interrupt vector ${index}`)
        return
      case Kind.irqArm:
        if (b > 2048n) throw this.wrong(`${b} interrupt vectors`)
        this.#irqType(id)
        return
      case Kind.irqDisarm:
        this.#irqType(id)
        return
      case Kind.dmaMap:
        this.#map(record)
        return
      case Kind.dmaUnmap:
        this.#mapping(id).to = this.steps.length
        return
      case Kind.unobserved:
        this.#mapping(id)
        return
      case Kind.deviceMemory:
      case Kind.driverMemory:
        if (a + BigInt(payload.length) > BigInt(this.#mapping(id).sizeBytes))
          throw this.wrong(`${payload.length} bytes at ${a} of mapping ${id}, which has fewer`)
        return
      case Kind.registers:
        if (index > PciRegion.VGA) throw this.wrong(`names of registers of region ${index}`)
        this.registers.set(
          index,
          decodeRegisters(payload, (what) => this.wrong(what)),
        )
        return
      case Kind.resetBegin:
      case Kind.reset:
        if (index >= resetKinds.length) throw this.wrong(`a reset of kind ${index}`)
        return
      case Kind.end: {
        const end = ends[Number(a)]
        if (end === undefined) throw this.wrong(`an end of kind ${a}`)
        this.end = end
      }
    }
  }

  #irqType(id: number): (typeof irqTypes)[number] {
    const type = irqTypes[id]
    if (type === undefined) throw this.wrong(`interrupt kind ${id}`)
    return type
  }

  #map({ id, width, a, b }: TraceEvent): void {
    const access = (Object.keys(accessNumbers) as DmaAccess[]).find((name) => accessNumbers[name] === width)
    if (id !== this.mappings.length || id >= MAX_MAPPINGS || access === undefined)
      throw this.wrong(`mapping ${id} of access ${width}`)
    if (b === 0n || b > 1n << 44n || a + b > 1n << 64n) throw this.wrong(`${b} bytes at IOVA ${a}`)
    const from = this.steps.length
    this.mappings.push({ id, iova: a, sizeBytes: Number(b), access, from, to: Number.POSITIVE_INFINITY })
  }

  #mapping(id: number): RecordedMapping {
    const mapping = this.mappings[id]
    if (mapping === undefined || mapping.to !== Number.POSITIVE_INFINITY)
      throw this.wrong(`mapping ${id}, which is not there`)
    return mapping
  }
}
