import { spawnSync } from 'node:child_process'
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { EventFd } from '@uaccel/sys'
import type { AccelError } from '@uaccel/uapi'
import t from 'tap'
import { openDevice } from '../device.js'
import { makeSysfs, noResources } from '../pci/sysfs-tree.test.support.js'
import { PciRegion } from '../transport.js'
import { openUio } from './open.js'
import { openPlatform } from './platform.js'
import { listUioDevices } from './sysfs.js'

const bdf = '0000:00:05.0'
const openFds = () => readdirSync('/proc/self/fd').length
const turn = (ms = 20) => new Promise((resolve) => setTimeout(() => setImmediate(resolve), ms))

/**
 * A made-up machine: files in place of BARs and config space, a pipe in place of the node, which gives what is written to it. BAR 0 has
 * two pages, BAR 2 has 256 bytes in the middle of its page, BAR 4 is of ports.
 */
function machine({ events = 0 } = {}) {
  const config = Buffer.alloc(256)
  config.writeUInt32LE(0x11e8_1234, 0)
  config.writeUInt16LE(0x0003, 4)
  const tree = makeSysfs([
    {
      bdf,
      driver: 'uio_pci_generic',
      files: {
        config,
        reset: '',
        resource:
          '0x00000000fea00000 0x00000000fea01fff 0x0000000000040200\n' +
          noResources +
          '0x00000000fea03400 0x00000000fea034ff 0x0000000000040200\n' +
          noResources +
          `0x000000000000c000 0x000000000000c01f 0x0000000000040101\n${noResources.repeat(2)}`,
        resource0: Buffer.alloc(0x2000),
        resource2: Buffer.alloc(0x1000),
        resource4: Buffer.alloc(32),
      },
    },
    { bdf: '0000:00:06.0', driver: 'nvme' },
    { bdf: '0000:00:07.0' },
  ])
  const home = join(tree.path, 'devices/pci0000:00', bdf)
  const uio = join(home, 'uio/uio0')
  mkdirSync(uio, { recursive: true })
  for (const [name, text] of Object.entries({
    name: 'uio_pci_generic',
    version: '0.01.0',
    event: `${events}`,
  }))
    writeFileSync(join(uio, name), `${text}\n`)
  mkdirSync(join(tree.path, 'bus/pci'), { recursive: true })
  symlinkSync(`../../../${bdf}`, join(uio, 'device'))
  symlinkSync('../../../bus/pci', join(home, 'subsystem'))
  mkdirSync(join(tree.path, 'class/uio'), { recursive: true })
  symlinkSync(`../../devices/pci0000:00/${bdf}/uio/uio0`, join(tree.path, 'class/uio/uio0'))
  const dev = join(tree.path, 'dev')
  mkdirSync(dev)
  spawnSync('mkfifo', [join(dev, 'uio0')])
  const node = openSync(join(dev, 'uio0'), 'r+')
  const at = (name: string, offset: number, width: number) => {
    const fd = openSync(join(home, name), 'r')
    const bytes = Buffer.alloc(width)
    readSync(fd, bytes, 0, width, offset)
    closeSync(fd)
    return bytes.readUIntLE(0, width)
  }
  return {
    sysfs: tree.path,
    home,
    open: (options = {}) => openUio(bdf, { sysfs: tree.path, devfs: dev, allowNoIommu: true, ...options }),
    /** The kernel counted so many interrupts. */
    count: (value: number) => writeSync(node, Buffer.from(Uint32Array.of(value).buffer)),
    garbage: () => writeSync(node, 'ab'),
    at,
    intxDisabled: () => (at('config', 4, 2) & 0x400) !== 0,
    remove() {
      closeSync(node)
      tree.remove()
    },
  }
}

t.test('what keeps a device from being opened', async (t) => {
  const { sysfs, open, home, remove } = machine()
  t.teardown(remove)
  const fds = openFds()
  await t.rejects(open({ allowNoIommu: false }), {
    code: 'ERR_ACCEL_NO_IOMMU',
    message: /allowNoIommu: true/,
  })
  const elsewhere = (address: string) => openUio(address, { sysfs, allowNoIommu: true })
  await t.rejects(elsewhere('0000:01:00.0'), { code: 'ERR_ACCEL_NOT_FOUND' })
  await t.rejects(elsewhere('0000:00:06.0'), {
    code: 'ERR_ACCEL_WRONG_DRIVER',
    message: /kernel's nvme, wanted uio_pci_generic[\s\S]*driver_override[\s\S]*nvme\/unbind/,
  })
  await t.rejects(elsewhere('0000:00:07.0'), { code: 'ERR_ACCEL_WRONG_DRIVER', message: /no driver/ })
  await t.rejects(open({ devfs: '/nowhere' }), { code: 'ERR_ACCEL_NOT_FOUND', message: /devtmpfs/ })
  const transport = await open()
  await t.rejects(open(), { code: 'ERR_ACCEL_BUSY', message: /fuser -v .*uio0/ })
  await transport.close()
  rmSync(join(home, 'config'))
  await t.rejects(open(), { code: 'ERR_ACCEL_NOT_FOUND', message: /config/ })
  t.equal(openFds(), fds, 'nothing stays open')
})

t.test('BARs, config space and ports', async (t) => {
  const { open, at, remove } = machine()
  t.teardown(remove)
  const fds = openFds()
  const transport = await open()
  t.match(transport.identity, { kind: 'uio', address: bdf, iommu: 'none', tainted: /no IOMMU/ })
  const sizes = transport.regions.map(({ sizeBytes }) => sizeBytes)
  t.same(sizes, [0x2000, 0, 256, 0, 32, 0, 0, 256, 0])
  t.same(
    transport.regions.map(({ mappable }) => mappable.length),
    [1, 0, 0, 0, 0, 0, 0, 0, 0],
  )
  t.equal(transport.read(PciRegion.CONFIG, 0, 4), 0x11e8_1234)
  const mapping = transport.map(0, { offset: 0x1000, sizeBytes: 0x1000 })
  mapping.window.u32[1] = 0x1234_5678
  t.equal(at('resource0', 0x1004, 4), 0x1234_5678)
  t.equal(transport.read(0, 0x1004, 4), 0x1234_5678, 'and by a call')
  transport.write(0, 0x1005, 1, 0xff)
  t.equal(transport.read(0, 0x1004, 2), 0xff78)
  transport.write64(0, 8, 0x0102_0304_0506_0708n)
  t.equal(transport.read64(0, 8), 0x0102_0304_0506_0708n)
  transport.write(2, 0xfc, 4, 0xcafe_f00d)
  t.equal(at('resource2', 0x4fc, 4), 0xcafe_f00d, 'a small BAR is where its address says in its page')
  t.equal(transport.read(2, 0xfc, 4), 0xcafe_f00d)
  transport.write(4, 2, 2, 0xbeef)
  t.equal(at('resource4', 2, 2), 0xbeef)
  const bytes = Uint8Array.of(1, 2, 3)
  transport.writeBytes(0, 100, bytes)
  const back = new Uint8Array(3)
  transport.readBytes(0, 100, back)
  t.same(back, bytes)
  for (const [region, offset] of [
    [0, 0x2000],
    [0, 0x1ffe],
    [0, 2],
    [2, 256],
    [4, 32],
    [7, 256],
    [1, 0],
    [9, 0],
    [-1, 0],
  ] as const)
    t.throws(
      () => transport.read(region, offset, 4),
      { code: 'ERR_ACCEL_OUT_OF_RANGE' },
      `region ${region} at ${offset}`,
    )
  t.throws(() => transport.map(2, { offset: 0, sizeBytes: 4096 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.throws(() => transport.map(0, { offset: 0, sizeBytes: 0x3000 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  mapping.revoke()
  await transport.close()
  t.throws(() => transport.read(0, 0, 4), { code: 'ERR_ACCEL_NO_DEVICE' })
  t.equal(openFds(), fds)
})

t.test('the interrupt line: counted, masked by the kernel, unmasked by us', async (t) => {
  const { open, count, intxDisabled, remove } = machine({ events: 0xffff_fffe })
  t.teardown(remove)
  const transport = await open()
  t.ok(intxDisabled(), 'until somebody asks for it')
  t.match(transport.irqs.intx, { count: 1, maskable: true, autoMasked: true })
  t.equal(transport.irqs.msi.count, 0)
  const event = new EventFd()
  t.throws(() => transport.setIrqs('msix', [event.fd]), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
    message: /interrupt line only/,
  })
  t.throws(() => transport.setIrqs('intx', [event.fd, event.fd]), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
    details: { available: 1 },
  })
  count(0xffff_ffff) // before it was armed
  transport.setIrqs('intx', [event.fd])
  t.notOk(intxDisabled())
  await turn()
  t.equal(event.drain(), 0)
  count(2)
  await turn()
  t.equal(event.drain(), 3, 'over the end of 32 bits')
  transport.maskIrq('intx', 0)
  t.ok(intxDisabled())
  transport.unmaskIrq('intx', 0)
  t.notOk(intxDisabled())
  t.throws(() => transport.maskIrq('intx', 1), { code: 'ERR_ACCEL_UNSUPPORTED' })
  transport.disableIrqs('intx')
  t.ok(intxDisabled())
  count(3)
  await turn()
  t.equal(event.drain(), 0)
  event.close()

  const device = openDevice(transport)
  const irqs = await device.allocIrqVectors({ types: ['intx'] })
  const counts: number[] = []
  irqs.handle(0, (fired) => {
    t.equal(intxDisabled(), false)
    counts.push(fired)
  })
  count(4)
  await turn()
  await turn()
  t.same(counts, [1])
  await device.release()
  await transport.close()
  t.ok(intxDisabled())
})

t.test('reset', async (t) => {
  const { open, home, at, remove } = machine()
  t.teardown(remove)
  const transport = await open()
  t.same(transport.resets, ['function'])
  await transport.reset()
  t.equal(readFileSync(join(home, 'reset'), 'latin1'), '1')
  await t.rejects(transport.reset('hot'), { code: 'ERR_ACCEL_UNSUPPORTED' })
  t.equal(at('config', 0, 2), 0x1234)
  transport.write(PciRegion.CONFIG, 0, 2, 0xffff)
  await t.rejects(transport.reset(), { code: 'ERR_ACCEL_WEDGED' })
  await transport.close()
  rmSync(join(home, 'reset'))
  const without = await open()
  t.same(without.resets, [])
  await t.rejects(without.reset(), { code: 'ERR_ACCEL_UNSUPPORTED' })
  await without.close()
})

t.test('the end of the device, while an interrupt is armed', async (t) => {
  const { open, garbage, remove } = machine()
  t.teardown(remove)
  const fds = openFds()
  const transport = await open()
  const event = new EventFd()
  transport.setIrqs('intx', [event.fd])
  const reasons: AccelError[] = []
  transport.onLost((reason) => reasons.push(reason))
  transport.onLost((reason) => reasons.push(reason))()
  garbage()
  await turn()
  t.match(reasons, [{ code: 'ERR_ACCEL_NO_DEVICE', message: /unbound or pulled out/ }])
  t.equal(reasons.length, 1)
  t.throws(() => transport.read(0, 0, 4), { code: 'ERR_ACCEL_NO_DEVICE' })
  t.throws(() => transport.setIrqs('intx', [event.fd]), { code: 'ERR_ACCEL_NO_DEVICE' })
  event.close()
  await transport.close()
  await transport.close()
  t.equal(openFds(), fds)
})

t.test('an IOMMU that translates for the kernel lets no memory of ours be reached', async (t) => {
  const { open, home, sysfs, remove } = machine()
  t.teardown(remove)
  const group = join(sysfs, 'kernel/iommu_groups/3')
  mkdirSync(join(group, 'devices'), { recursive: true })
  writeFileSync(join(group, 'type'), 'DMA-FQ\n')
  symlinkSync('../../../kernel/iommu_groups/3', join(home, 'iommu_group'))
  const transport = await open()
  const device = openDevice(transport)
  t.throws(() => transport.dma.locate!({ address: 0n, fd: 0, sizeBytes: 4096 }), {
    code: 'ERR_ACCEL_UNSUPPORTED',
    message: /group 3, domain DMA-FQ.*vfio-pci/s,
  })
  await device.release()
  await transport.close()
})

t.test('devices of UIO that are not PCI', async (t) => {
  const { sysfs, remove } = machine()
  t.teardown(remove)
  const add = (uio: string, name: string, maps: Record<string, Record<string, string>> = {}) => {
    const home = join(sysfs, 'devices/platform', uio)
    for (const [map, files] of Object.entries(maps)) {
      mkdirSync(join(home, 'maps', map), { recursive: true })
      for (const [file, text] of Object.entries(files))
        writeFileSync(join(home, 'maps', map, file), `${text}\n`)
    }
    mkdirSync(home, { recursive: true })
    for (const [file, text] of Object.entries({ name, version: '1.0', event: '7' }))
      writeFileSync(join(home, file), `${text}\n`)
    symlinkSync(`../../devices/platform/${uio}`, join(sysfs, 'class/uio', uio))
  }
  const page = { addr: '0x00000000fd000000', offset: '0x0', size: '0x0000000000001000' }
  add('uio10', 'npu', {
    map0: { ...page, name: 'registers' },
    map1: { ...page, offset: '0x20', size: '0x3000' },
  })
  add('uio2', 'fpga')
  add('uio3', 'fpga')
  t.match(listUioDevices({ sysfs }), [
    { uio: 'uio0', name: 'uio_pci_generic', bdf },
    { uio: 'uio2', name: 'fpga', maps: [] },
    { uio: 'uio3' },
    {
      uio: 'uio10',
      name: 'npu',
      version: '1.0',
      events: 7,
      maps: [
        { index: 0, name: 'registers', address: 0xfd00_0000n, offset: 0, sizeBytes: 0x1000 },
        { index: 1, offset: 0x20, sizeBytes: 0x3000 },
      ],
    },
  ])
  t.notOk('bdf' in listUioDevices({ sysfs })[1])
  const open = (name: string, options = {}) => openPlatform(name, { sysfs, allowNoIommu: true, ...options })
  await t.rejects(open('npu', { allowNoIommu: false }), { code: 'ERR_ACCEL_NO_IOMMU' })
  await t.rejects(open('fpga'), { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /uio2 or uio3/ })
  await t.rejects(open('gpu'), { code: 'ERR_ACCEL_NOT_FOUND', message: /npu \(uio10\)/ })
  await t.rejects(open('npu'), { code: 'ERR_ACCEL_NOT_FOUND', message: /\/dev\/uio10/ })
  for (const [i, bad] of [
    { map0: { ...page, size: '-1' } },
    { map0: { ...page, size: '0x10', offset: '0x10' } },
    { map0: { ...page, size: '0x3000', offset: '0x1000' } },
    { map1: page },
    { map0: { offset: '0x0', size: '0x1000' } },
    { map0: { ...page, size: '0xffffffffffffffff' } },
  ].entries()) {
    const other = machine()
    const home = join(other.sysfs, 'class/uio/uio0')
    for (const [map, files] of Object.entries(bad)) {
      mkdirSync(join(home, 'maps', map), { recursive: true })
      for (const [file, text] of Object.entries(files)) writeFileSync(join(home, 'maps', map, file), text)
    }
    t.throws(() => listUioDevices({ sysfs: other.sysfs }), { code: 'ERR_ACCEL_IO' }, `bad maps ${i}`)
    other.remove()
  }
  t.same(listUioDevices({ sysfs: '/nowhere' }), [])
})
