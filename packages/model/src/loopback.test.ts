import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { type IrqType, PciRegion } from '@uaccel/core'
import type { Iova } from '@uaccel/memory'
import { createSealedMemory, EventFd, Mapping, sys } from '@uaccel/sys'
import type { AccelError } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { ManualClock } from './clock.js'
import { defineModel } from './definition.js'
import { type Loopback, type LoopbackOptions, loopback } from './loopback.js'
import { registerBank } from './registers.js'

const COMMAND = 4
const IOVA = 0x10000n as Iova

/** Copies one word from host memory to the card when its doorbell is written, then fires vector 1 and INTx. */
const copier = defineModel({
  identity: { name: 'copier', vendor: 1, device: 2, classCode: 0x120000 },
  bars: [
    {
      index: 0,
      sizeBytes: 0x8000,
      kind: 'mem32',
      memory: [
        { name: 'low', offset: 0x2000, sizeBytes: 0x1000 },
        { name: 'high', offset: 0x4000, sizeBytes: 0x2000 },
      ],
    },
  ],
  interrupts: { intx: true, msix: { vectors: 3, bar: 0, tableOffset: 0x7000, pbaOffset: 0x7800 } },
  create(context) {
    const bank = registerBank([
      { name: 'ID', offset: 0, width: 4, access: 'ro', reset: 0xfeedf00d },
      { name: 'ADDRESS', offset: 8, width: 8, access: 'rw' },
      { name: 'DONE', offset: 0x10, width: 4, access: 'ro' },
      { name: 'NARROW', offset: 0x14, width: 2, access: 'rw' },
      {
        name: 'DOORBELL',
        offset: 0x20,
        width: 4,
        access: 'wo',
        write: () =>
          context.clock.after(100, () => {
            const word = new Uint8Array(4)
            context.dma.read(bank.get64('ADDRESS'), word)
            context.memory('low').set(word)
            bank.set('DONE', bank.get('DONE') + 1)
            context.raise(1)
            context.setIntx(true)
          }),
      },
      {
        name: 'HASTY',
        offset: 0x24,
        width: 4,
        access: 'wo',
        write: () => context.dma.read(0n, new Uint8Array(1)),
      },
    ])
    return {
      read: (_bar, offset, width) => bank.read(offset, width),
      write: (_bar, offset, width, value) => bank.write(offset, width, value),
      describe: (_bar, offset) => bank.describe(offset),
      reset: () => bank.reset(),
    }
  },
})

type Device = Loopback<ManualClock>

function open(t: Test, options: Omit<LoopbackOptions<object>, 'clock'> = {}): Device {
  const device = loopback(copier, { ...options, clock: new ManualClock() })
  t.teardown(() => device.close())
  device.write(PciRegion.CONFIG, COMMAND, 2, 0b110)
  return device
}

/** Maps a page for the device, with `word` in it; and an eventfd for vector 1. */
function prepare(t: Test, device: Device, type: IrqType = 'msix') {
  const { fd } = createSealedMemory('copier-test', 4096)
  const mapping = Mapping.map({ fd, offset: 0, sizeBytes: 4096 })
  const { address } = mapping
  device.dma.map({ iova: IOVA, sizeBytes: 4096, access: 'read', address, fd, fdOffset: 0 })
  sys.close(fd)
  const event = new EventFd()
  device.setIrqs(type, type === 'intx' ? [event.fd] : [-1, event.fd, -1])
  device.write64(0, 8, IOVA)
  mapping.window.u32[0] = 0xabcd
  const release = () => {
    mapping.revoke()
    event.close()
  }
  t.teardown(release)
  return { host: mapping.window.u32, event, release }
}

const ring = (device: Device) => {
  device.write(0, 0x20, 4, 1)
  device.clock.runUntilIdle()
}

/** What a process holds of the kernel, seen from outside: descriptors, and mapped files that are memory of ours. */
function held() {
  const fds = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [`${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`]
    } catch {
      return [] // the one that lists the folder
    }
  })
  const maps = readFileSync('/proc/self/maps', 'latin1')
    .split('\n')
    .filter((line) => line.includes('/memfd:'))
  return { fds, maps }
}

for (const mapped of [true, false]) {
  t.test(`a device with its memory ${mapped ? 'mapped' : 'trapped'}`, async (t) => {
    const device = open(t, { mapped })
    const { event } = prepare(t, device)
    t.match(device.identity, { kind: 'loopback', address: 'copier', emulated: true })
    t.same(
      device.regions[0]?.mappable,
      mapped
        ? [
            { offset: 0x2000, sizeBytes: 0x1000 },
            { offset: 0x4000, sizeBytes: 0x2000 },
          ]
        : [],
    )
    t.equal(device.read(0, 0, 4), 0xfeedf00d)
    device.write(0, 0x20, 4, 1)
    t.equal(device.read(0, 0x10, 4), 0, 'nothing happens inside a register access')
    device.clock.step(100)
    t.equal(device.read(0, 0x10, 4), 1)
    t.equal(event.drain(), 1)
    t.equal(device.read(0, 0x2000, 4), 0xabcd)
    if (mapped) {
      const view = device.map(0, { offset: 0x2000, sizeBytes: 0x1000 })
      t.equal(view.window.u32[0], 0xabcd)
      view.window.u32[1] = 5
      t.equal(device.read(0, 0x2004, 4), 5)
      view.revoke()
      t.throws(() => view.window.u32[0], { code: 'ERR_ACCEL_REVOKED' })
    }
    t.throws(() => device.map(0, { offset: 0, sizeBytes: 0x1000 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
    device.assertClean()
  })
}

t.test('bytes: memory at once, registers in the accesses that a kernel would make', async (t) => {
  const device = open(t)
  const data = Uint8Array.from({ length: 0x1001 }, (_, i) => i * 3)
  device.writeBytes(0, 0x4ffd, data)
  const back = new Uint8Array(data.length)
  device.readBytes(0, 0x4ffd, back)
  t.same(back, data)
  const id = new Uint8Array(4)
  device.readBytes(0, 0, id)
  t.same(id, Uint8Array.of(0x0d, 0xf0, 0xed, 0xfe))
  device.write(0, 0x14, 2, 0xbeef)
  const narrow = new Uint8Array(2)
  device.readBytes(0, 0x14, narrow)
  t.same(narrow, Uint8Array.of(0xef, 0xbe))
  t.throws(
    () => device.readBytes(0, 0x1ffe, new Uint8Array(4)),
    { code: 'ERR_ACCEL_BAD_ACCESS' },
    'across the edge',
  )
  t.throws(() => device.readBytes(0, 0x7ffe, new Uint8Array(4)), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  for (const [width, value] of [
    [1, 0xa5],
    [2, 0xa55a],
    [4, 0xdeadbeef],
  ] as const) {
    device.write(0, 0x4000, width, value)
    t.equal(device.read(0, 0x4000, width), value)
  }
  device.write64(0, 0x4008, 0x1234_5678_9abc_def0n)
  t.equal(device.read64(0, 0x4008), 0x1234_5678_9abc_def0n)
  t.equal(device.read64(PciRegion.CONFIG, 0) & 0xffffffffn, 0x0002_0001n)
  device.write(PciRegion.CONFIG, 0x3c, 1, 9)
  t.equal(device.read(PciRegion.CONFIG, 0x3c, 1), 9)
})

t.test('a broken rule is thrown at the driver with both sides named, and fails the test', async (t) => {
  const device = open(t)
  t.throws(() => device.read(0, 8, 4), {
    code: 'ERR_ACCEL_BAD_ACCESS',
    message:
      'copier: the driver did a read of 4 bytes at BAR0+0x8; the model declares ADDRESS at 0x8 (rw, 8 bytes).',
    details: {
      device: 'copier',
      bar: 0,
      offset: 8,
      width: 4,
      access: 'read',
      declared: 'ADDRESS at 0x8 (rw, 8 bytes)',
    },
  })
  t.throws(() => device.read(0, 0x2002, 4), { code: 'ERR_ACCEL_BAD_ACCESS' }, 'memory, but not aligned')
  t.throws(() => device.write(0, 0x24, 4, 0), {
    code: 'ERR_ACCEL_BAD_ACCESS',
    message: /inside a register access/,
  })
  t.throws(() => device.assertClean(), { code: 'ERR_ACCEL_BAD_ACCESS', message: /^3 violation\(s\)/ })
  t.equal(device.violations.take().length, 3)
  device.assertClean()

  const lenient = open(t, { strict: false })
  t.equal(lenient.read(0, 8, 4), 0xffffffff)
  lenient.write(0, 0, 4, 1)
  t.equal(lenient.read(0, 0, 4), 0xfeedf00d)
  t.throws(() => lenient.assertClean(), { message: /^2 violation\(s\)/ })
})

t.test('a device that reaches outside its mappings', async (t) => {
  const device = open(t)
  const { event } = prepare(t, device)
  device.write64(0, 8, 0x20000n)
  ring(device)
  t.equal(device.read(0, 0x10, 4), 0, 'the work ended there')
  t.equal(event.drain(), 0)
  t.match(device.violations.take(), [
    { code: 'ERR_ACCEL_DMA_FAULT', message: /^copier: DMA read of 4 bytes at IOVA 0x20000/ },
  ])
  device.write64(0, 8, IOVA)
  ring(device)
  t.equal(event.drain(), 1)
  device.assertClean()
})

t.test('bus mastering: never switched on is a violation, switched off again is a way to stop', async (t) => {
  const device = open(t)
  await device.reset()
  device.write(PciRegion.CONFIG, COMMAND, 2, 0b010)
  prepare(t, device)
  ring(device)
  t.match(device.violations.take(), [{ code: 'ERR_ACCEL_DMA_FAULT', message: /bus mastering is off/ }])
  device.write(PciRegion.CONFIG, COMMAND, 2, 0b110)
  ring(device)
  device.write(PciRegion.CONFIG, COMMAND, 2, 0b010)
  ring(device)
  t.equal(device.read(0, 0x10, 4), 1)
  device.assertClean()
})

t.test('the emulated IOMMU has the limits that the test gives it', async (t) => {
  t.same(open(t).dma.ranges(), [
    { first: 0n, last: 0xfedf_ffffn },
    { first: 0xfef0_0000n, last: 0x7f_ffff_ffffn },
  ])
  const device = open(t, { apertures: [{ first: 0x1000n, last: 0x1ffffn }], maxMappings: 1 })
  t.equal(device.dma.maxMappings, 1)
  t.equal(device.dma.pageSizeBytes, 4096)
  t.equal(device.dma.locksMemory, false)
  prepare(t, device)
  const request = {
    iova: 0x40000n as Iova,
    sizeBytes: 4096,
    access: 'read',
    address: 0n,
    fd: 0,
    fdOffset: 0,
  } as const
  t.throws(() => device.dma.map(request), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.throws(() => device.dma.map({ ...request, iova: 0x11000n as Iova }), { code: 'ERR_ACCEL_MAPPING_LIMIT' })
})

t.test('fault: interrupts that are lost, and one without a reason', async (t) => {
  for (const type of ['msix', 'intx'] as const) {
    const device = open(t)
    const { event } = prepare(t, device, type)
    device.faults.lostInterrupt()
    ring(device)
    t.equal(device.read(0, 0x10, 4), 1)
    t.equal(event.drain(), 0, `${type} is lost`)
    if (type === 'intx') device.unmaskIrq('intx', 0)
    else ring(device)
    t.equal(event.drain(), 1, 'the next one arrives')
    device.faults.spuriousInterrupt(type === 'intx' ? 0 : 1)
    t.equal(event.drain(), 1)
    device.assertClean()
  }
})

t.test('fault: all ones, as after a surprise removal', async (t) => {
  const device = open(t)
  const view = device.map(0, { offset: 0x2000, sizeBytes: 0x1000 })
  device.faults.allOnes()
  t.equal(device.read(0, 0, 4), 0xffffffff)
  t.equal(device.read(0, 0x14, 2), 0xffff)
  t.equal(device.read64(0, 8), (1n << 64n) - 1n)
  t.equal(device.read(PciRegion.CONFIG, 0, 2), 0xffff)
  t.equal(view.window.u32[7], 0xffffffff)
  device.write64(0, 8, 5n)
  device.faults.allOnes(false)
  t.equal(device.read64(0, 8), 0n, 'the write was dropped')
  device.assertClean()
})

t.test('fault: a transfer that fails is not the driver’s doing', async (t) => {
  const device = open(t)
  const { event } = prepare(t, device)
  device.faults.dmaError()
  ring(device)
  t.equal(event.drain(), 0)
  ring(device)
  t.equal(event.drain(), 1)
  device.assertClean()
})

t.test('fault: a hang holds work back until it ends, or a reset discards it', async (t) => {
  const device = open(t)
  const { event } = prepare(t, device)
  device.faults.hang()
  ring(device)
  t.equal(device.clock.pending, 0)
  t.equal(device.read(0, 0x10, 4), 0, 'registers still answer')
  device.faults.hang(false)
  device.clock.runUntilIdle()
  t.equal(event.drain(), 1)
  device.faults.hang()
  ring(device)
  await device.reset()
  device.faults.hang(false)
  t.equal(device.clock.runUntilIdle(), 0)
  device.assertClean()
})

t.test('a device that vanishes tells once why, and answers nothing any more', async (t) => {
  const device = open(t)
  prepare(t, device)
  const reasons: AccelError[] = []
  device.onLost((reason) => reasons.push(reason))
  device.onLost(() => t.fail('taken back'))()
  device.write(0, 0x20, 4, 1)
  device.vanish('pulled out')
  device.vanish('again')
  t.match(reasons, [{ code: 'ERR_ACCEL_NO_DEVICE', message: /pulled out/ }])
  t.equal(device.clock.pending, 0)
  const expected = { code: 'ERR_ACCEL_NO_DEVICE', cause: reasons[0] }
  const dma = {
    iova: 0x40000n as Iova,
    sizeBytes: 4096,
    access: 'read',
    address: 0n,
    fd: 0,
    fdOffset: 0,
  } as const
  t.throws(() => device.read(0, 0, 4), expected)
  t.throws(() => device.write64(0, 8, 0n), expected)
  t.throws(() => device.readBytes(PciRegion.CONFIG, 0, new Uint8Array(2)), expected)
  t.throws(() => device.setIrqs('msix', [-1]), expected)
  t.throws(() => device.maskIrq('msix', 0), expected)
  t.throws(() => device.map(0, { offset: 0x2000, sizeBytes: 0x1000 }), expected)
  t.throws(() => device.dma.map(dma), expected)
  await t.rejects(device.reset(), expected)
  device.dma.unmap(IOVA, 4096)
  t.equal(device.function.dma.size, 0, 'what was mapped can still be taken back')
})

t.test('a reset waits for mappings to be taken back, and disarms interrupts', async (t) => {
  const device = open(t)
  const { event } = prepare(t, device)
  const view = device.map(0, { offset: 0x4000, sizeBytes: 0x2000 })
  await t.rejects(device.reset(), { code: 'ERR_ACCEL_BUSY' })
  view.revoke()
  device.write(0, 0x20, 4, 1)
  await device.reset()
  t.equal(device.clock.runUntilIdle(), 0)
  device.write(PciRegion.CONFIG, COMMAND, 2, 0b110)
  t.equal(device.read64(0, 8), 0n)
  device.write64(0, 8, IOVA)
  ring(device)
  t.equal(device.read(0, 0x10, 4), 1, 'mappings of the host outlive a reset')
  t.equal(event.drain(), 0)
  device.assertClean()
})

t.test('nothing is left behind, seen from outside', async (t) => {
  const use = async (end: (device: Device) => void) => {
    const device = open(t)
    const { release } = prepare(t, device)
    const view = device.map(0, { offset: 0x2000, sizeBytes: 0x1000 })
    ring(device)
    t.ok(held().maps.length > 0)
    end(device)
    await device.close()
    await device.close()
    t.ok(view.revoked)
    t.throws(() => device.read(0, 0, 4), { code: 'ERR_ACCEL_NO_DEVICE' })
    release()
  }
  const before = held()
  await use(() => {})
  await use((device) => device.vanish())
  await use((device) => device.write(0, 0x20, 4, 1))
  t.same(held(), before)
  const create = () => {
    throw new Error('cannot be made')
  }
  t.throws(() => loopback({ ...copier, create }), { message: 'cannot be made' })
  t.same(held(), before, 'nor by a model that cannot be made')
})
