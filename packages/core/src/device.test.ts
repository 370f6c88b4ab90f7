import { readdirSync, readFileSync } from 'node:fs'
import { EventFd, sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import t from 'tap'
import { openDevice } from './device.js'
import { FakeTransport } from './fake-transport.test.support.js'
import { bits, flag } from './fields.js'
import { reg8, reg32, reg64, registers } from './registers.js'

const Bar0 = registers({
  ID: reg32(0x00, 'ro', { major: bits(31, 24) }),
  STATUS: reg32(0x20, 'rw', { computing: flag(0), irqOnDone: flag(7) }),
  WIDE: reg64(0x28, 'rw'),
  FAR: reg32(0x3ff0, 'rw'),
  LAST: reg8(0x3fff, 'rw'),
})

const openFds = () => readdirSync('/proc/self/fd').length
const fakeMaps = () =>
  readFileSync('/proc/self/maps', 'utf8').match(/fake-bar|uaccel-|dma-region/g)?.length ?? 0
/** The immediate comes after the loop looked at descriptors, also where the process was stopped for longer than the timer. */
const turn = (ms = 20) => new Promise((resolve) => setTimeout(() => setImmediate(resolve), ms))
const signal = (fd: number, n = 1) => sys.write(fd, new Uint8Array(BigUint64Array.of(BigInt(n)).buffer))

t.test('identity and config space', async (t) => {
  const transport = new FakeTransport()
  const dev = openDevice(transport)
  t.match(dev.identity, {
    vendor: 0x1234,
    device: 0x11e8,
    subsystemVendor: 0x1af4,
    subsystem: 0x1100,
    revision: 0x10,
    classCode: 0x120000,
  })
  await dev.enable({ busMaster: true })
  t.equal(dev.config.read16(4), 6)
  t.throws(() => dev.config.read32(2), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.throws(() => dev.config.read8(4096), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.equal(dev.config.snapshot().length, 4096)
  await dev.release()
  t.equal(transport.config[4], 2, 'bus mastering is off again')
  t.equal(transport.listeners, 0)
  await transport.close()
})

t.test('a BAR mapped, in part mapped, trapped', async (t) => {
  const whole = new FakeTransport()
  const dev = openDevice(whole)
  const bar = await dev.mapBar(0, Bar0)
  bar.STATUS.write({ irqOnDone: true })
  bar.WIDE.write(0x1122_3344_5566_7788n)
  bar.LAST.write(0xab)
  t.equal(whole.bar.window.u32[8], 0x80)
  t.equal(whole.bar.window.u64[5], 0x1122_3344_5566_7788n)
  t.equal(whole.bar.window.u8[0x3fff], 0xab)
  t.same(whole.log, ['map 0x0+0x4000'], 'no call for an access')

  const holes = new FakeTransport({
    mappable: [
      { offset: 0, sizeBytes: 0x1000 },
      { offset: 0x2000, sizeBytes: 0x1000 },
    ],
  })
  const part = await openDevice(holes).mapBar(0, Bar0)
  part.STATUS.write(1)
  part.FAR.write(0xffff_ffff)
  t.same(holes.log, ['map 0x0+0x1000', 'write32 0x3ff0 0xffffffff'], 'only pages with registers are mapped')
  t.equal(holes.bar.window.u32[8], 1)

  const trapping = new FakeTransport()
  const none = await openDevice(trapping, { trapBars: true }).mapBar(0, Bar0)
  none.STATUS.update({ computing: true })
  t.equal(none.ID.read(), 0)
  t.same(trapping.log, ['read32 0x20', 'write32 0x20 0x1', 'read32 0x0'])
  const one = await openDevice(trapping).mapBar(0, Bar0, { trapped: true })
  one.LAST.read()
  t.equal(trapping.log.at(-1), 'read8 0x3fff')
  for (const transport of [whole, holes, trapping]) await transport.close()
})

t.test('what cannot be mapped is refused', async (t) => {
  const transport = new FakeTransport({ barBytes: 0x1000 })
  const dev = openDevice(transport)
  await t.rejects(dev.mapBar(1, Bar0), { code: 'ERR_ACCEL_NOT_FOUND', message: /it has 0/ })
  await t.rejects(dev.mapBar(7, Bar0), { code: 'ERR_ACCEL_NOT_FOUND' })
  await t.rejects(dev.mapBar(0, Bar0), { code: 'ERR_ACCEL_OUT_OF_RANGE', message: /4096 bytes, and 16384/ })
  await t.rejects(dev.mapMemory(0, { offset: 0x800, sizeBytes: 0x1000 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  await t.rejects(dev.mapMemory(0, { offset: 4 }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  await transport.close()
})

t.test('the file of a BAR, for other processes, in whole pages, where the transport has one', async (t) => {
  const transport = new FakeTransport({ mappable: [{ offset: 0x1000, sizeBytes: 0x2000 }] })
  const dev = openDevice(transport)
  const refused = (offset: number, sizeBytes: number, code: string, index = 0) =>
    t.throws(() => dev.barFile(index, { offset, sizeBytes }), { code })
  refused(0x1000, 0x1000, 'ERR_ACCEL_UNSUPPORTED')
  Object.assign(transport, {
    regionFile: (_region: number, { offset }: { offset: number }) => ({ fd: transport.fd, offset }),
  })
  t.same(dev.barFile(0, { offset: 0x2000, sizeBytes: 0x1000 }), { fd: transport.fd, offset: 0x2000 })
  refused(0, 0x1000, 'ERR_ACCEL_UNSUPPORTED')
  refused(0x1000, 0x800, 'ERR_ACCEL_INVALID_ARGUMENT')
  refused(0x1008, 0x1000, 'ERR_ACCEL_INVALID_ARGUMENT')
  refused(0x1000, 0, 'ERR_ACCEL_INVALID_ARGUMENT')
  refused(0x1000, 0x10_0000, 'ERR_ACCEL_OUT_OF_RANGE')
  refused(0, 0x1000, 'ERR_ACCEL_NOT_FOUND', 5)
  await dev.release()
  refused(0x2000, 0x1000, 'ERR_ACCEL_NO_DEVICE')
  await transport.close()
})

t.test('memory of a device by offset, mapped and trapped alike', async (t) => {
  for (const trapBars of [false, true]) {
    const transport = new FakeTransport()
    const memory = await openDevice(transport, { trapBars }).mapMemory(0, {
      offset: 0x1008,
      sizeBytes: 0x100,
    })
    t.equal(memory.mapped, !trapBars)
    memory.write8(0, 0x1ff)
    memory.write16(2, 0x1234)
    memory.write32(4, -1)
    memory.write64(8, 0x1_0000_0002n)
    memory.writeBytes(0xfe, Uint8Array.of(7, 8))
    t.same(
      [...transport.bar.window.u8.subarray(0x1008, 0x1018)],
      [0xff, 0, 0x34, 0x12, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 1, 0, 0, 0],
    )
    t.equal(transport.bar.window.u8[0x1107], 8)
    t.same(
      [memory.read8(0), memory.read16(2), memory.read32(4), memory.read64(8)],
      [0xff, 0x1234, 0xffff_ffff, 0x1_0000_0002n],
    )
    const back = new Uint8Array(4)
    memory.readBytes(2, back)
    t.same([...back], [0x34, 0x12, 0xff, 0xff])
    for (const bad of [-4, 0x100, 2])
      t.throws(() => memory.write32(bad, 0), { code: 'ERR_ACCEL_OUT_OF_RANGE' }, `offset ${bad}`)
    t.throws(() => memory.readBytes(0xff, back), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
    t.throws(() => memory.writeBytes(Number.NaN, back), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
    await transport.close()
  }
})

t.test('interrupts: the first kind with enough vectors, counts, coalesced ones drained', async (t) => {
  const transport = new FakeTransport({ irqs: { msix: { count: 2 }, msi: { count: 4 }, intx: { count: 1 } } })
  const dev = openDevice(transport)
  const irqs = await dev.allocIrqVectors({ min: 3, max: 8 })
  t.equal(irqs.type, 'msi')
  t.equal(irqs.count, 4)
  await t.rejects(dev.allocIrqVectors(), { code: 'ERR_ACCEL_BUSY' })
  const seen: number[] = []
  const fds = transport.armed.get('msi')!
  signal(fds[1], 3)
  irqs.handle(1, (count) => seen.push(count))
  await turn()
  signal(fds[1])
  await turn()
  t.same(seen, [3, 1])
  t.same(irqs.counts(1), { fired: 4, handled: 2, coalesced: 2 })
  t.same(irqs.counts(0), { fired: 0, handled: 0, coalesced: 0 })
  t.throws(() => irqs.handle(4, () => {}), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  irqs.mask(2)
  t.equal(transport.log.at(-1), 'mask msi 2')
  irqs.release()
  t.throws(() => irqs.mask(0), { code: 'ERR_ACCEL_NO_DEVICE' })
  const again = await dev.allocIrqVectors({ types: ['intx'] })
  again.handle(0, () => {})
  signal(transport.armed.get('intx')![0])
  await turn()
  t.equal(transport.log.at(-1), 'unmask intx 0', 'after the handler')
  await t.rejects(openDevice(transport).allocIrqVectors({ min: 9 }), {
    code: 'ERR_ACCEL_UNSUPPORTED',
    message: /2 of msix, 4 of msi, 1 of intx/,
  })
  await t.rejects(openDevice(transport).allocIrqVectors({ min: 2, max: 1 }), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
  })
  await dev.release()
  t.equal(transport.armed.size, 0)
  await transport.close()
})

t.test('a thread that blocks for a vector', async (t) => {
  const transport = new FakeTransport({ irqs: { msi: { count: 2 }, intx: { count: 1 } } })
  const notice = new EventFd()
  const before = openFds()
  const dev = openDevice(Object.assign(transport, { attention: [notice.fd] }))
  await dev.enable()
  const irqs = await dev.allocIrqVectors({ min: 2 })
  const fds = transport.armed.get('msi')!
  t.equal(irqs.waitSync(0, { timeoutMs: 5 }), 0)
  signal(fds[1], 3)
  t.equal(irqs.waitSync(0, { timeoutMs: 0 }), 0, 'each vector by itself')
  t.equal(irqs.waitSync(1, { timeoutMs: 10_000, spinUs: 100 }), 3)
  t.same(irqs.counts(1), { fired: 3, handled: 1, coalesced: 2 })
  notice.signal()
  t.equal(irqs.waitSync(1, { timeoutMs: 10_000 }), 0, 'what wants the event loop ends the wait')
  signal(fds[1])
  t.equal(irqs.waitSync(1, { timeoutMs: 10_000 }), 1, 'what fired comes first')

  for (const options of [
    { timeoutMs: -1 },
    { timeoutMs: Number.POSITIVE_INFINITY },
    { timeoutMs: Number.NaN },
    { timeoutMs: 1, spinUs: 1001 },
    { timeoutMs: 1, spinUs: -1 },
  ])
    t.throws(() => irqs.waitSync(0, options), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.throws(() => irqs.waitSync(2, { timeoutMs: 0 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  irqs.handle(0, () => {})
  t.throws(() => irqs.waitSync(0, { timeoutMs: 0 }), { code: 'ERR_ACCEL_BUSY' })
  const resetting = dev.reset()
  t.throws(() => irqs.waitSync(1, { timeoutMs: 0 }), { code: 'ERR_ACCEL_NO_DEVICE' })
  await resetting
  signal(transport.armed.get('msi')![1])
  t.equal(irqs.waitSync(1, { timeoutMs: 10_000 }), 1, 'after a reset')
  irqs.release()
  t.throws(() => irqs.waitSync(1, { timeoutMs: 0 }), { code: 'ERR_ACCEL_NO_DEVICE' })

  const line = await dev.allocIrqVectors({ types: ['intx'] })
  const unmasked = () => transport.log.filter((entry) => entry === 'unmask intx 0').length
  signal(transport.armed.get('intx')![0])
  t.equal(line.waitSync(0, { timeoutMs: 10_000 }), 1)
  t.equal(unmasked(), 0, 'the driver has to acknowledge it first')
  t.equal(line.waitSync(0, { timeoutMs: 0 }), 0)
  t.equal(line.waitSync(0, { timeoutMs: 0 }), 0)
  t.equal(unmasked(), 1, 'once, by the next wait')
  signal(transport.armed.get('intx')![0])
  t.equal(line.waitSync(0, { timeoutMs: 0 }), 1)
  line.mask(0)
  line.waitSync(0, { timeoutMs: 0 })
  t.equal(unmasked(), 1, 'not where the driver masked it')
  line.unmask(0)
  t.equal(unmasked(), 2)
  signal(transport.armed.get('intx')![0])
  t.equal(line.waitSync(0, { timeoutMs: 0 }), 1)
  line.unmask(0)
  t.equal(unmasked(), 3, 'the driver may do it itself')
  t.equal(line.waitSync(0, { timeoutMs: 0 }), 0)
  t.equal(unmasked(), 3, 'and then the next wait does not')
  signal(transport.armed.get('intx')![0])
  t.equal(line.waitSync(0, { timeoutMs: 0 }), 1)
  line.handle(0, () => {})
  t.equal(unmasked(), 4, 'a handler that comes after a wait would never be called')
  transport.lose(accelError('ERR_ACCEL_NO_DEVICE', 'pulled out'))
  t.throws(() => line.waitSync(0, { timeoutMs: 0 }), { code: 'ERR_ACCEL_NO_DEVICE', message: /pulled out/ })
  await dev.release()
  await transport.close()
  t.equal(openFds(), before - 1, 'only its own memory is closed with the transport')

  const loop = new FakeTransport({ irqs: { msi: { count: 1 } } })
  const other = openDevice(loop)
  const vectors = await other.allocIrqVectors()
  t.throws(() => vectors.waitSync(0, { timeoutMs: 0 }), {
    code: 'ERR_ACCEL_UNSUPPORTED',
    message: /loopback come by way of the event loop/,
  })
  await other.release()
  await loop.close()
  notice.close()
})

t.test('a kernel that grants fewer vectors: as many as it grants, or the next kind', async (t) => {
  const transport = new FakeTransport({ irqs: { msix: { count: 16 }, msi: { count: 1 } }, grants: 4 })
  const dev = openDevice(transport)
  const before = openFds()
  const irqs = await dev.allocIrqVectors({ min: 2, max: 16 })
  t.same([irqs.type, irqs.count, openFds() - before], ['msix', 4, 4])
  irqs.release()
  t.equal(openFds(), before)
  await t.rejects(dev.allocIrqVectors({ min: 8, max: 16 }), { code: 'ERR_ACCEL_UNSUPPORTED' })
  t.equal(openFds(), before)
  await dev.release()
  await transport.close()
})

t.test('release gives everything back in reverse order and leaves nothing', async (t) => {
  const fds = openFds()
  const maps = fakeMaps()
  const transport = new FakeTransport({ irqs: { msix: { count: 1 } } })
  const dev = openDevice(transport)
  await dev.enable({ busMaster: true })
  const bar = await dev.mapBar(0, Bar0)
  const irqs = await dev.allocIrqVectors()
  irqs.handle(0, () => t.fail('no interrupt after release'))
  const region = dev.dma.alloc(100)
  t.equal(transport.mapped.size, 1)
  dev.defer(() => {
    bar.STATUS.write(0)
    transport.log.push('quiesced')
  })
  const log = transport.log.length
  signal(transport.armed.get('msix')![0])
  await dev.release()
  await dev.release()
  t.same(transport.log.slice(log), ['quiesced', 'command 0x2', 'dma unmap', 'irqs msix off'])
  t.equal(dev.signal.aborted, true)
  t.match(dev.signal.reason, { code: 'ERR_ACCEL_NO_DEVICE' })
  t.throws(() => bar.ID.read(), { code: 'ERR_ACCEL_NO_DEVICE', cause: { message: /released by its driver/ } })
  t.throws(() => region.u8, { code: 'ERR_ACCEL_REVOKED' })
  t.throws(() => dev.dma, { code: 'ERR_ACCEL_NO_DEVICE' })
  t.throws(() => dev.config.read8(0), { code: 'ERR_ACCEL_NO_DEVICE' })
  await t.rejects(dev.mapBar(0, Bar0), { code: 'ERR_ACCEL_NO_DEVICE' })
  await turn()
  await transport.close()
  t.equal(openFds(), fds)
  t.equal(fakeMaps(), maps)
})

t.test('a device that is lost: every touch says so, with the reason, and release is clean', async (t) => {
  for (const trapBars of [false, true]) {
    const fds = openFds()
    const transport = new FakeTransport({ irqs: { msix: { count: 1 } } })
    const dev = openDevice(transport, { trapBars })
    await dev.enable({ busMaster: true })
    const bar = await dev.mapBar(0, Bar0)
    const memory = await dev.mapMemory(0)
    const irqs = await dev.allocIrqVectors()
    irqs.handle(0, () => void bar.ID.read())
    dev.dma.alloc(8192)
    dev.defer(() => bar.STATUS.write(0)) // throws, as the device is not there to be quiesced
    const reason = accelError('ERR_ACCEL_CLOSED', 'the peer closed the socket')
    signal(transport.armed.get('msix')![0])
    transport.lose(reason)
    t.match(dev.signal.reason, { code: 'ERR_ACCEL_NO_DEVICE', cause: reason })
    t.throws(() => bar.ID.read(), { code: 'ERR_ACCEL_NO_DEVICE', message: /peer closed/ })
    t.throws(() => bar.WIDE.write(1n), { code: 'ERR_ACCEL_NO_DEVICE' })
    t.throws(() => memory.write32(0, 1), { code: 'ERR_ACCEL_NO_DEVICE' })
    t.throws(() => memory.readBytes(0, new Uint8Array(4)), { code: 'ERR_ACCEL_NO_DEVICE' })
    t.throws(() => dev.dma, { code: 'ERR_ACCEL_NO_DEVICE' })
    await t.rejects(dev.reset(), { code: 'ERR_ACCEL_NO_DEVICE' })
    await turn()
    await dev.release()
    await transport.close()
    t.equal(openFds(), fds)
  }
})

t.test('a device that answers all ones is lost at the first look', async (t) => {
  const fds = openFds()
  const transport = new FakeTransport()
  const dev = openDevice(transport)
  const bar = await dev.mapBar(0, Bar0)
  dev.checkPresent()
  t.equal(dev.signal.aborted, false)
  transport.config.fill(0xff, 0, 4)
  dev.checkPresent() // a virtual function's ids read so, and its class does not
  t.equal(dev.signal.aborted, false)
  transport.config.fill(0xff)
  t.throws(() => dev.checkPresent(), { code: 'ERR_ACCEL_NO_DEVICE', message: /answers all ones/ })
  t.match(dev.signal.reason, { code: 'ERR_ACCEL_NO_DEVICE', message: /answers all ones/ })
  t.throws(() => bar.ID.read(), { code: 'ERR_ACCEL_NO_DEVICE', cause: dev.signal.reason })
  t.throws(() => dev.checkPresent(), { code: 'ERR_ACCEL_NO_DEVICE' })
  await dev.release()
  await transport.close()
  t.equal(openFds(), fds)
})

t.test('code that was optimised for a live BAR stops at a lost one too', async (t) => {
  const transport = new FakeTransport()
  const dev = openDevice(transport)
  const bar = await dev.mapBar(0, Bar0)
  const memory = await dev.mapMemory(0)
  const touch = (n: number) => {
    let sum = 0
    for (let i = 0; i < n; i++) {
      bar.STATUS.write(i)
      sum = (sum + bar.STATUS.read() + memory.read32(0x20)) | 0
    }
    return sum
  }
  for (let round = 0; round < 20; round++) touch(20_000)
  t.equal(touch(3), 6)
  transport.lose(accelError('ERR_ACCEL_NO_DEVICE', 'pulled out'))
  t.throws(() => touch(1), { code: 'ERR_ACCEL_NO_DEVICE' })
  t.throws(() => memory.read32(0), { code: 'ERR_ACCEL_NO_DEVICE' })
  t.equal(transport.bar.window.u32[8], 2, 'nothing arrived')
  await dev.release()
  await transport.close()
})

t.test('reset: accessors work again, triggers and command register are back', async (t) => {
  const transport = new FakeTransport({ irqs: { msix: { count: 1 } } })
  const dev = openDevice(transport)
  await dev.enable({ busMaster: true })
  const bar = await dev.mapBar(0, Bar0)
  const irqs = await dev.allocIrqVectors()
  let fired = 0
  irqs.handle(0, () => fired++)
  const resetting = dev.reset()
  t.throws(() => bar.ID.read(), { code: 'ERR_ACCEL_NO_DEVICE', message: /being reset/ })
  t.equal(dev.reset(), resetting, 'one reset at a time')
  const during = { code: 'ERR_ACCEL_NO_DEVICE', message: /being reset/ }
  await Promise.all([
    t.rejects(dev.mapBar(0, Bar0), during),
    t.rejects(dev.mapMemory(0), during),
    t.rejects(dev.allocIrqVectors(), during),
  ])
  await resetting
  bar.STATUS.write(5)
  t.equal(transport.bar.window.u32[8], 5)
  t.equal(transport.config[4], 6)
  signal(transport.armed.get('msix')![0])
  await turn()
  t.equal(fired, 1)
  transport.failReset = accelError('ERR_ACCEL_SYSTEM', 'EIO')
  await t.rejects(dev.reset(), { code: 'ERR_ACCEL_WEDGED', cause: transport.failReset })
  t.throws(() => bar.ID.read(), { code: 'ERR_ACCEL_NO_DEVICE', message: /did not come back/ })
  t.match(dev.signal.reason, { code: 'ERR_ACCEL_NO_DEVICE', cause: { code: 'ERR_ACCEL_WEDGED' } })
  await t.rejects(dev.mapBar(0, Bar0), { code: 'ERR_ACCEL_NO_DEVICE' }, 'nothing new reaches it')
  await dev.release()
  await transport.close()
})

t.test('a device that does not keep its command register after a reset is wedged', async (t) => {
  const transport = new FakeTransport()
  const dev = openDevice(transport)
  await dev.enable({ busMaster: true })
  transport.write = () => {}
  await t.rejects(dev.reset(), {
    code: 'ERR_ACCEL_WEDGED',
    cause: { code: 'ERR_ACCEL_IO', message: /reads 0x0/ },
  })
  await dev.release()
  await transport.close()
})

t.test(
  'a device that is lost under its interrupt handler is no uncaught exception; a bug is one',
  async (t) => {
    const transport = new FakeTransport({ irqs: { intx: { count: 1 } } })
    const dev = openDevice(transport)
    const bar = await dev.mapBar(0, Bar0)
    const irqs = await dev.allocIrqVectors()
    const uncaught: unknown[] = []
    const listener = (error: unknown) => uncaught.push(error)
    process.on('uncaughtException', listener)
    t.teardown(() => process.off('uncaughtException', listener))
    const bug = accelError('ERR_ACCEL_NO_DEVICE', 'thrown by the driver itself')
    irqs.handle(0, () => {
      throw bug
    })
    signal(transport.armed.get('intx')![0])
    await turn()
    t.same(uncaught, [bug])
    irqs.handle(0, () => {
      transport.lose(accelError('ERR_ACCEL_CLOSED', 'the peer closed the socket'))
      bar.ID.read()
    })
    signal(transport.armed.get('intx')![0])
    await turn()
    t.equal(uncaught.length, 1)
    t.equal(irqs.counts(0).handled, 2)
    await dev.release()
    await transport.close()
  },
)

t.test('a step that fails midway leaves nothing', async (t) => {
  const transport = new FakeTransport()
  const dev = openDevice(transport)
  const fds = openFds()
  transport.failMap = accelError('ERR_ACCEL_SYSTEM', 'mmap: EPERM')
  await t.rejects(dev.mapBar(0, Bar0), { code: 'ERR_ACCEL_SYSTEM' })
  t.equal(openFds(), fds)
  await dev.release()
  await transport.close()
})

t.test('DMA within the address bits of the device', async (t) => {
  const transport = new FakeTransport()
  const dev = openDevice(transport)
  t.throws(() => dev.setDmaAddressBits(8), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  dev.setDmaAddressBits(22)
  t.ok(dev.dma.alloc(64).iova < 2n ** 22n)
  t.throws(() => dev.setDmaAddressBits(32), { code: 'ERR_ACCEL_BUSY' })
  t.throws(() => dev.dma.alloc(4 * 2 ** 20), { code: 'ERR_ACCEL_NO_IOVA' })
  await dev.release()
  await transport.close()
})
