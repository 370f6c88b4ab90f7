import { type Device, openDevice, type Transport } from '@uaccel/core'
import fc from 'fast-check'
import type { Test } from 'tap'
import { type IrqMode, Npu } from '../src/driver.js'
import { cases } from './cases.js'
import { checkOperation, checkResult, places, prepare } from './check.js'
import { errorCases } from './errors.js'
import { lifeCases } from './life.js'
import { tensorCases } from './tensor-cases.js'
import { tensorErrorCases } from './tensor-errors.js'

export { npuBench } from './bench.js'
export { checkOperation, endOf } from './check.js'
export { type QueuesContractOptions, queuesContract } from './queues.js'

/** How the suite reaches an NPU, and how patient it is. */
export interface NpuContractOptions<T extends Transport> {
  /** Reaches every register and doorbell by a call of the transport, also where BARs could be mapped. */
  readonly trapped?: boolean
  /** Random cases of each operation. Default 50. */
  readonly runs?: number
  /** Ways to learn of completions that the transport has. Default all three. */
  readonly irqs?: readonly Exclude<IrqMode, 'auto'>[]
  /** Looks at the device after each test, such as for violations that a model kept. */
  verify?(transport: T): void
}

/** An NPU for one test. */
export interface Bench {
  readonly transport: Transport
  readonly device: Device
  readonly npu: Npu
}

/** Runs `work` with a device that was opened anew. */
export type WithNpu = (work: (bench: Bench) => Promise<void>, irq?: IrqMode) => Promise<void>

/**
 * What docs/devices/npu.md promises, through the driver, on any transport. `open` connects to a device in test mode (9.18) anew; the
 * suite closes what it gets.
 */
export function npuContract<T extends Transport>(
  t: Test,
  open: () => Promise<T>,
  { trapped = false, runs = 50, irqs = ['msix', 'intx', 'poll'], verify }: NpuContractOptions<T> = {},
): void {
  const withNpu: WithNpu = async (work, irq = 'auto') => {
    const transport = await open()
    try {
      const device = await openDevice(transport, { trapBars: trapped })
      try {
        await work({ transport, device, npu: await Npu.start(device, { irq }) })
      } finally {
        await device.release()
      }
      verify?.(transport)
    } finally {
      await transport.close()
    }
  }

  for (const name of Object.keys(cases)) {
    t.test(`${name} gives what the reference gives`, (t) =>
      withNpu(async ({ npu }) => {
        await checkOperation(await npu.createContext(), name, runs)
        t.pass(`${runs} random cases`)
      }),
    )
  }

  for (const name of Object.keys(tensorCases)) {
    t.test(`${name} on tensors with strides gives what the reference gives`, (t) =>
      withNpu(async ({ npu }) => {
        await checkOperation(await npu.createContext(), name, runs)
        t.pass(`${runs} random cases`)
      }),
    )
  }

  for (const irq of irqs) {
    t.test(`many jobs in flight, by ${irq}`, (t) =>
      withNpu(async ({ npu }) => {
        t.equal(npu.irqMode, irq)
        // A ring of 15 usable entries: it wraps, and most jobs wait for it.
        const context = await npu.createContext({ ringEntries: 16 })
        const jobs = fc.sample(cases.matmul, { numRuns: 60, seed: 7 }).map((one) => {
          const at = places(context)
          return { one, at, job: prepare(context, one, at) }
        })
        await context.run(jobs.map(({ job }) => job))
        for (const { one, at } of jobs) checkResult(one, at)
        t.equal(context.inFlight, 0)
        const single = jobs[0]
        for (let i = 0; i < 40; i++) await context.run(single.job)
        checkResult(single.one, single.at)
      }, irq),
    )
  }

  t.test('each job of a batch ends by itself', (t) =>
    withNpu(async ({ npu }) => {
      const context = await npu.createContext()
      const buffer = context.allocate(256)
      const job = (pattern: number, length = 4) =>
        context.encode([{ op: 'fill', y: { buffer }, length, pattern }])
      const good = job(0x01020304)
      const bad = job(0, 1)
      bad.words[12] = 0 // LENGTH
      const ends = await Promise.allSettled([context.run(good), context.run(bad), context.run(good)])
      t.strictSame(
        ends.map(({ status }) => status),
        ['fulfilled', 'rejected', 'fulfilled'],
      )
      t.strictSame([...buffer.u8.subarray(0, 5)], [4, 3, 2, 1, 0])
    }),
  )

  t.test('steps of a job run one after another, and unordered ones behind a fence', (t) =>
    withNpu(async ({ npu }) => {
      const context = await npu.createContext()
      const buffer = context.allocate(64 * 1024)
      const y = (offset: number) => ({ buffer, offset })
      const length = 8192
      await context.run(
        context.encode([
          { op: 'fill', y: y(0), length, pattern: 0x55555555, unordered: true },
          { op: 'fill', y: y(length), length: 16, pattern: 0x66666666, unordered: true },
          { op: 'nop', fence: true },
          { op: 'copy', x: y(0), y: y(2 * length), length: length + 16 },
          { op: 'copy', x: y(2 * length), y: y(4 * length), length: length + 16 },
        ]),
      )
      const found = buffer.u8.subarray(4 * length, 5 * length + 17)
      t.ok(found.subarray(0, length).every((byte) => byte === 0x55))
      t.ok(found.subarray(length, length + 16).every((byte) => byte === 0x66))
      t.equal(found[length + 16], 0)
    }),
  )

  t.test('a job is patched and run again', (t) =>
    withNpu(async ({ npu }) => {
      const context = await npu.createContext()
      const [one, two, to] = [context.allocate(64), context.allocate(64), context.allocate(64)]
      one.u8.fill(1)
      two.u8.fill(2)
      const job = context.encode([{ op: 'copy', x: { buffer: one }, y: { buffer: to }, length: 64 }])
      await context.run(job)
      t.equal(to.u8[63], 1)
      job.patch(0, 'a', { buffer: two, offset: 0 })
      await context.run(job)
      t.equal(to.u8[63], 2)
      t.throws(() => job.patch(0, 'a', { buffer: two, offset: 1 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
      t.throws(() => job.patch(0, 'b', { buffer: two }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
      two.free()
      await t.rejects(context.run(job), { code: 'ERR_ACCEL_REVOKED' })
    }),
  )

  t.test('on-card memory, from here and for the device', (t) =>
    withNpu(async ({ npu }) => {
      const context = await npu.createContext({ cardBytes: 256 * 1024 })
      const at = places(context, 'card')
      for (const one of fc.sample(cases.conv2d, { numRuns: 10, seed: 11 })) {
        await context.run(prepare(context, one, at))
        checkResult(one, at)
      }
      t.equal(at.d.buffer.place, 'card')
      t.throws(() => at.d.buffer.u8, { code: 'ERR_ACCEL_UNSUPPORTED' })
      t.throws(() => context.allocate(256 * 1024, { place: 'card' }), { code: 'ERR_ACCEL_NO_MEMORY' })
      await t.rejects(npu.createContext({ cardBytes: npu.capabilities.cardBytes }), {
        code: 'ERR_ACCEL_NO_MEMORY',
      })
    }),
  )

  t.test('counters count, freeze and clear', (t) =>
    withNpu(async ({ npu }) => {
      const context = await npu.createContext()
      npu.clearCounters()
      const at = places(context)
      const none = { type: 'uint8', zero: 0 } as const
      const job = context.encode([
        {
          op: 'matmul',
          m: 3,
          k: 5,
          n: 7,
          a: { at: at.a, ...none },
          b: { at: at.b, ...none },
          channels: at.c,
          y: { at: at.d, ...none },
        },
      ])
      const cycles = await context.run([job, job])
      const found = npu.counters()
      t.match(found, {
        descriptors: 2,
        errors: 0,
        macs: 2 * 105,
        bytesRead: 2 * (15 + 35 + 56 + 48),
        bytesWritten: 42,
      })
      t.ok(found.cyclesBusy > 0 && cycles > 0, 'time was spent')
      npu.clearCounters()
      t.match(npu.counters(), { descriptors: 0, macs: 0, bytesRead: 0, cyclesBusy: 0 })
    }),
  )

  errorCases(t, withNpu)
  tensorErrorCases(t, withNpu)
  lifeCases(t, withNpu)
}
