import { once } from 'node:events'
import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openAccel } from '@uaccel/client'
import { npuUapi } from '@uaccel/driver-npu/uapi'
import { errorTable } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { ended, forked } from './faults/bench.js'
import { eventually, nodeFolder, settled as settledProcess, startProcess } from './nodes.js'

/** Queues that clients without privileges fill: the model in one process, its driver in another, clients in processes of their own. */

/** Clients that are killed with their queue full, each at another moment. */
const kills = Number(process.env.UACCEL_QUEUE_KILLS ?? 5)
/** Random cases of each operation. */
const runs = Number(process.env.UACCEL_NPU_RUNS ?? 15)

t.setTimeout(240_000 + kills * 3000)

async function npu(t: Test) {
  const folder = nodeFolder(t)
  chmodSync(folder, 0o755)
  const model = await forked('model', 'npu', join(folder, 'npu.sock'))
  t.teardown(() => ended(model))
  const serve = () => startProcess(t, './queues.server.js', [join(folder, 'npu.sock'), folder])
  const { process: server, said } = await serve()
  t.match(said, { served: true })
  const errors: unknown[] = []
  server.on('message', (word) => errors.push(word))
  const client = (what: string, seed = 1) =>
    startProcess(t, './queues.client.js', [what, folder, String(seed)], {
      nobody: globalThis.process.getuid?.() === 0,
    })
  return {
    client,
    errors,
    server,
    restart: async () => (await serve()).said,
    settled: async () => ({
      server: await settledProcess(server.pid!),
      model: await settledProcess(model.pid!),
    }),
    open: () => openAccel(npuUapi, 'accel0', { folder }),
    async violations() {
      model.send('violations')
      const [answer] = await once(model, 'message')
      return (answer as { violations: string[] }).violations
    },
  }
}

t.test('each descriptor of an unprivileged client does what the reference says', async (t) => {
  const { client, open, violations, settled, errors } = await npu(t)
  const before = await settled()
  const { process, said } = await client('cases', runs)
  t.match(said, { other: 'ERR_ACCEL_BUSY', last: /SUCCESS|ABORTED/ })
  if (globalThis.process.getuid?.() === 0) t.equal(said.uid, 65_534)
  await once(process, 'exit')
  const dev = await open()
  const { descriptors, errors: failed } = await dev.call('counters', { clear: false })
  t.ok(descriptors >= 8 * runs, `${descriptors} descriptors`)
  t.ok(failed <= 3n, 'none of which failed, but for those that were stopped')
  await dev.close()
  t.same(await settled(), before)
  t.same(errors, [])
  t.same(await violations(), [])
})

t.test('a client that is killed with its queue full leaves nothing', async (t) => {
  const { client, open, violations, settled, errors } = await npu(t)
  const round = async (number: number) => {
    const { process } = await client('load', number + 1)
    await sleep(((number * 0.618) % 1) * 100)
    process.kill('SIGKILL')
    await once(process, 'exit')
    const start = performance.now()
    const opened = await eventually(async () => {
      try {
        const dev = await open()
        await dev.close()
        return true
      } catch {
        return false
      }
    })
    t.ok(opened, `others get the device ${(performance.now() - start).toFixed(0)} ms after kill ${number}`)
  }
  await round(0)
  const before = await settled()
  for (let i = 1; i < kills; i++) await round(i)
  t.same(await settled(), before, `after ${kills} kills`)
  const { process, said } = await client('cases', 2)
  t.match(said, { other: 'ERR_ACCEL_BUSY' }, 'and the next client works')
  await once(process, 'exit')
  t.same(errors, [])
  t.same(await violations(), [])
})

t.test(
  'noise in the rings, storms at the doorbell and the eventfd: the server goes on, memory outside is untouched',
  async (t) => {
    const { client, open, violations, errors, settled } = await npu(t)
    let before: Awaited<ReturnType<typeof settled>> | undefined
    for (const seed of [1, 2]) {
      const { process, said } = await client('hostile', seed)
      await once(process, 'exit')
      t.same(said.refused, Array(4).fill('ERR_ACCEL_PERMISSION'), 'sealed')
      t.match(said, { barBytes: 65_536, served: 'accepted', after: 'accepted', untouched: true })
      t.ok((said.descriptors as number) > 100, `${said.descriptors} descriptors of noise were answered`)
      t.ok((said.errors as number) > (said.descriptors as number) / 2, `${said.errors} of them with errors`)
      t.ok((said.errors as number) < (said.descriptors as number), 'and some were in order')
      let dev: Awaited<ReturnType<typeof open>> | undefined
      await eventually(async () => {
        dev = await open().catch(() => undefined)
        return dev !== undefined
      })
      t.match(await dev!.call('identify', {}), { queues: 16 })
      await dev!.close()
      before ??= await settled()
    }
    t.same(await settled(), before)
    const { process, said } = await client('cases', 2)
    t.match(said, { other: 'ERR_ACCEL_BUSY' })
    await once(process, 'exit')
    t.same(await violations(), [], 'the device was never asked for memory that it does not have')
    t.same(errors, [])
  },
)

t.test(
  'a server that is killed ends the queue of its client within a second, and the next one serves the device',
  async (t) => {
    const { client, server, restart } = await npu(t)
    const { process } = await client('orphan')
    const start = performance.now()
    server.kill('SIGKILL')
    const [said] = await once(process, 'message')
    t.ok(performance.now() - start < 1000, `${(performance.now() - start).toFixed(0)} ms`)
    const gone = 'ERR_ACCEL_NO_DEVICE'
    t.same(said, { end: gone, code: gone, later: gone, closed: 'accepted' })
    t.match(await restart(), { served: true })
    t.match((await client('cases', 2)).said, { other: 'ERR_ACCEL_BUSY' })
  },
)

t.test('a queue that its client breaks is an event, and the end of that queue alone', async (t) => {
  const { client, violations, errors } = await npu(t)
  const { process, said } = await client('broken')
  await once(process, 'exit')
  t.match(said, {
    failed: errorTable.ERR_ACCEL_IO.number,
    others: 'SUCCESS',
    still: 'SUCCESS',
    again: 'SUCCESS',
    events: [/^error: NPU queue 1 is in error, overrun/],
  })
  t.same(errors, [])
  t.same(await violations(), [])
})
