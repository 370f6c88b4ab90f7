import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { makeSysfs } from '../pci/sysfs-tree.test.support.js'
import { FakeKernel } from './fake-kernel.test.support.js'
import { openVfio, type VfioOptions } from './open.js'

const bdf = '0000:00:05.0'
const tree = makeSysfs([
  { bdf, group: 9, driver: 'vfio-pci', vfioDev: 'noiommu-vfio0' },
  { bdf: '0000:00:06.0' },
])
t.teardown(tree.remove)
writeFileSync(join(tree.path, 'kernel/iommu_groups/9/name'), 'vfio-noiommu\n')

const open = (kernel: FakeKernel, options: VfioOptions = {}, address = bdf) =>
  openVfio(address, { sysfs: tree.path, devfs: '/fake', calls: kernel, ...options })

t.test('a group that VFIO made up is opened where that was allowed, and maps nothing', async (t) => {
  const kernel = new FakeKernel()
  await t.rejects(open(kernel), { code: 'ERR_ACCEL_NO_IOMMU', message: /allowNoIommu: true/ })
  for (const iommu of ['type1', 'iommufd'] as const)
    await t.rejects(open(kernel, { iommu, allowNoIommu: true }), { code: 'ERR_ACCEL_NO_IOMMU' })
  t.same(kernel.log, [], 'nothing was opened')
  const transport = await open(kernel, { allowNoIommu: true })
  t.match(transport.identity, { kind: 'vfio', address: bdf, iommu: 'none', tainted: /no IOMMU/ })
  t.same(
    [...kernel.nodes.values()].map(({ path }) => path),
    ['/fake/vfio/noiommu-9', '/fake/vfio/vfio', bdf],
  )
  t.equal(typeof transport.dma.locate, 'function')
  await t.rejects(open(kernel, { allowNoIommu: true }), { code: 'ERR_ACCEL_BUSY' })
  await transport.close()
  t.equal(kernel.nodes.size, 0)
})

t.test('what keeps it from being opened', async (t) => {
  const refused = async (
    options: ConstructorParameters<typeof FakeKernel>[0],
    error: { code: string; message?: RegExp },
  ) => {
    const kernel = new FakeKernel(options)
    await t.rejects(open(kernel, { allowNoIommu: true }), error)
    t.equal(kernel.nodes.size, 0, 'nothing stays open')
  }
  await refused(
    { openErrors: { 'noiommu-9': -1 } },
    { code: 'ERR_ACCEL_PERMISSION', message: /CAP_SYS_RAWIO/ },
  )
  await refused({ openErrors: { 'noiommu-9': -16 } }, { code: 'ERR_ACCEL_BUSY', message: /fuser -v/ })
  await refused({ openErrors: { 'vfio/vfio': -13 } }, { code: 'ERR_ACCEL_PERMISSION' })
  await refused({ errors: { getDevice: -19 } }, { code: 'ERR_ACCEL_NO_DEVICE' })
  mkdirSync(join(tree.path, 'module/vfio/parameters'), { recursive: true })
  writeFileSync(join(tree.path, 'module/vfio/parameters/enable_unsafe_noiommu_mode'), 'N\n')
  await t.rejects(open(new FakeKernel(), { allowNoIommu: true }, '0000:00:06.0'), {
    code: 'ERR_ACCEL_NO_IOMMU',
    message: /echo 1 > \/sys\/module\/vfio\/parameters\/enable_unsafe_noiommu_mode/,
  })
})
