import { setTimeout as sleep } from 'node:timers/promises'
import { type Device, openDevice, poll, type ResetKind, type Transport, type VectorType } from '@uaccel/core'
import type { Test } from 'tap'
import type { Bench, BenchDevice } from './bench.js'
import { leavesNothing } from './resources.js'

/** How much of the suite. */
export interface ResetContractOptions {
  /** The kind of interrupt that must come back. Default: the best that the transport has. */
  readonly type?: VectorType
  /** Resets under load. Default 5. */
  readonly rounds?: number
}

/** Offset of the command register, and its bits (PCI 3.0, 6.2.2). */
const COMMAND = 0x04
const MEMORY_AND_BUS_MASTER = 0b110
const ARRIVE_MS = 5000

/**
 * What a reset must leave, of each kind that the transport has. `open` connects anew; the suite closes what it gets.
 */
export function resetContract(
  t: Test,
  open: () => Promise<Transport>,
  device: BenchDevice,
  options: ResetContractOptions = {},
): void {
  const { rounds = 5 } = options

  async function withBench(
    work: (stand: { dev: Device; bench: Bench; transport: Transport }) => Promise<void>,
  ): Promise<void> {
    const transport = await open()
    const best = (['msix', 'msi', 'intx'] as const).find((type) => transport.irqs[type].count > 0)
    const dev = openDevice(transport)
    try {
      const bench = await device.bringUp(dev, options.type ?? best!)
      await work({ dev, bench, transport })
    } finally {
      await dev.release()
      await transport.close()
    }
  }

  async function reset(dev: Device, bench: Bench, kind: ResetKind): Promise<void> {
    await bench.beforeReset?.()
    await dev.reset({ kind })
    await bench.afterReset?.()
  }

  /** The device does its work, may master the bus, and its interrupts arrive at the handlers that were there before. */
  async function asBefore(t: Test, dev: Device, bench: Bench): Promise<void> {
    t.equal(
      dev.config.read16(COMMAND) & MEMORY_AND_BUS_MASTER,
      MEMORY_AND_BUS_MASTER,
      'decoding and mastering',
    )
    t.ok(await bench.works(), 'the device works')
    for (const vector of bench.vectors) {
      const { fired } = bench.irqs.counts(vector)
      await bench.fire(vector)
      await poll(
        () => bench.irqs.counts(vector).fired,
        (now) => now > fired,
        { timeoutMs: ARRIVE_MS, what: `vector ${vector}` },
      )
    }
  }

  t.test('kinds of reset that the transport does not have', async (t) => {
    await withBench(async ({ dev, bench, transport }) => {
      t.strictSame(dev.resets, transport.resets)
      t.equal(dev.resettable, transport.resets.length > 0)
      for (const kind of ['function', 'hot'] as const) {
        if (dev.resets.includes(kind)) continue
        await t.rejects(dev.reset({ kind }), { code: 'ERR_ACCEL_UNSUPPORTED' }, kind)
      }
      if (!dev.resettable) await t.rejects(dev.reset(), { code: 'ERR_ACCEL_UNSUPPORTED' })
      await asBefore(t, dev, bench)
    })
  })

  for (const kind of ['function', 'hot'] as const) {
    /** Whether there is anything to test. */
    const offered = (dev: Device, t: Test) => {
      if (dev.resets.includes(kind)) return true
      t.pass(`the transport has no ${kind} reset here`)
      return false
    }

    t.test(`${kind} reset of an idle device`, async (t) => {
      await withBench(async ({ dev, bench }) => {
        if (!offered(dev, t)) return
        await asBefore(t, dev, bench)
        await bench.beforeReset?.()
        const resetting = dev.reset({ kind })
        t.throws(() => dev.config.read16(0), { code: 'ERR_ACCEL_NO_DEVICE', message: /being reset/ })
        await t.rejects(bench.works(), { code: /^ERR_ACCEL_(NO_DEVICE|IO)$/ }, 'views are revoked')
        await resetting
        await bench.afterReset?.()
        await asBefore(t, dev, bench)
        t.notOk(dev.signal.aborted)
      })
    })

    t.test(`${kind} reset under load, ${rounds} times`, async (t) => {
      await leavesNothing(t, async () => {
        await withBench(async ({ dev, bench }) => {
          if (!offered(dev, t)) return
          for (let round = 0; round < rounds; round++) {
            bench.load()
            await sleep(round)
            await reset(dev, bench, kind)
            t.ok(await bench.works(), `round ${round}`)
          }
          await asBefore(t, dev, bench)
        })
      })
    })

    t.test(`a release right after a ${kind} reset has begun`, async (t) => {
      const transport = await open()
      const dev = openDevice(transport)
      await dev.enable({ busMaster: true })
      if (offered(dev, t)) {
        const resetting = dev.reset({ kind })
        await dev.release()
        await resetting
        t.throws(() => dev.config.read16(0), { code: 'ERR_ACCEL_NO_DEVICE', message: /released/ })
      } else await dev.release()
      await transport.close()
    })
  }

  t.test('sleep, where the transport has it', async (t) => {
    await withBench(async ({ dev, bench }) => {
      if (!dev.canSleep) {
        await t.rejects(dev.sleep(), { code: 'ERR_ACCEL_UNSUPPORTED' })
        await asBefore(t, dev, bench)
        return
      }
      await bench.beforeReset?.()
      await dev.sleep()
      await t.rejects(bench.works(), { code: /^ERR_ACCEL_(NO_DEVICE|IO)$/ })
      t.throws(() => dev.config.read16(0), { code: 'ERR_ACCEL_NO_DEVICE', message: /sleeps/ })
      await t.rejects(dev.reset(), { code: /^ERR_ACCEL_(BUSY|UNSUPPORTED)$/ })
      await dev.wake()
      await bench.afterReset?.()
      await asBefore(t, dev, bench)
      await bench.beforeReset?.()
      await dev.sleep() // and is released so
    })
  })
}
