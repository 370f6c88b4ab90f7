import { constants } from 'node:os'
import { irqTypes, PciRegion } from '@uaccel/core'
import type { DmaAccess, Iova } from '@uaccel/memory'
import type { EmulatedFunction } from '@uaccel/model'
import { type AccelError, accelError, errorTable, isAccelError } from '@uaccel/uapi'
import { type Channel, closeAll, type Message } from './channel.js'
import { exactSize, invalid, safeNumber } from './checks.js'
import { IrqTriggers, irqType } from './irq-triggers.js'
import {
  ACCESS_BYTES,
  broken,
  CAP_SPARSE_MMAP,
  type Capabilities,
  Command,
  commandName,
  DEFAULT_DMA_MAPS,
  DEFAULT_TRANSFER_BYTES,
  DeviceFlag,
  DmaFlag,
  decodeVersion,
  encodeVersion,
  Flag,
  IrqFlag,
  MAX_MESSAGE_FDS,
  RegionFlag,
  Size,
  UnmapFlag,
  VERSION_MAJOR,
  VERSION_MINOR,
} from './protocol.js'
import { RemoteMemory } from './remote-memory.js'
import { bringToRest } from './rest.js'
import { isSealed } from './sealed.js'

interface SessionOptions {
  readonly timeoutMs: number
  readonly mapUnsealed: boolean
  readonly keepState: boolean
  readonly onAgreed: () => void
  /** Commands may be left: {@link Session.pump} has to run again, in another turn. */
  readonly onBacklog: () => void
  /** A DMA message went wrong: the session is out of step and has to end. */
  readonly onBroken: (reason: unknown) => void
}

/** A reply's payload and the descriptors that travel with it (they stay the sender's). */
interface Reply {
  readonly payload: Uint8Array
  readonly fds?: readonly number[]
}

/** Commands that are answered in one turn of the event loop: a client that never pauses does not keep the device from its work. */
const TURN_COMMANDS = 64

const empty: Reply = { payload: new Uint8Array(0) }

/** One client of a served device: answers its commands, and reaches its memory by messages where it shared none. */
export class Session {
  readonly #channel: Channel
  readonly #device: EmulatedFunction
  readonly #options: SessionOptions
  readonly #remote: RemoteMemory
  readonly #irqs: IrqTriggers
  #peer: Capabilities | undefined
  #closed = false

  constructor(channel: Channel, device: EmulatedFunction, options: SessionOptions) {
    this.#channel = channel
    this.#device = device
    this.#options = options
    this.#irqs = new IrqTriggers(device)
    const { timeoutMs, onBacklog, onBroken } = options
    this.#remote = new RemoteMemory(channel, timeoutMs, {
      serve: (message) => this.#serve(message),
      onBacklog,
      onBroken,
    })
  }

  /**
   * Answers what has arrived, a bounded part of it at a time.
   *
   * @throws ERR_ACCEL_CLOSED when the client has left, ERR_ACCEL_PROTOCOL when it must be dropped
   */
  pump(): void {
    for (let served = 0; served < TURN_COMMANDS; served++) {
      if (this.#closed) return
      const message = this.#remote.backlog.shift() ?? this.#channel.tryReceive()
      if (!message) return
      this.#serve(message)
    }
    this.#options.onBacklog()
  }

  /** True once a version was agreed on. */
  get agreed(): boolean {
    return this.#peer !== undefined
  }

  /** Takes back all that the client gave: memory, descriptors. The device is reset, or where its state is kept brought to rest. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const message of this.#remote.backlog.splice(0)) closeAll(message.fds)
    if (this.#options.keepState) bringToRest(this.#device)
    else this.#device.reset()
    this.#irqs.close()
    this.#device.dma.clear()
  }

  #serve(message: Message): void {
    if ((message.flags & Flag.TYPE_MASK) !== 0) {
      closeAll(message.fds)
      if (this.#remote.isLate(message)) return
      throw broken(`a reply to ${commandName(message.command)} that nobody asked for`)
    }
    const kept = new Set<number>()
    let errno = 0
    let reply = empty
    try {
      if (!this.#peer && message.command !== Command.VERSION) {
        throw broken(`${commandName(message.command)} before VERSION`)
      }
      reply = this.#handle(message, kept)
    } catch (error) {
      if (!isAccelError(error)) throw error
      if (!this.#peer) throw error
      errno = errnoOf(error)
    } finally {
      closeAll(message.fds.filter((fd) => !kept.has(fd)))
    }
    if (message.flags & Flag.NO_REPLY) return
    const flags = errno === 0 ? Flag.REPLY : Flag.REPLY | Flag.ERROR
    const payload = errno === 0 ? reply.payload : empty.payload
    const { id, command } = message
    this.#channel.send({ id, command, flags, errno, fds: reply.fds ?? [] }, payload, this.#options.timeoutMs)
    if (message.command === Command.VERSION) this.#options.onAgreed()
  }

  /** Descriptors that outlive the message are put into `kept`. */
  #handle({ command, payload, fds }: Message, kept: Set<number>): Reply {
    switch (command) {
      case Command.VERSION:
        return this.#version(payload)
      case Command.DMA_MAP:
        return this.#dmaMap(payload, fds)
      case Command.DMA_UNMAP:
        return this.#dmaUnmap(payload)
      case Command.DEVICE_GET_INFO:
        return this.#deviceInfo(payload)
      case Command.DEVICE_GET_REGION_INFO:
        return this.#regionInfo(payload)
      case Command.DEVICE_GET_REGION_IO_FDS:
        return regionIoFds(payload)
      case Command.DEVICE_GET_IRQ_INFO:
        return this.#irqInfo(payload)
      case Command.DEVICE_SET_IRQS:
        this.#irqs.set(payload, fds, kept)
        return empty
      case Command.REGION_READ:
        return this.#regionRead(payload)
      case Command.REGION_WRITE:
        return this.#regionWrite(payload)
      case Command.REGION_WRITE_MULTI:
        return this.#regionWriteMulti(payload)
      case Command.DEVICE_RESET:
        this.#device.reset()
        return empty
      default:
        throw accelError('ERR_ACCEL_UNSUPPORTED', `This server does not implement ${commandName(command)}.`)
    }
  }

  #version(payload: Buffer): Reply {
    if (this.#peer) throw invalid('A second VERSION in one session.')
    const { major, minor, capabilities } = decodeVersion(payload)
    if (major !== VERSION_MAJOR) {
      throw accelError(
        'ERR_ACCEL_VERSION',
        `The client speaks vfio-user ${major}.${minor}; this server speaks 0.1.`,
      )
    }
    this.#peer = capabilities
    this.#remote.maxTransferBytes = capabilities.maxTransferBytes
    return {
      payload: encodeVersion(Math.min(minor, VERSION_MINOR), {
        maxMessageFds: MAX_MESSAGE_FDS,
        maxTransferBytes: DEFAULT_TRANSFER_BYTES,
        maxDmaMaps: DEFAULT_DMA_MAPS,
      }),
    }
  }

  /** argsz, flags, offset, address, size; one descriptor where the memory is shared. */
  #dmaMap(payload: Buffer, fds: readonly number[]): Reply {
    exactSize('DMA_MAP', payload, Size.DMA_MAP)
    const flags = payload.readUInt32LE(4)
    if (flags & ~(DmaFlag.READ | DmaFlag.WRITE | DmaFlag.MMAP) || !(flags & 3))
      throw invalid(`DMA_MAP with flags ${flags}.`)
    if (fds.length > 1) throw invalid(`DMA_MAP with ${fds.length} descriptors.`)
    const access = accessOf(flags)
    const fdOffset = safeNumber(payload.readBigUInt64LE(8), 'offset')
    const iova = payload.readBigUInt64LE(16) as Iova
    const sizeBytes = safeNumber(payload.readBigUInt64LE(24), 'size')
    const fd = fds[0]
    const { dma } = this.#device
    if (dma.size >= DEFAULT_DMA_MAPS) {
      throw accelError('ERR_ACCEL_MAPPING_LIMIT', `All ${DEFAULT_DMA_MAPS} DMA mappings are taken.`, {
        errno: 'ENOSPC',
      })
    }
    // Memory that its owner can shrink under us would end this process with SIGBUS when it does.
    const shared = fd !== undefined && (this.#options.mapUnsealed || isSealed(fd))
    if (shared) dma.map({ iova, sizeBytes, access, address: 0n, fd, fdOffset })
    else dma.addRemote(iova, sizeBytes, access, this.#remote)
    return empty
  }

  /**
   * argsz, flags, address, size; answered with the request. A range takes back all mappings that lie in it, as the kernel's
   * does: behind an emulated IOMMU, QEMU maps page by page and takes back whatever the guest invalidates, mapped or not.
   */
  #dmaUnmap(payload: Buffer): Reply {
    exactSize('DMA_UNMAP', payload, Size.DMA_UNMAP)
    const flags = payload.readUInt32LE(4)
    const first = payload.readBigUInt64LE(8)
    const end = first + payload.readBigUInt64LE(16)
    if (flags === UnmapFlag.ALL && end === 0n) this.#device.dma.clear()
    else if (flags !== 0) throw accelError('ERR_ACCEL_UNSUPPORTED', `DMA_UNMAP with flags ${flags}.`)
    else this.#device.dma.unmapWithin(first, end)
    return { payload: Buffer.from(payload) }
  }

  /** argsz, flags, num_regions, num_irqs. */
  #deviceInfo(payload: Buffer): Reply {
    exactSize('DEVICE_GET_INFO', payload, Size.DEVICE_INFO)
    const reply = Buffer.alloc(Size.DEVICE_INFO)
    reply.writeUInt32LE(Size.DEVICE_INFO, 0)
    reply.writeUInt32LE(DeviceFlag.RESET | DeviceFlag.PCI, 4)
    reply.writeUInt32LE(this.#device.regions.length, 8)
    reply.writeUInt32LE(irqTypes.length, 12)
    return { payload: reply }
  }

  /** argsz, flags, index, cap_offset, size, offset; then the sparse mmap capability; the file behind the region beside it. */
  #regionInfo(payload: Buffer): Reply {
    // SPDK asks with a payload as large as the reply may be.
    if (payload.length < Size.REGION_INFO) exactSize('DEVICE_GET_REGION_INFO', payload, Size.REGION_INFO)
    const room = payload.readUInt32LE(0)
    if (room < Size.REGION_INFO) throw invalid(`DEVICE_GET_REGION_INFO with argsz ${room}.`)
    const region = this.#device.regions[payload.readUInt32LE(8)]
    if (!region)
      throw invalid(`DEVICE_GET_REGION_INFO of region ${payload.readUInt32LE(8)}, which is not there.`)
    const file = region.mappable.length > 0 ? this.#device.regionFd(region.index) : undefined
    const whole = region.mappable.length === 1 && region.mappable[0]?.sizeBytes === region.sizeBytes
    const sparse = file !== undefined && !whole
    const full = Size.REGION_INFO + (sparse ? 16 + 16 * region.mappable.length : 0)
    // Where the capabilities do not fit, they and the file are left for the second, larger request.
    const fits = room >= full
    const reply = Buffer.alloc(fits ? full : Size.REGION_INFO)
    reply.writeUInt32LE(full, 0)
    reply.writeUInt32LE(
      (region.readable ? RegionFlag.READ : 0) |
        (region.writable ? RegionFlag.WRITE : 0) |
        (file ? RegionFlag.MMAP : 0) |
        (sparse && fits ? RegionFlag.CAPS : 0),
      4,
    )
    reply.writeUInt32LE(region.index, 8)
    reply.writeBigUInt64LE(BigInt(region.sizeBytes), 16)
    reply.writeBigUInt64LE(BigInt(file?.offset ?? 0), 24)
    if (sparse && fits) {
      reply.writeUInt32LE(Size.REGION_INFO, 12)
      reply.writeUInt16LE(CAP_SPARSE_MMAP, 32)
      reply.writeUInt16LE(1, 34)
      reply.writeUInt32LE(region.mappable.length, 40)
      region.mappable.forEach((area, i) => {
        reply.writeBigUInt64LE(BigInt(area.offset), 48 + 16 * i)
        reply.writeBigUInt64LE(BigInt(area.sizeBytes), 56 + 16 * i)
      })
    }
    return { payload: reply, fds: file && fits ? [file.fd] : [] }
  }

  /** argsz, flags, index, count. */
  #irqInfo(payload: Buffer): Reply {
    exactSize('DEVICE_GET_IRQ_INFO', payload, Size.IRQ_INFO)
    const irq = this.#device.irqs[irqType(payload.readUInt32LE(8))]
    const reply = Buffer.alloc(Size.IRQ_INFO)
    reply.writeUInt32LE(Size.IRQ_INFO, 0)
    reply.writeUInt32LE(
      IrqFlag.EVENTFD |
        (irq.maskable ? IrqFlag.MASKABLE : 0) |
        (irq.autoMasked ? IrqFlag.AUTOMASKED : 0) |
        (irq.type === 'intx' ? 0 : IrqFlag.NORESIZE),
      4,
    )
    reply.writeUInt32LE(payload.readUInt32LE(8), 8)
    reply.writeUInt32LE(irq.count, 12)
    return { payload: reply }
  }

  /** offset, region, count; answered with the same and the data. */
  #regionRead(payload: Buffer): Reply {
    exactSize('REGION_READ', payload, ACCESS_BYTES)
    const count = this.#transferBytes(payload.readUInt32LE(12))
    const reply = Buffer.alloc(ACCESS_BYTES + count)
    payload.copy(reply)
    const offset = safeNumber(payload.readBigUInt64LE(0), 'offset')
    this.#device.regionRead(payload.readUInt32LE(8), offset, reply.subarray(ACCESS_BYTES))
    return { payload: reply }
  }

  #regionWrite(payload: Buffer): Reply {
    if (payload.length < ACCESS_BYTES) exactSize('REGION_WRITE', payload, ACCESS_BYTES)
    const count = this.#transferBytes(payload.readUInt32LE(12))
    exactSize('REGION_WRITE', payload, ACCESS_BYTES + count)
    const offset = safeNumber(payload.readBigUInt64LE(0), 'offset')
    this.#device.regionWrite(payload.readUInt32LE(8), offset, payload.subarray(ACCESS_BYTES))
    return { payload: Buffer.from(payload.subarray(0, ACCESS_BYTES)) }
  }

  /** A count, then writes of up to 8 bytes each in 24-byte entries: offset, region, count, data. */
  #regionWriteMulti(payload: Buffer): Reply {
    if (payload.length < 8) exactSize('REGION_WRITE_MULTI', payload, 8)
    const writes = safeNumber(payload.readBigUInt64LE(0), 'count')
    exactSize('REGION_WRITE_MULTI', payload, 8 + 24 * writes)
    for (let at = 8; at < payload.length; at += 24) {
      const count = payload.readUInt32LE(at + 12)
      if (count > 8) throw invalid(`REGION_WRITE_MULTI of ${count} bytes in one entry.`)
      const offset = safeNumber(payload.readBigUInt64LE(at), 'offset')
      this.#device.regionWrite(
        payload.readUInt32LE(at + 8),
        offset,
        payload.subarray(at + 16, at + 16 + count),
      )
    }
    return { payload: Buffer.from(payload.subarray(0, 8)) }
  }

  #transferBytes(count: number): number {
    if (count > DEFAULT_TRANSFER_BYTES) {
      throw invalid(`A transfer of ${count} bytes; at most ${DEFAULT_TRANSFER_BYTES} were agreed.`)
    }
    return count
  }
}

function accessOf(flags: number): DmaAccess {
  return flags === DmaFlag.READ ? 'read' : flags === DmaFlag.WRITE ? 'write' : 'readwrite'
}

/** argsz, flags, index, count: no file descriptors to access a region by are offered. */
function regionIoFds(payload: Buffer): Reply {
  exactSize('DEVICE_GET_REGION_IO_FDS', payload, 16)
  if (payload.readUInt32LE(8) > PciRegion.VGA)
    throw invalid('DEVICE_GET_REGION_IO_FDS of a region that is not there.')
  const reply = Buffer.from(payload)
  reply.writeUInt32LE(16, 0)
  reply.writeUInt32LE(0, 12)
  return { payload: reply }
}

/** EINVAL where the table has no errno that peers know for it: a region access out of range is that in all of them. */
function errnoOf(error: AccelError): number {
  const errno = constants.errno as Record<string, number>
  const name =
    error.errno ?? (error.code === 'ERR_ACCEL_OUT_OF_RANGE' ? 'EINVAL' : errorTable[error.code].errno)
  return errno[name] ?? errno.EINVAL
}
