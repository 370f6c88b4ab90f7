import { DmaBuffer } from '@uaccel/memory'
import t from 'tap'
import { openDevice } from '../device.js'
import { FakeKernel } from './fake-kernel.test.support.js'
import { bdf, open, tree } from './vfio.test.support.js'

t.teardown(tree.remove)

t.test('iommufd maps files, and memory where the kernel takes no files', async (t) => {
  for (const mapFile of [true, false]) {
    const kernel = new FakeKernel({ mapFile })
    const transport = await open(kernel, bdf, { iommu: 'iommufd' })
    const { dma } = openDevice(transport)
    const buffers = (['read', 'write', 'readwrite'] as const).map((access) => {
      const buffer = DmaBuffer.create(4096)
      dma.map(buffer, { access })
      return buffer
    })
    const by = mapFile ? 'file' : 'address'
    t.same(
      kernel.log.filter((line) => line.startsWith('map')),
      // FIXED_IOVA 1, WRITEABLE 2, READABLE 4
      [`map ${by} flags 5`, `map ${by} flags 3`, `map ${by} flags 7`],
    )
    t.same([...kernel.mappings.values()], [4096n, 4096n, 4096n])
    for (const buffer of buffers) buffer.destroy()
    t.equal(kernel.mappings.size, 0)
    await transport.close()
    t.equal(kernel.nodes.size, 0)
  }
})

t.test('what iommufd says of mappings is checked', async (t) => {
  const iommu = 'iommufd'
  const locked = await open(new FakeKernel({ mapErrno: -12 }), bdf, { iommu })
  t.throws(() => openDevice(locked).dma.alloc(64), { code: 'ERR_ACCEL_MEMLOCK', message: /ulimit -l/ })
  await locked.close()
  const refused = await open(new FakeKernel({ mapErrno: -17 }), bdf, { iommu })
  t.throws(() => openDevice(refused).dma.alloc(64), { code: 'ERR_ACCEL_SYSTEM', errno: 'EEXIST' })
  await refused.close()
  const short = await open(new FakeKernel({ unmapShort: true }), bdf, { iommu })
  const region = openDevice(short).dma.alloc(2 ** 21)
  t.throws(() => region.free(), { code: 'ERR_ACCEL_SYSTEM', message: /unmapped 0/ })
  await short.close()
})

t.test('the ranges of an I/O address space: as many as there are, and anew after each attach', async (t) => {
  const kernel = new FakeKernel()
  const first = await open(kernel, bdf, { iommu: 'iommufd' })
  t.equal(first.dma.ranges().length, 2)
  const second = await open(kernel, '0000:00:06.0', { iommu: 'iommufd' })
  t.same(first.dma.ranges()[0], { first: 0n, last: 0x9_ffffn })
  await second.close()
  t.equal(first.dma.ranges().length, 2)
  await first.close()
  const windows = new FakeKernel({ windows: 60 })
  const many = await open(windows, bdf, { iommu: 'iommufd' })
  const ranges = many.dma.ranges()
  t.equal(ranges.length, 62)
  t.ok(ranges.every(({ first, last }, i) => first < last && (i === 0 || ranges[i - 1].last < first)))
  await many.close()
  const absurd = await open(new FakeKernel({ windows: 5000 }), bdf, { iommu: 'iommufd' })
  t.throws(() => absurd.dma.ranges(), { code: 'ERR_ACCEL_SYSTEM', errno: 'EMSGSIZE' })
  await absurd.close()
})

t.test('a device that cannot be detached is closed all the same', async (t) => {
  const kernel = new FakeKernel({ errors: { detach: -19 } })
  const transport = await open(kernel, bdf, { iommu: 'iommufd' })
  await transport.close()
  t.equal(kernel.nodes.size, 0)
})
