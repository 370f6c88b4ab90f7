import {
  type AccessWidth,
  type Area,
  type IrqInfo,
  type IrqType,
  Listeners,
  type RegionFile,
  type ResetKind,
  type Transport,
  type TransportIdentity,
} from '@uaccel/core'
import type { DmaMapper, DmaMapRequest, Iova } from '@uaccel/memory'
import { abi, Mapping, sys } from '@uaccel/sys'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { ClientInterrupts } from './client-interrupts.js'
import { Connection } from './connection.js'
import { DmaTable } from './dma-table.js'
import { closeRegions, type Inquiry, inquire, type Region } from './inquiry.js'
import { placeBars } from './place.js'
import { ACCESS_BYTES, broken, Command, DmaFlag, Size } from './protocol.js'
import { refuseOwnSocket } from './same-thread.js'
import { isSealed } from './sealed.js'

/** How to reach a vfio-user server. */
export interface ConnectOptions {
  /** How long the server may take for any one answer, in ms; after that the device counts as lost. Default 5000. */
  readonly timeoutMs?: number
  /**
   * Maps regions whose file the server can still shrink, as servers other than ours offer. One that does shrink it ends
   * this process with SIGBUS; without this, such regions are reached by messages. Default false.
   */
  readonly mapUnsealed?: boolean
  /** Sends DMA mappings without their descriptors, so that the server has to ask for each access. For tests. Default true. */
  readonly shareMemory?: boolean
}

/** Largest piece of one region access by message: it fits a socket buffer whole. */
const PIECE_BYTES = 64 << 10
/** What libvfio-user of before March 2026 takes at most (its MAX_DMA_REGIONS: 16, later 64). It does not say so, and refuses more with EINVAL. */
const FEW_DMA_MAPS = 16

/**
 * Connects to a vfio-user server: a device model of ours or anyone's.
 *
 * Blocks the thread while it asks, at most `timeoutMs` for each answer.
 *
 * @throws ERR_ACCEL_NOT_FOUND nobody listens; ERR_ACCEL_PROTOCOL no vfio-user server; ERR_ACCEL_VERSION; ERR_ACCEL_TIMEOUT;
 *   ERR_ACCEL_DEADLOCK where the server runs on this thread; ERR_ACCEL_UNSUPPORTED where the device is not a PCI device
 */
export async function connectVfioUser(path: string, options: ConnectOptions = {}): Promise<Transport> {
  refuseOwnSocket(path)
  const table = new DmaTable()
  const connection = new Connection(path, options.timeoutMs ?? 5000, table)
  let transport: VfioUserTransport | undefined
  try {
    const inquiry = inquire(connection, options.mapUnsealed ?? false)
    transport = new VfioUserTransport(connection, table, inquiry, options.shareMemory ?? true)
    transport.listen()
    placeBars(transport)
    return transport
  } catch (error) {
    connection.close()
    await transport?.close()
    throw error
  }
}

class VfioUserTransport implements Transport {
  readonly identity: TransportIdentity
  readonly regions: readonly Region[]
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
  readonly resets: readonly ResetKind[]
  readonly dma: DmaMapper
  readonly #connection: Connection
  readonly #table: DmaTable
  readonly #interrupts: ClientInterrupts
  readonly #requestListeners = new Listeners<AccelError>()
  /** offset, region, count, and up to 8 bytes of data: a register access allocates no request. */
  readonly #access = Buffer.alloc(ACCESS_BYTES + 8)
  readonly #requests = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((bytes) =>
    this.#access.subarray(0, ACCESS_BYTES + bytes),
  )
  #closed = false

  constructor(connection: Connection, table: DmaTable, inquiry: Inquiry, shareMemory: boolean) {
    this.#connection = connection
    this.#table = table
    this.identity = { kind: 'vfio-user', address: connection.path, emulated: true }
    this.regions = inquiry.regions
    this.#interrupts = new ClientInterrupts(connection, inquiry.irqs)
    this.irqs = this.#interrupts.irqs
    this.resets = inquiry.resettable ? ['function'] : []
    this.dma = {
      pageSizeBytes: 4096,
      maxMappings: connection.peer.maxDmaMaps,
      locksMemory: false,
      ranges: () => [{ first: 0n, last: (1n << 64n) - 1n }],
      map: (request) => this.#dmaMap(request, shareMemory),
      unmap: (iova, sizeBytes) => this.#dmaUnmap(iova, sizeBytes),
    }
  }

  /** Arms the interrupts that are the transport's own: the device is wanted back, or reports an error. */
  listen(): void {
    const { path } = this.#connection
    this.#interrupts.notify('req', () => {
      const reason = accelError('ERR_ACCEL_NO_DEVICE', `the server wants the device on ${path} back`)
      if (this.#requestListeners.size === 0) this.#connection.lose(reason)
      this.#requestListeners.tell(reason)
    })
    this.#interrupts.notify('err', () =>
      this.#connection.lose(
        accelError('ERR_ACCEL_IO', `the device on ${path} reported an uncorrectable PCI Express error`),
      ),
    )
    this.#interrupts.disarmAll()
  }

  read(region: number, offset: number, width: AccessWidth): number {
    const payload = this.#read(region, offset, width)
    return width === 1
      ? payload[ACCESS_BYTES]!
      : width === 2
        ? payload.readUInt16LE(ACCESS_BYTES)
        : payload.readUInt32LE(ACCESS_BYTES)
  }

  read64(region: number, offset: number): bigint {
    return this.#read(region, offset, 8).readBigUInt64LE(ACCESS_BYTES)
  }

  write(region: number, offset: number, width: AccessWidth, value: number): void {
    this.#access.writeInt32LE(value | 0, ACCESS_BYTES)
    this.#write(region, offset, width)
  }

  write64(region: number, offset: number, value: bigint): void {
    this.#access.writeBigUInt64LE(value, ACCESS_BYTES)
    this.#write(region, offset, 8)
  }

  readBytes(region: number, offset: number, into: Uint8Array): void {
    this.#check(region, offset, into.length)
    const step = Math.min(PIECE_BYTES, this.#connection.peer.maxTransferBytes)
    for (let at = 0; at < into.length; at += step) {
      const count = Math.min(step, into.length - at)
      const reply = this.#connection.request(
        Command.REGION_READ,
        accessHeader(region, offset + at, count, 0),
      ).payload
      into.set(this.#data(reply, count), at)
    }
  }

  writeBytes(region: number, offset: number, from: Uint8Array): void {
    this.#check(region, offset, from.length)
    const step = Math.min(PIECE_BYTES, this.#connection.peer.maxTransferBytes)
    for (let at = 0; at < from.length; at += step) {
      const piece = from.subarray(at, at + step)
      const request = accessHeader(region, offset + at, piece.length, piece.length)
      request.set(piece, ACCESS_BYTES)
      this.#written(this.#connection.request(Command.REGION_WRITE, request).payload, piece.length)
    }
  }

  map(region: number, area: Area): Mapping {
    this.#alive()
    const found = this.regions[region]
    const end = area.offset + area.sizeBytes
    const allowed = found?.mappable.some(
      (whole) => area.offset >= whole.offset && end <= whole.offset + whole.sizeBytes,
    )
    if (found?.fd === undefined || !allowed) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `Region ${region} of ${this.identity.address} has no mappable area of ${area.sizeBytes} bytes at ${area.offset}.`,
      )
    }
    const { fd, fdOffset } = found
    return Mapping.map({
      fd,
      offset: fdOffset + BigInt(area.offset),
      sizeBytes: area.sizeBytes,
      dontFork: true,
      label: `region ${region} of ${this.identity.address}`,
    })
  }

  regionFile(region: number, area: Area): RegionFile {
    this.#alive()
    const { fd, fdOffset, sizeBytes } = this.regions[region]!
    const offset = Number(fdOffset) + area.offset
    const refuse = (why: string) =>
      accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `The file of region ${region} of ${this.identity.address} cannot be handed on: ${why}.`,
      )
    if (fd === undefined) throw refuse('the server gave none')
    const { id, sizeBytes: fileBytes } = sys.identify(fd)
    const shared = this.regions.some(
      (other) => other.index !== region && other.fd !== undefined && sys.identify(other.fd).id === id,
    )
    const pages = Math.ceil(sizeBytes / abi.PAGE_SIZE_BYTES) * abi.PAGE_SIZE_BYTES
    if (shared || fdOffset !== 0n || fileBytes > pages) throw refuse('it holds more than that region')
    if (!isSealed(fd)) throw refuse('it is not sealed against shrinking')
    return { fd, offset }
  }

  setIrqs(type: IrqType, fds: readonly number[]): void {
    this.#alive()
    this.#interrupts.arm(this, type, fds)
  }

  disableIrqs(type: IrqType): void {
    this.#alive()
    this.#interrupts.disarm(this, type)
  }

  maskIrq(type: IrqType, vector: number): void {
    this.#interrupts.mask(type, vector)
  }

  unmaskIrq(type: IrqType, vector: number): void {
    this.#interrupts.unmask(this, type, vector)
  }

  triggerIrq(type: IrqType, vector: number): void {
    this.#alive()
    this.#interrupts.trigger(this, type, vector)
  }

  async reset(): Promise<void> {
    this.#interrupts.disarmArmed(this)
    this.#connection.request(Command.DEVICE_RESET, new Uint8Array(0))
    placeBars(this)
  }

  onLost(listener: (reason: AccelError) => void): () => void {
    return this.#connection.onLost(listener)
  }

  onRequest(listener: (reason: AccelError) => void): () => void {
    return this.#requestListeners.add(listener)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#connection.close()
    this.#interrupts.close()
    this.#table.clear()
    closeRegions(this.regions)
  }

  /** The socket too: the server may want to read memory that only this process can reach, before it has anything to tell. */
  get attention(): readonly number[] {
    return [this.#connection.fd, ...this.#interrupts.noticeFds]
  }

  #read(region: number, offset: number, width: number): Buffer {
    this.#check(region, offset, width)
    this.#aim(region, offset, width)
    const reply = this.#connection.request(Command.REGION_READ, this.#requests[0]!).payload
    this.#data(reply, width)
    return reply
  }

  #write(region: number, offset: number, width: number): void {
    this.#check(region, offset, width)
    this.#aim(region, offset, width)
    this.#written(this.#connection.request(Command.REGION_WRITE, this.#requests[width]!).payload, width)
  }

  #aim(region: number, offset: number, count: number): void {
    this.#access.writeUInt32LE(offset % 0x1_0000_0000, 0)
    this.#access.writeUInt32LE(Math.floor(offset / 0x1_0000_0000), 4)
    this.#access.writeUInt32LE(region, 8)
    this.#access.writeUInt32LE(count, 12)
  }

  #data(reply: Buffer, count: number): Buffer {
    if (reply.length !== ACCESS_BYTES + count)
      throw broken(`${reply.length} bytes for a REGION_READ of ${count}`)
    return reply.subarray(ACCESS_BYTES)
  }

  #written(reply: Buffer, count: number): void {
    if (reply.length < ACCESS_BYTES || reply.readUInt32LE(12) !== count) {
      throw broken(`a REGION_WRITE reply for another size than ${count}`)
    }
  }

  #alive(): void {
    const { lost, path } = this.#connection
    if (lost)
      throw accelError('ERR_ACCEL_NO_DEVICE', `The device on ${path} is gone: ${lost.message}`, {
        cause: lost,
      })
  }

  #check(region: number, offset: number, sizeBytes: number): void {
    this.#alive()
    const size = this.regions[region]?.sizeBytes ?? 0
    if (offset < 0 || offset + sizeBytes > size || !Number.isSafeInteger(offset)) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `An access of ${sizeBytes} bytes at 0x${offset.toString(16)} lies outside region ${region} of ${this.identity.address}, which has ${size} bytes.`,
      )
    }
  }

  #dmaMap(request: DmaMapRequest, share: boolean): void {
    this.#alive()
    this.#table.check(request)
    const { iova, sizeBytes, access, fd, fdOffset } = request
    const payload = Buffer.alloc(Size.DMA_MAP)
    payload.writeUInt32LE(Size.DMA_MAP, 0)
    payload.writeUInt32LE(
      (access === 'write' ? 0 : DmaFlag.READ) | (access === 'read' ? 0 : DmaFlag.WRITE),
      4,
    )
    payload.writeBigUInt64LE(BigInt(share ? fdOffset : 0), 8)
    payload.writeBigUInt64LE(iova, 16)
    payload.writeBigUInt64LE(BigInt(sizeBytes), 24)
    try {
      this.#connection.request(Command.DMA_MAP, payload, share ? [fd] : [])
    } catch (error) {
      throw this.#table.size < FEW_DMA_MAPS || !isAccelError(error, 'ERR_ACCEL_IO')
        ? error
        : this.#mappingLimit(error)
    }
    this.#table.add(request)
  }

  /** Every reason to refuse a mapping for itself was looked for before it was asked for. */
  #mappingLimit(cause: AccelError): AccelError {
    const { size } = this.#table
    return accelError(
      'ERR_ACCEL_MAPPING_LIMIT',
      `The vfio-user server on ${this.identity.address} holds ${size} DMA mappings and refused one more: ${cause.errno}. Use fewer, larger buffers.`,
      { cause, details: { mappings: size } },
    )
  }

  #dmaUnmap(iova: Iova, sizeBytes: number): void {
    this.#table.remove(iova)
    if (this.#connection.lost) return
    const payload = Buffer.alloc(Size.DMA_UNMAP)
    payload.writeUInt32LE(Size.DMA_UNMAP, 0)
    payload.writeBigUInt64LE(iova, 8)
    payload.writeBigUInt64LE(BigInt(sizeBytes), 16)
    this.#connection.request(Command.DMA_UNMAP, payload)
  }
}

function accessHeader(region: number, offset: number, count: number, dataBytes: number): Buffer {
  const request = Buffer.alloc(ACCESS_BYTES + dataBytes)
  request.writeBigUInt64LE(BigInt(offset), 0)
  request.writeUInt32LE(region, 8)
  request.writeUInt32LE(count, 12)
  return request
}
