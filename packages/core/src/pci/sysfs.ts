import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { basename, join } from 'node:path'
import { accelError } from '@uaccel/uapi'
import type { PciNames } from './names.js'

/** A resource of a PCI function as the kernel has placed it. */
export interface PciResource {
  /** 0-5 for a BAR. */
  readonly index: number
  readonly address: bigint
  readonly sizeBytes: number
  readonly kind: 'memory' | 'io'
  readonly is64Bit: boolean
  readonly prefetchable: boolean
}

/** The devices that an IOMMU cannot tell apart. */
export interface IommuGroup {
  readonly id: number
  /** BDFs of all members, this device included. */
  readonly members: readonly string[]
}

/** What sysfs says of a PCI function. What it does not say is absent. */
export interface PciDeviceInfo {
  readonly bdf: string
  readonly vendor: number
  readonly device: number
  /** Base class, subclass and programming interface: 0xBBSSPP. */
  readonly classCode: number
  readonly revision?: number
  readonly subsystemVendor?: number
  readonly subsystem?: number
  readonly bars: readonly PciResource[]
  readonly iommuGroup?: IommuGroup
  readonly numaNode?: number
  /** The kernel driver that holds the device. */
  readonly driver?: string
  readonly vendorName?: string
  readonly deviceName?: string
  readonly className?: string
}

/** Where to look. */
export interface PciOptions {
  /** Default `/sys`. */
  readonly sysfs?: string
  /** Adds names from the pci.ids database: `pciNames()`. */
  readonly names?: PciNames | undefined
}

const bdfPattern = /^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[01][0-9a-f]\.[0-7])$/i

/** The full form of a PCI address, `0000:00:05.0`; the domain may be left out. `ERR_ACCEL_INVALID_ARGUMENT` for anything else. */
export function parseBdf(text: string): string {
  const match = bdfPattern.exec(text)
  if (match === null) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `"${text}" is not a PCI address: wanted DOMAIN:BUS:DEVICE.FUNCTION such as 0000:00:05.0`,
    )
  }
  return `${match[1] ?? '0000'}:${match[2]}`.toLowerCase()
}

/** All PCI functions, by address. `ERR_ACCEL_UNSUPPORTED` where sysfs has no PCI bus. */
export function listPciDevices(options: PciOptions = {}): PciDeviceInfo[] {
  const folder = join(options.sysfs ?? '/sys', 'bus/pci/devices')
  const names = optional(() => readdirSync(folder))
  if (names === undefined)
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${folder} is not there: this system has no PCI bus, or sysfs is not mounted`,
    )
  return names.sort().flatMap((bdf) => {
    try {
      return [readPciDevice(bdf, options)]
    } catch (error) {
      // Unplugged between the two looks.
      if (optional(() => readdirSync(join(folder, bdf))) === undefined) return []
      throw error
    }
  })
}

/** One PCI function. `ERR_ACCEL_NOT_FOUND` where there is none, `ERR_ACCEL_IO` where sysfs holds what it should not. */
export function readPciDevice(address: string, { sysfs = '/sys', names }: PciOptions = {}): PciDeviceInfo {
  const bdf = parseBdf(address)
  const folder = join(sysfs, 'bus/pci/devices', bdf)
  if (optional(() => readdirSync(folder)) === undefined) {
    const others = optional(() => readdirSync(join(sysfs, 'bus/pci/devices')).sort()) ?? []
    throw accelError(
      'ERR_ACCEL_NOT_FOUND',
      `there is no PCI device ${bdf}; there are ${others.slice(0, 32).join(', ') || 'none'}`,
    )
  }
  const file = (name: string) => optional(() => readFileSync(join(folder, name), 'latin1').trim())
  const number = (name: string, digits: number) => hexNumber(join(folder, name), file(name), digits)
  const vendor = required(number('vendor', 4), folder, 'vendor')
  const device = required(number('device', 4), folder, 'device')
  const classCode = required(number('class', 6), folder, 'class')
  const numaNode = file('numa_node')
  return compact({
    bdf,
    vendor,
    device,
    classCode,
    revision: number('revision', 2),
    subsystemVendor: number('subsystem_vendor', 4),
    subsystem: number('subsystem_device', 4),
    bars: parseResources(join(folder, 'resource'), file('resource')),
    iommuGroup: readGroup(folder),
    // -1: the kernel does not know (include/linux/numa.h, NUMA_NO_NODE).
    numaNode: numaNode !== undefined && /^\d+$/.test(numaNode) ? Number(numaNode) : undefined,
    driver: optional(() => basename(readlinkSync(join(folder, 'driver')))),
    vendorName: names?.vendor(vendor),
    deviceName: names?.device(vendor, device),
    className: names?.classOf(classCode),
  })
}

function readGroup(folder: string): IommuGroup | undefined {
  const target = optional(() => readlinkSync(join(folder, 'iommu_group')))
  if (target === undefined) return undefined
  const id = basename(target)
  if (!/^\d+$/.test(id))
    throw accelError(
      'ERR_ACCEL_IO',
      `${folder}/iommu_group points to ${target}, wanted a group number at its end`,
    )
  return {
    id: Number(id),
    members: optional(() => readdirSync(join(folder, 'iommu_group/devices')).sort()) ?? [],
  }
}

/** Flags of the third column (include/linux/ioport.h, IORESOURCE_*). */
const resourceFlag = { io: 0x100n, memory: 0x200n, prefetch: 0x2000n, memory64: 0x10_0000n }

function parseResources(path: string, text: string | undefined): PciResource[] {
  const lines = (text ?? '').split('\n').slice(0, 6)
  return lines.flatMap((line, index) => {
    if (line === '' && lines.length === 1) return []
    const match = /^0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16})$/i.exec(line)
    if (match === null)
      throw accelError('ERR_ACCEL_IO', `${path}, line ${index + 1}: "${line}", wanted start, end and flags`)
    const [start, end, flags] = match.slice(1).map((digits) => BigInt(`0x${digits}`))
    const kind =
      (flags & resourceFlag.memory) !== 0n ? 'memory' : (flags & resourceFlag.io) !== 0n ? 'io' : undefined
    if (kind === undefined || end < start || (start === 0n && end === 0n)) return []
    const sizeBytes = Number(end - start + 1n)
    const has = (flag: bigint) => (flags & flag) !== 0n
    return [
      {
        index,
        address: start,
        sizeBytes,
        kind,
        is64Bit: has(resourceFlag.memory64),
        prefetchable: has(resourceFlag.prefetch),
      } as const,
    ]
  })
}

function hexNumber(path: string, text: string | undefined, digits: number): number | undefined {
  if (text === undefined) return undefined
  if (!new RegExp(`^0x[0-9a-f]{1,${digits}}$`, 'i').test(text)) {
    throw accelError(
      'ERR_ACCEL_IO',
      `${path} holds "${text.slice(0, 40)}", wanted up to ${digits} hexadecimal digits`,
    )
  }
  return Number(text)
}

function required<T>(value: T | undefined, folder: string, name: string): T {
  if (value === undefined) throw accelError('ERR_ACCEL_IO', `${folder}/${name} cannot be read`)
  return value
}

function optional<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

type Defined<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>
}

function compact<T extends object>(object: T): Defined<T> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Defined<T>
}
