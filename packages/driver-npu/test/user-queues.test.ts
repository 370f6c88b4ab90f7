import { Accel, openBuffers } from '@uaccel/accel'
import { loopback } from '@uaccel/model'
import t, { type Test } from 'tap'
import { npuModel } from '../model/index.js'
import { type IrqMode, npuDriver, npuUapi } from '../src/driver.js'
import { openNpuQueue } from '../src/user-queue.js'
import { cases } from './cases.js'
import { checkOperation, endOf } from './contract.js'

t.setTimeout(120_000)

const MEMORY_BYTES = 1 << 20

/** An NPU behind the subsystem, in this process. */
async function node(t: Test, irq: IrqMode = 'auto') {
  const accel = new Accel({ limits: { settleMs: 200 } })
  t.teardown(() => accel.close())
  accel.register(npuDriver({ irq }))
  const transport = loopback(npuModel, { model: { testMode: true } })
  const node = await accel.add(transport)
  const open = () => accel.open(npuUapi, 'accel0')
  return { accel, node, transport, open }
}

for (const irq of ['msix', 'intx', 'poll'] as const) {
  t.test(`a queue that a client fills does what the reference says, ${irq}`, async (t) => {
    const { open, transport } = await node(t, irq)
    const client = open()
    const memory = await openBuffers(client).create(MEMORY_BYTES)
    const { context } = await openNpuQueue(client, { memory })
    for (const name of Object.keys(cases)) await checkOperation(context, name, irq === 'msix' ? 10 : 3)
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
