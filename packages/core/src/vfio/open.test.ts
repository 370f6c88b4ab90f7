import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openDevice } from '../device.js'
import { readPciDevice } from '../pci/sysfs.js'
import { type IommuKind, iommuKinds } from '../transport.js'
import { FakeKernel, type FakeKernelOptions } from './fake-kernel.test.support.js'
import { type VfioOptions, vfioInterface } from './open.js'
import { bdf, open, openFds, opening, tree, turn } from './vfio.test.support.js'

t.teardown(tree.remove)

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
  await refused({}, { code: 'ERR_ACCEL_NO_IOMMU', message: /without CONFIG_VFIO_NOIOMMU/ }, '0000:00:09.0', {
    iommu: 'auto',
    allowNoIommu: true,
  })
  await refused(
    {},
    {
      code: 'ERR_ACCEL_WRONG_DRIVER',
      message:
        /kernel's nvme[\s\S]*0000:00:07\.0\/driver_override[\s\S]*drivers\/nvme\/unbind[\s\S]*drivers_probe/,
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
    [{ openErrors: { '/4': -13 } }, { code: 'ERR_ACCEL_PERMISSION', message: /chown \S+ \/fake\/vfio\/4/ }],
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
      { code: 'ERR_ACCEL_PERMISSION', message: /chown \S+ \/fake\/iommu`.*KERNEL=="iommu"/ },
    ],
    [{ openErrors: { '/iommu': -2 } }, { code: 'ERR_ACCEL_UNSUPPORTED', message: /modprobe iommufd/ }],
    [{ openErrors: { '/iommu': -19 } }, { code: 'ERR_ACCEL_UNSUPPORTED', message: /CONFIG_IOMMUFD/ }],
    [{ errors: { ioasAlloc: -12 } }, { code: 'ERR_ACCEL_NO_MEMORY' }],
    [
      { openErrors: { '/vfio0': -13 } },
      {
        code: 'ERR_ACCEL_PERMISSION',
        message: /chown \S+ \/fake\/vfio\/devices\/vfio0`.*"vfio-dev"/,
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
    const { sys } = await import(${JSON.stringify(import.meta.resolve('@uaccel/sys'))})
    sys.close(sys.open('/dev/null', 0)) // loads the foreign functions while this folder can be read
    process.setuid(65534)
    await openVfio('${bdf}', ${JSON.stringify({ sysfs: tree.path, devfs })}).catch((e) => console.log(e.code, e.message))`
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
    })
    t.match(stdout, /^ERR_ACCEL_PERMISSION .*as root: `chown/, stderr)
  },
)

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
    const unanswering = openDevice(gone)
    // The kernel answers the vendor id in the device's place.
    dead.config.fill(0xff, 4)
    await t.rejects(unanswering.reset(), { code: 'ERR_ACCEL_WEDGED', message: /an answer to reads/ })
    await unanswering.release()
    await gone.close()
  })
}

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

t.test('which interface would be taken', async (t) => {
  const taken = (address: string, options: FakeKernelOptions = {}) => {
    const kernel = new FakeKernel(options)
    const found = vfioInterface(readPciDevice(address, { sysfs: tree.path }), {
      sysfs: tree.path,
      devfs: '/fake',
      calls: kernel,
    })
    t.equal(kernel.nodes.size, 0)
    return found
  }
  t.equal(taken(bdf), 'iommufd')
  t.equal(taken(bdf, { openErrors: { '/iommu': -2 } }), 'type1')
  t.equal(taken('0000:00:0c.0'), 'type1', 'no node of its own')
  t.equal(taken('0000:00:07.0'), undefined, 'of another driver')
  t.equal(taken('0000:00:0a.0'), undefined, 'of none')
  t.equal(taken('0000:00:09.0'), undefined, 'without an IOMMU')
  const kernel = new FakeKernel()
  const transport = await open(kernel)
  const how = { sysfs: tree.path, devfs: '/fake', calls: kernel }
  t.equal(vfioInterface(readPciDevice('0000:00:06.0', how), how), 'type1', 'as the group is open')
  await transport.close()
})
