import type { DeviceIdentity } from '@uaccel/core'
import { accelError } from '@uaccel/uapi'

/** Which devices a driver takes: each member that is given must agree. */
export type DeviceId = PciId | PlatformId

/** A device that is not PCI, by the name that its kernel driver gives it (`/sys/class/uio/uioN/name`). */
export interface PlatformId {
  readonly bus: 'platform'
  readonly name: string
}

/** A PCI device. A driver of a whole class names `classCode`, with `classMask` for the bits that count (all 24 unless told). */
export interface PciId {
  readonly bus: 'pci'
  readonly vendor?: number
  readonly device?: number
  readonly subsystemVendor?: number
  readonly subsystem?: number
  readonly classCode?: number
  readonly classMask?: number
}

const WHOLE_CLASS = 0xff_ffff

/** Refuses an id that would match everything or nothing. */
export function checkId(id: DeviceId, driver: string): void {
  const bad = (problem: string) =>
    accelError('ERR_ACCEL_INVALID_ARGUMENT', `Driver ${driver}: id ${describeId(id)} ${problem}`)
  if (id.bus === 'platform') {
    if (typeof id.name !== 'string' || id.name === '') throw bad('names no device')
    return
  }
  if (id.bus !== 'pci') throw bad('is of a bus that is not known; known: pci, platform')
  if (id.vendor === undefined && id.classCode === undefined) throw bad('names neither vendor nor class')
  if (id.device !== undefined && id.vendor === undefined) throw bad('names a device without its vendor')
  if (id.classMask !== undefined && id.classCode === undefined)
    throw bad('masks a class that it does not name')
  if (((id.classCode ?? 0) & ~(id.classMask ?? WHOLE_CLASS)) !== 0) {
    throw bad('names class bits that its mask leaves out, and matches nothing')
  }
}

/** Whether `id` covers the device. */
export function matches(id: DeviceId, identity: DeviceIdentity): boolean {
  if (id.bus === 'platform') return identity.bus === 'platform' && id.name === identity.name
  if (identity.bus !== 'pci') return false
  const agrees = (wanted: number | undefined, found: number) => wanted === undefined || wanted === found
  return (
    agrees(id.vendor, identity.vendor) &&
    agrees(id.device, identity.device) &&
    agrees(id.subsystemVendor, identity.subsystemVendor) &&
    agrees(id.subsystem, identity.subsystem) &&
    (id.classCode === undefined || (identity.classCode & (id.classMask ?? WHOLE_CLASS)) === id.classCode)
  )
}

/** How many members of the id name something: of several drivers that match, the most specific gets the device. */
export function specificity(id: DeviceId): number {
  if (id.bus === 'platform') return 1
  const members = [id.vendor, id.device, id.subsystemVendor, id.subsystem, id.classCode]
  return members.filter((member) => member !== undefined).length
}

/** Of drivers that have an id of the device, the one whose id names most. */
export function matchDriver<D extends { readonly ids: readonly DeviceId[] }>(
  drivers: Iterable<D>,
  identity: DeviceIdentity,
): D | undefined {
  let best: D | undefined
  let bestScore = -1
  for (const driver of drivers) {
    for (const id of driver.ids) {
      if (!matches(id, identity) || specificity(id) <= bestScore) continue
      best = driver
      bestScore = specificity(id)
    }
  }
  return best
}

const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0')

/** `pci 1234:11e8 class 00ff00` or `platform npu`, for messages; `*` where an id leaves it open. */
export function describeId(id: DeviceId): string {
  if (id.bus === 'platform') return `platform ${id.name}`
  const vendor = id.vendor === undefined ? '*' : hex(id.vendor, 4)
  const device = id.device === undefined ? '*' : hex(id.device, 4)
  const mask = id.classMask === undefined ? '' : `/${hex(id.classMask, 6)}`
  const classCode = id.classCode === undefined ? '' : ` class ${hex(id.classCode, 6)}${mask}`
  return `${id.bus} ${vendor}:${device}${classCode}`
}
