import { readFileSync } from 'node:fs'
import { Accel, type AccelOptions, openBuffers } from '@uaccel/accel'
import * as clientWords from '@uaccel/client'
import type { Transport } from '@uaccel/core'
import { npuDriver } from '@uaccel/driver-npu'
import { npuModel } from '@uaccel/driver-npu/model'
import { encodeJob, npuStep, npuTensorStep, npuUapi } from '@uaccel/driver-npu/uapi'
import { accelerator as webnn } from '@uaccel/driver-npu/webnn'
import { classify, countMismatches, engineOn, loadDigits } from '@uaccel/example-digits'
import { loopback } from '@uaccel/model'
import { serveNode } from '@uaccel/server'
import { isAccelError } from '@uaccel/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'
import t, { type Test } from 'tap'
import { nodeFolder } from './nodes.js'
import { serveModel } from './serve-model.js'

/** Buffers, fences and jobs on a device that somebody else might have made: our NPU's model behind a transport, its driver unchanged. */

t.setTimeout(300_000)

async function npu<T extends Transport>(t: Test, transport: T, options: AccelOptions = {}) {
  const accel = new Accel(options)
  t.teardown(() => accel.close())
  accel.register(npuDriver())
  const node = await accel.add(transport)
  const open = () => accel.open(npuUapi, 'accel0')
  return { accel, node, transport, open }
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'accepted',
    (error) => (isAccelError(error) ? error.code : String(error)),
  )

const heldBuffers = () =>
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('uaccel-bo')).length

interface Way {
  readonly how: string
  connect(t: Test): Promise<{ transport: Transport; violations(): Promise<readonly string[]> }>
}

const ways: readonly Way[] = [
  {
    how: 'loopback',
    async connect() {
      const transport = loopback(npuModel)
      return { transport, violations: async () => transport.violations.map(String) }
    },
  },
  {
    how: 'vfio-user',
    async connect(t) {
      const { path, violations } = await serveModel(t, 'npu')
      return { transport: await connectVfioUser(path), violations }
    },
  },
]

for (const { how, connect } of ways) {
  t.test(
    `digits are read through buffers and SUBMIT by ${how}, bit for bit as the reference does`,
    async (t) => {
      const { transport, violations } = await connect(t)
      const { node, open, accel } = await npu(t, transport)
      const { model, digits } = loadDigits()
      const client = open()
      const held = heldBuffers()
      // The accelerator closes the open that it is given.
      const accelerator = await webnn.open(open(), { memoryBytes: 16 << 20, shared: true })
      const engine = await engineOn(model, accelerator, { device: 'NPU', transport: how })
      const { report, batch } = engine.network
      t.ok(report.operators.every(({ place }) => place !== 'cpu'))
      const { descriptors: before } = await client.call('counters', { clear: false })
      let images = 0
      const result = await classify(engine, digits, (count) => {
        images += count
      })
      t.equal(images, digits.count)
      const mismatches = countMismatches(model, digits, result.scores, () => {})
      t.equal(mismatches, 0)
      const right = result.answers.reduce((sum, answer, i) => sum + Number(answer === digits.labels[i]), 0)
      t.ok(right / digits.count > 0.95, `${right} of ${digits.count} are right`)
      const { descriptors, errors } = await client.call('counters', { clear: false })
      // Each batch, and the one that is profiled.
      const runs = Math.ceil(digits.count / batch) + 1
      t.same([descriptors - before, errors], [BigInt(report.commands * runs), 0n], 'the device did it')
      await engine.close()
      await client.close()
      t.equal(heldBuffers(), held)
      t.equal(node.work.quarantinedBytes, 0)
      await accel.close()
      t.same(await violations(), [])
    },
  )
}

t.test('a client of a node has the same words, and maps the memory itself', async (t) => {
  const { node } = await npu(t, loopback(npuModel))
  const folder = nodeFolder(t)
  await using _server = await serveNode(node, { folder })
  const dev = await clientWords.openAccel(npuUapi, 'accel0', { folder })
  const buffers = clientWords.openBuffers(dev)
  t.equal(clientWords.openBuffers, openBuffers, 'the same, not another like it')
  const image = await buffers.create(4096)
  t.equal(heldBuffers(), 2, 'one mapping of the server, one of the client')
  const payload = encodeJob([{ op: 'fill', y: { buffer: 0 }, length: 4096, pattern: 0x07070707 }])
  await buffers.run({ buffers: [{ buffer: image, access: 'write' }], payload })
  t.ok(image.u8.every((byte) => byte === 7))
  await image.destroy()
  t.throws(() => image.u8, { code: 'ERR_ACCEL_REVOKED' })
  await dev.close()
  t.equal(heldBuffers(), 0)
})

t.test(
  'what a job must not touch, it does not: refused by the driver, or by the windows of its queue',
  async (t) => {
    const { open, transport } = await npu(t, loopback(npuModel))
    const [client, other] = [open(), open()]
    const [buffers, others] = [openBuffers(client), openBuffers(other)]
    const [mine, theirs] = [await buffers.create(8192), await others.create(8192)]
    theirs.u8.fill(5)
    mine.u8.fill(3)
    const fill = (offset: number, length: number) =>
      encodeJob([{ op: 'fill', y: { buffer: 0, offset }, length, pattern: 0x09090909 }])
    const run = (payload: Uint8Array, range: object = {}) =>
      codeOf(buffers.run({ buffers: [{ buffer: mine, ...range }], payload }))
    t.equal(await run(fill(0, 4096), { offset: 4096 }), 'accepted')
    t.same([mine.u8[4095], mine.u8[4096], mine.u8[8191]], [3, 9, 9])
    mine.u8.fill(3)
    t.equal(
      await run(fill(4096, 1), { sizeBytes: 4096 }),
      'ERR_ACCEL_OUT_OF_RANGE',
      'an operand that starts behind the range',
    )
    t.equal(await run(fill(0, 4097), { sizeBytes: 4096 }), 'ERR_ACCEL_PERMISSION', 'one that ends behind it')
    t.equal(await run(fill(0, 16), { access: 'read' }), 'ERR_ACCEL_PERMISSION', 'a write to what is read')
    const copy = encodeJob([{ op: 'copy', x: { buffer: 0 }, y: { buffer: 0, offset: 4096 }, length: 4096 }])
    t.equal(await run(copy, { access: 'write' }), 'ERR_ACCEL_PERMISSION', 'a read of what is written')
    t.equal(
      await run(encodeJob([{ op: 'fill', y: { buffer: 1 }, length: 1, pattern: 0 }])),
      'ERR_ACCEL_OUT_OF_RANGE',
    )
    t.equal(await run(new Uint8Array()), 'ERR_ACCEL_BAD_SIZE')
    t.equal(await run(fill(0, 1).subarray(1)), 'ERR_ACCEL_BAD_SIZE')
    const wrong = (field: string, at: number, value: number) => {
      const payload = fill(0, 16)
      const { offset } = npuStep.layout.fields.find(({ name }) => name === field)!
      payload[offset + at] = value
      return run(payload)
    }
    t.equal(await wrong('opcode', 0, 0x7f), 'ERR_ACCEL_OUT_OF_RANGE')
    t.equal(await wrong('order', 1, 1), 'ERR_ACCEL_BAD_FLAGS')
    t.equal(await wrong('d', 4, 1), 'ERR_ACCEL_RESERVED', 'padding')
    t.equal(await wrong('d', 15, 0xff), 'ERR_ACCEL_OUT_OF_RANGE', 'an offset that would pass 2^64')
    t.equal(await wrong('a', 8, 1), 'ERR_ACCEL_RESERVED', 'an offset of no buffer')
    t.equal(await wrong('block', 0, 97), 'ERR_ACCEL_OUT_OF_RANGE')
    t.equal(await wrong('block', 4, 1), 'ERR_ACCEL_RESERVED')
    const view = { at: { buffer: 0 }, type: 'float32', strides: [1] } as const
    const tensor = encodeJob([
      {
        op: 'elementwise',
        dims: [4],
        compute: 'none',
        a: view,
        d: { ...view, at: { buffer: 0, offset: 64 } },
      },
    ])
    const small = fill(0, 1)
    mine.f32.set([1, 2, 3, 4])
    t.equal(await run(Buffer.concat([fill(4096, 16), tensor])), 'accepted', 'a step of each layout')
    t.same([...mine.f32.subarray(16, 20)], [1, 2, 3, 4])
    const beyond = { ...view, at: { buffer: 0, offset: 4096 } }
    t.equal(
      await run(
        encodeJob([
          { op: 'elementwise', dims: [2], compute: 'none', a: { ...view, strides: [1 << 24] }, d: beyond },
        ]),
      ),
      'ERR_ACCEL_PERMISSION',
      'a stride that leads out of the range',
    )
    mine.u8.fill(3)
    const wrongTensor = (field: string, at: number, value: number) => {
      const payload = tensor.slice()
      const { offset } = npuTensorStep.layout.fields.find(({ name }) => name === field)!
      payload[offset + at] = value
      return run(payload)
    }
    t.equal(await run(tensor.subarray(0, -1)), 'ERR_ACCEL_BAD_SIZE')
    t.equal(
      await run(tensor.subarray(0, small.length)),
      'ERR_ACCEL_BAD_SIZE',
      'a step cut to the size of others',
    )
    t.equal(await run(Buffer.concat([tensor, small, tensor.subarray(0, 3)])), 'ERR_ACCEL_BAD_SIZE')
    t.equal(await wrongTensor('opcode', 0, 0x28), 'ERR_ACCEL_OUT_OF_RANGE')
    t.equal(await wrongTensor('order', 1, 1), 'ERR_ACCEL_BAD_FLAGS')
    t.equal(await wrongTensor('block', 1, 2), 'ERR_ACCEL_OUT_OF_RANGE', 'a block of more than 352 bytes')
    t.equal(
      await wrongTensor('block', 0, 0x5f),
      'ERR_ACCEL_INVALID_ARGUMENT',
      'a shorter one, which the device refuses',
    )
    t.equal(await wrongTensor('d', 9, 0xff), 'ERR_ACCEL_OUT_OF_RANGE')
    t.equal(await wrongTensor('b', 8, 1), 'ERR_ACCEL_RESERVED')
    const many = Array.from({ length: 8 }, () => ({ buffer: mine }))
    t.equal(await codeOf(buffers.run({ buffers: many, payload: fill(0, 1) })), 'ERR_ACCEL_OUT_OF_RANGE')
    t.ok(mine.u8.every((byte) => byte === 3))
    t.ok(theirs.u8.every((byte) => byte === 5))
    t.equal(await run(fill(0, 8192)), 'accepted', 'and it goes on')
    await Promise.all([mine.destroy(), theirs.destroy()])
    transport.assertClean()
  },
)

t.test('a device that comes late writes into memory that nobody else has', async (t) => {
  const { open, transport, node } = await npu(t, loopback(npuModel))
  const [dying, other] = [open(), open()]
  const buffers = openBuffers(dying)
  const size = 1 << 16
  const before = heldBuffers()
  const victim = await buffers.create(size)
  const payload = encodeJob([{ op: 'fill', y: { buffer: 0 }, length: size, pattern: 0xdddddddd }])
  await codeOf(buffers.run({ buffers: [{ buffer: victim }], payload })) // its queue is up
  victim.u8.fill(0)
  transport.faults.hang() // the transfer is due, and does not come yet
  await buffers.submit({ buffers: [{ buffer: victim }], payload })
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.equal(victim.u8[0], 0)
  const view = victim.u8
  await dying.close()
  t.equal(node.work.quarantinedBytes, size, 'the open is gone, its memory is not')
  const fresh = openBuffers(other)
  const next = await Promise.all(Array.from({ length: 8 }, () => fresh.create(size)))
  transport.faults.hang(false)
  while (node.work.quarantinedBytes > 0) await new Promise((resolve) => setTimeout(resolve, 5))
  t.equal(view[0], 0xdd, 'the late transfer came')
  t.equal(view[size - 1], 0xdd)
  for (const each of next) t.notOk(each.u8.includes(0xdd))
  transport.assertClean() // and no transfer met a hole
  for (const each of next) await each.destroy()
  await other.close()
  await victim.destroy()
  t.equal(heldBuffers(), before)
})

t.test(
  'a hung device: recovered, the job ends with the timeout, its memory was kept until then',
  async (t) => {
    const { open, transport, node } = await npu(t, loopback(npuModel), {
      limits: { jobMs: 200, settleMs: 100 },
    })
    const client = open()
    const buffers = openBuffers(client)
    const buffer = await buffers.create(4096)
    const payload = encodeJob([{ op: 'fill', y: { buffer: 0 }, length: 4096, pattern: 0xdddddddd }])
    const job = { buffers: [{ buffer }], payload }
    await buffers.run(job)
    transport.faults.hang()
    const hung = codeOf(buffers.run(job))
    const behind = codeOf(buffers.run(job))
    setTimeout(() => transport.faults.hang(false), 1600)
    t.equal(await hung, 'ERR_ACCEL_TIMEOUT')
    t.equal(await behind, 'accepted')
    buffer.u8.fill(0)
    await buffers.run(job)
    t.equal(buffer.u8[0], 0xdd)
    await node.reset()
    await buffers.run(job)
    await client.close()
    t.equal(node.work.quarantinedBytes, 0)
    transport.assertClean()
  },
)

t.test('64 opens with equal jobs get equal shares', async (t) => {
  const { open, transport } = await npu(t, loopback(npuModel))
  const opens = 64
  const payload = encodeJob([{ op: 'fill', y: { buffer: 0 }, length: 4096, pattern: 1 }])
  const counts = new Array<number>(opens).fill(0)
  let on = true
  const users = await Promise.all(
    Array.from({ length: opens }, async () => {
      const client = open()
      const buffers = openBuffers(client)
      const own = await Promise.all([buffers.create(4096), buffers.create(4096)])
      return { client, buffers, own }
    }),
  )
  // Some keep one job waiting, others two: those that ask for more do not get more than their turn.
  const work = users.flatMap(({ buffers, own }, i) =>
    own.map(async (buffer) => {
      while (on) {
        await buffers.run({ buffers: [{ buffer }], payload })
        if (on) counts[i]!++
      }
    }),
  )
  const greedy = users[0]!
  for (let i = 0; i < 20; i++) {
    work.push(
      (async () => {
        const [buffer] = greedy.own
        while (on) {
          await greedy.buffers.run({ buffers: [{ buffer: buffer!, access: 'write' }], payload })
          if (on) counts[0]!++
        }
      })(),
    )
  }
  const goal = 30
  while (counts.reduce((sum, count) => sum + count, 0) < goal * opens)
    await new Promise((resolve) => setTimeout(resolve, 5))
  on = false
  const seen = [...counts]
  await Promise.all(work)
  const mean = seen.reduce((sum, count) => sum + count, 0) / opens
  t.ok(
    seen.every((count) => count > 0.8 * mean && count < 1.2 * mean),
    `each between 0.8 and 1.2 of ${mean}: ${Math.min(...seen)} to ${Math.max(...seen)}, the greedy one ${seen[0]}`,
  )
  await Promise.all(users.map(({ client }) => client.close()))
  transport.assertClean()
})
