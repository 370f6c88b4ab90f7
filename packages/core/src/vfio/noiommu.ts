import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PhysicalMapper } from '@uaccel/memory'
import { accelError, isAccelError } from '@uaccel/uapi'
import { taint } from '../no-iommu.js'
import { noIommuParameter } from '../pci/machine.js'
import type { IommuGroup } from '../pci/sysfs.js'
import * as vfio from './abi.js'
import type { VfioCalls } from './calls.js'
import { type GroupIommu, openNode, type VfioPaths } from './iommu.js'

/** True for a group that VFIO made up for a device without an IOMMU (vfio_noiommu_group_alloc in drivers/vfio/group.c). */
export function isMadeUp(group: IommuGroup, { sysfs }: VfioPaths): boolean {
  try {
    return (
      readFileSync(join(sysfs, 'kernel/iommu_groups', String(group.id), 'name'), 'latin1').trim() ===
      'vfio-noiommu'
    )
  } catch {
    return false // most groups have no name
  }
}

/** How vfio-pci is made to take a device without an IOMMU, where it has not: for an error's end. */
export function enableNoIommu(bdf: string, { sysfs }: VfioPaths): string {
  if (!existsSync(join(sysfs, noIommuParameter)))
    return 'This kernel cannot: it has no vfio module, or was built without CONFIG_VFIO_NOIOMMU; openUio() may'
  return (
    `Allow it and bind the device anew, as root: \`echo 1 > /sys/${noIommuParameter}\`, then \`echo vfio-pci > ` +
    `/sys/bus/pci/devices/${bdf}/driver_override\` and \`echo ${bdf} > /sys/bus/pci/drivers_probe\``
  )
}

/**
 * Opens the group of a device without an IOMMU and puts it into a container of its own, which maps nothing. Errors:
 * `ERR_ACCEL_PERMISSION`, `ERR_ACCEL_BUSY`, `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_UNSUPPORTED`.
 */
export function openNoIommu(calls: VfioCalls, group: IommuGroup, paths: VfioPaths): GroupIommu {
  const node = (name: string, what: string) =>
    openNode(calls, {
      path: join(paths.devfs, 'vfio', name),
      what,
      udev: 'SUBSYSTEM=="vfio"',
      missing: ['ERR_ACCEL_NOT_FOUND', 'Load the driver: `modprobe vfio-pci`'],
    })
  const opened: number[] = []
  try {
    const fd = node(`noiommu-${group.id}`, `group ${group.id} without an IOMMU (it wants CAP_SYS_RAWIO)`)
    opened.push(fd)
    const container = node('vfio', 'the VFIO container')
    opened.push(container)
    const argument = Buffer.alloc(4)
    argument.writeInt32LE(container, 0)
    calls.ioctl(fd, vfio.VFIO_GROUP_SET_CONTAINER, argument, 'VFIO_GROUP_SET_CONTAINER')
    setIommu(calls, container)
    return {
      kind: 'none',
      mapper: new PhysicalMapper(),
      tainted: taint(`PCI device ${group.members.join(', ')}`),
      async openDevice(bdf) {
        const what = `VFIO_GROUP_GET_DEVICE_FD of ${bdf}`
        return await calls.ioctlAsync(fd, vfio.VFIO_GROUP_GET_DEVICE_FD, Buffer.from(`${bdf}\0`), what)
      },
      closeDevice: (device) => calls.closeAsync(device),
      close() {
        for (const each of opened) calls.close(each)
      },
    }
  } catch (error) {
    for (const each of opened) calls.close(each)
    throw error
  }
}

function setIommu(calls: VfioCalls, container: number): void {
  try {
    calls.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_NOIOMMU_IOMMU, 'VFIO_SET_IOMMU')
  } catch (cause) {
    // The parameter was taken back after the device was bound (vfio_noiommu_ioctl in drivers/vfio/container.c).
    if (!isAccelError(cause, 'ERR_ACCEL_NO_DEVICE')) throw cause
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `the kernel does not allow VFIO without an IOMMU (any more); as root: \`echo 1 > /sys/${noIommuParameter}\``,
      { cause },
    )
  }
}
