import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DmaBuffer } from '@uaccel/memory'
import { EventFd } from '@uaccel/sys'
import t from 'tap'
import { openDevice } from '../device.js'
import { makeSysfs } from '../pci/sysfs-tree.test.support.js'
import { reg32, registers } from '../registers.js'
import { type IommuKind, iommuKinds } from '../transport.js'
import { FakeKernel, type FakeKernelOptions } from './fake-kernel.test.support.js'
import { openVfio, type VfioOptions } from './open.js'

const bdf = '0000:00:05.0'
const openFds = () => readdirSync('/proc/self/fd').length
/** The immediate comes after the loop looked at descriptors, also where the process was stopped for longer than the timer. */
const turn = (ms = 20) => new Promise((resolve) => setTimeout(() => setImmediate(resolve), ms))

const tree = makeSysfs([
  { bdf, group: 4, driver: 'vfio-pci', vfioDev: 'vfio0' },
  { bdf: '0000:00:06.0', group: 4, driver: 'mlx5_vfio_pci', vfioDev: 'vfio1' },
  { bdf: '0000:00:07.0', group: 4, driver: 'nvme' },
  { bdf: '0000:00:08.0', group: 4, driver: 'pcieport' },
  { bdf: '0000:00:09.0', driver: 'vfio-pci' },
  { bdf: '0000:00:0a.0', group: 5 },
  { bdf: '0000:00:0b.0', group: 6, driver: 'vfio-pci', vfioDev: 'vfio2' },
  { bdf: '0000:00:0c.0', group: 7, driver: 'vfio-pci' },
])
t.teardown(tree.remove)

const open = (kernel: FakeKernel, address = bdf, options: VfioOptions = {}) =>
  openVfio(address, { sysfs: tree.path, devfs: '/fake', calls: kernel, iommu: 'type1', ...options })
/** How each way opens the first device and closes the last one. */
const opening: Record<IommuKind, string[]> = {
  type1: ['open group', 'open container', 'set container', 'set iommu', 'open device'],
  iommufd: ['open iommu', 'ioas alloc', 'open cdev', 'bind', 'attach'],
}
const closing: Record<IommuKind, string[]> = {
  type1: ['close device', 'close group', 'close container'],
  iommufd: ['detach', 'close device', 'close iommu'],
}

t.test('what keeps a device from being opened, each with what to do', async (t) => {
  const fds = openFds()
  const refused = async (
    options: FakeKernelOptions,
    expected: { code: string; message?: RegExp; details?: object },
    address = bdf,
    how: VfioOptions = {},
  ) => {
    const kernel = new FakeKernel(options)
    await t.rejects(open(kernel, address, how), expected, `${address} ${JSON.stringify(options)}`)
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
    {},
    { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /iommu is "type2", wanted auto, type1 or iommufd/ },
    bdf,
    { iommu: 'type2' as IommuKind },
  )
  t.equal(openFds(), fds)
})

/** Each step that can fail, and the error that comes of it. */
const failures: Record<
  IommuKind,
  readonly (readonly [
    step: FakeKernelOptions,
    error: { code: string; message?: RegExp; details?: object; cause?: object },
    address?: string,
  ])[]
> = {
  type1: [
    [
      { openErrors: { '/4': -13 } },
      { code: 'ERR_ACCEL_PERMISSION', message: /chown \$USER \/fake\/vfio\/4/ },
    ],
    [{ openErrors: { '/4': -16 } }, { code: 'ERR_ACCEL_BUSY', message: /fuser -v \/fake\/vfio\/4/ }],
    [{ openErrors: { '/4': -2 } }, { code: 'ERR_ACCEL_NOT_FOUND', message: /modprobe vfio-pci/ }],
    [{ openErrors: { 'vfio/vfio': -13 } }, { code: 'ERR_ACCEL_PERMISSION', message: /\/fake\/vfio\/vfio/ }],
    [
      { viable: false },
      {
        code: 'ERR_ACCEL_GROUP_NOT_VIABLE',
        message: /: 0000:00:07\.0 \(driver nvme\)\. /,
        details: { group: 4, blockers: [{ bdf: '0000:00:07.0', driver: 'nvme' }] },
      },
    ],
    [{ apiVersion: 1 }, { code: 'ERR_ACCEL_UNSUPPORTED', message: /version 1/ }],
    [{ type1v2: false }, { code: 'ERR_ACCEL_UNSUPPORTED', message: /vfio_iommu_type1/ }],
    [{ errors: { getDevice: -16 } }, { code: 'ERR_ACCEL_BUSY', message: /another user of its group/ }],
    [{ errors: { getDevice: -19 } }, { code: 'ERR_ACCEL_NO_DEVICE' }],
  ],
  iommufd: [
    [
      { openErrors: { '/iommu': -13 } },
      { code: 'ERR_ACCEL_PERMISSION', message: /chown \$USER \/fake\/iommu`.*KERNEL=="iommu"/ },
    ],
    [{ openErrors: { '/iommu': -2 } }, { code: 'ERR_ACCEL_UNSUPPORTED', message: /modprobe iommufd/ }],
    [{ openErrors: { '/iommu': -19 } }, { code: 'ERR_ACCEL_UNSUPPORTED', message: /CONFIG_IOMMUFD/ }],
    [{ errors: { ioasAlloc: -12 } }, { code: 'ERR_ACCEL_NO_MEMORY' }],
    [
      { openErrors: { '/vfio0': -13 } },
      {
        code: 'ERR_ACCEL_PERMISSION',
        message: /chown \$USER \/fake\/vfio\/devices\/vfio0`.*"vfio-dev"/,
        details: { path: '/fake/vfio/devices/vfio0' },
      },
    ],
    [{ openErrors: { '/vfio0': -2 } }, { code: 'ERR_ACCEL_NOT_FOUND', message: /devices\/vfio0/ }],
    [{}, { code: 'ERR_ACCEL_UNSUPPORTED', message: /CONFIG_VFIO_DEVICE_CDEV/ }, '0000:00:0c.0'],
    [
      { errors: { bind: -1 } },
      {
        code: 'ERR_ACCEL_GROUP_NOT_VIABLE',
        message: /: 0000:00:07\.0 \(driver nvme\)\. /,
        details: { group: 4, blockers: [{ bdf: '0000:00:07.0', driver: 'nvme' }] },
        cause: { errno: 'EPERM' },
      },
    ],
    [
      { errors: { bind: -1 } },
      { code: 'ERR_ACCEL_BUSY', message: /another device of its IOMMU group 6/, cause: { errno: 'EPERM' } },
      '0000:00:0b.0',
    ],
    [
      { errors: { bind: -16 } },
      { code: 'ERR_ACCEL_BUSY', message: /fuser -v \/fake\/vfio\/devices\/vfio0 \/fake\/vfio\/4/ },
    ],
    [{ errors: { bind: -22 } }, { code: 'ERR_ACCEL_BUSY', cause: { errno: 'EINVAL' } }],
    [{ errors: { bind: -19 } }, { code: 'ERR_ACCEL_NO_DEVICE' }],
    [{ errors: { attach: -22 } }, { code: 'ERR_ACCEL_SYSTEM', message: /attach/ }],
  ],
}

for (const iommu of iommuKinds) {
  t.test(`by ${iommu}: a step that fails says why and leaves nothing`, async (t) => {
    const fds = openFds()
    const steps = [
      ...failures[iommu],
      [{ errors: { deviceInfo: -5 } }, { code: 'ERR_ACCEL_SYSTEM', message: /deviceInfo/ }],
      [
        { express: true, armErrors: { 3: -22 } },
        { code: 'ERR_ACCEL_SYSTEM', message: /SET_IRQS/ },
      ],
      [
        { express: true, armErrors: { 4: -22 } },
        { code: 'ERR_ACCEL_SYSTEM', message: /SET_IRQS/ },
      ],
    ] as const
    for (const [options, error, address] of steps) {
      const kernel = new FakeKernel(options)
      await t.rejects(open(kernel, address, { iommu }), error, JSON.stringify(options))
      t.equal(kernel.nodes.size, 0, 'nothing stays open')
      t.equal(openFds(), fds)
    }
  })
}

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

for (const iommu of iommuKinds) {
  t.test(`by ${iommu}: regions, interrupts and limits as the kernel tells them`, async (t) => {
    const kernel = new FakeKernel()
    const transport = await open(kernel, bdf, { iommu })
    t.same(kernel.log.slice(0, 5), opening[iommu])
    t.match(transport.identity, { kind: 'vfio', address: bdf, iommu })
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

for (const iommu of iommuKinds) {
  t.test(`by ${iommu}: two devices of one group share it, one device is opened once`, async (t) => {
    const kernel = new FakeKernel()
    const first = await open(kernel, bdf, { iommu })
    const second = await open(kernel, '0000:00:06.0', { iommu })
    t.equal(first.dma, second.dma)
    await t.rejects(open(kernel, bdf, { iommu }), { code: 'ERR_ACCEL_BUSY' })
    const owner = iommu === 'type1' ? 'group' : 'iommu'
    t.equal([...kernel.nodes.values()].filter(({ kind }) => kind === owner).length, 1)
    await first.close()
    t.equal(
      kernel.nodes.size,
      opening[iommu].filter((line) => line.startsWith('open ')).length,
      'the group stays for the second',
    )
    const again = await open(kernel, bdf, { iommu })
    await again.close()
    await second.close()
    t.equal(kernel.nodes.size, 0)
  })
}

for (const iommu of iommuKinds) {
  t.test(`by ${iommu}: opening and resetting have limits`, async (t) => {
    const slow = new FakeKernel({ openMs: 60 })
    await t.rejects(open(slow, bdf, { iommu, openTimeoutMs: 10 }), {
      code: 'ERR_ACCEL_TIMEOUT',
      message: /opening 0000:00:05\.0 through .*10 ms/,
    })
    await t.rejects(
      open(slow, bdf, { iommu }),
      { code: 'ERR_ACCEL_BUSY', message: /in this process/ },
      'the first still opens',
    )
    await turn(100)
    t.equal(slow.nodes.size, 0, 'a file that comes late is closed')
    await (await open(slow, bdf, { iommu })).close()
    const stuck = new FakeKernel({ resetMs: 60 })
    const transport = await open(stuck, bdf, { iommu, resetTimeoutMs: 10 })
    const dev = openDevice(transport)
    await t.rejects(dev.reset(), { code: 'ERR_ACCEL_WEDGED', cause: { code: 'ERR_ACCEL_TIMEOUT' } })
    await dev.release()
    await transport.close()
    const dead = new FakeKernel()
    const gone = await open(dead, bdf, { iommu })
    dead.config.fill(0xff)
    await t.rejects(gone.reset(), { code: 'ERR_ACCEL_WEDGED', message: /0xffff/ })
    await gone.close()
  })
}

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

t.test('left to choose, it takes iommufd where it can, and one way for a group', async (t) => {
  const fds = openFds()
  const auto = { iommu: 'auto' } as const
  for (const [errors, expected] of [
    [{}, 'iommufd'],
    [{ '/iommu': -2 }, 'type1'],
    [{ '/iommu': -13 }, 'type1'],
    [{ '/vfio0': -13 }, 'type1'],
  ] as const) {
    const kernel = new FakeKernel({ openErrors: errors })
    const transport = await open(kernel, bdf, auto)
    t.equal(transport.identity.iommu, expected, JSON.stringify(errors))
    await transport.close()
    t.equal(kernel.nodes.size, 0)
  }
  const none = new FakeKernel({ openErrors: { '/iommu': -13, '/4': -13 } })
  await t.rejects(open(none, bdf, auto), { code: 'ERR_ACCEL_PERMISSION', message: /\/fake\/vfio\/4/ })
  const old = await open(new FakeKernel(), '0000:00:0c.0', auto)
  t.equal(old.identity.iommu, 'type1', 'a kernel without device nodes')
  await old.close()
  for (const [iommu, other] of [iommuKinds, [...iommuKinds].reverse()]) {
    const kernel = new FakeKernel()
    const first = await open(kernel, bdf, { iommu })
    await t.rejects(open(kernel, '0000:00:06.0', { iommu: other }), {
      code: 'ERR_ACCEL_BUSY',
      message: new RegExp(`group 4 open through ${iommu}`),
    })
    const second = await open(kernel, '0000:00:06.0', auto)
    t.equal(second.identity.iommu, iommu)
    await first.close()
    await second.close()
    t.equal(kernel.nodes.size, 0)
  }
  t.equal(openFds(), fds)
})

t.test('a device that cannot be detached is closed all the same', async (t) => {
  const kernel = new FakeKernel({ errors: { detach: -19 } })
  const transport = await open(kernel, bdf, { iommu: 'iommufd' })
  await transport.close()
  t.equal(kernel.nodes.size, 0)
})
