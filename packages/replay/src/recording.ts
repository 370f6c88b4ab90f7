import {
  type AccessWidth,
  type IrqInfo,
  type IrqType,
  irqTypes,
  PciRegion,
  type PlatformName,
  type RegionInfo,
  type RegisterMap,
  type ResetKind,
  resetKinds,
  type Transport,
  type TransportIdentity,
} from '@uaccel/core'
import type { DmaBufMapRequest, DmaCopy, DmaMapper, DmaMapRequest, Iova } from '@uaccel/memory'
import type { Mapping } from '@uaccel/sys'
import { type AccelError, accelError, errorTable, isAccelError } from '@uaccel/uapi'
import { describe } from './header.js'
import { accessNumbers, Kind, MAX_PAYLOAD_BYTES, PIECE_BYTES } from './kinds.js'
import { type Change, MemoryWatch } from './memory-watch.js'
import { encodeRegisters } from './names.js'
import { RecordingIrqs } from './recording-irqs.js'
import { type RecordFields, RecordWriter } from './writer.js'

/** How a session is recorded. */
export interface RecordingOptions {
  /** Register maps by BAR, for names in what a replay reports. Those that the driver maps its BARs with are recorded anyway. */
  readonly registers?: Readonly<Record<number, RegisterMap>>
  /** Memory mapped for the device whose contents are recorded, in bytes. Each access compares all of it. Default 256 MiB. */
  readonly maxMemoryBytes?: number
  /** The recording ends when the file would be larger; the session goes on. Default 1 GiB. */
  readonly maxFileBytes?: number
  /** Told why the recording ended before the session. Default: a warning of the process. */
  readonly onStop?: (error: Error) => void
}

/** A transport whose session goes into a file. */
export interface RecordedTransport extends Transport {
  /** Ends the recording; the transport goes on. For a process that is about to end. */
  endRecording(): void
}

const CLOSED = 0
const ENDED = 1

/**
 * The same device, with everything that passes between it and its driver written into `file`, to be replayed by `replaying`. It
 * offers no memory of the device for mapping, so that each access is a call, and is seen; nor a way for other processes or threads.
 *
 * @throws ERR_ACCEL_BUSY `file` exists; ERR_ACCEL_SYSTEM; and what the transport throws when its config space is read
 */
export function recording(
  transport: Transport,
  file: string,
  options: RecordingOptions = {},
): RecordedTransport {
  return new Recording(transport, file, options)
}

class Recording implements RecordedTransport {
  readonly identity: TransportIdentity
  readonly platform?: PlatformName
  readonly regions: readonly RegionInfo[]
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
  readonly resets: readonly ResetKind[]
  readonly dma: DmaMapper
  readonly setLowPower?: (on: boolean) => Promise<void>
  readonly #inner: Transport
  readonly #writer: RecordWriter
  readonly #memory: MemoryWatch
  readonly #irqs: RecordingIrqs

  constructor(inner: Transport, file: string, options: RecordingOptions) {
    const device = describe(inner)
    this.#inner = inner
    this.identity = inner.identity
    if (inner.platform !== undefined) this.platform = inner.platform
    this.regions = device.regions
    this.irqs = inner.irqs
    this.resets = inner.resets
    this.#memory = new MemoryWatch(options.maxMemoryBytes ?? 256 << 20)
    const onStop = options.onStop ?? ((error) => process.emitWarning(error))
    this.#writer = new RecordWriter(file, device, options.maxFileBytes ?? 2 ** 30, onStop)
    this.#irqs = new RecordingIrqs(inner, this.#writer, () => this.#look(true))
    this.dma = new RecordingMapper(inner.dma, this.#writer, this.#memory, () => this.#look(false))
    if (inner.setLowPower !== undefined) this.setLowPower = (on) => this.#power(on)
    for (const [region, map] of Object.entries(options.registers ?? {})) this.describe(Number(region), map)
    inner.onLost((reason) => this.#note(Kind.lost, reason))
  }

  describe(region: number, map: RegisterMap): void {
    const json = encodeRegisters(map)
    if (json.length <= MAX_PAYLOAD_BYTES)
      this.#writer.put(Kind.registers, { index: region, b: json.length }, json)
    this.#inner.describe?.(region, map)
  }

  read(region: number, offset: number, width: AccessWidth): number {
    this.#irqs.settle()
    const value = this.#attempt({ width, index: region, a: offset }, Kind.mmioRead, () =>
      this.#inner.read(region, offset, width),
    )
    if (region !== PciRegion.CONFIG) this.#look(true)
    this.#writer.put(Kind.mmioRead, { width, index: region, a: offset, b: within(width, value) })
    return value
  }

  read64(region: number, offset: number): bigint {
    this.#irqs.settle()
    const place = { width: 8, index: region, a: offset }
    const value = this.#attempt(place, Kind.mmioRead, () => this.#inner.read64(region, offset))
    if (region !== PciRegion.CONFIG) this.#look(true)
    this.#writer.put(Kind.mmioRead, { ...place, b: value })
    return value
  }

  write(region: number, offset: number, width: AccessWidth, value: number): void {
    const fields = { width, index: region, a: offset, b: within(width, value) }
    this.#do(Kind.mmioWrite, fields, () => this.#inner.write(region, offset, width, value))
  }

  write64(region: number, offset: number, value: bigint): void {
    const fields = { width: 8, index: region, a: offset, b: BigInt.asUintN(64, value) }
    this.#do(Kind.mmioWrite, fields, () => this.#inner.write64(region, offset, value))
  }

  readBytes(region: number, offset: number, into: Uint8Array): void {
    this.#irqs.settle()
    this.#attempt({ index: region, a: offset }, Kind.mmioRead, () =>
      this.#inner.readBytes(region, offset, into),
    )
    if (region !== PciRegion.CONFIG) this.#look(true)
    for (let at = 0; at < into.length; at += PIECE_BYTES) {
      const piece = into.subarray(at, at + PIECE_BYTES)
      this.#writer.put(Kind.mmioRead, { index: region, a: offset + at, b: piece.length }, piece)
    }
  }

  writeBytes(region: number, offset: number, from: Uint8Array): void {
    for (let at = 0; at < from.length; at += PIECE_BYTES) {
      const piece = from.subarray(at, at + PIECE_BYTES)
      const fields = { index: region, a: offset + at, b: piece.length }
      this.#do(Kind.mmioWrite, fields, () => this.#inner.writeBytes(region, offset + at, piece), piece)
    }
  }

  map(region: number): Mapping {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `region ${region} of ${this.identity.address} cannot be mapped while it is recorded: nobody would see an access. Use calls.`,
    )
  }

  setIrqs(type: IrqType, fds: readonly number[]): void {
    const fields = { id: irqTypes.indexOf(type), b: fds.length }
    this.#do(Kind.irqArm, fields, () => this.#irqs.arm(type, fds))
  }

  disableIrqs(type: IrqType): void {
    if (!this.#irqs.isArmed(type)) this.#inner.disableIrqs(type)
    else {
      this.#irqs.settle(true)
      this.#do(Kind.irqDisarm, { id: irqTypes.indexOf(type) }, () => this.#irqs.disarm(type))
    }
  }

  maskIrq(type: IrqType, vector: number): void {
    const fields = { width: 1, index: vector, id: irqTypes.indexOf(type) }
    this.#do(Kind.irqMask, fields, () => this.#inner.maskIrq(type, vector))
  }

  unmaskIrq(type: IrqType, vector: number): void {
    const fields = { width: 0, index: vector, id: irqTypes.indexOf(type) }
    this.#do(Kind.irqMask, fields, () => this.#inner.unmaskIrq(type, vector))
  }

  async reset(kind: ResetKind = this.resets[0]): Promise<void> {
    const index = Math.max(0, resetKinds.indexOf(kind))
    this.#irqs.settle(true)
    this.#look(false)
    this.#writer.put(Kind.resetBegin, { index })
    try {
      await this.#inner.reset(kind)
      this.#irqs.forget()
      this.#look(true)
      this.#writer.put(Kind.reset, { index })
    } catch (error) {
      this.#fail(error)
      throw error
    }
  }

  onLost(listener: (reason: AccelError) => void): () => void {
    return this.#inner.onLost(listener)
  }

  onRequest(listener: (reason: AccelError) => void): () => void {
    return this.#inner.onRequest((reason) => {
      this.#note(Kind.request, reason)
      listener(reason)
    })
  }

  endRecording(): void {
    this.#irqs.settle(true)
    this.#writer.end(ENDED)
  }

  async close(): Promise<void> {
    try {
      await this.#inner.close()
    } finally {
      this.#irqs.forget()
      this.#memory.clear()
      this.#writer.end(CLOSED)
    }
  }

  async #power(on: boolean): Promise<void> {
    this.#irqs.settle(true)
    this.#writer.put(Kind.power, { width: on ? 1 : 0 })
    try {
      await this.#inner.setLowPower!(on)
      if (on) this.#irqs.forget()
    } catch (error) {
      this.#fail(error)
      throw error
    }
  }

  /** Records what the driver does, then does it: a device that ends the machine at it has it in its recording. */
  #do(kind: number, fields: RecordFields, action: () => void, payload?: Uint8Array): void {
    this.#irqs.settle()
    if (kind === Kind.mmioWrite && fields.index !== PciRegion.CONFIG) this.#look(false)
    this.#writer.put(kind, fields, payload)
    try {
      action()
    } catch (error) {
      this.#fail(error)
      throw error
    }
  }

  /** A read that fails is recorded with its failure. */
  #attempt<T>(fields: RecordFields, kind: number, action: () => T): T {
    try {
      return action()
    } catch (error) {
      this.#writer.put(kind, { ...fields, b: 0 })
      this.#fail(error)
      throw error
    }
  }

  #fail(error: unknown): void {
    if (isAccelError(error)) this.#note(Kind.failed, error)
  }

  #note(kind: number, { code, message }: AccelError): void {
    const text = Buffer.from(message).subarray(0, PIECE_BYTES)
    this.#writer.put(kind, { a: errorTable[code].number, b: text.length }, text)
  }

  /** Records what is not as it was in the memory that the device reaches. */
  #look(byDevice: boolean): void {
    if (!this.#writer.writing) return
    this.#memory.look(byDevice, ({ mapping, offset, bytes, by }: Change) => {
      const kind = by === 'device' ? Kind.deviceMemory : Kind.driverMemory
      const width = by === 'either' ? 1 : 0
      this.#writer.put(kind, { width, id: mapping, a: offset, b: bytes.length }, bytes)
    })
  }
}

/** What an access of so many bytes has of a value: models answer more, and a record with more would not be read. */
const within = (width: AccessWidth, value: number) => BigInt.asUintN(8 * width, BigInt(value))

/** Which recorded mapper stands before which: a copy between two names the mappers of their transports. */
const inners = new WeakMap<DmaMapper, DmaMapper>()

/** Numbers mappings in their order, and watches their memory. */
class RecordingMapper implements DmaMapper {
  readonly pageSizeBytes: number
  readonly maxMappings: number
  readonly locksMemory: boolean
  readonly locate?: NonNullable<DmaMapper['locate']>
  readonly mapDmaBuf?: (request: DmaBufMapRequest) => void
  readonly copy?: NonNullable<DmaMapper['copy']>
  readonly #inner: DmaMapper
  readonly #writer: RecordWriter
  readonly #memory: MemoryWatch
  readonly #look: () => void
  readonly #ids = new Map<bigint, number>()
  #count = 0

  constructor(inner: DmaMapper, writer: RecordWriter, memory: MemoryWatch, look: () => void) {
    this.#inner = inner
    this.#writer = writer
    this.#memory = memory
    this.#look = look
    this.pageSizeBytes = inner.pageSizeBytes
    this.maxMappings = inner.maxMappings
    this.locksMemory = inner.locksMemory
    inners.set(this, inner)
    if (inner.locate !== undefined) this.locate = (where) => inner.locate!(where)
    if (inner.mapDmaBuf !== undefined) {
      this.mapDmaBuf = (request) => {
        inner.mapDmaBuf!(request)
        this.#mapped(request)
      }
    }
    if (inner.copy !== undefined) {
      this.copy = (request, source, sourceIova) => {
        inner.copy!(request, inners.get(source) ?? source, sourceIova)
        this.#mapped(request)
      }
    }
  }

  get rangesVersion(): number {
    return this.#inner.rangesVersion ?? 0
  }

  ranges() {
    return this.#inner.ranges()
  }

  map(request: DmaMapRequest): void {
    this.#inner.map(request)
    this.#mapped(request, request)
  }

  unmap(iova: Iova, sizeBytes: number): void {
    this.#inner.unmap(iova, sizeBytes)
    const id = this.#ids.get(iova)
    if (id === undefined) return
    this.#ids.delete(iova)
    this.#memory.remove(id)
    this.#writer.put(Kind.dmaUnmap, { id, a: iova, b: sizeBytes })
  }

  #mapped(
    { iova, sizeBytes, access }: DmaCopy,
    memory?: { readonly fd: number; readonly fdOffset: number },
  ): void {
    const id = this.#count++
    this.#ids.set(iova, id)
    this.#writer.put(Kind.dmaMap, { width: accessNumbers[access], id, a: iova, b: sizeBytes })
    let watched = false
    try {
      watched = memory !== undefined && this.#memory.add(id, memory.fd, memory.fdOffset, sizeBytes)
    } catch (error) {
      if (!isAccelError(error)) throw error // a file that cannot be mapped here: only its contents are missing
    }
    if (!watched) this.#writer.put(Kind.unobserved, { id })
    this.#look()
  }
}
