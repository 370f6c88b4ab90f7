import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { abi } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { linkName, namesIn } from '../pci/machine.js'

/** A stretch of memory that a UIO driver shows (`/sys/class/uio/uioN/maps/mapM`; Documentation/driver-api/uio-howto.rst). */
export interface UioMap {
  readonly index: number
  /** What the kernel's driver calls it. Absent where it does not. */
  readonly name?: string
  /** Physical address, of whole pages. */
  readonly address: bigint
  /** Where in the first page the device's memory begins. */
  readonly offset: number
  /** From the start of the first page on. */
  readonly sizeBytes: number
}

/** A device that a kernel driver hands out through UIO. */
export interface UioDeviceInfo {
  /** `uio0`: also the name of its node below /dev. */
  readonly uio: string
  /** As the kernel's driver names it. */
  readonly name: string
  readonly version: string
  readonly maps: readonly UioMap[]
  /** Interrupts so far. */
  readonly events: number
  /** Address of the PCI device behind it, where it is one. */
  readonly bdf?: string
}

/** MAX_UIO_MAPS in include/linux/uio_driver.h: 5. */
const mapName = /^map[0-4]$/

/** All devices of UIO, in the order of their numbers. Empty where the kernel has no UIO. */
export function listUioDevices({ sysfs = '/sys' }: { readonly sysfs?: string } = {}): UioDeviceInfo[] {
  return namesIn(join(sysfs, 'class/uio'))
    .filter((name) => /^uio\d+$/.test(name))
    .sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)))
    .flatMap((uio) => read(sysfs, uio) ?? [])
}

/** The UIO device of a PCI function, where its driver made one. */
export function uioOfPci(sysfs: string, bdf: string): UioDeviceInfo | undefined {
  const uio = namesIn(join(sysfs, 'bus/pci/devices', bdf, 'uio')).find((name) => /^uio\d+$/.test(name))
  return uio === undefined ? undefined : read(sysfs, uio)
}

/**
 * Finds one device by `uioN`, or by the name that its driver gave it. `ERR_ACCEL_NOT_FOUND`, and `ERR_ACCEL_INVALID_ARGUMENT` for a name that
 * several have.
 */
export function findUioDevice(name: string, sysfs: string): UioDeviceInfo {
  const all = listUioDevices({ sysfs })
  const exact = all.find(({ uio }) => uio === name)
  const found = exact === undefined ? all.filter((device) => device.name === name) : [exact]
  if (found.length === 1) return found[0]
  if (found.length > 1) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `several UIO devices are named "${name}": say which, ${found.map(({ uio }) => uio).join(' or ')}`,
    )
  }
  const there = all.map((device) => `${device.name} (${device.uio})`).join(', ')
  throw accelError(
    'ERR_ACCEL_NOT_FOUND',
    `there is no UIO device "${name}"; there: ${there || 'none, so no kernel driver offers any (is its module loaded?)'}`,
  )
}

/** `undefined` for one that goes away meanwhile. */
function read(sysfs: string, uio: string): UioDeviceInfo | undefined {
  const folder = join(sysfs, 'class/uio', uio)
  const name = text(join(folder, 'name'))
  const events = text(join(folder, 'event'))
  if (name === undefined || events === undefined) return undefined
  const bdf = linkName(join(folder, 'device'))
  const isPci = linkName(join(folder, 'device/subsystem')) === 'pci'
  return {
    uio,
    name,
    version: text(join(folder, 'version')) ?? '',
    maps: maps(join(folder, 'maps')),
    events: number(join(folder, 'event'), events),
    ...(isPci && bdf !== undefined && { bdf }),
  }
}

function maps(folder: string): UioMap[] {
  return namesIn(folder)
    .filter((name) => mapName.test(name))
    .sort()
    .map((map, index): UioMap => {
      const path = (name: string) => join(folder, map, name)
      const value = (name: string) => bigNumber(path(name), text(path(name)))
      const name = text(path('name'))
      const [offset, sizeBytes] = [Number(value('offset')), Number(value('size'))]
      if (
        map !== `map${index}` ||
        !Number.isSafeInteger(sizeBytes) ||
        offset >= sizeBytes ||
        offset >= abi.PAGE_SIZE_BYTES
      ) {
        throw accelError(
          'ERR_ACCEL_IO',
          `${join(folder, map)}: ${sizeBytes} bytes from ${offset} on, wanted maps in a row that begin in their first page`,
        )
      }
      return { index, ...(name && { name }), address: value('addr'), offset, sizeBytes }
    })
}

function bigNumber(path: string, found: string | undefined): bigint {
  if (found !== undefined && /^(0x[0-9a-f]{1,16}|\d{1,15})$/i.test(found)) return BigInt(found)
  throw accelError('ERR_ACCEL_IO', `${path} holds "${found?.slice(0, 40) ?? 'nothing'}", wanted a number`)
}

const number = (path: string, found: string): number => Number(bigNumber(path, found))

function text(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}
