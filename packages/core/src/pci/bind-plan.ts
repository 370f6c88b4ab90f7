import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { shellWord } from './machine.js'

/** A value that is written to a file of sysfs. */
export interface SysfsWrite {
  readonly path: string
  readonly value: string
  /** Which driver the device has afterwards: `null` for none. Absent where the write does not change it. */
  readonly driverAfter?: string | null
}

/** A PCI function and who has it. */
export interface Bound {
  readonly bdf: string
  readonly driver?: string
}

const pci = (sysfs: string) => join(sysfs, 'bus/pci')

const override = (sysfs: string, bdf: string, driver: string): SysfsWrite => ({
  path: join(pci(sysfs), 'devices', bdf, 'driver_override'),
  value: driver,
})

const unbind = (sysfs: string, { bdf, driver }: Bound): SysfsWrite[] =>
  driver === undefined
    ? []
    : [{ path: join(pci(sysfs), 'drivers', driver, 'unbind'), value: bdf, driverAfter: null }]

const probe = (sysfs: string, bdf: string): SysfsWrite => ({
  path: join(pci(sysfs), 'drivers_probe'),
  value: bdf,
})

/**
 * How a device is given to a driver that would not take it by itself (Documentation/ABI/testing/sysfs-bus-pci,
 * driver_override): as long as that file names a driver, no other takes the device.
 */
export function bindPlan(device: Bound, driver: string, sysfs = '/sys'): SysfsWrite[] {
  return [
    override(sysfs, device.bdf, driver),
    ...unbind(sysfs, device),
    { ...probe(sysfs, device.bdf), driverAfter: driver },
  ]
}

/** What a device was before it was bound. */
export interface Before {
  /** Absent where it had no driver. */
  readonly driver?: string
  /** What driver_override held. */
  readonly override?: string
}

/** How a device is given back. Where nobody knows what was before, the kernel chooses. */
export function restorePlan(device: Bound, before: Before | undefined, sysfs = '/sys'): SysfsWrite[] {
  const { bdf } = device
  if (before === undefined) return [override(sysfs, bdf, ''), ...unbind(sysfs, device), probe(sysfs, bdf)]
  const back = override(sysfs, bdf, before.override ?? '')
  if (before.driver === device.driver) return [back]
  if (before.driver === undefined) return [back, ...unbind(sysfs, device)]
  return [...bindPlan(device, before.driver, sysfs), back]
}

/** A write as a command for root's shell. */
export function shellCommand({ path, value }: SysfsWrite): string {
  return value === '' ? `echo > ${shellWord(path)}` : `echo ${shellWord(value)} > ${shellWord(path)}`
}

/** The command that loads a driver, where it is not there. */
export function loadCommands(driver: string, sysfs = '/sys'): string[] {
  return existsSync(join(pci(sysfs), 'drivers', driver)) ? [] : [`modprobe ${driver}`]
}

/** Commands for root's shell that bind a device; what needs it stops. */
export function bindCommands(device: Bound, driver = 'vfio-pci', sysfs = '/sys'): string[] {
  return [...loadCommands(driver, sysfs), ...bindPlan(device, driver).map(shellCommand)]
}

/** The command for root's shell that takes a device from its driver. */
export function unbindCommands(device: Bound): string[] {
  return unbind('/sys', device).map(shellCommand)
}
