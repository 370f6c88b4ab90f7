import { readFileSync } from 'node:fs'
import { Accel, openBuffers } from '@uaccel/accel'
import { openQueue } from '@uaccel/memory'
import { loopback } from '@uaccel/model'
import { errorTable } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { npuModel } from '../model/index.js'
import { type IrqMode, type Npu, npuDriver, npuUapi } from '../src/driver.js'
import { SHARED } from '../src/queue.js'
import { openNpuQueue } from '../src/user-queue.js'
import { cases } from './cases.js'
import { checkOperation, endOf } from './contract.js'
import { tensorCases } from './tensor-cases.js'

t.setTimeout(600_000)

const MEMORY_BYTES = 1 << 20

/** An NPU behind the subsystem, in this process. */
async function node(t: Test, irq: IrqMode = 'auto') {
  const accel = new Accel({ limits: { settleMs: 200 } })
  t.teardown(() => accel.close())
  const npus: Npu[] = []
  accel.register(npuDriver({ irq, onReady: (npu) => npus.push(npu) }))
  const transport = loopback(npuModel, { model: { testMode: true } })
  const node = await accel.add(transport)
  const open = () => accel.open(npuUapi, 'accel0')
  return { accel, node, transport, open, npus }
}

for (const irq of ['msix', 'intx', 'poll'] as const) {
  t.test(`a queue that a client fills does what the reference says, ${irq}`, async (t) => {
    const { open, transport } = await node(t, irq)
    const client = open()
    const memory = await openBuffers(client).create(MEMORY_BYTES)
    const { context } = await openNpuQueue(client, { memory })
    for (const name of Object.keys({ ...cases, ...tensorCases }))
      await checkOperation(context, name, irq === 'msix' ? 10 : 3)
    const { descriptors } = await client.call('counters', { clear: false })
    t.ok(descriptors > 0n)
    await context.close()
    t.equal(
      await endOf(Promise.resolve().then(() => context.run([]))),
      'SUCCESS',
      'nothing to do, nothing to fail',
    )
    t.throws(() => context.allocate(8), { code: 'ERR_ACCEL_CLOSED' })
    await memory.destroy()
    await client.close()
    transport.assertClean()
  })
}

t.test('its windows are open for exactly the buffers that were named, as they were named', async (t) => {
  const { open, transport } = await node(t)
  const client = open()
  const buffers = openBuffers(client)
  const [memory, input, output, other] = await Promise.all([1, 2, 3, 4].map(() => buffers.create(8192)))
  const queue = await openNpuQueue(client, {
    memory: memory!,
    buffers: [
      { buffer: input!, access: 'read' },
      { buffer: output!, access: 'write' },
    ],
  })
  const { context } = queue
  const [x, y] = queue.buffers as [(typeof queue.buffers)[0], (typeof queue.buffers)[0]]
  input!.u8.fill(7)
  const run = (job: Parameters<typeof context.encode>[0]) => endOf(context.run(context.encode(job)))
  t.equal(await run([{ op: 'copy', x: { buffer: x }, y: { buffer: y }, length: 8192 }]), 'SUCCESS')
  t.ok(output!.u8.every((byte) => byte === 7))
  t.match(await run([{ op: 'fill', y: { buffer: x }, length: 1, pattern: 0 }]), /WINDOW_WRITE/)
  t.match(
    await run([{ op: 'copy', x: { buffer: y }, y: { buffer: y, offset: 64 }, length: 1 }]),
    /WINDOW_READ/,
  )
  // What no word of ours says: every address but those of the windows.
  const job = context.encode([{ op: 'fill', y: { buffer: y }, length: 64, pattern: 0 }])
  other!.u8.fill(3)
  for (const address of [
    0n,
    1n << 63n,
    (1n << 64n) - 32n,
    y.address + 8192n,
    y.address - 1n,
    y.address + 8129n,
  ]) {
    job.words[8] = Number(address & 0xffff_ffffn) | 0
    job.words[9] = Number(address >> 32n) | 0
    t.match(await endOf(context.run(job)), /WINDOW_WRITE/, `0x${address.toString(16)}`)
  }
  t.ok(other!.u8.every((byte) => byte === 3))
  t.ok(output!.u8.every((byte) => byte === 7))
  const { errors } = await client.call('counters', { clear: false })
  t.equal(errors, 8n, 'each was counted by the device')
  await client.close()
  transport.assertClean()
})

t.test('what an NPU refuses', async (t) => {
  const { open, transport, npus, node: device } = await node(t)
  const client = open()
  const memory = await openBuffers(client).create(4096)
  const make = (options: Partial<Parameters<typeof openQueue>[1]> = {}) =>
    openQueue(client, { entries: 16, buffers: [{ buffer: memory }], ...options })
  const refused = (code: string, options: Parameters<typeof make>[0], why = '') =>
    t.rejects(make(options), { code }, why)
  const used = async () => {
    const queue = await make()
    await queue.close()
    queue.unmap()
  }
  await used() // maps the buffer, which then stays so
  const { mappings } = device.device!.dma
  for (const entries of [1, 3, 8192, 0xffff_ffff]) await refused('ERR_ACCEL_OUT_OF_RANGE', { entries })
  await refused('ERR_ACCEL_OUT_OF_RANGE', { buffers: Array(9).fill({ buffer: memory }) }, 'a window too many')
  await refused('ERR_ACCEL_BAD_SIZE', { payload: Uint8Array.of(1) })
  const { regionFile } = transport
  Object.assign(transport, { regionFile: undefined })
  await refused('ERR_ACCEL_UNSUPPORTED', {}, 'as over the kernel’s VFIO')
  Object.assign(transport, { regionFile })
  t.equal(device.device!.dma.mappings, mappings)
  const contexts = await Promise.all(Array.from({ length: 16 }, () => npus[0]!.createContext()))
  await refused('ERR_ACCEL_BUSY', {}, 'all in use')
  for (const context of contexts) await context.close()
  t.equal(npus[0]!.queuesInUse, 0)
  await used()
  await client.close()
  transport.assertClean()
})

t.test('a reset, or a loss, ends the queue for its client, who makes another', async (t) => {
  const { open, transport, accel, node: device } = await node(t)
  const client = open()
  const memory = await openBuffers(client).create(MEMORY_BYTES)
  const first = await openNpuQueue(client, { memory })
  const job = first.context.encode([{ op: 'nop' }])
  t.equal(await endOf(first.context.run(job)), 'SUCCESS')
  await device.reset()
  t.equal(await endOf(first.context.run(job)), 'ERR_ACCEL_IO')
  await first.context.close()
  await first.context.close()
  const second = await openNpuQueue(client, { memory })
  const again = second.context.encode([{ op: 'nop' }])
  t.equal(await endOf(second.context.run(again)), 'SUCCESS')
  const under = endOf(second.context.run([again, again]))
  transport.vanish()
  t.match(await under, /SUCCESS|ERR_ACCEL_NO_DEVICE/)
  await client.lost
  t.equal(await endOf(second.context.run(again)), 'ERR_ACCEL_NO_DEVICE')
  await second.context.close()
  await accel.close()
})

t.test('a device that comes late writes into memory that nobody else has', async (t) => {
  const { open, transport, node: device } = await node(t)
  const dying = open()
  const size = 4 << 20
  const buffers = openBuffers(dying)
  const [memory, victim] = [await buffers.create(4096), await buffers.create(size)]
  const { context, buffers: named } = await openNpuQueue(dying, { memory, buffers: [{ buffer: victim }] })
  const fill = [{ op: 'fill', y: { buffer: named[0]! }, length: size, pattern: 0xdddddddd | 0 }] as const
  const job = context.encode(fill)
  t.equal(await endOf(context.run(job)), 'SUCCESS')
  const ended = endOf(context.run(Array(60).fill(job)))
  await new Promise((resolve) => setTimeout(resolve, 3))
  transport.faults.hang() // a transfer is under way, and does not end yet
  victim.u8.fill(0)
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.equal(victim.u8[0], 0)
  const closing = dying.close()
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.equal(device.work.quarantinedBytes, size + 4096, 'its handles are gone, its memory is not')
  t.throws(open, { code: 'ERR_ACCEL_AGAIN' })
  transport.faults.hang(false)
  await closing
  t.match(await ended, /SUCCESS|ABORTED|ERR_ACCEL_CLOSED/)
  t.equal(victim.u8[0], 0xdd, 'the late transfer came')
  t.equal(device.work.quarantinedBytes, 0)
  const next = open()
  const fresh = await openBuffers(next).create(size)
  t.notOk(fresh.u8.includes(0xdd))
  await next.close()
  transport.assertClean()
})

t.test('a queue of a device that hangs: it is reset, then its memory is given back', async (t) => {
  const { open, transport, node: device } = await node(t)
  const client = open()
  const memory = await openBuffers(client).create(MEMORY_BYTES)
  const { context } = await openNpuQueue(client, { memory })
  const job = context.encode([{ op: 'nop' }])
  job.words[0] = 0xc0 | 0x400 // TEST_HANG, deaf (9.18)
  job.words[13] = 1
  t.equal(await endOf(context.run(job, { timeoutMs: 300 })), 'ERR_ACCEL_TIMEOUT')
  await client.close()
  for (let i = 0; i < 1000 && device.work.quarantinedBytes > 0; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  t.equal(device.work.quarantinedBytes, 0)
  const next = open()
  const again = await openBuffers(next).create(MEMORY_BYTES)
  const queue = await openNpuQueue(next, { memory: again })
  t.equal(await endOf(queue.context.run(queue.context.encode([{ op: 'nop' }]))), 'SUCCESS')
  await next.close()
  transport.assertClean()
})

t.test('doorbells that cannot be, found while the queue stops, cost nobody else anything', async (t) => {
  const { open, transport, npus } = await node(t)
  const client = open()
  const memory = await openBuffers(client).create(4096)
  const own = await npus[0]!.createContext()
  const queue = await openQueue(client, { entries: 16, buffers: [{ buffer: memory }] })
  await new Promise((resolve) => setTimeout(resolve, 50)) // it sleeps
  queue.doorbell.write32(0, 0x7fff_ffff) // and nothing that wakes it
  const { recover } = npus[0]!
  let recoveries = 0
  Object.assign(npus[0]!, {
    recover: () => {
      recoveries++
      return recover.call(npus[0])
    },
  })
  await queue.close()
  queue.unmap()
  t.equal(recoveries, 0, 'the controller was not reset')
  t.equal(await endOf(own.run(own.encode([{ op: 'nop' }]))), 'SUCCESS')
  await own.close()
  await client.close()
  transport.assertClean()
})

t.test(
  'a queue that has failed and answers what cannot be, too, ends its jobs with that failure',
  async (t) => {
    const { open, transport } = await node(t)
    const client = open()
    const memory = await openBuffers(client).create(MEMORY_BYTES)
    const { context } = await openNpuQueue(client, { memory })
    transport.faults.hang()
    const ended = endOf(context.run(context.encode([{ op: 'nop' }])))
    const { answers, statusBlock } = context.queue as unknown as Record<string, Int32Array>
    answers![3] = (1 << 16) | 0xffff
    statusBlock![SHARED.failed] = errorTable.ERR_ACCEL_DMA_FAULT.number
    t.equal(context.poll(), 0, 'it throws nothing')
    t.equal(await ended, 'ERR_ACCEL_DMA_FAULT')
    t.match(context.failure?.cause, { code: 'ERR_ACCEL_IO', message: /not under way/ })
    transport.faults.hang(false)
    await client.close()
  },
)

t.test(
  'a queue that starts late, when nobody waits any more, starts in memory that nobody else has',
  async (t) => {
    const { open, transport, npus } = await node(t)
    const client = open()
    const memory = await openBuffers(client).create(4096)
    const { recover } = npus[0]!
    let recoveries = 0
    Object.assign(npus[0]!, {
      recover: () => {
        recoveries++
        return recover.call(npus[0])
      },
    })
    transport.faults.hang()
    const made = endOf(openQueue(client, { entries: 16, buffers: [{ buffer: memory }] }))
    setTimeout(() => transport.faults.hang(false), 2500)
    t.equal(await made, 'ERR_ACCEL_TIMEOUT')
    t.equal(recoveries, 1)
    await client.close()
    transport.assertClean()
  },
)

t.test('a removal while a queue does not stop: its memory is kept until the device is at rest', async (t) => {
  const { open, transport, accel, node: device } = await node(t)
  const client = open()
  const memory = await openBuffers(client).create(4096)
  const queue = await openQueue(client, { entries: 16, buffers: [{ buffer: memory }] })
  transport.faults.hang()
  const { mappings } = device.device!.dma
  const dma = device.device!.dma
  const closing = accel.close()
  const seen: number[] = []
  for (let i = 0; i < 26 && !dma.destroyed; i++) {
    seen.push(dma.mappings)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  t.ok(
    seen.every((found) => found === mappings || found === 0),
    seen.join(),
  )
  await closing
  queue.unmap()
})

t.test('what a client loads for a queue has nothing that opens devices', async (t) => {
  const loaded = new Set<string>()
  const packages = new Set<string>()
  const follow = (file: string) => {
    if (loaded.has(file)) return
    loaded.add(file)
    for (const [, name] of readFileSync(new URL(file, import.meta.url), 'utf8').matchAll(/from '([^']+)'/g)) {
      if (name!.startsWith('.')) follow(new URL(name!, new URL(file, import.meta.url)).href)
      else packages.add(name!)
    }
  }
  follow('../src/user-queue.js')
  t.ok(loaded.size > 5)
  t.same([...packages].sort(), ['@uaccel/memory', '@uaccel/uapi'])
})
