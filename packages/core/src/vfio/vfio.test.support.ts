import { readdirSync } from 'node:fs'
import { makeSysfs } from '../pci/sysfs-tree.test.support.js'
import type { IommuKind } from '../transport.js'
import type { FakeKernel } from './fake-kernel.test.support.js'
import { openVfio, type VfioOptions } from './open.js'

export const bdf = '0000:00:05.0'
export const openFds = () => readdirSync('/proc/self/fd').length
/** The immediate comes after the loop looked at descriptors, also where the process was stopped for longer than the timer. */
export const turn = (ms = 20) => new Promise((resolve) => setTimeout(() => setImmediate(resolve), ms))

export const tree = makeSysfs([
  { bdf, group: 4, driver: 'vfio-pci', vfioDev: 'vfio0' },
  { bdf: '0000:00:06.0', group: 4, driver: 'mlx5_vfio_pci', vfioDev: 'vfio1' },
  { bdf: '0000:00:07.0', group: 4, driver: 'nvme' },
  { bdf: '0000:00:08.0', group: 4, driver: 'pcieport' },
  { bdf: '0000:00:09.0', driver: 'vfio-pci' },
  { bdf: '0000:00:0a.0', group: 5 },
  { bdf: '0000:00:0b.0', group: 6, driver: 'vfio-pci', vfioDev: 'vfio2' },
  { bdf: '0000:00:0c.0', group: 7, driver: 'vfio-pci' },
])

export const open = (kernel: FakeKernel, address = bdf, options: VfioOptions = {}) =>
  openVfio(address, { sysfs: tree.path, devfs: '/fake', calls: kernel, iommu: 'type1', ...options })
/** How each way opens the first device and closes the last one. */
export const opening: Record<IommuKind, string[]> = {
  type1: ['open group', 'open container', 'set container', 'set iommu', 'open device'],
  iommufd: ['open iommu', 'ioas alloc', 'open cdev', 'bind', 'attach'],
}
export const closing: Record<IommuKind, string[]> = {
  type1: ['close device', 'close group', 'close container'],
  iommufd: ['detach', 'close device', 'close iommu'],
}
