import { setTimeout as sleep } from 'node:timers/promises'
import { Accel, type AccelOptions, accelDriver } from '@uaccel/accel'
import { openAccel } from '@uaccel/client'
import { eduModel } from '@uaccel/driver-edu/model'
import { loopback } from '@uaccel/model'
import { type ServeNodeOptions, serveNode } from '@uaccel/server'
import { cmd, type Handle, u32, uapi } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { nodeFolder } from './nodes.js'

/** How a server ends while clients wait, and how much they may wait. */

t.setTimeout(120_000)

const slowUapi = uapi({
  name: 'slow',
  version: 1,
  commands: { nap: cmd(0x40, { in: { ms: u32 }, out: { ms: u32 } }) },
})

/** Commands that take their time, and jobs that end when the test says so. */
async function served(t: Test, options: AccelOptions = {}, serving: ServeNodeOptions = {}) {
  const folder = nodeFolder(t)
  const accel = new Accel(options)
  t.teardown(() => accel.close())
  const jobs: (() => void)[] = []
  accel.register(
    accelDriver({
      name: 'slow',
      uapi: slowUapi,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      probe(dev) {
        void dev.dma.mappings
        return {
          commands: {
            async nap({ ms }, { signal }) {
              await sleep(ms, undefined, { signal })
              return { ms }
            },
          },
          submit: () => new Promise<void>((end) => void jobs.push(end)),
        }
      },
    }),
  )
  const server = await serveNode(await accel.add(loopback(eduModel)), { ...serving, folder })
  t.teardown(() => server.close({ drainMs: 0 }))
  return { server, jobs, open: () => openAccel(slowUapi, 'accel0', { folder }) }
}

type Client = Awaited<ReturnType<Awaited<ReturnType<typeof served>>['open']>>

const noFence = { fence: 0 as Handle<'fence'>, value: 0n }
const fenceOf = async (client: Client) =>
  (await client.common('fenceCreate', { initialValue: 0n, flags: {} })).handle
const submit = (client: Client, signal = noFence) =>
  client.common('submit', { buffers: [], waits: [], signal, payload: new Uint8Array(), flags: {} })
const never = 2n ** 63n
const wait = (client: Client, fence: Handle<'fence'>, forSubmit = false) =>
  client.common('wait', { points: [{ fence, value: 1n }], deadlineNs: never, flags: { forSubmit } })
const nextEvent = (client: Client) => client.common('events', { after: 0n, options: {} })

const ended = (work: Promise<unknown>) =>
  work.then(
    () => ({ code: 'answered', at: performance.now() }),
    (error: { code: string }) => ({ code: error.code, at: performance.now() }),
  )

t.test('who only waits holds nobody up', async (t) => {
  const { server, open } = await served(t)
  const [idle, busy] = [await open(), await open()]
  const { revision } = await idle.common('attrShow', { path: 'state' })
  const waits = [
    ended(nextEvent(idle)),
    ended(idle.common('attrWatch', { path: 'state', after: revision })),
    ended(wait(idle, await fenceOf(idle), true)),
  ]
  const nap = ended(busy.call('nap', { ms: 400 }))
  const news = ended(nextEvent(busy))
  await busy.query('status') // all of the above are there
  const start = performance.now()
  await server.close({ drainMs: 60_000 })
  const took = performance.now() - start
  t.ok(took < 30_000, `not the ${took} ms that waits may take`)
  t.same(
    (await Promise.all(waits)).map(({ code }) => code),
    ['ERR_ACCEL_CLOSED', 'ERR_ACCEL_CLOSED', 'ERR_ACCEL_NO_DEVICE'],
  )
  t.equal((await idle.lost).code, 'ERR_ACCEL_CLOSED')
  t.equal((await nap).code, 'answered', 'work is waited for')
  t.equal((await news).code, 'ERR_ACCEL_CLOSED')
  t.ok((await news).at < (await nap).at, 'beside which a wait is ended at once')
})

t.test('jobs under way are work: who waits for one gets its end', async (t) => {
  const { server, jobs, open } = await served(t)
  const client = await open()
  const fence = await fenceOf(client)
  await submit(client, { fence, value: 1n })
  const waiting = ended(wait(client, fence))
  await client.query('status')
  let closed = false
  const closing = server.close({ drainMs: 60_000 }).then(() => {
    closed = true
  })
  await sleep(150)
  t.notOk(closed)
  t.equal((await ended(submit(client))).code, 'ERR_ACCEL_CLOSED', 'no new one')
  jobs[0]!()
  await closing
  t.equal((await waiting).code, 'answered')
  t.equal((await client.lost).code, 'ERR_ACCEL_CLOSED')
})

t.test('jobs that do not end are given drainMs', async (t) => {
  const { server, jobs, open } = await served(t, { limits: { settleMs: 20 } })
  const client = await open()
  const fence = await fenceOf(client)
  await submit(client, { fence, value: 1n })
  const waiting = ended(wait(client, fence))
  await client.query('status')
  const start = performance.now()
  await server.close({ drainMs: 200 })
  t.ok(performance.now() - start >= 190)
  t.equal((await waiting).code, 'ERR_ACCEL_NO_DEVICE')
  jobs[0]!()
})

t.test('waits are bounded, and leave room for other requests', async (t) => {
  const { open } = await served(t, { quotas: { openWaits: 4 } }, { limits: { maxRequests: 8 } })
  const [client, other] = [await open(), await open()]
  const fence = await fenceOf(client)
  const waits = Array.from({ length: 4 }, (_, i) =>
    ended(i % 2 ? nextEvent(client) : wait(client, fence, true)),
  )
  const { handle } = await client.common('boCreate', { sizeBytes: 4096n, flags: {} })
  for (const more of [
    () => nextEvent(client),
    () => wait(client, fence, true),
    () => client.common('boWait', { handle, deadlineNs: never }),
    () => client.common('attrWatch', { path: 'state', after: 0n }),
  ]) {
    t.equal((await ended(more())).code, 'ERR_ACCEL_AGAIN')
  }
  // Many more than there are places: none is kept, so that none stands in the way.
  const many = await Promise.all(Array.from({ length: 50 }, () => ended(nextEvent(client))))
  t.same(new Set(many.map(({ code }) => code)), new Set(['ERR_ACCEL_AGAIN']))
  t.same(await client.call('nap', { ms: 1 }), { ms: 1 })
  t.equal((await ended(other.common('boWait', { handle, deadlineNs: 0n }))).code, 'ERR_ACCEL_NOT_FOUND')
  await client.common('fenceDestroy', { handle: fence })
  t.equal((await waits[0]!).code, 'ERR_ACCEL_CLOSED')
  t.equal(
    (await ended(client.common('boWait', { handle, deadlineNs: 0n }))).code,
    'answered',
    'again room for one',
  )
  await Promise.all([client.close(), other.close()])
  t.equal((await waits[1]!).code, 'ERR_ACCEL_CLOSED')
})
