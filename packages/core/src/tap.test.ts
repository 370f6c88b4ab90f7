import { sys } from '@uaccel/sys'
import t from 'tap'
import { openDevice } from './device.js'
import { FakeTransport } from './fake-transport.test.support.js'
import { flag } from './fields.js'
import { reg8, reg16, reg32, reg64, registers } from './registers.js'
import type { DeviceTap } from './tap.js'

const Registers = registers({
  ID: reg32(0x00, 'ro'),
  CTRL: reg32(0x04, 'rw', { go: flag(0), irq: flag(7) }),
  BYTE: reg8(0x08, 'rw'),
  HALF: reg16(0x0a, 'rw'),
  BASE: reg64(0x10, 'rw'),
})

/** Writes down what it is told. */
function scribe() {
  const lines: string[] = []
  const note =
    (what: string) =>
    (...args: unknown[]) =>
      void lines.push([what, ...args.map((arg) => (arg instanceof Object ? 'map' : `${arg}`))].join(' '))
  const tap: DeviceTap = {
    named: note('named'),
    read: note('read'),
    write: note('write'),
    copied: note('copied'),
    irq: note('irq'),
    dmaMapped: note('map'),
    dmaUnmapped: note('unmap'),
    queued: note('queued'),
    started: note('started'),
    completed: note('completed'),
  }
  return { tap, take: () => lines.splice(0) }
}

const turn = () => new Promise((resolve) => setTimeout(resolve, 20))

for (const trapBars of [false, true]) {
  t.test(`a tap is told of all, ${trapBars ? 'by calls' : 'mapped'}`, async (t) => {
    const transport = new FakeTransport()
    await using dev = openDevice(transport, { trapBars })
    await dev.enable({ busMaster: true })
    const bar = await dev.mapBar(0, Registers)
    const memory = await dev.mapMemory(0, { offset: 0x1000 })
    const buffer = dev.dma.alloc(4096)
    const { tap, take } = scribe()
    const touch = () => {
      bar.ID.read()
      bar.CTRL.write({ irq: true })
      bar.CTRL.update({ go: true })
      bar.BYTE.write(0x1ff)
      bar.HALF.write(-1)
      bar.BASE.write(2n ** 64n + 5n)
      bar.BASE.read()
      memory.write32(8, -2)
      memory.read64(8)
      memory.writeBytes(16, new Uint8Array(3))
      memory.readBytes(16, new Uint8Array(2))
    }
    touch()
    t.same(take(), [], 'nobody is told of what was before')

    const stop = dev.follow(tap)
    t.throws(() => dev.follow(tap), { code: 'ERR_ACCEL_BUSY' })
    const [named, mapped, ...rest] = take()
    t.equal(named, 'named 0 map')
    t.match(mapped, /^map \d+ \d+ readwrite$/)
    t.same(rest, [])
    touch()
    t.same(take(), [
      'read 0 0 4 0',
      'write 0 4 4 128',
      'read 0 4 4 128',
      'write 0 4 4 129',
      'write 0 8 1 255',
      'write 0 10 2 65535',
      'write 0 16 8 5',
      'read 0 16 8 5',
      'write 0 4104 4 4294967294',
      'read 0 4104 8 4294967294',
      'copied device 0 4112 3',
      'copied host 0 4112 2',
    ])
    dev.config.read16(0)
    t.same(take(), ['read 7 0 2 4660'])
    const late = await dev.mapBar(0, registers({ LATE: reg32(0x20, 'rw') }))
    late.LATE.write(1)
    t.same(take(), ['named 0 map', 'write 0 32 4 1'], 'what is mapped later too')
    const big = dev.dma.alloc(4 << 20)
    t.match(take().at(-1), /^map /)
    big.free()
    t.match(take().at(-1), /^unmap /)

    await dev.reset()
    take()
    bar.CTRL.write(1)
    t.same(take(), ['write 0 4 4 1'], 'over a reset')

    stop()
    stop()
    touch()
    buffer.free()
    t.same(take(), [])
    const again = scribe()
    dev.follow(again.tap)
    again.take()
    bar.CTRL.write(1)
    t.same(again.take(), ['write 0 4 4 1'], 'and anew')
  })
}

t.test('interrupts are told before their handler runs', async (t) => {
  const transport = new FakeTransport({ irqs: { msi: { count: 2 } } })
  await using dev = openDevice(transport)
  await dev.enable()
  const irqs = await dev.allocIrqVectors({ min: 2 })
  const { tap, take } = scribe()
  const seen: string[][] = []
  irqs.handle(0, () => seen.push(take()))
  const stop = dev.follow(tap)
  irqs.handle(1, () => seen.push(take()))
  const fds = transport.armed.get('msi')!
  const fire = async (vector: number) => {
    sys.write(fds[vector], new Uint8Array(new BigUint64Array([2n]).buffer))
    await turn()
  }
  await fire(0)
  await fire(1)
  stop()
  await fire(0)
  t.same(seen, [['irq 0 2'], ['irq 1 2'], []])
})

t.test(
  'who is released is not followed any more; of a window that was taken back nobody is told',
  async (t) => {
    const dev = openDevice(new FakeTransport())
    await dev.enable()
    const bar = await dev.mapBar(0, Registers)
    const { tap, take } = scribe()
    const told: boolean[] = []
    dev.onFollow((now) => told.push(now !== undefined))
    dev.follow(tap)
    await dev.release()
    take()
    for (const touch of [() => bar.CTRL.write(1), () => bar.BASE.write(1), () => bar.ID.read()])
      t.throws(touch, { code: 'ERR_ACCEL_NO_DEVICE' })
    t.same(take(), [])
    t.same(told, [true, false])
    t.throws(() => dev.follow(tap), { code: 'ERR_ACCEL_NO_DEVICE' })
  },
)
