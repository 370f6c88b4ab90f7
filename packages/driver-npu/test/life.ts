import { type Device, poll } from '@uaccel/core'
import type { Test } from 'tap'
import type { NpuContext } from '../src/context.js'
import type { NpuJob } from '../src/driver.js'
import { channelTable } from '../src/operations.js'
import { NpuRegisters } from '../src/registers.js'
import { endOf, type WithNpu } from './contract.js'

const TEST_HANG = 0xc0
const TEST_FATAL = 0xc1
const FREE_QUEUE = 15

/** A job of one step that is not in the driver's vocabulary. */
function rawJob(context: NpuContext, opcode: number, pattern = 0): NpuJob {
  const job = context.encode([{ op: 'nop' }])
  job.words[0] = opcode | 0x400
  job.words[13] = pattern
  return job
}

/** A job that takes the device about a millisecond. */
function slowJob(context: NpuContext): NpuJob {
  const tensor = (size: number) => ({ at: { buffer: context.allocate(size) }, type: 'uint8' }) as const
  const size = 100
  const channels = {
    buffer: context.allocateFrom(channelTable(new Array(size).fill(0), new Array(size).fill(1))),
  }
  const square = size * size
  return context.encode([
    {
      op: 'matmul',
      m: size,
      k: size,
      n: size,
      a: tensor(square),
      b: tensor(square),
      channels,
      y: tensor(square),
    },
  ])
}

async function works(t: Test, context: NpuContext): Promise<void> {
  const buffer = context.allocate(16)
  const job = context.encode([{ op: 'fill', y: { buffer }, length: 16, pattern: 0x01010101 }])
  t.equal(await endOf(context.run(job)), 'SUCCESS')
  t.equal(buffer.u8[15], 1)
}

const registersOf = (device: Device) => device.mapBar(0, NpuRegisters)

/** Start, stop, fatal errors, hangs and resets: sections 5.6, 10.2, 10.3 and 11. */
export function lifeCases(t: Test, withNpu: WithNpu): void {
  t.test('capability registers', (t) =>
    withNpu(async ({ device, npu }) => {
      const bar = await registersOf(device)
      t.equal(bar.ID.read(), 0x3155504e)
      t.equal(bar.VERSION.read(), 0x00010100)
      t.equal(bar.CAP0.read(), 0x03e80810)
      t.equal(bar.CAP1.read(), 0x201a16c1)
      t.equal(bar.OPCODES_LO.read(), 0x003f0007)
      t.equal(bar.OPCODES_HI.read(), 0xff)
      t.equal(bar.DTYPES.read(), 0x39e)
      t.match(device.identity, { bus: 'pci', classCode: 0x120000 })
      t.match(npu.capabilities, {
        version: '1.1.0',
        queues: 16,
        windows: 8,
        maxRingEntries: 4096,
        cardBytes: 16 * 1024 * 1024,
      })
    }),
  )

  t.test('a queue is stopped: what was submitted is answered', (t) =>
    withNpu(async ({ npu }) => {
      const context = await npu.createContext({ ringEntries: 16 }) // the rest waits in the host, however fast the device
      const job = slowJob(context)
      const runs = Array.from({ length: 100 }, () => endOf(context.run(job)))
      await context.close()
      const ends = await Promise.all(runs)
      const done = ends.filter((end) => end === 'SUCCESS').length
      t.ok(
        ends.every((end, i) => (i < done ? end === 'SUCCESS' : /^(ABORTED 0|ERR_ACCEL_CLOSED)$/.test(end))),
        `${done} done, the rest aborted`,
      )
      t.ok(done < 100)
      t.throws(() => context.allocate(1), { code: 'ERR_ACCEL_CLOSED' })
      await context.close()
      await works(t, await npu.createContext())
    }),
  )

  t.test('sixteen queues, and no seventeenth', (t) =>
    withNpu(async ({ npu }) => {
      const contexts = await Promise.all(
        Array.from({ length: 16 }, () => npu.createContext({ ringEntries: 8 })),
      )
      await Promise.all(contexts.map((context) => works(t, context)))
      await t.rejects(npu.createContext(), { code: 'ERR_ACCEL_BUSY' })
      await contexts[5].close()
      await works(t, await npu.createContext())
      await t.rejects(npu.createContext({ ringEntries: 100 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
    }),
  )

  t.test('a queue that cannot start says why', (t) =>
    withNpu(async ({ device }) => {
      const bar = await registersOf(device)
      const queue = bar.QUEUE[FREE_QUEUE]
      const cause = async (spoil: () => void) => {
        queue.QSIZE.write({ entriesLog2: 4 })
        queue.SQ_BASE_LO.write(0)
        queue.CQ_BASE_HI.write(0)
        queue.QVECTOR.write(0)
        spoil()
        queue.QCTL.write({ enable: true })
        const { state, cause } = await poll(
          () => queue.QSTS.get(),
          (found) => found.state !== 'starting',
          { timeoutMs: 1000 },
        )
        queue.QCTL.write({})
        t.equal(queue.QSTS.get().state, 'disabled')
        return `${state} ${cause}`
      }
      t.equal(await cause(() => queue.QSIZE.write({ entriesLog2: 13 })), 'error badSize')
      t.equal(await cause(() => queue.QSIZE.write({ entriesLog2: 0 })), 'error badSize')
      t.equal(await cause(() => queue.SQ_BASE_LO.write(32)), 'error badBase')
      t.equal(await cause(() => queue.CQ_BASE_HI.write(0x80000000)), 'error badBase')
      t.equal(await cause(() => queue.QVECTOR.write({ vector: 17, enable: true })), 'error badVector')
      t.equal(await cause(() => queue.QVECTOR.write({ vector: 0, enable: true })), 'error badVector')
      t.ok((bar.QUEUE_EVENTS.read() >>> FREE_QUEUE) & 1)
      t.equal(bar.QUEUE_EVENTS.read(), 0, 'reading clears it')
    }, 'poll'),
  )

  t.test('a doorbell beyond the ring', (t) =>
    withNpu(async ({ npu, device }) => {
      const context = await npu.createContext({ ringEntries: 16 })
      await works(t, context)
      const bar = await registersOf(device)
      const doorbells = await device.mapMemory(1)
      const job = slowJob(context)
      const lost = Array.from({ length: 12 }, () => endOf(context.run(job)))
      context.flush() // or the doorbell of these jobs, rung later in this turn, would undo the one that is wrong
      doorbells.write32(0x1000 * context.queue.index, 100)
      const queue = bar.QUEUE[context.queue.index]
      queue.WAKE.write(1)
      await poll(
        () => queue.QSTS.get().state,
        (state) => state === 'error',
        { timeoutMs: 1000 },
      )
      // how many were done before the device looked is its own affair
      for (const end of await Promise.all(lost)) t.match(end, /^(SUCCESS|ERR_ACCEL_IO)$/)
      t.equal(await endOf(context.run(job)), 'ERR_ACCEL_IO')
      t.match(context.failure?.details, { cause: 'overrun' })
      await npu.recover()
      await works(t, context)
    }),
  )

  t.test('a fatal error ends what is under way, in every context', (t) =>
    withNpu(async ({ npu, device }) => {
      const [one, two] = [await npu.createContext(), await npu.createContext()]
      const slow = slowJob(two)
      // In this order: a device that is faster than its host would have done the others before.
      const fatal = endOf(one.run(rawJob(one, TEST_FATAL)))
      const others = Array.from({ length: 50 }, () => endOf(two.run(slow)))
      t.equal(await fatal, 'ERR_ACCEL_IO')
      t.ok((await Promise.all(others)).includes('ERR_ACCEL_IO'))
      const bar = await registersOf(device)
      t.match(bar.CSTS.get(), { fatal: true })
      t.match(bar.FATAL.get(), { cause: 'machineCheck', queue: one.queue.index })
      t.throws(() => one.submit(slowJob(one), () => {}), { code: 'ERR_ACCEL_IO' })
      await npu.recover()
      t.match(bar.CSTS.get(), { ready: true, fatal: false })
      await works(t, one)
      await works(t, two)
    }),
  )

  for (const [deaf, how] of [
    [0, 'controller reset'],
    [1, 'function reset'],
  ] as const) {
    t.test(`a hang is noticed, and a ${how} ends it`, (t) =>
      withNpu(async ({ npu }) => {
        const context = await npu.createContext()
        const kept = context.allocateFrom(Uint8Array.of(1, 2, 3))
        const late = context.run(rawJob(context, TEST_HANG, deaf), { timeoutMs: 1000 })
        await t.rejects(late, { code: 'ERR_ACCEL_TIMEOUT', details: { heartbeat: false } })
        t.throws(() => context.allocate(1), { code: 'ERR_ACCEL_TIMEOUT' })
        await npu.recover()
        await works(t, context)
        t.strictSame([...kept.u8.subarray(0, 3)], [1, 2, 3], 'host memory survives')
      }),
    )
  }

  t.test('a reset with work under way, and what survives it', (t) =>
    withNpu(async ({ npu, device }) => {
      const context = await npu.createContext({ cardBytes: 4096 })
      const card = context.allocate(16, { place: 'card' })
      card.write(0, Uint8Array.of(9, 8, 7))
      await works(t, context)
      const before = npu.counters().descriptors
      const lost = Array.from({ length: 20 }, () => endOf(context.run(slowJob(context))))
      await npu.recover()
      const ends = await Promise.all(lost)
      t.ok(ends.every((end) => end === 'SUCCESS' || end === 'ERR_ACCEL_IO') && ends.includes('ERR_ACCEL_IO'))
      const found = new Uint8Array(3)
      card.read(0, found)
      t.strictSame([...found], [9, 8, 7], 'on-card memory')
      t.ok(npu.counters().descriptors >= before, 'counters')
      const bar = await registersOf(device)
      t.equal(bar.QUEUE[FREE_QUEUE].QSIZE.read(), 0)
      await works(t, context)
    }),
  )

  t.test('a broken context can be closed, and its memory is taken back by a reset', (t) =>
    withNpu(async ({ npu }) => {
      const [broken, other] = [await npu.createContext(), await npu.createContext()]
      await t.rejects(broken.run(rawJob(broken, TEST_HANG), { timeoutMs: 300 }), {
        code: 'ERR_ACCEL_TIMEOUT',
      })
      await broken.close()
      await works(t, other)
      await works(t, await npu.createContext())
    }),
  )
}
