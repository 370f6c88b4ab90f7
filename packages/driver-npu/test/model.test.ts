import { openDevice } from '@uaccel/core'
import { type Loopback, loopback, ManualClock } from '@uaccel/model'
import { accelError } from '@uaccel/uapi'
import t from 'tap'
import { npuModel } from '../model/index.js'
import { Npu, type NpuContext, type Step } from '../src/driver.js'
import { NpuRegisters } from '../src/registers.js'
import { endOf } from './contract.js'

/** A model whose time stands until the test moves it; brought up. */
async function stepped(spreadNs = 0) {
  const clock = new ManualClock({ spreadNs, seed: 3 })
  const transport = loopback(npuModel, { clock, model: { testMode: true } })
  const device = await openDevice(transport)
  const turning = setInterval(() => clock.step(100_000), 1)
  const npu = await Npu.start(device, { irq: 'poll' })
  const context = await npu.createContext()
  clearInterval(turning)
  return { clock, transport, device, npu, context }
}

async function done({
  device,
  transport,
}: {
  device: { release(): Promise<void> }
  transport: Loopback<ManualClock>
}) {
  const turning = setInterval(() => transport.clock.step(100_000), 1)
  await device.release()
  clearInterval(turning)
  transport.assertClean()
  await transport.close()
}

/** A recovery, which takes time of the device. */
async function recovered({ npu, clock }: { npu: Npu; clock: ManualClock }): Promise<void> {
  const turning = setInterval(() => clock.step(100_000), 1)
  await npu.recover()
  clearInterval(turning)
}

function fill(context: NpuContext, unordered = false) {
  const buffer = context.allocate(64)
  return {
    buffer,
    job: context.encode([{ op: 'fill', y: { buffer }, length: 64, pattern: 0x01010101, unordered }]),
  }
}

t.test('nothing happens before the clock steps', async (t) => {
  const bench = await stepped()
  const { buffer, job } = fill(bench.context)
  let ended = false
  bench.context.submit(job, () => {
    ended = true
  })
  bench.context.flush()
  t.equal(bench.context.poll(), 0)
  t.equal(buffer.u8[0], 0)
  bench.clock.step(1_000_000)
  t.equal(buffer.u8[0], 1)
  t.equal(bench.context.poll(), 1)
  t.ok(ended)
  await done(bench)
})

t.test('WAKE is written when the device is idle, and only then', async (t) => {
  const bench = await stepped()
  const { context, clock, transport } = bench
  const wakes: number[] = []
  const write = transport.write.bind(transport)
  transport.write = (region, offset, width, value) => {
    if (region === 0 && offset === 0x1028 + 0x200 * context.queue.index) wakes.push(value)
    write(region, offset, width, value)
  }
  const { job } = fill(context)
  const submit = () => {
    context.submit(job, () => {})
    context.flush()
  }
  submit()
  t.equal(wakes.length, 1, 'idle at first')
  clock.step(60) // fetched, and under way
  submit()
  submit()
  t.equal(wakes.length, 1, 'awake: the doorbell is enough')
  clock.step(1_000_000)
  t.equal(context.poll(), 3, 'all were done')
  submit()
  t.equal(wakes.length, 2, 'idle again')
  clock.step(1_000_000)
  t.equal(context.poll(), 1)
  await done(bench)
})

t.test('without WAKE, a mapped doorbell alone does not reach an idle device', async (t) => {
  const bench = await stepped()
  const { context, clock } = bench
  const doorbells = await bench.device.mapMemory(1)
  t.ok(doorbells.mapped)
  const { job } = fill(context)
  context.submit(job, () => {})
  doorbells.write32(0x1000 * context.queue.index, 1)
  clock.step(10_000_000)
  t.equal(context.poll(), 0)
  context.flush()
  clock.step(10_000_000)
  t.equal(context.poll(), 1)
  await done(bench)
})

t.test('unordered descriptors complete in any order, others in theirs', async (t) => {
  const bench = await stepped(50_000)
  const order = async (unordered: boolean) => {
    const ends: number[] = []
    for (let i = 0; i < 12; i++) bench.context.submit(fill(bench.context, unordered).job, () => ends.push(i))
    bench.context.flush()
    for (let i = 0; i < 200; i++) {
      bench.clock.step(10_000)
      bench.context.poll()
    }
    return ends
  }
  const inOrder = Array.from({ length: 12 }, (_, i) => i)
  t.strictSame(await order(false), inOrder)
  const mixed = await order(true)
  t.notSame(mixed, inOrder)
  t.strictSame(
    mixed.toSorted((a, b) => a - b),
    inOrder,
  )
  await done(bench)
})

t.test('accesses that the specification does not have are violations', async (t) => {
  const bench = await stepped()
  const { transport } = bench
  const bad = { code: 'ERR_ACCEL_BAD_ACCESS' }
  t.throws(() => transport.read(0, 0x034, 4), bad, 'undeclared')
  t.throws(() => transport.read(0, 0x000, 2), bad, 'too narrow')
  t.throws(() => transport.read64(0, 0x020), bad, 'too wide')
  t.throws(() => transport.write(0, 0x000, 4, 1), bad, 'ro')
  t.throws(() => transport.read(0, 0x1028, 4), bad, 'wo')
  t.throws(() => transport.write(0, 0x068, 4, 1), bad, 'rc')
  t.equal(transport.violations.take().length, 6)
  await done(bench)
})

/** A device in real time, by MSI-X. */
async function live() {
  const transport = loopback(npuModel, { model: { testMode: true } })
  const device = await openDevice(transport)
  const npu = await Npu.start(device)
  const context = await npu.createContext()
  const end = async () => {
    await device.release()
    transport.assertClean()
    await transport.close()
  }
  return { transport, device, npu, context, end }
}

t.test('the bus refuses a transfer', async (t) => {
  const bench = await stepped()
  const { context, clock, transport, device } = bench
  const buffer = context.allocate(64)
  const y = { buffer }
  const end = async (step: Step, fetched: boolean) => {
    const ended = endOf(context.run(context.encode([step]), { timeoutMs: 50 }))
    if (fetched) clock.step(60)
    transport.faults.dmaError()
    clock.step(1_000_000)
    context.poll()
    return ended
  }
  t.equal(await end({ op: 'copy', x: y, y, length: 64 }, true), 'DMA_READ 1')
  t.equal(await end({ op: 'fill', y, length: 64, pattern: 0 }, true), 'DMA_WRITE 4')
  const bar = await device.mapBar(0, NpuRegisters)
  t.equal(await end({ op: 'nop' }, true), 'ERR_ACCEL_IO')
  t.match(bar.FATAL.get(), { cause: 'cqWrite', queue: 0 })
  await recovered(bench)
  t.equal(await end({ op: 'nop' }, false), 'ERR_ACCEL_IO')
  t.match(bar.FATAL.get(), { cause: 'sqRead', queue: 0 })
  await done(bench)
})

t.test('rings that the device cannot reach are fatal errors, and violations', async (t) => {
  const { transport, device, npu, context, end } = await live()
  const bar = await device.mapBar(0, NpuRegisters)
  const queue = bar.QUEUE[9]
  queue.SQ_BASE_HI.write(0x70)
  queue.QSIZE.write({ entriesLog2: 4 })
  queue.QCTL.write({ enable: true })
  const lost = endOf(context.run(fill(context).job))
  await new Promise((resolve) => setTimeout(resolve, 150))
  t.match(bar.FATAL.get(), { cause: 'statusWrite', queue: 9 })
  t.ok(['SUCCESS', 'ERR_ACCEL_IO'].includes(await lost))
  t.match(transport.violations.take(), [{ code: 'ERR_ACCEL_DMA_FAULT' }])
  await npu.recover()
  t.equal(await endOf(context.run(fill(context).job)), 'SUCCESS')
  await end()
})

t.test('a lost interrupt delays a job, and does not lose it', async (t) => {
  const { transport, context, end } = await live()
  transport.faults.lostInterrupt()
  const start = performance.now()
  t.equal(await endOf(context.run(fill(context).job)), 'SUCCESS')
  t.ok(performance.now() - start > 50, 'it was found by the watch')
  await end()
})

t.test('a device that hangs, and one that vanishes', async (t) => {
  const { transport, device, npu, context } = await live()
  transport.faults.hang()
  await t.rejects(context.run(fill(context).job, { timeoutMs: 200 }), { code: 'ERR_ACCEL_TIMEOUT' })
  transport.faults.hang(false)
  await npu.recover()
  t.equal(await endOf(context.run(fill(context).job)), 'SUCCESS')
  const { buffer, job } = fill(context)
  const lost = endOf(context.run(job))
  transport.vanish('test')
  t.equal(await lost, 'ERR_ACCEL_NO_DEVICE')
  t.throws(() => context.allocate(1), { code: 'ERR_ACCEL_NO_DEVICE' })
  buffer.free()
  await context.close()
  await device.release()
  await transport.close()
})

t.test('a buffer that is freed under way is not reused before', async (t) => {
  const bench = await stepped()
  const { context, clock } = bench
  const { buffer, job } = fill(context)
  const { address } = buffer
  context.submit(job, () => {})
  context.flush()
  buffer.free()
  t.throws(() => buffer.u8, { code: 'ERR_ACCEL_REVOKED' })
  t.not(context.allocate(64).address, address)
  clock.step(1_000_000)
  context.poll()
  t.equal(context.allocate(64).address, address, 'free again once the job ended')
  t.throws(() => context.submit(job, () => {}), { code: 'ERR_ACCEL_REVOKED' })
  await done(bench)
})

t.test(
  'of a context that failed, nothing is reused before a reset, whatever the device still completes',
  async (t) => {
    const bench = await stepped()
    const { context, clock } = bench
    const { buffer, job } = fill(context)
    await t.rejects(context.run(job, { timeoutMs: 1 }), { code: 'ERR_ACCEL_TIMEOUT' })
    const { address } = buffer
    buffer.free()
    clock.step(1_000_000)
    t.equal(context.poll(), 0)
    t.not(context.memory.alloc(64, 'host', 'test').address, address)
    await recovered(bench)
    t.equal(context.allocate(64).address, address)
    await done(bench)
  },
)

t.test('registers that cannot be reached end the jobs, by the watch and by the doorbell', async (t) => {
  const { transport, device, context } = await live()
  const gone = accelError('ERR_ACCEL_NO_DEVICE', 'test')
  const read = transport.read
  await endOf(context.run(fill(context).job)) // and events of the start were handled
  transport.faults.hang()
  const stuck = context.run(fill(context).job)
  transport.read = () => {
    throw gone
  }
  t.equal(await stuck.catch((error) => error), gone)
  t.equal(context.failure, gone)
  transport.read = read
  transport.faults.hang(false)
  await device.release()
  await transport.close()

  const other = await live()
  const ends: unknown[] = []
  other.context.submit(fill(other.context).job, (error) => ends.push(error))
  const write = other.transport.write
  other.transport.write = () => {
    throw gone
  }
  t.doesNotThrow(() => other.context.flush())
  t.strictSame(ends, [gone])
  other.transport.write = write
  await other.context.close()
  await other.end()
})

t.test('a context that is closed twice is closed once, and takes no work meanwhile', async (t) => {
  const { npu, context, end } = await live()
  const { job } = fill(context)
  const first = context.close()
  t.equal(context.close(), first)
  t.throws(() => context.submit(job, () => {}), { code: 'ERR_ACCEL_CLOSED' })
  await first
  const again = await npu.createContext({ cardBytes: 64 })
  await context.close()
  t.equal(await endOf(again.run(fill(again).job)), 'SUCCESS')
  await end()
})

t.test('a queue that refused to start leaves its place to the next', async (t) => {
  const { transport, npu, end } = await live()
  const write = transport.write.bind(transport)
  const QSIZE = 0x1018 + 0x200
  transport.write = (region, offset, width, value) =>
    write(region, offset, width, region === 0 && offset === QSIZE ? 0 : value)
  await t.rejects(npu.createContext(), { code: 'ERR_ACCEL_IO', details: { cause: 'badSize' } })
  transport.write = write
  const context = await npu.createContext()
  t.equal(context.queue.index, 1)
  t.equal(await endOf(context.run(fill(context).job)), 'SUCCESS')
  await end()
})

t.test('IOVAs of 64 bits, in rings, windows and descriptors', async (t) => {
  const first = 0x4321_8765_0000_0000n
  const transport = loopback(npuModel, { apertures: [{ first, last: first + 0xffff_ffffn }] })
  const device = await openDevice(transport)
  const npu = await Npu.start(device)
  const context = await npu.createContext()
  const { buffer, job } = fill(context)
  t.ok(buffer.address >= first)
  t.equal(await endOf(context.run(job)), 'SUCCESS')
  t.equal(buffer.u8[63], 1)
  await device.release()
  transport.assertClean()
  await transport.close()
})
