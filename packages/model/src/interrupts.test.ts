import { PciRegion } from '@uaccel/core'
import { createSealedMemory, EventFd, sys } from '@uaccel/sys'
import t, { type Test } from 'tap'
import { ManualClock } from './clock.js'
import { createFunction } from './function.js'
import type { ModelContext, ModelDefinition } from './types.js'

const TABLE = 0x400
const PENDING = 0xc00
const VECTORS = 70

function open(t: Test, command = 0b110, express = false) {
  const made: { context?: ModelContext } = {}
  const definition: ModelDefinition = {
    identity: { name: 'bell', vendor: 1, device: 1, classCode: 0xff0000 },
    bars: [{ index: 0, sizeBytes: 4096, kind: 'mem32' }],
    capabilities: { express },
    interrupts: {
      intx: true,
      msi: 4,
      msix: { vectors: VECTORS, bar: 0, tableOffset: TABLE, pbaOffset: PENDING },
    },
    create: (context) => {
      made.context = context
      return { read: () => undefined, write: () => false, reset() {} }
    },
  }
  const device = createFunction(definition, {}, { clock: new ManualClock() })
  t.teardown(() => device.close())
  const config = (offset: number, value: number) => {
    const bytes = Buffer.alloc(2)
    bytes.writeUInt16LE(value)
    device.regionWrite(PciRegion.CONFIG, offset, bytes)
  }
  const configRead = (offset: number) => {
    const bytes = Buffer.alloc(4)
    device.regionRead(PciRegion.CONFIG, offset, bytes)
    return bytes.readUInt32LE()
  }
  config(4, command)
  const events = Array.from({ length: 8 }, () => new EventFd())
  t.teardown(() => {
    for (const event of events) event.close()
  })
  const fds = (count: number) => events.slice(0, count).map(({ fd }) => fd)
  return { device, context: made.context!, config, configRead, events, fds }
}

const control = (vector: number) => TABLE + 16 * vector + 12
const MSI = 0x40
const MSIX = 0x58

t.test('an armed vector fires its eventfd, and only that', async (t) => {
  const { device, context, events, fds } = open(t)
  t.equal(context.irqMode, 'intx')
  context.raise(0)
  device.setIrqs('msix', 0, fds(3))
  t.equal(context.irqMode, 'msix')
  context.raise(1)
  context.raise(1)
  t.same(
    events.map((event) => event.drain()),
    [0, 2, 0, 0, 0, 0, 0, 0],
  )
  device.setIrqs('msix', 0, [])
  context.raise(1)
  t.equal(events[1]?.drain(), 0)
  t.equal(context.irqMode, 'intx')
  t.throws(() => device.setIrqs('msix', 69, fds(2)), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
    details: { available: VECTORS },
  })
  device.assertClean()
})

t.test('vectors are masked in the table after reset, and unmasked by arming', async (t) => {
  const { device, fds } = open(t)
  t.equal(device.readBar(0, control(0), 4), 1)
  device.setIrqs('msix', 0, fds(2))
  t.equal(device.readBar(0, control(0), 4), 0)
  t.equal(device.readBar(0, control(2), 4), 1, 'not armed')
  device.reset()
  t.throws(() => device.readBar(0, control(0), 4), { code: 'ERR_ACCEL_BAD_ACCESS' }, 'decode is off again')
})

t.test('a masked vector is kept pending and fires once when unmasked, by table or by SET_IRQS', async (t) => {
  const { device, context, events, fds } = open(t)
  device.setIrqs('msix', 0, fds(8))
  const [, first] = events
  const unmaskings: readonly (readonly [string, () => void, () => void])[] = [
    ['table', () => device.writeBar(0, control(1), 4, 1), () => device.writeBar(0, control(1), 4, 0)],
    ['SET_IRQS', () => device.maskIrq('msix', 1, true), () => device.maskIrq('msix', 1, false)],
    ['either', () => device.maskIrq('msix', 1, true), () => device.writeBar(0, control(1), 4, 0)],
    ['no eventfd', () => device.setIrqs('msix', 1, [-1]), () => device.setIrqs('msix', 1, [first!.fd])],
  ]
  for (const [name, mask, unmask] of unmaskings) {
    mask()
    t.equal(device.readBar(0, control(1), 4), 1)
    context.raise(1)
    context.raise(1)
    t.equal(first?.drain(), 0, name)
    t.equal(device.readBar(0, PENDING, 4), 2)
    t.equal(device.readBar(0, PENDING, 8), 2n)
    unmask()
    t.equal(first?.drain(), 1, name)
    t.equal(device.readBar(0, PENDING, 4), 0)
    context.raise(1)
    t.equal(first?.drain(), 1, name)
  }
})

t.test('the function mask holds all vectors back', async (t) => {
  const { device, context, config, events, fds } = open(t)
  device.setIrqs('msix', 0, fds(3))
  config(MSIX + 2, 0xc000)
  context.raise(0)
  context.raise(2)
  t.equal(device.readBar(0, PENDING, 4), 0b101)
  device.maskIrq('msix', 2, true)
  config(MSIX + 2, 0x8000)
  t.equal(events[0]?.drain(), 1)
  t.equal(events[2]?.drain(), 0)
  t.equal(device.readBar(0, PENDING, 4), 0b100)
  device.maskIrq('msix', 2, false)
  t.equal(events[2]?.drain(), 1)
})

t.test('the table is memory in words of 4 and 8 bytes, and the pending bits are only read', async (t) => {
  const { device, context, config } = open(t)
  const entry = control(69) - 12
  device.writeBar(0, entry, 8, 0x1234_5678_9abc_def0n)
  device.writeBar(0, entry + 8, 4, 0x4041)
  t.equal(device.readBar(0, entry, 4), 0x9abcdef0)
  t.equal(device.readBar(0, entry + 8, 8), 0x1_0000_4041n)
  config(MSIX + 2, 0x8000)
  context.raise(69)
  t.equal(device.readBar(0, PENDING + 8, 8), 1n << 5n)
  const code = 'ERR_ACCEL_BAD_ACCESS'
  t.throws(() => device.readBar(0, entry, 2), { code })
  t.throws(() => device.readBar(0, entry + 4, 8), { code })
  t.throws(() => device.writeBar(0, PENDING, 8, 0n), { code })
  t.throws(() => device.readBar(0, PENDING + 16, 4), { code })
})

t.test(
  'MSI: fewer vectors than asked are shared, masks and pending bits are in configuration space',
  async (t) => {
    const { device, context, config, configRead, events, fds } = open(t)
    device.setIrqs('msi', 0, fds(2))
    t.equal(configRead(MSI) >>> 16, 0x0195, 'enabled, 2 of 4 vectors')
    context.raise(3)
    t.equal(events[1]?.drain(), 1)
    config(MSI + 0x10, 0b10)
    context.raise(1)
    t.equal(events[1]?.drain(), 0)
    t.equal(configRead(MSI + 0x14), 0b10)
    config(MSI + 0x10, 0)
    t.equal(events[1]?.drain(), 1)
    t.equal(configRead(MSI + 0x14), 0)
    device.maskIrq('msi', 0, true)
    t.equal(configRead(MSI + 0x10), 1)
    t.throws(() => device.setIrqs('msix', 0, fds(1)), { code: 'ERR_ACCEL_BUSY', message: /msi is armed/ })
    device.setIrqs('msi', 0, [])
    t.equal(configRead(MSI) >>> 16, 0x0184)
    device.setIrqs('msix', 0, fds(1))
  },
)

t.test('while messages are enabled the INTx line is not signalled', async (t) => {
  const { device, context, config, events, fds } = open(t)
  device.setIrqs('intx', 0, fds(1))
  config(MSI + 2, 1)
  context.setIntx(true)
  t.equal(events[0]?.drain(), 0)
  config(MSI + 2, 0)
  t.equal(events[0]?.drain(), 1)
})

t.test('a message needs bus mastering', async (t) => {
  const { device, context, config, events, fds } = open(t, 0b010)
  device.setIrqs('msix', 0, fds(1))
  context.raise(0)
  t.equal(events[0]?.drain(), 0)
  t.match(device.violations.take(), [{ code: 'ERR_ACCEL_BAD_ACCESS', message: /bus mastering is off/ }])
  config(4, 0b110)
  context.raise(0)
  t.equal(events[0]?.drain(), 1)
  config(4, 0b010)
  context.raise(0)
  t.equal(events[0]?.drain(), 0)
  device.assertClean()
})

t.test('errors and requests are armed beside any other kind, and no reset takes them', async (t) => {
  const { device, context, events, fds } = open(t)
  const [vector, error, request, other] = fds(4) as [number, number, number, number]
  const fired = () => events.slice(0, 4).map((event) => event.drain())
  device.setIrqs('msix', 0, [vector])
  device.setIrqs('err', 0, [error])
  device.setIrqs('req', 0, [request])
  device.faults.request()
  device.faults.error()
  context.raise(0)
  t.same(fired(), [1, 1, 1, 0])
  device.setIrqs('msix', 0, [])
  device.setIrqs('intx', 0, [vector])
  device.setIrqs('req', 0, [other])
  device.reset()
  context.setIntx(true)
  device.faults.request()
  device.faults.error()
  t.same(fired(), [0, 1, 0, 1], 'INTx was disarmed by the reset')
  t.throws(() => device.setIrqs('req', 0, fds(2)), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.throws(() => device.maskIrq('err', 0, true), { code: 'ERR_ACCEL_UNSUPPORTED' })
  t.throws(() => device.setIrqs('req', 0, [1]), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  device.setIrqs('req', 0, [])
  const reasons: string[] = []
  device.onRequest(({ message }) => reasons.push(message))
  device.faults.request('for maintenance')
  t.same(fired(), [0, 0, 0, 0])
  t.match(reasons, [/for maintenance/])
  device.onLost(({ code }) => reasons.push(code))
  device.setIrqs('err', 0, [-1])
  device.faults.error()
  t.equal(reasons[1], 'ERR_ACCEL_IO', 'with nobody to tell, the device is lost')
  device.faults.request()
  t.equal(reasons.length, 2, 'a device that is gone asks for nothing')
})

t.test('a function-level reset takes no eventfd: a guest that asks for one has armed others', async (t) => {
  for (const type of ['intx', 'msi', 'msix'] as const) {
    const { device, context, config, configRead, events, fds } = open(t, 0b110, true)
    device.setIrqs(type, 0, fds(1))
    if (type === 'intx') context.setIntx(true)
    t.equal(events[0]?.drain(), type === 'intx' ? 1 : 0)
    const express = MSIX + 12
    t.equal(configRead(express) & 0xff, 0x10)
    config(express + 8, 0x8000)
    config(4, 0b110)
    t.equal(context.irqMode, type)
    if (type === 'intx') context.setIntx(true)
    else context.raise(0)
    t.equal(events[0]?.drain(), 1, type)
  }
})

t.test('an interrupt takes an eventfd, of which the device keeps its own copy', async (t) => {
  const { device, context, fds, events } = open(t)
  const { fd } = createSealedMemory('no-eventfd', 4096)
  t.throws(() => device.setIrqs('msix', 0, [fd]), { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /memfd/ })
  sys.close(fd)
  t.throws(() => device.setIrqs('msix', 0, [fd]), { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /not open/ })
  const copy = sys.dup(fds(1)[0]!)
  device.setIrqs('msix', 0, [copy])
  sys.close(copy)
  context.raise(0)
  t.equal(events[0]?.drain(), 1)
})
