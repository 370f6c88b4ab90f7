import t from 'tap'
import { ManualClock } from './clock.js'
import { defineModel } from './definition.js'
import { loopback } from './loopback.js'
import { type ModelEvent, observed } from './observe.js'
import { registerBank } from './registers.js'

const plain = defineModel({
  identity: { name: 'adder', vendor: 0x1234, device: 0xadde, classCode: 0x120000 },
  bars: [{ index: 0, sizeBytes: 4096, kind: 'mem32' }],
  interrupts: { intx: true },
  create(context) {
    const bank = registerBank([
      { name: 'COUNT', offset: 0x00, width: 4, access: 'rw' },
      { name: 'SUM', offset: 0x08, width: 8, access: 'ro', reset: 7n },
      { name: 'GO', offset: 0x10, width: 4, access: 'wo', write: go },
      { name: 'SLOT', offset: 0x20, width: 4, access: 'rw', count: 2 },
    ])
    function go(iova: number): void {
      context.clock.after(10, () => {
        context.setIntx(true)
        context.dma.read(BigInt(iova), new Uint8Array(8))
      })
    }
    return {
      read: (_bar, offset, width) => bank.read(offset, width),
      write: (_bar, offset, width, value) => bank.write(offset, width, value),
      describe: (_bar, offset) => bank.describe(offset),
      reset: () => bank.reset(),
    }
  },
})

t.test('an observer is told what the device saw and did, by name and in order', async (t) => {
  const events: ModelEvent[] = []
  const clock = new ManualClock()
  const device = loopback(
    observed(plain, (event) => events.push(event)),
    { clock, strict: false },
  )
  t.teardown(() => device.close())
  device.write(7, 4, 2, 0x6)
  device.write(0, 0x00, 4, 5)
  t.equal(device.read(0, 0x00, 4), 5)
  t.equal(device.read64(0, 0x08), 7n)
  device.write(0, 0x24, 4, 9)
  device.read(0, 0x30, 4)
  device.write(0, 0x10, 4, 0x1000)
  clock.step(10)
  await device.reset()
  t.match(events, [
    { kind: 'write', bar: 0, offset: 0, width: 4, value: 5, name: 'COUNT' },
    { kind: 'read', value: 5, name: 'COUNT' },
    { kind: 'read', width: 8, value: 7n, name: 'SUM' },
    { kind: 'write', value: 9, name: 'SLOT[1]' },
    { kind: 'read', value: undefined, name: 'BAR0+0x30' },
    { kind: 'write', value: 0x1000, name: 'GO' },
    { kind: 'line', asserted: true },
    { kind: 'dmaRead', iova: 0x1000n, sizeBytes: 8, failed: /adder/ },
    { kind: 'reset' },
  ])
  t.equal(events.length, 9)
  t.match(device.violations[0]?.message, /declares no register at 0x30/, 'as without an observer')
})
