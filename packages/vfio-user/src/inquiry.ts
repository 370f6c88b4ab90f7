import { type IrqInfo, type IrqType, irqTypes, type RegionInfo } from '@uaccel/core'
import { sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { closeAll } from './channel.js'
import type { Connection } from './connection.js'
import { broken, Command, DeviceFlag, IrqFlag, RegionFlag, Size } from './protocol.js'
import { mappableAreas } from './region-caps.js'
import { isSealed } from './sealed.js'

/** Regions beyond those of a PCI device are not looked at (VFIO_PCI_NUM_REGIONS, linux/vfio.h). */
const PCI_REGIONS = 9
/** Capabilities of a region are asked for only up to this size. */
const MAX_REGION_INFO_BYTES = 64 << 10

export interface Region extends RegionInfo {
  /** The file behind the mappable areas; ours to close. */
  readonly fd: number | undefined
  readonly fdOffset: bigint
}

/** What a client learns of a device before it uses it. */
export interface Inquiry {
  readonly resettable: boolean
  readonly regions: readonly Region[]
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
}

/** Asks a server what its device is. */
export function inquire(connection: Connection, mapUnsealed: boolean): Inquiry {
  const info = deviceInfo(connection)
  const regions: Region[] = []
  try {
    for (let index = 0; index < PCI_REGIONS; index++) {
      regions.push(index < info.regions ? regionInfo(connection, index, mapUnsealed) : absentRegion(index))
    }
    const irqs = irqTypes.map((type, index) =>
      irqInfo(connection, type, index < info.irqs ? index : undefined),
    )
    return {
      resettable: info.resettable,
      regions,
      irqs: Object.fromEntries(irqs.map((irq) => [irq.type, irq])) as Record<IrqType, IrqInfo>,
    }
  } catch (error) {
    closeRegions(regions)
    throw error
  }
}

/** Closes the files behind the regions. */
export function closeRegions(regions: readonly Region[]): void {
  closeAll(regions.flatMap(({ fd }) => (fd === undefined ? [] : [fd])))
}

/** argsz, flags, num_regions, num_irqs. */
function deviceInfo(connection: Connection) {
  const request = Buffer.alloc(Size.DEVICE_INFO)
  request.writeUInt32LE(Size.DEVICE_INFO, 0)
  const reply = connection.request(Command.DEVICE_GET_INFO, request).payload
  if (reply.length < Size.DEVICE_INFO) throw broken(`a DEVICE_GET_INFO reply of ${reply.length} bytes`)
  const flags = reply.readUInt32LE(4)
  if (!(flags & DeviceFlag.PCI)) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `The device on ${connection.path} is not a PCI device (flags ${flags}).`,
    )
  }
  return {
    resettable: (flags & DeviceFlag.RESET) !== 0,
    regions: reply.readUInt32LE(8),
    irqs: reply.readUInt32LE(12),
  }
}

/** argsz, flags, index, cap_offset, size, offset; asked again with the room that the first answer names. */
function regionInfo(connection: Connection, index: number, mapUnsealed: boolean): Region {
  const ask = (argsz: number) => {
    const request = Buffer.alloc(Size.REGION_INFO)
    request.writeUInt32LE(argsz, 0)
    request.writeUInt32LE(index, 8)
    const message = connection.request(Command.DEVICE_GET_REGION_INFO, request)
    if (message.payload.length < Size.REGION_INFO || message.payload.readUInt32LE(8) !== index) {
      closeAll(message.fds)
      throw broken(`a DEVICE_GET_REGION_INFO reply of ${message.payload.length} bytes for region ${index}`)
    }
    return message
  }
  let reply = ask(Size.REGION_INFO)
  const needed = reply.payload.readUInt32LE(0)
  if (needed > reply.payload.length && needed <= MAX_REGION_INFO_BYTES) {
    closeAll(reply.fds)
    reply = ask(needed)
  }
  const { payload, fds } = reply
  const flags = payload.readUInt32LE(4)
  const size = payload.readBigUInt64LE(16)
  const [fd, ...spare] = flags & RegionFlag.MMAP ? fds : []
  closeAll(fd === undefined ? fds : spare)
  try {
    if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw broken(`region ${index} of ${size} bytes`)
    const sizeBytes = Number(size)
    const fdOffset = payload.readBigUInt64LE(24)
    const areas = fd === undefined ? [] : mappableAreas(payload, flags, sizeBytes)
    const end = areas.reduce((most, area) => Math.max(most, area.offset + area.sizeBytes), 0)
    const mappable = fd !== undefined && mayMap(fd, fdOffset + BigInt(end), mapUnsealed) ? areas : []
    return {
      index,
      sizeBytes,
      readable: (flags & RegionFlag.READ) !== 0,
      writable: (flags & RegionFlag.WRITE) !== 0,
      mappable,
      fd,
      fdOffset,
    }
  } catch (error) {
    if (fd !== undefined) closeAll([fd])
    throw error
  }
}

/** A region's file that is too short is a broken server; one that can shrink is left to messages. */
function mayMap(fd: number, endBytes: bigint, mapUnsealed: boolean): boolean {
  const { sizeBytes } = sys.fstat(fd)
  if (endBytes > BigInt(sizeBytes))
    throw broken(`a region file of ${sizeBytes} bytes for areas up to ${endBytes}`)
  return mapUnsealed || isSealed(fd)
}

function absentRegion(index: number): Region {
  return { index, sizeBytes: 0, readable: false, writable: false, mappable: [], fd: undefined, fdOffset: 0n }
}

/** argsz, flags, index, count. */
function irqInfo(connection: Connection, type: IrqType, index: number | undefined): IrqInfo {
  if (index === undefined) return { type, count: 0, maskable: false, autoMasked: false }
  const request = Buffer.alloc(Size.IRQ_INFO)
  request.writeUInt32LE(Size.IRQ_INFO, 0)
  request.writeUInt32LE(index, 8)
  const reply = connection.request(Command.DEVICE_GET_IRQ_INFO, request).payload
  if (reply.length < Size.IRQ_INFO) throw broken(`a DEVICE_GET_IRQ_INFO reply of ${reply.length} bytes`)
  const flags = reply.readUInt32LE(4)
  return {
    type,
    count: flags & IrqFlag.EVENTFD ? reply.readUInt32LE(12) : 0,
    maskable: (flags & IrqFlag.MASKABLE) !== 0,
    autoMasked: (flags & IrqFlag.AUTOMASKED) !== 0,
  }
}
