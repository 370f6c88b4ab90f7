import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type BindOptions, bindDevice, bindGroup, unbindDevice } from './binding.js'
import { FakeBus, type FakeBusOptions } from './fake-bus.test.support.js'

const edu = '0000:00:05.0'
const nvme = '0000:00:06.0'
const bridge = '0000:00:1c.0'

function machine(t: Test, options: Partial<FakeBusOptions> = {}) {
  const bus = new FakeBus(t, {
    devices: [
      { bdf: edu, group: 4 },
      { bdf: nvme, group: 5, driver: 'nvme', files: { class: '0x010802\n' } },
      { bdf: bridge, group: 6, driver: 'pcieport', files: { class: '0x060400\n' } },
    ],
    drivers: ['vfio-pci', 'uio_pci_generic'],
    natural: { [nvme]: 'nvme' },
    ...options,
  })
  const how = { paths: bus.paths, access: bus }
  const record = (bdf: string) => join(bus.paths.run, 'uaccel/bind', bdf)
  return { bus, how, record }
}

t.test('a device is bound and given back to its driver', async (t) => {
  const { bus, how, record } = machine(t)
  t.match(await bindDevice('00:06.0', how), {
    bdf: nvme,
    driver: 'vfio-pci',
    previousDriver: 'nvme',
    changed: true,
  })
  t.strictSame(bus.written, ['driver_override=vfio-pci', `unbind=${nvme}`, `drivers_probe=${nvme}`])
  t.strictSame(JSON.parse(readFileSync(record(nvme), 'utf8')), {
    vendor: 0x1234,
    device: 0x11e8,
    driver: 'vfio-pci',
    previousDriver: 'nvme',
  })
  t.strictSame(readdirSync(join(bus.paths.run, 'uaccel/bind')), [nvme], 'no temporary file stays')

  bus.written.length = 0
  t.match(await bindDevice(nvme, how), { driver: 'vfio-pci', changed: false, writes: [] })
  t.strictSame(bus.written, [], 'once more changes nothing')

  t.match(await bindDevice(nvme, { ...how, driver: 'uio_pci_generic' }), { driver: 'uio_pci_generic' })
  t.match(await unbindDevice(nvme, how), { driver: 'nvme', previousDriver: 'uio_pci_generic', changed: true })
  t.equal(bus.driver(nvme), 'nvme', 'what it had before the first')
  t.equal(bus.override(nvme), '(null)')
  t.notOk(existsSync(record(nvme)))

  bus.written.length = 0
  t.match(await unbindDevice(nvme, how), { driver: 'nvme', changed: false, writes: [] })
  t.strictSame(bus.written, [], "a driver of the kernel's is left alone")
})

t.test('what it was before can be no driver, and an override', async (t) => {
  const { bus, how } = machine(t, {
    devices: [
      { bdf: edu, group: 4 },
      { bdf: nvme, group: 5, driver: 'nvme', files: { driver_override: 'nvme\n' } },
    ],
  })
  await bindDevice(edu, how)
  t.notOk('driver' in (await unbindDevice(edu, how)))
  t.equal(bus.driver(edu), undefined)
  await bindDevice(nvme, how)
  await unbindDevice(nvme, how)
  t.equal(bus.driver(nvme), 'nvme')
  t.equal(bus.override(nvme), 'nvme')
})

t.test('a plan is printed, and nothing is written', async (t) => {
  const { bus, how, record } = machine(t)
  const plan = await bindDevice(nvme, { ...how, dryRun: true })
  const folder = join(bus.paths.sysfs, 'bus/pci')
  t.match(plan, { driver: 'nvme', changed: false })
  t.strictSame(plan.writes, [
    { path: join(folder, 'devices', nvme, 'driver_override'), value: 'vfio-pci' },
    { path: join(folder, 'drivers/nvme/unbind'), value: nvme, driverAfter: null },
    { path: join(folder, 'drivers_probe'), value: nvme, driverAfter: 'vfio-pci' },
  ])
  t.strictSame(bus.written, [])
  t.notOk(existsSync(record(nvme)))
  await bindDevice(nvme, how)
  bus.written.length = 0
  t.equal((await unbindDevice(nvme, { ...how, dryRun: true })).writes.length, 4)
  t.strictSame(bus.written, [])
})

t.test('without a usable record the kernel chooses', async (t) => {
  const records: Record<string, (path: string) => void> = {
    'none at all': (path) => rmSync(path),
    'one that others may write': (path) => chmodSync(path, 0o666),
    'a link': (path) => {
      writeFileSync(`${path}.other`, readFileSync(path))
      rmSync(path)
      symlinkSync(`${path}.other`, path)
    },
    'of another device': (path) =>
      writeFileSync(path, '{"vendor":1,"device":2,"driver":"vfio-pci","previousDriver":"pci-stub"}'),
    'no JSON': (path) => writeFileSync(path, '{'),
    null: (path) => writeFileSync(path, 'null'),
    'a path for a driver': (path) =>
      writeFileSync(path, '{"vendor":4660,"device":4584,"driver":"vfio-pci","previousDriver":"../../x"}'),
    'too long': (path) => writeFileSync(path, ' '.repeat(5000)),
  }
  for (const [name, spoil] of Object.entries(records)) {
    const { bus, how, record } = machine(t)
    await bindDevice(nvme, how)
    spoil(record(nvme))
    bus.written.length = 0
    await unbindDevice(nvme, how)
    t.equal(bus.driver(nvme), 'nvme', name)
    t.strictSame(bus.written, ['driver_override=', `unbind=${nvme}`, `drivers_probe=${nvme}`], name)
  }
})

t.test('a step that fails is undone', async (t) => {
  const { bus, how, record } = machine(t, { refusing: ['vfio-pci'] })
  await t.rejects(bindDevice(nvme, how), {
    code: 'ERR_ACCEL_SYSTEM',
    message: /was to be bound to vfio-pci, and is bound to none.*dmesg.*bound to nvme again/,
  })
  t.equal(bus.driver(nvme), 'nvme')
  t.equal(bus.override(nvme), '(null)')
  t.notOk(existsSync(record(nvme)))
  await t.rejects(bindDevice(edu, how), { message: /It has no driver, as before/ })

  // a group goes back as a whole
  const both = machine(t, {
    devices: [
      { bdf: edu, group: 4 },
      { bdf: nvme, group: 4, driver: 'nvme' },
      { bdf: bridge, group: 4, driver: 'pcieport', files: { class: '0x060400\n' } },
    ],
  })
  const write = both.bus.write.bind(both.bus)
  both.bus.write = async (path, value) => {
    if (!(path.endsWith('drivers_probe') && value === nvme)) await write(path, value)
  }
  await t.rejects(bindGroup(edu, both.how), {
    code: 'ERR_ACCEL_SYSTEM',
    message: /could not be given back to nvme/,
  })
  t.equal(both.bus.driver(edu), undefined)
  both.bus.write = write
  rmSync(both.record(nvme))
  t.strictSame(
    (await bindGroup(edu, both.how)).map(({ bdf, driver }) => [bdf, driver]),
    [
      [edu, 'vfio-pci'],
      [nvme, 'vfio-pci'],
    ],
    'bridges stay',
  )
})

t.test('a step that the kernel does not end is told, and not undone', async (t) => {
  const { bus, how, record } = machine(t, { hanging: ['nvme'] })
  await t.rejects(bindDevice(nvme, how), {
    code: 'ERR_ACCEL_TIMEOUT',
    message: /the kernel waits for whoever has it/,
  })
  t.strictSame(bus.written, ['driver_override=vfio-pci', `unbind=${nvme}`], 'the device is left alone')
  t.ok(existsSync(record(nvme)), 'what it was is still known')
  rmSync(join(bus.folder(nvme), 'driver'))
  t.match(await unbindDevice(nvme, how), { driver: 'nvme', changed: true }, 'when the kernel has ended it')
})

t.test('what is refused before anything is touched', async (t) => {
  const { bus, how } = machine(t, {
    devices: [
      { bdf: edu },
      { bdf: nvme, group: 5, driver: 'nvme' },
      { bdf: bridge, group: 6, driver: 'pcieport', files: { class: '0x060400\n' } },
      { bdf: '0000:00:1f.0', group: 7, driver: 'lpc_ich', files: { class: '0x060100\n' } },
      { bdf: '0000:00:07.0', group: 8, driver: 'ixgbe', files: { sriov_numvfs: '2\n' } },
      { bdf: '0000:00:02.0', group: 9, driver: 'i915', files: { boot_vga: '1\n' } },
    ],
  })
  const refused: [string, BindOptions, { code: string; message?: RegExp; details?: object }][] = [
    ['5.0', {}, { code: 'ERR_ACCEL_INVALID_ARGUMENT' }],
    ['00:09.0', {}, { code: 'ERR_ACCEL_NOT_FOUND' }],
    [nvme, { driver: '../nvme' }, { code: 'ERR_ACCEL_INVALID_ARGUMENT' }],
    [nvme, { driver: 'igb_uio' }, { code: 'ERR_ACCEL_NOT_FOUND', message: /As root: `modprobe igb_uio`/ }],
    [edu, { force: true }, { code: 'ERR_ACCEL_NO_IOMMU', message: /uaccel doctor 0000:00:05.0/ }],
    [bridge, { force: true }, { code: 'ERR_ACCEL_UNSUPPORTED' }],
    ['00:1f.0', {}, { code: 'ERR_ACCEL_BUSY', details: { uses: [{ kind: 'chipset' }] } }],
    ['00:07.0', {}, { code: 'ERR_ACCEL_BUSY', details: { uses: [{ kind: 'functions' }] } }],
    ['00:02.0', {}, { code: 'ERR_ACCEL_BUSY', details: { uses: [{ kind: 'display' }] } }],
  ]
  for (const [bdf, options, error] of refused)
    await t.rejects(bindDevice(bdf, { ...how, ...options }), error, bdf)
  t.strictSame(bus.written, [])
  t.match(await bindDevice('00:07.0', { ...how, force: true }), { driver: 'vfio-pci' })

  mkdirSync(join(bus.paths.sysfs, 'module/vfio/parameters'), { recursive: true })
  writeFileSync(join(bus.paths.sysfs, 'module/vfio/parameters/enable_unsafe_noiommu_mode'), 'Y\n')
  t.match(await bindDevice(edu, how), { driver: 'vfio-pci' }, 'without an IOMMU, on request')
})

t.test('nothing is written outside of the bus', async (t) => {
  const { bus, how } = machine(t)
  const outside = join(bus.paths.run, 'precious')
  writeFileSync(outside, 'kept')
  rmSync(join(bus.folder(nvme), 'driver_override'))
  symlinkSync(outside, join(bus.folder(nvme), 'driver_override'))
  await t.rejects(bindDevice(nvme, how), { code: 'ERR_ACCEL_SYSTEM', message: /is no file/ })
  rmSync(join(bus.paths.sysfs, 'bus/pci/devices', edu))
  mkdirSync(join(bus.paths.run, edu))
  for (const [name, text] of Object.entries({
    vendor: '0x1234',
    device: '0x11e8',
    class: '0xff0000',
    driver_override: '',
  }))
    writeFileSync(join(bus.paths.run, edu, name), text)
  symlinkSync(join(bus.paths.run, edu), join(bus.paths.sysfs, 'bus/pci/devices', edu))
  symlinkSync(join(bus.paths.sysfs, 'kernel/iommu_groups/4'), join(bus.paths.run, edu, 'iommu_group'))
  await t.rejects(bindDevice(edu, how), { code: 'ERR_ACCEL_SYSTEM', message: /leads out of/ })
  t.strictSame(bus.written, [])
  t.equal(readFileSync(outside, 'utf8'), 'kept')
})

t.test('devices that keep a group from being viable are named', async (t) => {
  const { how } = machine(t, {
    devices: [
      { bdf: edu, group: 4 },
      { bdf: nvme, group: 4, driver: 'nvme' },
    ],
  })
  t.strictSame((await bindDevice(edu, how)).blockers, [{ bdf: nvme, driver: 'nvme' }])
})
