import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { openBuffers } from '@uaccel/accel'
import { type NodeClient, openAccel } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { encodeJob, npuUapi } from '@uaccel/driver-npu/uapi'
import { sys } from '@uaccel/sys'
import type { Uapi } from '@uaccel/uapi'
import t from 'tap'
import { eventually, held, nodeFolder, startProcess, startServer } from './nodes.js'

/** Clients that are killed, each at another moment of its session. */
const kills = Number(process.env.UACCEL_KILLS ?? 12)
/** How many of them live at a time. */
const AT_ONCE = 3

t.setTimeout(300_000 + kills * 3000)

/** Has every lane of the NPU's driver opened: they stay. */
async function warm(npu: NodeClient<typeof npuUapi>): Promise<void> {
  const buffers = openBuffers(npu)
  const sizeBytes = 1 << 20
  const all = await Promise.all(Array.from({ length: 8 }, () => buffers.create(sizeBytes)))
  const payload = encodeJob([{ op: 'fill', y: { buffer: 0 }, length: sizeBytes, pattern: 0 }])
  await Promise.all(all.map((buffer) => buffers.run({ buffers: [{ buffer }], payload })))
  await Promise.all(all.map((buffer) => buffer.destroy()))
}

/** What a node says that it holds for its clients. */
async function holds(client: NodeClient<Uapi>): Promise<Record<string, unknown>> {
  const contexts = await client.query('contexts')
  const found: Record<string, unknown> = { contexts: contexts?.total }
  for (const path of ['opens/current', 'dma/mappings', 'dma/mappedBytes', 'queues/inUse']) {
    found[path] = await client.common('attrShow', { path }).then(
      ({ value }) => Number(value),
      ({ code }) => code,
    )
  }
  return found
}

t.test(
  `${kills} clients are killed in the midst of buffers, mappings, jobs, fences, imports and commands; others notice nothing`,
  { timeout: 200_000 + kills * 3000 },
  async (t) => {
    const folder = nodeFolder(t)
    const { process: server } = await startServer(t, 'edu,npu', { folder })
    const pid = server.pid!
    const [edu, npu] = [
      await openAccel(eduUapi, 'accel0', { folder }),
      await openAccel(npuUapi, 'accel1', { folder }),
    ]
    await warm(npu)
    const state = async () => ({ ...held(pid), edu: await holds(edu), npu: await holds(npu) })
    const before = await state()
    t.match(before, { npu: { contexts: 1, 'queues/inUse': 4 }, edu: { contexts: 1 } })
    const { process: bystander } = await startProcess(t, './jobs.client.js', ['bystander', folder])
    let most = 0
    const killOne = async (number: number) => {
      const { process: client } = await startProcess(t, './jobs.client.js', ['session', folder])
      const exited = once(client, 'exit')
      // Golden ratio: moments that are spread over the first sessions however many there are.
      await sleep(((number * 0.618) % 1) * 250)
      most = Math.max(most, held(pid).fds)
      client.kill('SIGKILL')
      const [code, signal] = await exited
      if (signal !== 'SIGKILL') throw new Error(`client ${number} ended with ${code} before it was killed`)
    }
    for (let killed = 0; killed < kills; killed += AT_ONCE) {
      const count = Math.min(AT_ONCE, kills - killed)
      await Promise.all(Array.from({ length: count }, (_, i) => killOne(killed + i)))
      if (killed % 99 === 0) t.comment(`${killed + count} killed`)
    }
    t.ok(most > before.fds, `they did hold something: up to ${most} descriptors, where ${before.fds} were`)
    bystander.send('stop')
    const [seen] = await once(bystander, 'message')
    t.equal(
      seen.wrong,
      0,
      `a bystander made ${seen.rounds} rounds meanwhile, the slowest in ${seen.slowestMs} ms`,
    )
    t.ok(seen.rounds > 0)
    await eventually(async () => JSON.stringify(await state()) === JSON.stringify(before))
    t.same(await state(), before, `after ${kills} killed clients`)
    await Promise.all([edu.close(), npu.close()])
    t.equal(server.exitCode, null)
  },
)

t.test(
  'a server that is killed ends jobs, waits and commands of its clients; another one takes its nodes',
  async (t) => {
    const folder = nodeFolder(t)
    const { process: server } = await startServer(t, 'edu,npu', { folder })
    const [edu, npu] = [
      await openAccel(eduUapi, 'accel0', { folder }),
      await openAccel(npuUapi, 'accel1', { folder }),
    ]
    const buffers = openBuffers(npu)
    const sizeBytes = 1 << 22
    const buffer = await buffers.create(sizeBytes)
    const { handle: fence } = await npu.common('fenceCreate', { initialValue: 0n, flags: {} })
    const { fd } = await npu.common('fenceEvent', { handle: fence, value: 9n, flags: {} })
    const payload = encodeJob([{ op: 'fill', y: { buffer: 0 }, length: sizeBytes, pattern: 0x01010101 }])
    const job = { buffers: [{ buffer }], payload }
    await buffers.run(job)
    const deadlineNs = process.hrtime.bigint() + 60_000_000_000n
    const points = [{ fence, value: 1n }]
    const pending = [
      npu.common('wait', { points, deadlineNs, flags: { forSubmit: true } }, { timeoutMs: 60_000 }),
      npu.common('events', { after: 0n, options: {} }, { timeoutMs: 60_000 }),
      ...Array.from({ length: 20 }, () => buffers.run(job)),
      edu.call('factorial', { n: 2 ** 24 }),
    ].map((call) =>
      Promise.resolve(call).then(
        () => 'done',
        ({ code }) => code as string,
      ),
    )
    await edu.info() // what was sent before has arrived
    const start = performance.now()
    server.kill('SIGKILL')
    const ended = new Set(await Promise.all(pending))
    const tookMs = performance.now() - start
    ended.delete('done')
    t.same([...ended], ['ERR_ACCEL_NO_DEVICE'], 'what was not done ended with the loss of the device')
    t.ok(tookMs < 1000, `within ${tookMs.toFixed(0)} ms`)
    t.equal((await npu.lost).code, 'ERR_ACCEL_NO_DEVICE')
    t.ok(
      buffer.u8.every((byte) => byte === 1),
      'memory that a client has mapped stays',
    )
    sys.close(fd!)
    await buffer.destroy()
    await Promise.all([edu.close(), npu.close()])
    const { said } = await startServer(t, 'edu,npu', { folder })
    t.same(said, { served: ['accel0', 'accel1'] })
    const anew = await openAccel(npuUapi, 'accel1', { folder })
    const again = await openBuffers(anew).create(sizeBytes)
    await openBuffers(anew).run({ buffers: [{ buffer: again }], payload })
    t.ok(again.u8.every((byte) => byte === 1))
    await anew.close()
    await again.destroy()
  },
)
