import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

/** A PCI function of a made-up machine. `files` replace or add to what it has; `undefined` leaves one out. */
export interface TreeDevice {
  readonly bdf: string
  readonly group?: number
  readonly driver?: string
  /** Name of its node below /dev/vfio/devices. */
  readonly vfioDev?: string
  readonly files?: Readonly<Record<string, string | Uint8Array | undefined>>
}

/** Eight lines of zeros after the BARs, as the kernel writes them (7 resources without a bridge, more with one). */
export const noResources = '0x0000000000000000 0x0000000000000000 0x0000000000000000\n'

/** Builds a sysfs with these devices in a temporary folder. The caller removes it. */
export function makeSysfs(devices: readonly TreeDevice[]): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'sysfs-'))
  mkdirSync(join(path, 'bus/pci/devices'), { recursive: true })
  for (const { bdf, group, driver, vfioDev, files = {} } of devices) {
    const home = join(path, 'devices/pci0000:00', bdf)
    mkdirSync(home, { recursive: true })
    const all = {
      vendor: '0x1234\n',
      device: '0x11e8\n',
      class: '0x00ff00\n',
      revision: '0x10\n',
      subsystem_vendor: '0x1af4\n',
      subsystem_device: '0x1100\n',
      numa_node: '-1\n',
      resource: `0x00000000fea00000 0x00000000feafffff 0x0000000000040200\n${noResources.repeat(6)}`,
      ...files,
    }
    for (const [name, content] of Object.entries(all))
      if (content !== undefined) writeFileSync(join(home, name), content)
    symlinkSync(`../../../devices/pci0000:00/${bdf}`, join(path, 'bus/pci/devices', bdf))
    if (vfioDev !== undefined) mkdirSync(join(home, 'vfio-dev', vfioDev), { recursive: true })
    if (driver !== undefined)
      link(join(path, 'bus/pci/drivers', driver), join(home, 'driver'), `../../../bus/pci/drivers/${driver}`)
    if (group === undefined) continue
    const groupPath = join(path, 'kernel/iommu_groups', String(group))
    link(groupPath, join(home, 'iommu_group'), `../../../kernel/iommu_groups/${group}`)
    mkdirSync(join(groupPath, 'devices'), { recursive: true })
    symlinkSync(`../../../../devices/pci0000:00/${bdf}`, join(groupPath, 'devices', bdf))
  }
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}

function link(folder: string, at: string, target: string): void {
  mkdirSync(folder, { recursive: true })
  mkdirSync(dirname(at), { recursive: true })
  symlinkSync(target, at)
}
