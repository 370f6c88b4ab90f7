import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { PciNames, pciNames } from './names.js'
import { listPciDevices, parseBdf, readPciDevice } from './sysfs.js'
import { makeSysfs, noResources } from './sysfs-tree.test.support.js'

const ids = `#
# comment
1234  Technical Corp.
\t11e8  Educational Device
\t\t1af4 1100  A subsystem
1b36  Red Hat, Inc.
\t0010  QEMU NVM Express Controller
C 00  Unclassified device
\t00  Non-VGA unclassified device
C 12  Processing accelerators
\t00  Processing accelerators, exact
\t01  SNIA Smart Data Accelerator Interface (SDXI) controller
C 01  Mass storage controller
\t08  Non-Volatile memory controller
\t\t02  NVM Express
garbage line
\tffff
`

t.test('devices with everything that sysfs says, and nothing that it does not', async (t) => {
  const tree = makeSysfs([
    { bdf: '0000:00:05.0', group: 4, driver: 'vfio-pci', files: { numa_node: '1\n' } },
    {
      bdf: '0000:00:06.0',
      group: 4,
      files: {
        vendor: '0x1b36\n',
        device: '0x0010\n',
        class: '0x010802\n',
        revision: undefined,
        subsystem_vendor: undefined,
        subsystem_device: undefined,
        resource:
          '0x0000004000000000 0x0000004000003fff 0x0000000000142204\n' +
          `${noResources}0x000000000000c000 0x000000000000c03f 0x0000000000040101\n${noResources.repeat(4)}`,
      },
    },
    { bdf: '0001:01:00.0', files: { numa_node: undefined, resource: '' } },
  ])
  t.teardown(tree.remove)
  const [edu, nvme, bare, ...rest] = listPciDevices({ sysfs: tree.path, names: new PciNames(ids) })
  t.same(rest, [])
  t.same(edu, {
    bdf: '0000:00:05.0',
    vendor: 0x1234,
    device: 0x11e8,
    classCode: 0x00ff00,
    revision: 0x10,
    subsystemVendor: 0x1af4,
    subsystem: 0x1100,
    bars: [
      {
        index: 0,
        address: 0xfea0_0000n,
        sizeBytes: 0x10_0000,
        kind: 'memory',
        is64Bit: false,
        prefetchable: false,
      },
    ],
    iommuGroup: { id: 4, members: ['0000:00:05.0', '0000:00:06.0'] },
    numaNode: 1,
    driver: 'vfio-pci',
    vendorName: 'Technical Corp.',
    deviceName: 'Educational Device',
    className: 'Unclassified device',
  })
  t.same(nvme.bars, [
    {
      index: 0,
      address: 0x40_0000_0000n,
      sizeBytes: 0x4000,
      kind: 'memory',
      is64Bit: true,
      prefetchable: true,
    },
    { index: 2, address: 0xc000n, sizeBytes: 0x40, kind: 'io', is64Bit: false, prefetchable: false },
  ])
  t.match(nvme, { className: 'Non-Volatile memory controller', deviceName: 'QEMU NVM Express Controller' })
  for (const absent of ['driver', 'revision', 'subsystem', 'numaNode']) t.notOk(absent in nvme, absent)
  t.notOk('iommuGroup' in bare)
  t.notOk('numaNode' in bare)
  t.same(bare.bars, [])
  t.equal(readPciDevice('00:05.0', { sysfs: tree.path }).bdf, '0000:00:05.0')
  t.notOk('vendorName' in readPciDevice('00:05.0', { sysfs: tree.path }))
  t.throws(() => readPciDevice('0000:00:09.0', { sysfs: tree.path }), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /there are 0000:00:05\.0, /,
  })
  t.throws(() => listPciDevices({ sysfs: join(tree.path, 'none') }), { code: 'ERR_ACCEL_UNSUPPORTED' })
})

t.test('what sysfs should not hold is an error that names the file', async (t) => {
  const bad: Record<string, string | undefined>[] = [
    { vendor: 'hello\n' },
    { vendor: '0x12345\n' },
    { vendor: undefined },
    { class: '' },
    { revision: '0xzz\n' },
    { resource: '0x0 0x1\n' },
    { resource: 'not numbers at all\n' },
  ]
  for (const files of bad) {
    const tree = makeSysfs([{ bdf: '0000:00:05.0', files }])
    t.throws(
      () => listPciDevices({ sysfs: tree.path }),
      { code: 'ERR_ACCEL_IO', message: new RegExp(Object.keys(files)[0]) },
      JSON.stringify(files),
    )
    tree.remove()
  }
  const tree = makeSysfs([{ bdf: '0000:00:05.0', files: { numa_node: 'soon\n' } }])
  t.teardown(tree.remove)
  t.notOk('numaNode' in listPciDevices({ sysfs: tree.path })[0], 'an optional number that is none is absent')
})

t.test('addresses', async (t) => {
  t.equal(parseBdf('0000:00:1F.7'), '0000:00:1f.7')
  t.equal(parseBdf('10000:e1:00.0'), '10000:e1:00.0', 'domains of the VMD kind')
  for (const bad of ['', '00:20.0', '00:05.8', '0000:00:05', '../00:05.0', '0000:00:05.0 ']) {
    t.throws(() => parseBdf(bad), { code: 'ERR_ACCEL_INVALID_ARGUMENT' }, bad)
  }
})

t.test('names come from the first database that is there', async (t) => {
  const folder = t.testdir({})
  writeFileSync(join(folder, 'pci.ids'), ids)
  t.equal(
    pciNames([join(folder, 'none'), join(folder, 'pci.ids')])?.device(0x1b36, 0x10),
    'QEMU NVM Express Controller',
  )
  t.equal(pciNames([join(folder, 'none')]), undefined)
  const names = new PciNames(ids)
  t.equal(names.vendor(0xffff), undefined)
  t.equal(names.device(0x1234, 0x1af4), undefined, 'a subsystem is no device')
  t.equal(names.classOf(0x120000), 'Processing accelerators, exact')
  t.equal(names.classOf(0x12ff00), 'Processing accelerators')
})
