import type { Iova } from '@uaccel/memory'
import { abi, sys } from '@uaccel/sys'
import t from 'tap'
import { openDevice } from '../device.js'
import { iommuKinds } from '../transport.js'
import { FakeKernel } from './fake-kernel.test.support.js'
import { bdf, open, openFds, tree } from './vfio.test.support.js'

t.teardown(tree.remove)

for (const iommu of iommuKinds) {
  t.test(`a BAR as a dma-buf, through ${iommu}`, async (t) => {
    const kernel = new FakeKernel({ dmaBufs: 0 })
    const transport = await open(kernel, bdf, { iommu })
    kernel.log.length = 0
    const fd = transport.exportDmaBuf!(0, { offset: 0x1000, sizeBytes: 0x1000 })
    // region, open flags, flags, number of ranges
    t.same(kernel.log, [`export 0 ${abi.O_RDWR | abi.O_CLOEXEC} 0 1 0x1000+0x1000`])
    sys.close(fd)
    for (const [region, offset, sizeBytes] of [
      [0, 0x800, 0x1000],
      [0, 0, 0x800],
      [0, 0, 0],
      [0, 0x2000, 0x1000],
      [0, -0x1000, 0x1000],
      [0, 0x3000, 0x2000],
      [2, 0, 0x1000],
      [7, 0, 0x1000],
      [42, 0, 0x1000],
    ] as const)
      t.throws(() => transport.exportDmaBuf!(region, { offset, sizeBytes }), {
        code: 'ERR_ACCEL_OUT_OF_RANGE',
      })
    kernel.config[4] = 0
    t.throws(() => transport.exportDmaBuf!(0, { offset: 0, sizeBytes: 0x1000 }), {
      code: 'ERR_ACCEL_BUSY',
      message: /memory decoding is off/,
    })
    kernel.config[4] = 2
    const before = openFds()
    const device = openDevice(transport)
    // The fake kernel's descriptor is no dma-buf, which is noticed, and closed.
    t.throws(() => device.exportBar(0, { sizeBytes: 0x1000 }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
    t.throws(() => device.exportBar(1), { code: 'ERR_ACCEL_NOT_FOUND' })
    t.throws(() => device.exportBar(0, { sizeBytes: 0x8000 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
    t.throws(() => device.exportBar(0, { offset: Number.NaN }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
    t.equal(openFds(), before)
    await device.release()
    t.throws(() => device.exportBar(0), { code: 'ERR_ACCEL_NO_DEVICE' })
    await transport.close()
    t.throws(() => transport.exportDmaBuf!(0, { offset: 0, sizeBytes: 0x1000 }), {
      code: 'ERR_ACCEL_NO_DEVICE',
    })
  })
}

t.test('a kernel that exports none, and one that fails to', async (t) => {
  const transport = await open(new FakeKernel())
  t.equal(transport.exportDmaBuf, undefined)
  const device = openDevice(transport)
  t.throws(() => device.exportBar(0), { code: 'ERR_ACCEL_UNSUPPORTED', message: /6\.19/ })
  await device.release()
  await transport.close()
  const failing = await open(new FakeKernel({ dmaBufs: -12 }))
  t.throws(() => failing.exportDmaBuf!(0, { offset: 0, sizeBytes: 0x1000 }), { code: 'ERR_ACCEL_NO_MEMORY' })
  await failing.close()
})

t.test('a dma-buf is mapped by iommufd, or there is a reason', async (t) => {
  for (const [options, code, message] of [
    [{ errno: -95 }, 'ERR_ACCEL_UNSUPPORTED', /only a BAR that VFIO exported/],
    [{ errno: -22 }, 'ERR_ACCEL_UNSUPPORTED', /from 6\.19 on/],
    [{ errno: -19 }, 'ERR_ACCEL_REVOKED', /export it anew/],
    [{ errno: -12 }, 'ERR_ACCEL_NO_MEMORY', /ENOMEM/],
    [{}, undefined, undefined],
  ] as const) {
    const kernel = new FakeKernel({ dmaBuf: { fd: 5, ...options } })
    const transport = await open(kernel, bdf, { iommu: 'iommufd' })
    const map = () =>
      transport.dma.mapDmaBuf!({ iova: 0x10000n as Iova, sizeBytes: 0x3000, access: 'write', fd: 5 })
    if (code === undefined) {
      map()
      t.equal(kernel.log.at(-1), 'map file flags 3')
      t.same([...kernel.mappings], [[0x10000n, 0x3000n]])
    } else t.throws(map, { code, message })
    await transport.close()
  }
  const old = await open(new FakeKernel({ mapFile: false }), bdf, { iommu: 'iommufd' })
  t.throws(() => old.dma.mapDmaBuf!({ iova: 0n as Iova, sizeBytes: 4096, access: 'read', fd: 5 }), {
    code: 'ERR_ACCEL_UNSUPPORTED',
    message: /ENOTTY/,
  })
  await old.close()
})
