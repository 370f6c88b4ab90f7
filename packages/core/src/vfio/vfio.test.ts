import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { EventFd } from '@uaccel/sys'
import t from 'tap'
import { openDevice } from '../device.js'
import { makeSysfs } from '../pci/sysfs-tree.test.support.js'
import { reg32, registers } from '../registers.js'
import { FakeKernel, type FakeKernelOptions } from './fake-kernel.test.support.js'
import { openVfio } from './open.js'

const bdf = '0000:00:05.0'
const openFds = () => readdirSync('/proc/self/fd').length
/** The immediate comes after the loop looked at descriptors, also where the process was stopped for longer than the timer. */
const turn = (ms = 20) => new Promise((resolve) => setTimeout(() => setImmediate(resolve), ms))

const tree = makeSysfs([
  { bdf, group: 4, driver: 'vfio-pci' },
  { bdf: '0000:00:06.0', group: 4, driver: 'mlx5_vfio_pci' },
  { bdf: '0000:00:07.0', group: 4, driver: 'nvme' },
  { bdf: '0000:00:08.0', group: 4, driver: 'pcieport' },
  { bdf: '0000:00:09.0', driver: 'vfio-pci' },
  { bdf: '0000:00:0a.0', group: 5 },
])
t.teardown(tree.remove)

const open = (kernel: FakeKernel, address = bdf, limits = {}) =>
  openVfio(address, { sysfs: tree.path, devfs: '/fake', calls: kernel, ...limits })

t.test('what keeps a device from being opened, each with what to do', async (t) => {
  const fds = openFds()
  const refused = async (
    options: FakeKernelOptions,
    expected: { code: string; message?: RegExp; details?: object },
    address = bdf,
  ) => {
    const kernel = new FakeKernel(options)
    await t.rejects(open(kernel, address), expected, `${address} ${JSON.stringify(options)}`)
    t.equal(kernel.nodes.size, 0, 'nothing stays open')
  }
  await refused({}, { code: 'ERR_ACCEL_INVALID_ARGUMENT' }, 'edu')
  await refused({}, { code: 'ERR_ACCEL_NOT_FOUND', message: /0000:00:05\.0, 0000:00:06\.0/ }, '0000:01:00.0')
  await refused({}, { code: 'ERR_ACCEL_NO_IOMMU', message: /intel_iommu=on/ }, '0000:00:09.0')
  await refused(
    {},
    {
      code: 'ERR_ACCEL_WRONG_DRIVER',
      message:
        /kernel's nvme[\s\S]*0000:00:07\.0\/driver_override[\s\S]*0000:00:07\.0\/driver\/unbind[\s\S]*drivers_probe/,
      details: { driver: 'nvme' },
    },
    '0000:00:07.0',
  )
  await refused({}, { code: 'ERR_ACCEL_WRONG_DRIVER', message: /no driver/ }, '0000:00:0a.0')
  await refused(
    { openErrors: { '/4': -13 } },
    { code: 'ERR_ACCEL_PERMISSION', message: /chown \$USER \/fake\/vfio\/4/ },
  )
  await refused(
    { openErrors: { '/4': -16 } },
    { code: 'ERR_ACCEL_BUSY', message: /fuser -v \/fake\/vfio\/4/ },
  )
  await refused({ openErrors: { '/4': -2 } }, { code: 'ERR_ACCEL_NOT_FOUND', message: /modprobe vfio-pci/ })
  await refused(
    { openErrors: { 'vfio/vfio': -13 } },
    { code: 'ERR_ACCEL_PERMISSION', message: /\/fake\/vfio\/vfio/ },
  )
  await refused(
    { viable: false },
    {
      code: 'ERR_ACCEL_GROUP_NOT_VIABLE',
      message: /: 0000:00:07\.0 \(driver nvme\)\. /,
      details: { group: 4, blockers: [{ bdf: '0000:00:07.0', driver: 'nvme' }] },
    },
  )
  await refused({ apiVersion: 1 }, { code: 'ERR_ACCEL_UNSUPPORTED', message: /version 1/ })
  await refused({ type1v2: false }, { code: 'ERR_ACCEL_UNSUPPORTED', message: /vfio_iommu_type1/ })
  t.equal(openFds(), fds)
})

t.test(
  'no right to open a node of the real kernel',
  { skip: process.getuid?.() !== 0 && 'another user needs root' },
  async (t) => {
    const devfs = join(tree.path, 'dev')
    mkdirSync(join(devfs, 'vfio'), { recursive: true })
    writeFileSync(join(devfs, 'vfio/4'), '')
    chmodSync(join(devfs, 'vfio/4'), 0o600)
    chmodSync(tree.path, 0o755)
    const script = `
    const { openVfio } = await import(${JSON.stringify(new URL('./open.js', import.meta.url).href)})
    process.setuid(65534)
    await openVfio('${bdf}', ${JSON.stringify({ sysfs: tree.path, devfs })}).catch((e) => console.log(e.code, e.message))`
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
    })
    t.match(stdout, /^ERR_ACCEL_PERMISSION .*sudo chown/, stderr)
  },
)

t.test('regions, interrupts and limits as the kernel tells them', async (t) => {
  const kernel = new FakeKernel()
  const transport = await open(kernel)
  t.same(kernel.log.slice(0, 5), [
    'open group',
    'open container',
    'set container',
    'set iommu',
    'open device',
  ])
  t.match(transport.identity, { kind: 'vfio', address: bdf })
  t.notOk('emulated' in transport.identity, 'nobody said')
  t.equal(transport.resettable, true)
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
  t.equal(transport.dma.maxMappings, 1234)
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

t.test('a driver over it, and everything given back in the order that the kernel wants', async (t) => {
  const fds = openFds()
  const kernel = new FakeKernel()
  const transport = await open(kernel)
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
  t.same(kernel.log.slice(-4), ['irqs 4 flags 0x21 0+0', 'close device', 'close group', 'close container'])
  t.equal(openFds(), fds)
})

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

t.test('the kernel wants the device back', async (t) => {
  const fds = openFds()
  const kernel = new FakeKernel()
  const transport = await open(kernel)
  const dev = openDevice(transport)
  const bar = await dev.mapBar(0, registers({ A: reg32(0, 'rw') }))
  dev.dma.alloc(64)
  kernel.fire(4)
  await turn()
  t.match(dev.signal.reason, { code: 'ERR_ACCEL_NO_DEVICE', message: /wants vfio device 0000:00:05\.0 back/ })
  t.throws(() => bar.A.read(), { code: 'ERR_ACCEL_NO_DEVICE' })
  await dev.release()
  t.equal(kernel.mappings.size, 0)
  await transport.close()
  t.equal(kernel.nodes.size, 0)
  t.equal(openFds(), fds)
})

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

t.test('an open that fails after the device was opened leaves nothing', async (t) => {
  const fds = openFds()
  for (const index of [3, 4]) {
    const kernel = new FakeKernel({ express: true, armErrors: { [index]: -22 } })
    await t.rejects(open(kernel), { message: /SET_IRQS/ }, `interrupt ${index}`)
    t.equal(kernel.nodes.size, 0)
    t.equal(openFds(), fds)
  }
})

t.test('two devices of one group share it, one device is opened once', async (t) => {
  const kernel = new FakeKernel()
  const first = await open(kernel)
  const second = await open(kernel, '0000:00:06.0')
  t.equal(first.dma, second.dma)
  await t.rejects(open(kernel), { code: 'ERR_ACCEL_BUSY' })
  t.equal([...kernel.nodes.values()].filter(({ kind }) => kind === 'group').length, 1)
  await first.close()
  t.equal(kernel.nodes.size, 3, 'group and container stay for the second')
  const again = await open(kernel)
  await again.close()
  await second.close()
  t.equal(kernel.nodes.size, 0)
})

t.test('opening and resetting have limits', async (t) => {
  const slow = new FakeKernel({ openMs: 60 })
  await t.rejects(open(slow, bdf, { openTimeoutMs: 10 }), {
    code: 'ERR_ACCEL_TIMEOUT',
    message: /GET_DEVICE_FD.*10 ms/,
  })
  await t.rejects(open(slow), { code: 'ERR_ACCEL_BUSY', message: /in this process/ }, 'the first still opens')
  await turn(100)
  t.equal(slow.nodes.size, 0, 'a file that comes late is closed')
  await (await open(slow)).close()
  const stuck = new FakeKernel({ resetMs: 60 })
  const transport = await open(stuck, bdf, { resetTimeoutMs: 10 })
  const dev = openDevice(transport)
  await t.rejects(dev.reset(), { code: 'ERR_ACCEL_WEDGED', cause: { code: 'ERR_ACCEL_TIMEOUT' } })
  await dev.release()
  await transport.close()
  const dead = new FakeKernel()
  const gone = await open(dead)
  dead.config.fill(0xff)
  await t.rejects(gone.reset(), { code: 'ERR_ACCEL_WEDGED', message: /0xffff/ })
  await gone.close()
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
