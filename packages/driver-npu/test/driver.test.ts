import { Accel } from '@uaccel/accel'
import { type Mmio, openDevice } from '@uaccel/core'
import { loopback } from '@uaccel/model'
import { accelError } from '@uaccel/uapi'
import t from 'tap'
import { npuModel } from '../model/index.js'
import { ContextMemory, type NpuBuffer } from '../src/buffers.js'
import { Npu, npuDriver, npuUapi } from '../src/driver.js'

t.test('through the subsystem: identify, counters, reset', async (t) => {
  const npus: Npu[] = []
  await using accel = new Accel()
  accel.register(npuDriver({ onReady: (npu) => npus.push(npu) }))
  const transport = loopback(npuModel)
  await accel.add(transport)
  const client = accel.open(npuUapi, 'accel0')
  const found = await client.call('identify', {})
  t.match(found, { version: '1.1.0', queues: 16, maxElements: 2n ** 26n, cardBytes: 16n * 1024n * 1024n })
  t.equal(npus.length, 1)
  const context = await npus[0].createContext()
  const buffer = context.allocate(8)
  const job = context.encode([{ op: 'fill', y: { buffer }, length: 8, pattern: 0x04030201 }])
  await context.run(job)
  t.match(await client.call('counters', { clear: true }), { descriptors: 1n, errors: 0n, bytesWritten: 8n })
  t.match(await client.call('counters', { clear: false }), { descriptors: 0n })
  await client.call('reset', {})
  await context.run(job)
  transport.assertClean()
  const lost = context.run(job)
  await Promise.all([accel.remove('accel0'), t.rejects(lost, { code: 'ERR_ACCEL_NO_DEVICE' })])
})

t.test('contexts and their host memory outlive a reset of the node, jobs under way do not', async (t) => {
  const npus: Npu[] = []
  await using accel = new Accel()
  accel.register(npuDriver({ onReady: (npu) => npus.push(npu) }))
  const transport = loopback(npuModel)
  const node = await accel.add(transport)
  const contexts = [await npus[0].createContext(), await npus[0].createContext({ cardBytes: 4096 })]
  const buffers = contexts.map((context) => context.allocate(8))
  const jobs = contexts.map((context, i) =>
    context.encode([{ op: 'fill', y: { buffer: buffers[i]! }, length: 4, pattern: 0x01010101 * (i + 1) }]),
  )
  buffers[0]!.write(4, Uint8Array.of(9))
  for (const hangs of [false, true]) {
    transport.faults.hang()
    const under = contexts.map((context, i) =>
      t.rejects(context.run(jobs[i]!), { code: 'ERR_ACCEL_IO', message: /was reset/ }),
    )
    if (!hangs) transport.faults.hang(false)
    const resetting = node.reset()
    if (hangs) setTimeout(() => transport.faults.hang(false), 1200) // once it was reset
    await Promise.all([resetting, ...under])
    for (const [i, context] of contexts.entries()) await context.run(jobs[i]!)
    t.same([...buffers[0]!.u8], [1, 1, 1, 1, 9, 0, 0, 0])
    t.same([...buffers[1]!.u8.subarray(0, 4)], [2, 2, 2, 2])
  }
  t.equal(npus.length, 1, 'it was not probed anew')
  transport.assertClean()
})

t.test('a hung NPU that is released is reset before its memory goes', async (t) => {
  const transport = loopback(npuModel)
  const device = openDevice(transport)
  const npu = await Npu.start(device)
  const context = await npu.createContext()
  const buffer = context.allocate(8)
  const job = context.encode([{ op: 'fill', y: { buffer }, length: 8, pattern: 1 }])
  transport.faults.hang()
  const ended = t.rejects(context.run(job), { code: 'ERR_ACCEL_NO_DEVICE' })
  let resets = 0
  const reset = transport.reset.bind(transport)
  transport.reset = async () => {
    resets++
    await reset()
  }
  await t.rejects(device.release(), { code: 'ERR_ACCEL_TIMEOUT' })
  await ended
  t.equal(resets, 1)
  transport.faults.hang(false)
  await new Promise((resolve) => setTimeout(resolve, 50))
  transport.assertClean() // no transfer of what was under way, whose memory is gone
  await transport.close()
})

t.test('bad input is refused before the device sees it', async (t) => {
  const transport = loopback(npuModel)
  const device = await openDevice(transport)
  const npu = await Npu.start(device)
  const context = await npu.createContext({ ringEntries: 4 })
  const buffer = context.allocate(100)
  const refused = (code: string, steps: Parameters<typeof context.encode>[0]) =>
    t.throws(() => context.encode(steps), { code })
  const fill = (offset: number, length: number) =>
    ({ op: 'fill', y: { buffer, offset }, length, pattern: 0 }) as const
  refused('ERR_ACCEL_INVALID_ARGUMENT', [])
  refused('ERR_ACCEL_OUT_OF_RANGE', [fill(0, 101)])
  refused('ERR_ACCEL_OUT_OF_RANGE', [fill(99, 2)])
  refused('ERR_ACCEL_OUT_OF_RANGE', [fill(-1, 2)])
  refused('ERR_ACCEL_OUT_OF_RANGE', [fill(0.5, 2)])
  refused('ERR_ACCEL_OUT_OF_RANGE', [fill(0, 1), fill(0, 1), fill(0, 1), fill(0, 1)])
  refused('ERR_ACCEL_INVALID_SHAPE', [
    {
      op: 'pool',
      mode: 'max',
      shape: [1, 1, 2, 2],
      kernel: [1, 1],
      x: { at: { buffer }, type: 'int8' },
      y: { at: { buffer }, type: 'uint8' },
    },
  ])
  // What 32 bits would cut to something smaller than what was checked against the buffer.
  for (const bad of [1.5, 2 ** 32 + 1, Number.NaN]) {
    const pool = {
      op: 'pool',
      mode: 'max',
      shape: [1, 1, 10, 10],
      kernel: [1, 1],
      strides: [bad, 1],
    } as const
    refused('ERR_ACCEL_OUT_OF_RANGE', [
      { ...pool, x: { at: { buffer }, type: 'int8' }, y: { at: { buffer }, type: 'int8' } },
    ])
  }
  t.throws(() => context.allocate(0), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.throws(() => buffer.write(90, new Uint8Array(11)), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  await device.release()
  t.throws(() => context.allocate(1), { code: 'ERR_ACCEL_NO_DEVICE' })
  transport.assertClean()
  await transport.close()
})

t.test('contexts that were closed leave nothing mapped', async (t) => {
  const transport = loopback(npuModel)
  const device = await openDevice(transport)
  const npu = await Npu.start(device)
  const cycle = async () => {
    await using context = await npu.createContext({ cardBytes: npu.capabilities.cardBytes })
    const buffer = context.allocate(9_000_000)
    context.allocate(100, { place: 'card' })
    await context.run(context.encode([{ op: 'fill', y: { buffer }, length: 9_000_000, pattern: 0x01010101 }]))
    t.equal(buffer.u8.at(-1), 1)
  }
  await cycle()
  const { mappings, mappedBytes } = device.dma
  for (let i = 0; i < 20; i++) await cycle()
  t.strictSame([device.dma.mappings, device.dma.mappedBytes], [mappings, mappedBytes])
  await device.release()
  transport.assertClean()
  await transport.close()
})

t.test('memory of a context that has ended is known as such, and does not read as zeros', async (t) => {
  const transport = loopback(npuModel)
  const device = await openDevice(transport)
  const npu = await Npu.start(device)
  const [one, other] = [await npu.createContext(), await npu.createContext()]
  const buffers = [one, other].map((context) => context.allocateFrom(Uint8Array.of(1, 2, 3)))
  const gone = (buffer: NpuBuffer | undefined) => {
    const wanted = { code: 'ERR_ACCEL_REVOKED', message: /freed/ }
    t.throws(() => buffer!.u8, wanted)
    t.throws(() => buffer!.f32, wanted)
    t.throws(() => buffer!.read(0, new Uint8Array(3)), wanted)
    t.throws(() => buffer!.write(0, new Uint8Array(3)), wanted)
  }
  await one.close()
  gone(buffers[0])
  t.equal(buffers[1]!.u8[2], 3)
  await device.release()
  gone(buffers[1])
  await transport.close()
})

t.test('what another thread takes back while it is read is read again', async (t) => {
  const heard = [true, true, false]
  let reads = 0
  const memory = {
    readBytes: (_: number, into: Uint8Array) => into.fill(++reads),
    writeBytes() {},
  } as unknown as Mmio
  const chunk = { u8: new Uint8Array(4096).fill(9), iova: 0n, sizeBytes: 4096 }
  const source = {
    card: { base: 1n << 63n, sizeBytes: 4096, memory, offset: 0 },
    overtaken: () => heard.shift() ?? false,
    grow: () => chunk,
  }
  const store = new ContextMemory(source, () => false)
  const into = new Uint8Array(4)
  store.alloc(64, 'card', 'on the card').read(0, into)
  t.strictSame([...into], [3, 3, 3, 3], 'until there was nothing more to hear of')
  const buffer = store.alloc(64, 'host', 'in the host')
  heard.push(true)
  Object.defineProperty(chunk, 'u8', {
    get() {
      if (heard.length > 0) return new Uint8Array(4096)
      throw accelError('ERR_ACCEL_REVOKED', 'taken back')
    },
  })
  t.throws(() => buffer.read(0, into), { code: 'ERR_ACCEL_REVOKED' })
})

t.test('another device is refused', async (t) => {
  const other = {
    ...npuModel,
    create: (...args: Parameters<typeof npuModel.create>) => {
      const behaviour = npuModel.create(...args)
      const read = behaviour.read.bind(behaviour)
      behaviour.read = (bar, offset, width) =>
        offset === 4 ? 0x0002_0000 : offset === 0 && wrongId ? 7 : read(bar, offset, width)
      return behaviour
    },
  }
  let wrongId = true
  for (const code of ['ERR_ACCEL_UNSUPPORTED', 'ERR_ACCEL_VERSION']) {
    const transport = loopback(other)
    const device = await openDevice(transport)
    await t.rejects(Npu.start(device), { code })
    await device.release()
    await transport.close()
    wrongId = false
  }
})
