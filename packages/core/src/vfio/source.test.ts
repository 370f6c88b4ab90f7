import { rmSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { makeSysfs } from '../pci/sysfs-tree.test.support.js'
import type { Uevent } from '../pci/uevents.js'
import { vfioSource } from './source.js'

t.test('devices that are bound to vfio-pci or a variant are found in sysfs alone', async (t) => {
  const { path: sysfs, remove } = makeSysfs([
    { bdf: '0000:00:05.0', group: 1, driver: 'vfio-pci' },
    { bdf: '0000:00:06.0', group: 2, driver: 'nvme' },
    { bdf: '0000:00:07.0', group: 3 },
    {
      bdf: '0000:00:08.0',
      group: 4,
      driver: 'mlx5_vfio_pci',
      files: { vendor: '0x15b3\n', revision: undefined },
    },
  ])
  t.teardown(remove)
  const source = vfioSource({ sysfs, devfs: sysfs })
  t.same(source.scan(), [
    {
      bus: 'pci',
      vendor: 0x1234,
      device: 0x11e8,
      subsystemVendor: 0x1af4,
      subsystem: 0x1100,
      revision: 0x10,
      classCode: 0xff00,
      transport: { kind: 'vfio', address: '0000:00:05.0' },
    },
    {
      bus: 'pci',
      vendor: 0x15b3,
      device: 0x11e8,
      subsystemVendor: 0x1af4,
      subsystem: 0x1100,
      revision: 0,
      classCode: 0xff00,
      transport: { kind: 'vfio', address: '0000:00:08.0' },
    },
  ])
  const event = { subsystem: 'pci', name: '0000:00:05.0' } as Uevent
  t.equal(source.addressOf(event), '0000:00:05.0')
  t.equal(source.addressOf({ ...event, subsystem: 'uio' }), undefined)
  // Opening goes the way of openVfio, with its options.
  await t.rejects(source.open(source.scan()[1]!), { code: 'ERR_ACCEL_NOT_FOUND', message: sysfs })
  rmSync(join(sysfs, 'bus'), { recursive: true })
  t.same(source.scan(), [], 'no PCI bus, no devices')
})
