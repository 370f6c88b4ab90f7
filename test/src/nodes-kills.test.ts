import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { openBuffers } from '@uaccel/accel'
import { type NodeClient, openAccel } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { encodeJob, npuUapi } from '@uaccel/driver-npu/uapi'
import type { Uapi } from '@uaccel/uapi'
import t from 'tap'
import { eventually, held, nodeFolder, startProcess, startServer } from './nodes.js'

/** Clients that are killed, each at another moment of its session. */
const kills = Number(process.env.UACCEL_KILLS ?? 9)
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
