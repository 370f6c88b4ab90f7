import { readdirSync, readlinkSync } from 'node:fs'
import { basename, join } from 'node:path'
import { isAccelError } from '@uaccel/uapi'
import type { DeviceIdentity } from '../identity.js'
import { type PciDeviceInfo, readPciDevice } from '../pci/sysfs.js'
import type { DeviceSource } from '../source.js'
import { isVfioDriver } from './iommu.js'
import { openVfio, type VfioOptions } from './open.js'

/** PCI devices that are bound to vfio-pci, or to a variant of it. */
export function vfioSource(options: VfioOptions = {}): DeviceSource {
  const { sysfs = '/sys' } = options
  return {
    name: 'vfio',
    subsystems: ['pci'],
    scan: () => boundToVfio(sysfs).flatMap((bdf) => identityOf(bdf, sysfs)),
    addressOf: ({ subsystem, name }) => (subsystem === 'pci' ? name : undefined),
    open: ({ transport: { address } }) => openVfio(address, options),
  }
}

function boundToVfio(sysfs: string): string[] {
  const folder = join(sysfs, 'bus/pci/devices')
  return optional(() => readdirSync(folder).sort(), []).filter((bdf) => {
    const driver = optional(() => readlinkSync(join(folder, bdf, 'driver')), undefined)
    return driver !== undefined && isVfioDriver(basename(driver))
  })
}

/** None where it was unplugged between the two looks. */
function identityOf(bdf: string, sysfs: string): DeviceIdentity[] {
  let info: PciDeviceInfo
  try {
    info = readPciDevice(bdf, { sysfs })
  } catch (error) {
    if (isAccelError(error, 'ERR_ACCEL_NOT_FOUND')) return []
    throw error
  }
  const { vendor, device, subsystemVendor = 0, subsystem = 0, revision = 0, classCode } = info
  const transport = { kind: 'vfio', address: info.bdf } as const
  return [{ bus: 'pci', vendor, device, subsystemVendor, subsystem, revision, classCode, transport }]
}

function optional<T, E>(read: () => T, otherwise: E): T | E {
  try {
    return read()
  } catch {
    return otherwise
  }
}
