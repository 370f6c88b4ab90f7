import { setTimeout as sleep } from 'node:timers/promises'
import { Accel, type AccelDevice, accelDriver } from '@uaccel/accel'
import { reg32, registers, type Transport } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { eduModel } from '@uaccel/driver-edu/model'
import { Bar0 } from '@uaccel/driver-edu/registers'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { defineModel, type Loopback, loopback, registerBank } from '@uaccel/model'
import { cmd, u32, uapi } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { leavesNothing } from './index.js'

/** The loopback, but still open when the subsystem closes it: what the device holds can be looked at afterwards. */
function keptOpen(transport: Loopback): Transport {
  return new Proxy<Transport>(transport, {
    get(target, key) {
      if (key === 'close') return async () => {}
      const member: unknown = Reflect.get(target, key, target)
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
}

/** Nothing is mapped for the device, no interrupt is armed, and it may not master the bus. */
function assertFree(t: Test, transport: Loopback): void {
  t.equal(transport.function.dma.size, 0, 'no mapping for the device')
  t.equal(transport.read(7, 4, 2) & 0b100, 0, 'no bus mastering')
  transport.setIrqs('intx', [])
  transport.assertClean()
}

t.test('a probe that throws midway leaves nothing, wherever it throws', async (t) => {
  const steps = ['enable', 'bar', 'dma', 'irqs', 'defer', 'end'] as const
  for (const step of steps) {
    await leavesNothing(t, async () => {
      const log: string[] = []
      const reached = (here: string) => {
        if (here === step) throw new Error(`stopped at ${here}`)
      }
      await using accel = new Accel()
      accel.register(
        accelDriver({
          ...edu,
          async probe(dev) {
            await dev.enable({ busMaster: true })
            reached('enable')
            const bar = await dev.mapBar(0, Bar0)
            reached('bar')
            const region = dev.dma.alloc(4096)
            dev.dma.alloc(4 << 20)
            dev.defer(() => {
              bar.ID.read()
              region.u8.fill(1)
              log.push('released while BAR and memory were there')
            })
            reached('dma')
            const irqs = await dev.allocIrqVectors()
            irqs.handle(0, () => {})
            reached('irqs')
            dev.defer(() => void log.push('last first'))
            reached('defer')
            const probed = await edu.probe(dev) // takes a second set of interrupts: refused
            reached('end')
            return probed
          },
        }),
      )
      const transport = loopback(eduModel)
      const failure = step === 'end' ? { code: 'ERR_ACCEL_BUSY' } : { message: `stopped at ${step}` }
      await t.rejects(
        accel.add(keptOpen(transport)),
        { code: 'ERR_ACCEL_PROBE_FAILED', cause: failure },
        step,
      )
      const expected = ['released while BAR and memory were there', 'last first']
      t.same(log.reverse(), expected.slice(0, [0, 0, 1, 1, 2, 2][steps.indexOf(step)]))
      assertFree(t, transport)
      await transport.close()
    })
  }
})

t.test('a device that vanishes with commands in flight', async (t) => {
  await leavesNothing(t, async () => {
    const accel = new Accel()
    const events: string[] = []
    accel.on('lost', (node, reason) => events.push(`lost ${node.name}: ${reason.message}`))
    accel.on('error', (error) => events.push(`error ${error.message}`))
    const removed = new Promise<void>((resolve) => accel.once('removed', () => resolve()))
    accel.register(edu)
    const transport = loopback(eduModel)
    await accel.add(transport)
    const clients = [accel.open(eduUapi, 'accel0'), accel.open(eduUapi, 'accel0')]
    const calls = [
      clients[0].call('factorial', { n: 2 ** 30 }),
      clients[1].call('factorial', { n: 5 }),
      clients[1].call('echo', { data: new Uint8Array(4000) }),
    ]
    const outcomes = Promise.allSettled(calls)
    await sleep(5)
    const start = performance.now()
    transport.vanish('pulled out')
    for (const outcome of await outcomes) {
      t.match(outcome, {
        status: 'rejected',
        reason: { code: 'ERR_ACCEL_NO_DEVICE', cause: { message: /pulled out/ } },
      })
    }
    t.match(await clients[0].lost, { message: /pulled out/ })
    await removed
    t.ok(performance.now() - start < 1000, 'without waiting for the hardware')
    t.match(events, [/lost accel0: .*pulled out/])
    t.equal(events.length, 1)
    await t.rejects(clients[0].call('identify', {}), { code: 'ERR_ACCEL_NO_DEVICE' })
    await Promise.all(clients.map((client) => client.close()))
    await accel.close()
  })
})

t.test('a transfer in flight when its device is removed ends before its memory goes', async (t) => {
  await leavesNothing(t, async () => {
    const accel = new Accel()
    accel.register(edu)
    const transport = loopback(eduModel, { model: { dmaNs: 50e6 } })
    await accel.add(keptOpen(transport))
    const call = accel.open(eduUapi, 'accel0').call('echo', { data: new Uint8Array(100) })
    const rejected = t.rejects(call, { code: 'ERR_ACCEL_NO_DEVICE' })
    await sleep(5)
    await accel.remove('accel0')
    await rejected
    t.equal(transport.read64(0, 0x98) & 1n, 0n, 'the engine is idle')
    assertFree(t, transport)
    await transport.close()
  })
})

t.test('a device that hangs is reset and works again, for other opens too', async (t) => {
  await leavesNothing(t, async () => {
    const accel = new Accel({ limits: { recoverMs: 50 } })
    accel.register(edu)
    const transport = loopback(eduModel)
    await accel.add(transport)
    const [culprit, other] = [accel.open(eduUapi, 'accel0'), accel.open(eduUapi, 'accel0')]
    transport.faults.hang()
    const late = t.rejects(culprit.call('factorial', { n: 5 }, { timeoutMs: 20 }), {
      code: 'ERR_ACCEL_TIMEOUT',
    })
    accel.once('error', () => transport.faults.hang(false))
    const waiting = other.call('factorial', { n: 6 })
    await late
    t.same(await waiting, { value: 720 })
    t.same(await culprit.call('factorial', { n: 7 }), { value: 5040 })
    transport.assertClean()
    await accel.close()
  })
})

t.test('a lost interrupt costs its call, not the device', async (t) => {
  const accel = new Accel()
  t.teardown(() => accel.close())
  accel.register(edu)
  const transport = loopback(eduModel)
  await accel.add(transport)
  const dev = accel.open(eduUapi, 'accel0')
  transport.faults.lostInterrupt()
  await t.rejects(dev.call('factorial', { n: 5 }, { timeoutMs: 50 }), { code: 'ERR_ACCEL_TIMEOUT' })
  t.same(await dev.call('factorial', { n: 6 }), { value: 720 })
  transport.assertClean()
})

/** A card with a register and memory that the driver maps. */
const card = defineModel({
  identity: { name: 'card', vendor: 0x1234, device: 0xca2d, classCode: 0x120000 },
  bars: [
    { index: 0, sizeBytes: 4096, kind: 'mem32' },
    { index: 2, sizeBytes: 8192, kind: 'mem64', memory: [{ name: 'store', offset: 0, sizeBytes: 8192 }] },
  ],
  interrupts: { msi: 1 },
  create() {
    const bank = registerBank([{ name: 'scratch', offset: 0, width: 4, access: 'rw' }])
    return {
      read: (_bar, offset, width) => bank.read(offset, width),
      write: (_bar, offset, width, value) => bank.write(offset, width, value),
      reset: () => bank.reset(),
    }
  },
})
const Card0 = registers({ SCRATCH: reg32(0, 'rw') })
const Card2 = registers({ WORD: reg32(8, 'rw') })

for (const [how, end] of [
  ['removed', async (accel: Accel) => accel.remove('accel0')],
  [
    'lost',
    async (accel: Accel, transport: Loopback) => {
      const removed = new Promise<void>((resolve) => accel.once('removed', () => resolve()))
      transport.vanish()
      await removed
    },
  ],
] as const) {
  t.test(`what a driver kept of a device that was ${how} is inert`, async (t) => {
    await leavesNothing(t, async () => {
      const accel = new Accel()
      let kept: Awaited<ReturnType<typeof take>> | undefined
      async function take(dev: AccelDevice) {
        await dev.enable({ busMaster: true })
        const region = dev.dma.alloc(4096)
        return {
          dev,
          trapped: await dev.mapBar(0, Card0),
          mapped: await dev.mapBar(2, Card2),
          store: await dev.mapMemory(2),
          region,
          bytes: region.u8,
        }
      }
      accel.register(
        accelDriver({
          name: 'card',
          uapi: uapi({ name: 'card', version: 1, commands: { get: cmd(0x40, { out: { value: u32 } }) } }),
          ids: [{ bus: 'pci', classCode: 0x120000, classMask: 0xffff00 }],
          async probe(dev) {
            kept = await take(dev)
            kept.mapped.WORD.write(7)
            return { commands: { get: () => ({ value: kept!.store.read32(8) }) } }
          },
        }),
      )
      const transport = loopback(card)
      await accel.add(transport)
      t.equal(kept!.store.read32(8), 7, 'two views of one memory')
      kept!.bytes[0] = 1
      await end(accel, transport)

      const { dev, trapped, mapped, store, region, bytes } = kept!
      const gone: Record<string, () => unknown> = {
        'trapped read': () => trapped.SCRATCH.read(),
        'trapped write': () => trapped.SCRATCH.write(1),
        'mapped read': () => mapped.WORD.read(),
        'mapped write': () => mapped.WORD.write(1),
        'memory read': () => store.read32(8),
        'memory write': () => store.write32(8, 1),
        'memory readBytes': () => store.readBytes(0, new Uint8Array(8)),
        'config space': () => dev.config.read16(0),
        dma: () => dev.dma,
        defer: () => dev.defer(() => {}),
      }
      for (const [name, touch] of Object.entries(gone)) t.throws(touch, { code: 'ERR_ACCEL_NO_DEVICE' }, name)
      t.throws(() => region.u8, { code: 'ERR_ACCEL_REVOKED' })
      bytes.fill(0xff)
      t.pass('a raw array that outlived its region reaches inert memory')
      await t.rejects(dev.enable(), { code: 'ERR_ACCEL_NO_DEVICE' })
      await t.rejects(dev.mapBar(0, Card0), { code: 'ERR_ACCEL_NO_DEVICE' })
      await t.rejects(dev.allocIrqVectors(), { code: 'ERR_ACCEL_NO_DEVICE' })
      t.ok(dev.signal.aborted)
      await accel.close()
    })
  })
}
