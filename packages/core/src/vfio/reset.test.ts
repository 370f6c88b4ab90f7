import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { openDevice } from '../device.js'
import { reg32, registers } from '../registers.js'
import { iommuKinds } from '../transport.js'
import { FakeKernel } from './fake-kernel.test.support.js'
import { bdf, open, openFds, tree } from './vfio.test.support.js'

t.teardown(tree.remove)

/** Devices on one bus as the fake kernel names them; the first is the one under test, in group 4. */
const self = { bus: 0, devfn: 5 << 3, id: 4 }
const neighbour = { bus: 0, devfn: 6 << 3, id: 4 }
const stranger = { bus: 0, devfn: 0xb << 3, id: 6 }

t.test('a function reset that the kernel cannot begin yet is tried again, within its limit', async (t) => {
  const kernel = new FakeKernel({ resetsAgain: 3 })
  const transport = await open(kernel)
  t.strictSame(transport.resets, ['function'])
  await transport.reset()
  t.equal(kernel.log.at(-1), 'reset')
  await t.rejects(transport.reset('hot'), { code: 'ERR_ACCEL_UNSUPPORTED' })
  await transport.close()
  const stuck = await open(new FakeKernel({ resetsAgain: Number.POSITIVE_INFINITY }), bdf, {
    resetTimeoutMs: 50,
  })
  await t.rejects(stuck.reset(), { code: /^ERR_ACCEL_(SYSTEM|TIMEOUT)$/ })
  await stuck.close()
})

t.test('no reset is tried again once nobody waits: its descriptor may be of another device', async (t) => {
  for (const end of ['close', 'limit']) {
    const kernel = new FakeKernel({ resetsAgain: Number.POSITIVE_INFINITY })
    const transport = await open(kernel, bdf, { resetTimeoutMs: end === 'limit' ? 35 : 5000 })
    let tried = 0
    const ioctlAsync = kernel.ioctlAsync.bind(kernel)
    kernel.ioctlAsync = (...args) => {
      tried++
      return ioctlAsync(...args)
    }
    const failed = t.rejects(transport.reset(), { code: /^ERR_ACCEL_(SYSTEM|TIMEOUT|NO_DEVICE)$/ })
    await sleep(20)
    if (end === 'close') await transport.close()
    else await failed
    const before = tried
    await sleep(50)
    t.ok(before > 0)
    t.equal(tried, before, end)
    await failed
    await transport.close()
  }
})

for (const iommu of iommuKinds) {
  t.test(`by ${iommu}: a hot reset of a bus of its own, with a driver over it`, async (t) => {
    const kernel = new FakeKernel({ bus: [self] })
    const transport = await open(kernel, bdf, { iommu })
    t.strictSame(transport.resets, ['function', 'hot'])
    const dev = openDevice(transport)
    await dev.enable()
    const bar = await dev.mapBar(0, registers({ A: reg32(0, 'rw') }))
    await dev.allocIrqVectors({ types: ['msix'] })
    await dev.reset({ kind: 'hot' })
    t.ok(kernel.log.includes(iommu === 'type1' ? 'hot reset 4' : 'hot reset'))
    bar.A.write(1)
    t.ok(kernel.triggers.has(2), 'armed again')
    await dev.release()
    await transport.close()
  })
}

t.test('by type1: the other devices of the bus', async (t) => {
  const fds = openFds()
  const kernel = new FakeKernel({ bus: [self, neighbour, stranger] })
  const transport = await open(kernel)
  await transport.reset('hot')
  t.equal(
    kernel.log.findLast((line) => line.startsWith('hot')),
    'hot reset 4 6',
    'groups of others are opened for it',
  )
  t.equal(kernel.log.at(-1), 'close group')

  const others = [await open(kernel, '0000:00:06.0'), await open(kernel, '0000:00:0b.0')]
  const resets = () => kernel.log.filter((line) => line.startsWith('hot')).length
  await t.rejects(transport.reset('hot'), {
    code: 'ERR_ACCEL_BUSY',
    message: /0000:00:06\.0, 0000:00:0b\.0 are open in this process: close them first/,
    details: { devices: ['0000:00:06.0', '0000:00:0b.0'] },
  })
  t.equal(resets(), 1, 'nothing was done')
  for (const other of others) await other.close()
  await transport.reset('hot')
  t.equal(resets(), 2)
  await transport.close()
  t.equal(openFds(), fds)
})

t.test('devices of others are named, and nothing is done', async (t) => {
  const fds = openFds()
  const refused = (message: RegExp) => ({ code: 'ERR_ACCEL_BUSY', message })
  for (const [options, iommu, message] of [
    [
      { bus: [self, stranger], openErrors: { 'vfio/6': -16 } },
      'type1',
      /0000:00:0b\.0 are in IOMMU group 6, which/,
    ],
    [{ bus: [self, neighbour], hotResetErrno: -22 }, 'type1', /0000:00:06\.0 are not all bound to vfio-pci/],
    [{ bus: [self, { ...stranger, id: -1 }] }, 'iommufd', /0000:00:0b\.0 belong to others/],
  ] as const) {
    const kernel = new FakeKernel(options)
    const transport = await open(kernel, bdf, { iommu })
    const dev = openDevice(transport)
    await dev.enable()
    const bar = await dev.mapBar(0, registers({ A: reg32(0, 'rw') }))
    await t.rejects(dev.reset({ kind: 'hot' }), refused(message))
    bar.A.write(1)
    t.notMatch(kernel.log.join(), 'hot reset')
    await dev.release()
    await transport.close()
  }
  t.equal(openFds(), fds)
})

t.test('low power, where the kernel has it', async (t) => {
  const without = await open(new FakeKernel())
  t.equal(without.setLowPower, undefined)
  await without.close()
  const kernel = new FakeKernel({ lowPower: true })
  const transport = await open(kernel)
  const dev = openDevice(transport)
  await dev.enable()
  await dev.allocIrqVectors({ types: ['msix'] })
  await dev.sleep()
  t.same(kernel.log.slice(-2), ['irqs 2 flags 0x21 0+0', 'low power'])
  await dev.wake()
  t.ok(kernel.log.includes('full power'))
  t.ok(kernel.triggers.has(2), 'armed again')
  await dev.sleep()
  await dev.release()
  await transport.close()
})
