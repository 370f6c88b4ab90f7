import { abi } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { pciCapability } from '../pci/constants.js'
import { type ConfigCapability, type ConfigSpaceInfo, decodeConfigSpace } from '../pci/decode.js'
import {
  type Area,
  type IrqInfo,
  type IrqType,
  irqTypes,
  PciRegion,
  type RegionInfo,
  type ResetKind,
} from '../transport.js'
import * as vfio from './abi.js'
import { exportsBars } from './bar-export.js'
import type { VfioCalls } from './calls.js'
import { offersLowPower } from './low-power.js'
import { affectedByHotReset } from './reset.js'

/** A region, and where it is in the device's file. */
export interface VfioRegion extends RegionInfo {
  readonly fileOffset: number
}

/** What the kernel says of a device. */
export interface Inquiry {
  readonly resets: readonly ResetKind[]
  readonly lowPower: boolean
  /** BARs can be exported as dma-bufs. */
  readonly exportsBars: boolean
  readonly regions: readonly VfioRegion[]
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
  /** Offset in config space of the byte that holds the power state. Absent where the device has no power management. */
  readonly powerState: number | undefined
}

/** Asks the kernel for regions and interrupts. `ERR_ACCEL_UNSUPPORTED` for what is no PCI device. */
export function inquire(calls: VfioCalls, fd: number): Inquiry {
  const info = Buffer.alloc(vfio.deviceInfoBytes)
  info.writeUInt32LE(info.length, 0)
  calls.ioctl(fd, vfio.VFIO_DEVICE_GET_INFO, info, 'VFIO_DEVICE_GET_INFO')
  const [flags, regionCount, irqCount] = [info.readUInt32LE(4), info.readUInt32LE(8), info.readUInt32LE(12)]
  if ((flags & vfio.VFIO_DEVICE_FLAGS_PCI) === 0) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `the kernel says that this is no PCI device (flags 0x${flags.toString(16)})`,
    )
  }
  const config = region(calls, fd, PciRegion.CONFIG)
  const { capabilities } = readConfig(calls, fd, config)
  const table = msixTable(capabilities)
  const power = capabilities.find(({ id }) => id === pciCapability.powerManagement)
  const regions = Array.from({ length: PciRegion.VGA + 1 }, (_, index) =>
    index >= regionCount
      ? absent(index)
      : index === PciRegion.CONFIG
        ? config
        : region(calls, fd, index, table),
  )
  const irqs = irqTypes.map((type, index) => irq(calls, fd, type, index < irqCount ? index : undefined))
  return {
    resets: [
      ...((flags & vfio.VFIO_DEVICE_FLAGS_RESET) === 0 ? [] : ['function' as const]),
      ...(affectedByHotReset(calls, fd) === undefined ? [] : ['hot' as const]),
    ],
    lowPower: offersLowPower(calls, fd),
    exportsBars: exportsBars(calls, fd),
    regions,
    irqs: Object.fromEntries(irqs.map((each) => [each.type, each])) as Record<IrqType, IrqInfo>,
    powerState: power === undefined ? undefined : power.offset + 4,
  }
}

function absent(index: number): VfioRegion {
  return { index, sizeBytes: 0, readable: false, writable: false, mappable: [], fileOffset: 0 }
}

interface Table extends Area {
  readonly bar: number
}

function region(calls: VfioCalls, fd: number, index: number, table?: Table): VfioRegion {
  let info: Buffer
  try {
    info = vfio.askTwice(vfio.regionInfoBytes, (request) => {
      request.writeUInt32LE(index, 8)
      calls.ioctl(
        fd,
        vfio.VFIO_DEVICE_GET_REGION_INFO,
        request,
        `VFIO_DEVICE_GET_REGION_INFO of region ${index}`,
      )
    })
  } catch (error) {
    if (index === PciRegion.VGA) return absent(index) // EINVAL where the device is no VGA controller
    throw error
  }
  const flags = info.readUInt32LE(4)
  const sizeBytes = Number(info.readBigUInt64LE(16))
  const capabilities =
    (flags & vfio.VFIO_REGION_INFO_FLAG_CAPS) === 0 ? [] : vfio.infoCapabilities(info, info.readUInt32LE(12))
  const sparse = capabilities.find(({ id }) => id === vfio.VFIO_REGION_INFO_CAP_SPARSE_MMAP)
  const tableMappable = capabilities.some(({ id }) => id === vfio.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE)
  const whole: Area[] =
    table?.bar === index && !tableMappable ? around(sizeBytes, table) : [{ offset: 0, sizeBytes }]
  const areas =
    sparse === undefined
      ? whole
      : vfio
          .u64Pairs(sparse.data)
          .map(([offset, size]) => ({ offset: Number(offset), sizeBytes: Number(size) }))
  return {
    index,
    sizeBytes,
    readable: (flags & vfio.VFIO_REGION_INFO_FLAG_READ) !== 0,
    writable: (flags & vfio.VFIO_REGION_INFO_FLAG_WRITE) !== 0,
    mappable: (flags & vfio.VFIO_REGION_INFO_FLAG_MMAP) === 0 ? [] : usable(areas, sizeBytes),
    fileOffset: Number(info.readBigUInt64LE(24)),
  }
}

/** Whole pages within the region, ascending. A BAR smaller than a page is reached by calls. */
function usable(areas: readonly Area[], sizeBytes: number): Area[] {
  const page = abi.PAGE_SIZE_BYTES
  return areas
    .filter(
      (a) =>
        a.sizeBytes > 0 &&
        a.offset % page === 0 &&
        a.sizeBytes % page === 0 &&
        a.offset + a.sizeBytes <= sizeBytes,
    )
    .sort((a, b) => a.offset - b.offset)
}

/** What is left of a BAR without the pages that hold the MSI-X table: kernels before 4.16 map no page of it. */
function around(sizeBytes: number, table: Table): Area[] {
  const page = abi.PAGE_SIZE_BYTES
  const first = Math.floor(table.offset / page) * page
  const end = Math.ceil((table.offset + table.sizeBytes) / page) * page
  return [
    { offset: 0, sizeBytes: first },
    { offset: end, sizeBytes: sizeBytes - end },
  ]
}

function readConfig(calls: VfioCalls, fd: number, config: VfioRegion): ConfigSpaceInfo {
  const bytes = Buffer.alloc(Math.min(config.sizeBytes, 256))
  calls.pread(fd, bytes, config.fileOffset)
  return decodeConfigSpace(bytes)
}

function msixTable(capabilities: readonly ConfigCapability[]): Table | undefined {
  const fields = capabilities.find(({ id }) => id === pciCapability.msix)?.fields
  const table = fields?.table
  // An entry has 16 bytes (PCI Local Bus 3.0, 6.8.2).
  return typeof table === 'object' ? { ...table, sizeBytes: 16 * Number(fields?.vectors) } : undefined
}

function irq(calls: VfioCalls, fd: number, type: IrqType, index: number | undefined): IrqInfo {
  const info = Buffer.alloc(vfio.irqInfoBytes)
  info.writeUInt32LE(info.length, 0)
  if (index !== undefined) {
    info.writeUInt32LE(index, 8)
    try {
      calls.ioctl(fd, vfio.VFIO_DEVICE_GET_IRQ_INFO, info, `VFIO_DEVICE_GET_IRQ_INFO of ${type}`)
    } catch (error) {
      if (type !== 'err') throw error // EINVAL where the device is not PCI Express
      info.fill(0)
    }
  }
  const flags = info.readUInt32LE(4)
  return {
    type,
    count: (flags & vfio.VFIO_IRQ_INFO_EVENTFD) === 0 ? 0 : info.readUInt32LE(12),
    maskable: (flags & vfio.VFIO_IRQ_INFO_MASKABLE) !== 0,
    autoMasked: (flags & vfio.VFIO_IRQ_INFO_AUTOMASKED) !== 0,
  }
}
