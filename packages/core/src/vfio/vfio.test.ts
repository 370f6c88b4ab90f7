import { EventFd } from '@uaccel/sys'
import t from 'tap'
import { openDevice } from '../device.js'
import { reg32, registers } from '../registers.js'
import { iommuKinds } from '../transport.js'
import { FakeKernel } from './fake-kernel.test.support.js'
import { bdf, closing, open, openFds, opening, tree, turn } from './vfio.test.support.js'

t.teardown(tree.remove)

for (const iommu of iommuKinds) {
  t.test(`by ${iommu}: regions, interrupts and limits as the kernel tells them`, async (t) => {
    const kernel = new FakeKernel()
    const transport = await open(kernel, bdf, { iommu })
    t.same(kernel.log.slice(0, 5), opening[iommu])
    t.match(transport.identity, { kind: 'vfio', address: bdf, iommu })
    t.notOk('emulated' in transport.identity, 'nobody said')
    t.strictSame(transport.resets, ['function'])
    t.same(transport.regions[0].mappable, [
      { offset: 0, sizeBytes: 0x2000 },
      { offset: 0x3000, sizeBytes: 0x1000 },
    ])
    t.same(
      [transport.regions[2].sizeBytes, transport.regions[2].mappable, transport.regions[8].sizeBytes],
      [0x100, [], 0],
    )
    t.match(transport.irqs, {
      intx: { count: 1, maskable: true, autoMasked: true },
      msi: { count: 0 },
      msix: { count: 4, maskable: false },
      err: { count: 0 },
      req: { count: 1 },
    })
    t.equal(transport.dma.pageSizeBytes, 4096)
    t.equal(transport.dma.maxMappings, iommu === 'type1' ? 1234 : Number.POSITIVE_INFINITY)
    t.equal(transport.dma.locksMemory, true)
    t.same(transport.dma.ranges(), [
      { first: 0n, last: 0xfedf_ffffn },
      { first: 0xfef0_0000n, last: 0x7f_ffff_ffffn },
    ])
    t.equal(transport.read(7, 0, 4), 0x11e81234)
    t.equal(transport.read(2, 4, 2), 0x5a5a)
    t.equal(transport.read64(2, 8), 0x5a5a_5a5a_5a5a_5a5an)
    transport.write(2, 0x10, 1, 7)
    transport.write64(2, 0x18, 7n)
    t.same(kernel.log.slice(-2), ['pwrite 0x10 1', 'pwrite 0x18 8'])
    for (const [region, offset] of [
      [2, 0xfe],
      [2, -4],
      [1, 0],
      [99, 0],
    ]) {
      t.throws(() => transport.read(region, offset, 4), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
    }
    t.throws(
      () => transport.map(0, { offset: 0x2000, sizeBytes: 0x1000 }),
      { code: 'ERR_ACCEL_OUT_OF_RANGE' },
      'the hole',
    )
    await transport.close()
    t.throws(() => transport.read(7, 0, 4), { code: 'ERR_ACCEL_NO_DEVICE', cause: { message: /was closed/ } })
    await transport.close()
  })
}

for (const iommu of iommuKinds) {
  t.test(
    `by ${iommu}: a driver over it, and everything given back in the order that the kernel wants`,
    async (t) => {
      const fds = openFds()
      const kernel = new FakeKernel()
      const transport = await open(kernel, bdf, { iommu })
      const dev = openDevice(transport)
      await dev.enable({ busMaster: true })
      const bar = await dev.mapBar(
        0,
        registers({ A: reg32(0, 'rw'), HOLE: reg32(0x2000, 'rw'), B: reg32(0x3ffc, 'rw') }),
      )
      const small = await dev.mapBar(2, registers({ C: reg32(0x10, 'rw') }))
      bar.A.write(1)
      bar.B.write(1)
      t.equal(
        kernel.log.filter((line) => line.startsWith('pwrite 0x') && !line.startsWith('pwrite 0x100')).length,
        0,
        'mapped',
      )
      bar.HOLE.write(1)
      small.C.write(1)
      t.same(kernel.log.slice(-2), ['pwrite 0x2000 4', 'pwrite 0x10 4'], 'trapped')
      const irqs = await dev.allocIrqVectors({ min: 2, max: 9 })
      t.same([irqs.type, irqs.count], ['msix', 4])
      let fired = 0
      irqs.handle(3, () => fired++)
      kernel.fire(2, 3)
      await turn()
      t.equal(fired, 1)
      t.throws(() => irqs.mask(0), { code: 'ERR_ACCEL_UNSUPPORTED' })
      dev.dma.alloc(64)
      t.equal(kernel.mappings.size, 1)
      await dev.reset()
      t.same([...kernel.triggers.keys()].sort(), [2, 4], 'armed again')
      t.equal(kernel.config[4] & 4, 4)
      await dev.release()
      t.equal(kernel.config[4] & 4, 0)
      t.equal(kernel.mappings.size, 0)
      await transport.close()
      t.same(kernel.log.slice(-4), ['irqs 4 flags 0x21 0+0', ...closing[iommu]])
      t.equal(openFds(), fds)
    },
  )
}

t.test('INTx is unmasked after its handler', async (t) => {
  const kernel = new FakeKernel()
  const transport = await open(kernel)
  const dev = openDevice(transport)
  const irqs = await dev.allocIrqVectors({ types: ['intx'] })
  irqs.handle(0, () => {})
  kernel.fire(0)
  await turn()
  t.equal(kernel.log.at(-1), 'irqs 0 flags 0x11 0+1')
  irqs.mask(0)
  t.equal(kernel.log.at(-1), 'irqs 0 flags 0x9 0+1')
  await dev.release()
  await transport.close()
})

t.test('a system that grants fewer vectors than the device has', async (t) => {
  const kernel = new FakeKernel({ msixGrants: 2 })
  const transport = await open(kernel)
  const event = new EventFd()
  t.throws(() => transport.setIrqs('msix', [event.fd, -1, -1]), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
    details: { available: 2 },
  })
  t.throws(() => transport.setIrqs('msix', Array(5).fill(-1)), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
    details: { available: 4 },
  })
  transport.setIrqs('msix', [event.fd, -1])
  t.same(kernel.triggers.get(2), [event.fd, -1])
  transport.setIrqs('msix', [event.fd])
  t.same(kernel.triggers.get(2), [event.fd], 'taken down first: the set cannot be resized')
  transport.disableIrqs('msix')
  await transport.close()
  event.close()
})

t.test('an interrupt that is fired without the device', async (t) => {
  const kernel = new FakeKernel()
  const transport = await open(kernel)
  const dev = openDevice(transport)
  const refused = { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /not armed/ }
  t.throws(() => transport.triggerIrq('msix', 0), refused)
  const irqs = await dev.allocIrqVectors({ types: ['msix'], min: 4 })
  t.equal(irqs.canTrigger, true)
  irqs.trigger(2)
  // linux/vfio.h: DATA_NONE is 1, ACTION_TRIGGER 1 << 5
  t.equal(kernel.log.at(-1), 'irqs 2 flags 0x21 2+1')
  t.throws(() => irqs.trigger(4), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  for (const vector of [4, -1, Number.NaN]) t.throws(() => transport.triggerIrq('msix', vector), refused)
  t.throws(() => transport.triggerIrq('intx', 0), refused)
  await dev.release()
  t.throws(() => irqs.trigger(0), { code: 'ERR_ACCEL_NO_DEVICE' })
  await transport.close()
  t.throws(() => transport.triggerIrq('msix', 0), { code: 'ERR_ACCEL_NO_DEVICE' })
})

for (const iommu of iommuKinds) {
  t.test(`by ${iommu}: the kernel wants the device back`, async (t) => {
    const fds = openFds()
    const kernel = new FakeKernel()
    const transport = await open(kernel, bdf, { iommu })
    const dev = openDevice(transport)
    const bar = await dev.mapBar(0, registers({ A: reg32(0, 'rw') }))
    dev.dma.alloc(64)
    kernel.fire(4)
    await turn()
    t.match(dev.signal.reason, {
      code: 'ERR_ACCEL_NO_DEVICE',
      message: /wants vfio device 0000:00:05\.0 back/,
    })
    t.throws(() => bar.A.read(), { code: 'ERR_ACCEL_NO_DEVICE' })
    await dev.release()
    t.equal(kernel.mappings.size, 0)
    await transport.close()
    t.equal(kernel.nodes.size, 0)
    t.equal(openFds(), fds)
  })
}

t.test('a device that reports an uncorrectable error is lost, with that reason', async (t) => {
  const fds = openFds()
  const kernel = new FakeKernel({ express: true })
  const transport = await open(kernel)
  const dev = openDevice(transport)
  const bar = await dev.mapBar(0, registers({ A: reg32(0, 'rw') }))
  kernel.fire(3)
  await turn()
  t.match(dev.signal.reason, {
    code: 'ERR_ACCEL_NO_DEVICE',
    cause: { code: 'ERR_ACCEL_IO', message: /0000:00:05\.0 reported an uncorrectable PCI Express error/ },
  })
  t.throws(() => bar.A.read(), { code: 'ERR_ACCEL_NO_DEVICE' })
  t.throws(() => transport.read(7, 0, 2), { code: 'ERR_ACCEL_NO_DEVICE', cause: { code: 'ERR_ACCEL_IO' } })
  await dev.release()
  await transport.close()
  t.equal(kernel.triggers.size, 0, 'disarmed')
  t.equal(openFds(), fds)
})

t.test('nothing takes a mapped BAR away under its driver: that would be SIGBUS', async (t) => {
  const kernel = new FakeKernel()
  const transport = await open(kernel)
  const write = (offset: number, ...bytes: number[]) =>
    transport.writeBytes(7, offset, Uint8Array.from(bytes))
  write(4, 0)
  const refused = { code: 'ERR_ACCEL_BUSY', message: /memory decoding/ }
  t.throws(() => transport.map(0, { offset: 0, sizeBytes: 4096 }), refused)
  write(4, 2)
  write(0x84, 3)
  write(0x84, 0)
  const mapping = transport.map(0, { offset: 0, sizeBytes: 4096 })
  t.throws(() => transport.write(7, 4, 2, 4), refused, 'memory decoding off')
  t.throws(() => write(0, 0, 0, 0, 0, 0, 0), refused, 'within a longer write')
  t.throws(() => transport.write(7, 0x84, 2, 3), refused, 'power off')
  transport.write(7, 4, 2, 6)
  transport.write(7, 0x84, 2, 0x8000)
  t.equal(kernel.config.readUInt16LE(4), 6)
  mapping.revoke()
  transport.write(7, 4, 2, 0)
  for (const type of ['err', 'req'] as const)
    t.throws(() => transport.setIrqs(type, [-1]), { code: 'ERR_ACCEL_BUSY', message: /onLost/ })
  await transport.close()
})

t.test('what the kernel says of mappings is checked', async (t) => {
  const full = await open(new FakeKernel({ mapErrno: -28 }))
  const domain = openDevice(full).dma
  t.throws(() => domain.alloc(64), { code: 'ERR_ACCEL_MAPPING_LIMIT', cause: { errno: 'ENOSPC' } })
  await full.close()
  const locked = await open(new FakeKernel({ mapErrno: -12 }))
  t.throws(() => openDevice(locked).dma.alloc(64), { code: 'ERR_ACCEL_MEMLOCK', message: /ulimit -l/ })
  await locked.close()
  const short = await open(new FakeKernel({ unmapShort: true }))
  const region = openDevice(short).dma.alloc(2 ** 21)
  t.throws(() => region.free(), { code: 'ERR_ACCEL_SYSTEM', message: /unmapped 0/ })
  await short.close()
  for (const iovaCapability of ['absent', 'loop'] as const) {
    const old = await open(new FakeKernel({ iovaCapability }))
    t.equal(old.dma.ranges()[0].last, 0xfedf_ffffn, iovaCapability)
    await old.close()
  }
})
