import { Accel } from '@uaccel/accel'
import { openDevice } from '@uaccel/core'
import { loopback } from '@uaccel/model'
import { accelError } from '@uaccel/uapi'
import { explain, MLGraphBuilder, type MLOperand, ml } from '@uaccel/webnn'
import type { CommandList } from '@uaccel/webnn/accelerator'
import t, { type Test } from 'tap'
import { npuModel } from '../model/index.js'
import { Npu, npuDriver, npuUapi } from '../src/driver.js'
import {
  type Command,
  accelerator as driver,
  npuAccelerator,
  openNpuAccelerator,
} from '../src/webnn/index.js'

t.setTimeout(60_000)

async function direct(t: Test) {
  const transport = loopback(npuModel, {})
  const device = await openDevice(transport)
  const npu = await Npu.start(device)
  t.teardown(async () => {
    await device.release()
    await transport.close()
  })
  return { npu, device, transport }
}

const run = (list: CommandList) =>
  new Promise<number | undefined>((resolve, reject) => {
    list.submit((error, micros) => (error ? reject(error) : resolve(micros)))
  })

const increment = (from: number, to: number, elements = 16): Command => ({
  op: 'elementwise',
  dims: [elements],
  compute: 'float32',
  a: { at: { buffer: from }, type: 'float32', strides: [1] },
  d: { at: { buffer: to }, type: 'float32', strides: [1] },
  stages: [{ fn: 'add', y: 'alpha', alpha: 1 }],
})

const floats = ({ bytes }: { readonly bytes: Uint8Array }) =>
  new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)

t.test('lists: bound to other memories, longer than the ring, checked', async (t) => {
  const { npu } = await direct(t)
  const context = await npu.createContext({ ringEntries: 16 })
  const accelerator = npuAccelerator(context, npu)
  const [a, b, c] = [accelerator.allocate(64), accelerator.allocate(64), accelerator.allocate(64)]
  const commands = [increment(0, 1), ...Array.from({ length: 99 }, () => increment(1, 1))]
  const list = accelerator.prepare(commands, [a, b])
  for (let turn = 0; turn < 3; turn++) {
    floats(a).fill(turn)
    const micros = await run(list)
    t.ok(micros! > 0)
    t.ok(floats(b).every((x) => x === 100 + turn))
  }
  list.bind(1, c)
  await run(list)
  t.ok(floats(c).every((x) => x === 102))

  t.throws(() => list.bind(1, { bytes: new Uint8Array(64), free() {} }), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
  })
  t.throws(() => list.bind(1, accelerator.allocate(8)), { code: 'ERR_ACCEL_OUT_OF_RANGE' }, 'too small')
  const running = run(list)
  t.throws(() => list.submit(() => {}), { code: 'ERR_ACCEL_BUSY' })
  t.throws(() => list.bind(1, b), { code: 'ERR_ACCEL_BUSY' })
  await running
  t.ok(
    floats(c).every((x) => x === 102),
    'what was refused has changed nothing',
  )

  // 15 commands are a job: the second one cannot be submitted, the first is under way.
  const gone = accelerator.allocate(64)
  const half = accelerator.prepare(
    [
      ...Array.from({ length: 15 }, () => increment(0, 1)),
      ...Array.from({ length: 15 }, () => increment(2, 2)),
    ],
    [a, b, gone],
  )
  await run(half)
  gone.free()
  t.throws(() => half.submit(() => {}), { code: 'ERR_ACCEL_REVOKED' })
  t.throws(() => half.submit(() => {}), { code: 'ERR_ACCEL_BUSY' })
  while (context.inFlight > 0) await new Promise(setImmediate)
  const instead = accelerator.allocate(64)
  half.bind(2, instead)
  await run(half)
  t.ok(
    floats(instead).every((x) => x === 15),
    'told of the end of both',
  )

  const open = accelerator.prepare([increment(0, 2)], [a])
  t.throws(() => open.submit(() => {}), { code: 'ERR_ACCEL_INVALID_ARGUMENT' }, 'memory 2 is not known')
  open.bind(2, b)
  await run(open)
  b.free()
  t.throws(() => open.submit(() => {}), { code: 'ERR_ACCEL_REVOKED' })
  open.bind(2, c)
  await run(open)
  await run(accelerator.prepare([], []))
  list.free()
  t.throws(() => list.submit(() => {}), { code: 'ERR_ACCEL_REVOKED' })
  await accelerator.close()
  await accelerator.close()
  t.match(await accelerator.lost, /closed/)
})

t.test('an older device cannot take part', async (t) => {
  const { npu } = await direct(t)
  const context = await npu.createContext()
  const capabilities = { ...npu.capabilities, opcodes: 0x3f0007n }
  t.throws(() => npuAccelerator(context, { capabilities }), {
    code: 'ERR_ACCEL_UNSUPPORTED',
    message: /0x3f0007/,
  })
})

t.test('a device that goes ends what is under way, and all that follows', async (t) => {
  const { npu, device } = await direct(t)
  const accelerator = await openNpuAccelerator(npu)
  const memory = accelerator.allocate(64)
  const list = accelerator.prepare([increment(0, 0)], [memory])
  await run(list)
  const last = run(list)
  const released = device.release()
  await t.rejects(last)
  await released
  t.match(await accelerator.lost, /released/)
  t.throws(() => list.submit(() => {}))
})

t.test('a node in this or another process: its queue is filled here', async (t) => {
  const accel = new Accel({ limits: { settleMs: 200 } })
  t.teardown(() => accel.close())
  accel.register(npuDriver())
  await accel.add(loopback(npuModel, {}))
  const node = accel.open(npuUapi, 'accel0')
  const accelerator = await driver.open(node, { memoryBytes: 1 << 20 })
  t.throws(() => accelerator.allocate(2 << 20), { code: 'ERR_ACCEL_NO_MEMORY' })
  const context = await ml.createContext({ device: accelerator })
  const b = new MLGraphBuilder(context)
  const x = b.input('x', { dataType: 'float32', shape: [1, 3, 8, 8] })
  const filter = b.constant({ dataType: 'float32', shape: [3, 3, 3, 3] }, new Float32Array(81).fill(1))
  const bias = b.constant({ dataType: 'float32', shape: [3] }, Float32Array.of(1, 2, 3))
  const y = b.relu(b.add(b.conv2d(x, filter, { bias, padding: [1, 1, 1, 1] }), b.constant('float32', 1)))
  const graph = await b.build({ y })
  const { commands, doorbells } = explain(graph)
  t.strictSame({ commands, doorbells }, { commands: 1, doorbells: 1 }, 'all of it is one command')
  const input = await context.createTensor({ dataType: 'float32', shape: [1, 3, 8, 8], writable: true })
  const output = await context.createTensor({ dataType: 'float32', shape: [1, 3, 8, 8], readable: true })
  context.writeTensor(input, new Float32Array(192).fill(1))
  context.dispatch(graph, { x: input }, { y: output })
  const found = new Float32Array(await context.readTensor(output))
  t.strictSame([found[0], found[64 + 9], found[128 + 9]], [14, 30, 31])
  context.destroy()
  await accelerator.close()
})

t.test('a node whose queues cannot be handed out: its process submits the jobs', async (t) => {
  const accel = new Accel({ limits: { settleMs: 200 } })
  t.teardown(() => accel.close())
  accel.register(npuDriver())
  await accel.add(loopback(npuModel, {}))
  const client = accel.open(npuUapi, 'accel0')
  const asked: string[] = []
  const common: typeof client.common = (name, ...rest) => {
    asked.push(name)
    if (name !== 'queueCreate') return client.common(name, ...rest)
    return Promise.reject(accelError('ERR_ACCEL_UNSUPPORTED', 'doorbells of this transport are not mapped'))
  }
  const node = {
    common,
    lost: client.lost,
    call: client.call.bind(client) as typeof client.call,
    close: () => client.close(),
  }
  const accelerator = await driver.open(node, { memoryBytes: 1 << 16 })
  t.equal(accelerator.name, 'npu')
  t.throws(() => accelerator.allocate(1 << 17), { code: 'ERR_ACCEL_NO_MEMORY' })
  const [a, b, c] = [accelerator.allocate(64), accelerator.allocate(64), accelerator.allocate(64)]
  const list = accelerator.prepare(
    [increment(0, 1), ...Array.from({ length: 99 }, () => increment(1, 1))],
    [a],
  )
  t.throws(() => list.submit(() => {}), { code: 'ERR_ACCEL_INVALID_ARGUMENT' }, 'memory 1 is not known')
  list.bind(1, b)
  asked.length = 0
  for (let turn = 0; turn < 3; turn++) {
    floats(a).fill(turn)
    await run(list)
    t.ok(floats(b).every((x) => x === 100 + turn))
  }
  t.equal(asked.filter((name) => name === 'submit').length, 3 * Math.ceil(100 / 18), '18 steps are a payload')
  const running = run(list)
  t.throws(() => list.submit(() => {}), { code: 'ERR_ACCEL_BUSY' })
  t.throws(() => list.bind(1, c), { code: 'ERR_ACCEL_BUSY' })
  const { byteOffset } = b.bytes
  b.free()
  t.throws(() => b.bytes, { code: 'ERR_ACCEL_REVOKED' })
  t.not(accelerator.allocate(64).bytes.byteOffset, byteOffset, 'what a job writes is nobody else')
  await running
  t.throws(() => list.submit(() => {}), { code: 'ERR_ACCEL_REVOKED' }, 'its memory was freed')
  list.bind(1, c)
  await run(list)
  t.ok(floats(c).every((x) => x === 102))
  const wrong = accelerator.prepare([increment(0, 1, 1 << 20)], [a, c])
  await t.rejects(run(wrong), { code: 'ERR_ACCEL_PERMISSION' }, 'more than the buffer object has')
  await run(accelerator.prepare([], []))

  const context = await ml.createContext({ device: accelerator })
  const builder = new MLGraphBuilder(context)
  const x = builder.input('x', { dataType: 'float32', shape: [16] })
  const graph = await builder.build({ y: builder.relu(builder.add(x, builder.constant('float32', -2))) })
  const input = await context.createTensor({ dataType: 'float32', shape: [16], writable: true })
  const output = await context.createTensor({ dataType: 'float32', shape: [16], readable: true })
  context.writeTensor(
    input,
    new Float32Array(16).map((_, at) => at),
  )
  context.dispatch(graph, { x: input }, { y: output })
  t.strictSame(
    [...new Float32Array(await context.readTensor(output))],
    Array.from({ length: 16 }, (_, at) => Math.max(0, at - 2)),
  )
  context.destroy()
  list.free()
  t.throws(() => list.submit(() => {}), { code: 'ERR_ACCEL_REVOKED' })
  await accelerator.close()
  await accelerator.close()
  t.match(await accelerator.lost, /closed/)
})

t.test('what follows in a command, and why an operator is on the CPU', async (t) => {
  const { npu } = await direct(t)
  const context = await ml.createContext({ device: await openNpuAccelerator(npu) })
  const report = async (build: (b: MLGraphBuilder) => MLOperand) => {
    const b = new MLGraphBuilder(context)
    return explain(await b.build({ y: build(b) }))
  }
  const input = (
    b: MLGraphBuilder,
    name: string,
    shape: number[],
    dataType: 'float32' | 'int64' | 'uint8' = 'float32',
  ) => b.input(name, { dataType, shape })
  const commands = async (build: (b: MLGraphBuilder) => MLOperand) => (await report(build)).commands
  const six = [1, 2, 3, 4, 5, 6]
  t.equal(
    await commands((b) =>
      b.sigmoid(b.mul(b.add(input(b, 'x', [4]), input(b, 'y', [4])), input(b, 'z', [4]))),
    ),
    1,
  )
  t.equal(
    await commands((b) => six.reduce((y, at) => b.add(y, input(b, `z${at}`, [4])), input(b, 'x', [4]))),
    3,
    'two more operands in each',
  )
  const nine = Array.from({ length: 9 }, (_, at) => at)
  t.equal(
    await commands((b) => nine.reduce((y: MLOperand) => b.tanh(y), input(b, 'x', [4]))),
    2,
    'eight stages',
  )
  t.equal(await commands((b) => b.relu(b.add(b.softmax(input(b, 'x', [4, 4]), 1), input(b, 'y', [4])))), 1)
  t.equal(
    await commands((b) => b.cast(b.logicalNot(b.greater(input(b, 'x', [4]), input(b, 'y', [4]))), 'float32')),
    1,
  )
  t.equal(
    await commands((b) =>
      b.equal(b.add(input(b, 'x', [4], 'uint8'), input(b, 'y', [4], 'uint8')), input(b, 'z', [4], 'uint8')),
    ),
    2,
    'a sum of bytes is cut when it is written',
  )
  t.equal(
    await commands((b) => b.matmul(input(b, 'x', [4096, 1024]), input(b, 'y', [1024, 2048]))),
    2,
    'as much as one command takes, twice',
  )
  const reason = async (build: (b: MLGraphBuilder) => MLOperand) => (await report(build)).operators[0]!.reason
  t.match(await reason((b) => b.add(input(b, 'x', [4], 'int64'), input(b, 'y', [4], 'int64'))), /int64/)
  t.match(
    await reason((b) => b.resample2d(input(b, 'x', [1, 1, 3, 3]), { mode: 'linear', sizes: [5, 6] })),
    /scale 1.6666666666666667 is no float32/,
  )
  t.match(
    await reason((b) => b.gatherND(input(b, 'x', [2, 2, 2, 2, 2]), input(b, 'i', [1, 5], 'int64'))),
    /5 coordinates for each element: the device takes at most 4/,
  )
  t.match(
    await reason((b) => b.tile(input(b, 'x', [2, 2, 2, 2, 2]), [2, 2, 2, 2, 2])),
    /10 dimensions.*at most 8/,
  )
  context.destroy()
})

t.test('who looks is not interrupted, and is again when nobody looks any more', async (t) => {
  const { npu } = await direct(t)
  const context = await npu.createContext()
  const buffer = context.allocate(8)
  const job = context.encode([{ op: 'fill', y: { buffer }, length: 8, pattern: 1 }])
  await context.run(job)
  const fired = () => context.irqCounts!.fired
  const before = fired()
  t.ok(before > 0)
  let ended = 0
  const done = () => {
    ended++
  }
  context.submit(job, done)
  context.flush()
  // The model is in this thread: it works between turns, and a look for each keeps it quiet.
  for (let turn = 0; ended === 0 && turn < 1000; turn++) {
    context.look()
    await new Promise((resolve) => setImmediate(resolve))
  }
  t.equal(ended, 1)
  t.notOk(context.look(), 'nothing is under way')
  await context.run(job) // may still end in the quiet
  await context.run(job)
  t.ok(fired() > before, 'a run waits for its interrupt')
  await context.close()
  t.notOk(context.look())
})

t.test('who has looked is not interrupted on the way to the next look, for a turn', async (t) => {
  const { npu } = await direct(t)
  const context = await npu.createContext()
  const job = context.encode([{ op: 'nop' }])
  const turn = () => new Promise((resolve) => setImmediate(resolve))
  await context.run(job)
  const asked: boolean[] = []
  const quiet = context.queue.quiet.bind(context.queue)
  context.queue.quiet = (on) => {
    asked.push(on)
    quiet(on)
  }
  let ended = 0
  const submit = () => {
    context.submit(job, () => {
      ended++
    })
    context.flush()
  }
  submit()
  t.strictSame(asked, [], 'nobody has looked yet')
  for (let turns = 0; ended === 0 && turns < 1000; turns++) {
    context.look()
    await turn()
  }
  t.ok(asked[0])
  asked.length = 0
  submit()
  t.equal(asked[0] ?? true, true, 'it is quiet, or has become so before the doorbell')
  // Nobody looks any more: interrupts come again.
  for (let turns = 0; ended === 1 && turns < 1000; turns++) await turn()
  t.equal(ended, 2)
  await turn()
  await turn()
  t.equal(asked.at(-1), false)
  asked.length = 0
  await context.run(job)
  t.strictSame(asked, [])
  await context.close()
})

t.test('a list that is run again reads its parameter blocks and its windows anew', async (t) => {
  const { npu } = await direct(t)
  const context = await npu.createContext()
  const [a, d] = [context.allocate(64), context.allocate(64)]
  const step = (alpha: number) =>
    ({
      op: 'elementwise',
      dims: [16],
      compute: 'float32',
      a: { at: { buffer: a }, type: 'float32', strides: [1] },
      d: { at: { buffer: d }, type: 'float32', strides: [1] },
      stages: [{ fn: 'add', y: 'alpha', alpha }],
    }) as const
  const [job, other] = [context.encode([step(1)]), context.encode([step(2)])]
  for (let turn = 0; turn < 3; turn++) {
    await context.run(job)
    t.equal(d.f32[0], 1)
  }
  job.blocks!.u8.set(other.blocks!.u8)
  await context.run(job)
  t.equal(d.f32[0], 2, 'the block at the same address says something else')
  await npu.recover()
  await context.run(job)
  t.equal(d.f32[0], 2)
  await context.close()
})
