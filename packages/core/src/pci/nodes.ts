import { join } from 'node:path'
import { type MachinePaths, namesIn, readText } from './machine.js'
import type { PciDeviceInfo } from './sysfs.js'

/** A node through which programs reach a device. */
export interface UserNode {
  readonly path: string
  /** MAJOR:MINOR. */
  readonly number: string
}

/** Node of a VFIO group: `/dev/vfio/7`, or `/dev/vfio/noiommu-7` without an IOMMU (drivers/vfio/group.c). */
export function vfioGroupNode(
  { iommuGroup }: PciDeviceInfo,
  { sysfs, devfs }: MachinePaths,
): UserNode | undefined {
  if (iommuGroup === undefined) return undefined
  for (const name of [`${iommuGroup.id}`, `noiommu-${iommuGroup.id}`]) {
    const number = deviceNumberIn(join(sysfs, 'class/vfio', name))
    if (number !== undefined) return { path: join(devfs, 'vfio', name), number }
  }
  return undefined
}

/** Nodes that a device has got with the driver it is bound to: its VFIO group and own VFIO node, or those of UIO. */
export function userNodes(device: PciDeviceInfo, paths: MachinePaths): UserNode[] {
  const folder = join(paths.sysfs, 'bus/pci/devices', device.bdf)
  const made = (inner: string, pattern: RegExp, place: string) =>
    namesIn(join(folder, inner))
      .filter((name) => pattern.test(name))
      .flatMap((name) => {
        const number = deviceNumberIn(join(folder, inner, name))
        return number === undefined ? [] : [{ path: join(paths.devfs, place, name), number }]
      })
  const group = vfioGroupNode(device, paths)
  return [
    ...(group === undefined ? [] : [group]),
    ...made('vfio-dev', /^vfio\d+$/, 'vfio/devices'),
    ...made('uio', /^uio\d+$/, ''),
  ]
}

function deviceNumberIn(folder: string): string | undefined {
  const number = readText(join(folder, 'dev'))
  return number !== undefined && /^\d+:\d+$/.test(number) ? number : undefined
}
