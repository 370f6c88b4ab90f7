import { setTimeout as sleep } from 'node:timers/promises'
import { type Device, openDevice, poll, type Transport, type VectorType } from '@uaccel/core'
import { isAccelError } from '@uaccel/uapi'
import type { Test } from 'tap'
import type { Bench, BenchDevice } from './bench.js'

/** What a check says: tap's, or in a worker thread something that sends it home. */
export interface Asserts {
  ok(value: unknown, what: string): void
  equal(found: unknown, wanted: unknown, what: string): void
}

/**
 * An interrupt may be on its way for so long: the device, the kernel and this process may be emulated, and a worker thread's
 * first watch starts a thread, which takes 30 ms of a processor, or 1 s of one that is emulated.
 */
const ARRIVE_MS = 30_000
/** Long enough for one that should not come. */
const QUIET_MS = 50

interface Stand {
  readonly transport: Transport
  readonly dev: Device
  readonly bench: Bench
}

/** Waits until a vector has fired so often. */
async function fired({ irqs }: Bench, vector: number, count: number): Promise<void> {
  const what = `interrupt ${count} of vector ${vector}`
  await poll(
    () => irqs.counts(vector).fired,
    (found) => found >= count,
    { timeoutMs: ARRIVE_MS, what },
  )
}

/** The checks, by name. Each gets the device anew. */
const checks: Readonly<Record<string, (a: Asserts, stand: Stand, type: VectorType) => Promise<void>>> = {
  async 'each vector fires once, and no other does'(a, { bench }) {
    const { irqs, vectors } = bench
    const before = Array.from({ length: irqs.count }, (_, i) => irqs.counts(i).fired)
    for (const vector of vectors) {
      await bench.fire(vector)
      await fired(bench, vector, ++before[vector])
    }
    await sleep(QUIET_MS)
    for (let vector = 0; vector < irqs.count; vector++) {
      const { fired, handled, coalesced } = irqs.counts(vector)
      a.equal(fired, before[vector], `vector ${vector} fired`)
      a.equal(handled + coalesced, fired, 'all were handled, alone or with others')
    }
  },

  async 'all vectors are taken at once, and a second time after they were released'(
    a,
    { bench, dev, transport },
    type,
  ) {
    const { irqs } = bench
    a.equal(irqs.type, type, 'kind')
    a.ok(
      irqs.count <= transport.irqs[type].count && irqs.count >= bench.vectors.length,
      'as many as there are',
    )
    const code = await dev.allocIrqVectors().then(
      () => 'none',
      (error) => isAccelError(error) && error.code,
    )
    a.equal(code, 'ERR_ACCEL_BUSY', 'one kind at a time')
    irqs.release()
    const again = await dev.allocIrqVectors({ min: irqs.count, types: [type] })
    a.equal(again.count, irqs.count, 'taken again')
    a.equal(again.counts(0).fired, 0, 'and counted anew')
  },

  async 'a burst: none is lost for good, and those that shared a call are counted'(a, { bench }) {
    const { irqs, vectors } = bench
    const before = vectors.map((vector) => irqs.counts(vector).fired)
    for (let i = 0; i < 10; i++) for (const vector of vectors) void bench.fire(vector).catch(() => {})
    for (const [i, vector] of vectors.entries()) await fired(bench, vector, before[i] + 1)
    a.ok(await bench.works(), 'the device works on')
    for (const [i, vector] of vectors.entries()) {
      const { fired, handled, coalesced } = irqs.counts(vector)
      a.ok(
        fired > before[i] && handled >= 1 && handled <= fired,
        `vector ${vector}: ${fired} in ${handled} calls`,
      )
      a.equal(coalesced, fired - handled, 'coalesced')
    }
  },

  async 'a thread that blocks for a vector is woken, and goes on at the limit'(
    a,
    { bench, dev, transport },
    type,
  ) {
    const vector = bench.vectors[bench.vectors.length - 1]
    bench.irqs.release()
    const irqs = await dev.allocIrqVectors({ min: bench.irqs.count, types: [type] })
    if (transport.attention === undefined) {
      let code: unknown
      try {
        irqs.waitSync(vector, { timeoutMs: 0 })
      } catch (error) {
        code = isAccelError(error) && error.code
      }
      a.equal(code, 'ERR_ACCEL_UNSUPPORTED', 'a clear no where the event loop has a part in it')
      return
    }
    a.equal(irqs.waitSync(vector, { timeoutMs: QUIET_MS }), 0, 'nothing fired')
    const firing = bench.fire(vector).catch(() => {})
    let count = 0
    for (const end = performance.now() + ARRIVE_MS; count === 0 && performance.now() < end; ) {
      count = irqs.waitSync(vector, { timeoutMs: 1000, spinUs: 50 })
      await sleep(0)
    }
    a.equal(count, 1, 'it fired')
    a.equal(irqs.counts(vector).fired, 1, 'and was counted')
    await firing
  },

  async 'a masked vector is silent, and fires when it is unmasked'(a, { bench, transport }, type) {
    const { irqs, vectors } = bench
    const vector = vectors[vectors.length - 1]
    if (!transport.irqs[type].maskable) {
      let code: unknown
      try {
        irqs.mask(vector)
      } catch (error) {
        code = isAccelError(error) && error.code
      }
      a.equal(code, 'ERR_ACCEL_UNSUPPORTED', 'a clear no where the transport cannot')
      return
    }
    const before = irqs.counts(vector).fired
    irqs.mask(vector)
    await bench.fire(vector)
    await sleep(QUIET_MS)
    a.equal(irqs.counts(vector).fired, before, 'silent while masked')
    irqs.unmask(vector)
    await fired(bench, vector, before + 1)
    a.ok(await bench.works(), 'the device works on')
  },
}

/** Runs one check with a device of its own. */
async function run(
  a: Asserts,
  name: string,
  type: VectorType,
  open: () => Promise<Transport>,
  device: BenchDevice,
): Promise<void> {
  const transport = await open()
  const dev = openDevice(transport)
  try {
    await checks[name](a, { transport, dev, bench: await device.bringUp(dev, type) }, type)
  } finally {
    await dev.release()
    await transport.close()
  }
}

/**
 * What interrupts of one kind must do, whatever device fires them and whatever transport carries them. `open` connects anew; the
 * suite closes what it gets.
 */
export function irqsContract(
  t: Test,
  type: VectorType,
  open: () => Promise<Transport>,
  device: BenchDevice,
): void {
  for (const name of Object.keys(checks)) {
    t.test(`${type}: ${name}`, (t) => run(t as unknown as Asserts, name, type, open, device))
  }
}

/** The same in a thread that tap does not reach. Answers what failed. */
export async function irqFailures(
  type: VectorType,
  open: () => Promise<Transport>,
  device: BenchDevice,
): Promise<string[]> {
  const failures: string[] = []
  for (const name of Object.keys(checks)) {
    const told = (what: string) => failures.push(`${type}: ${name}: ${what}`)
    const asserts: Asserts = {
      ok: (value, what) => void (value || told(what)),
      equal: (found, wanted, what) =>
        void (Object.is(found, wanted) || told(`${what}: ${found}, wanted ${wanted}`)),
    }
    await run(asserts, name, type, open, device).catch((error) => told(String(error)))
  }
  return failures
}
