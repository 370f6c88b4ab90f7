import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openAccel } from '@uaccel/client'
import { contractUapi } from '@uaccel/testkit'
import t from 'tap'
import { eventually, held, nodeFolder, settled, startProcess, startServer } from './nodes.js'

/** Clients that are killed, each at another moment of its session. */
const kills = Number(process.env.UACCEL_KILLS ?? 12)
/** How many of them live at a time. */
const AT_ONCE = 3

t.setTimeout(300_000 + kills * 2000)

t.test(
  'a client that is killed leaves nothing; others notice nothing',
  { timeout: 120_000 + kills * 2000 },
  async (t) => {
    const folder = nodeFolder(t)
    const { process: server } = await startServer(t, 'contract', { folder })
    const pid = server.pid!
    const witness = await openAccel(contractUapi, 'accel0', { folder })
    await witness.call('keep', { count: 3 })
    await witness.call('add', { a: 1, b: 2 })
    const before = await settled(pid)
    let watching = true
    let calls = 0
    const witnessed = (async () => {
      for (; watching; calls++) {
        const { sum } = await witness.call('add', { a: calls, b: 1 })
        if (sum !== calls + 1) throw new Error(`${calls} + 1 is not ${sum}`)
      }
    })()
    const killOne = async (number: number) => {
      const { process: client } = await startProcess(t, './nodes.client.js', ['session', folder])
      // Golden ratio: moments that are spread over the first quarter of a second however many there are.
      await sleep(((number * 0.618) % 1) * 250)
      client.kill('SIGKILL')
      await once(client, 'exit')
    }
    for (let killed = 0; killed < kills; killed += AT_ONCE) {
      await Promise.all(
        Array.from({ length: Math.min(AT_ONCE, kills - killed) }, (_, i) => killOne(killed + i)),
      )
    }
    watching = false
    await witnessed
    t.ok(calls > 0, `another client made ${calls} calls meanwhile`)
    await eventually(async () => held(pid).fds === before.fds)
    t.same(held(pid), before, `after ${kills} killed clients`)
    t.match(await witness.call('state', {}), { kept: 3, hanging: 0 })
    await witness.close()
    t.equal(server.exitCode, null)
  },
)

t.test(
  'a server that is killed ends all calls within a second, and another one takes its nodes',
  async (t) => {
    const folder = nodeFolder(t)
    const { process: server } = await startServer(t, 'contract', { folder })
    const clients = await Promise.all(
      [1, 2].map(() => startProcess(t, './nodes.client.js', ['waiting', folder])),
    )
    const here = await openAccel(contractUapi, 'accel0', { folder })
    const hanging = here.call('hang', {})
    const ends = clients.map(async ({ process: client }) => (await once(client, 'message'))[0])
    const start = performance.now()
    server.kill('SIGKILL')
    await t.rejects(hanging, { code: 'ERR_ACCEL_NO_DEVICE' })
    t.equal((await here.lost).code, 'ERR_ACCEL_NO_DEVICE')
    const tookMs = performance.now() - start
    t.ok(tookMs < 1000, `it took ${tookMs.toFixed(1)} ms`)
    for (const end of await Promise.all(ends)) {
      const gone = 'ERR_ACCEL_NO_DEVICE'
      t.same(end, { codes: [gone, gone], lost: gone, later: gone })
    }
    await here.close()
    t.ok(existsSync(join(folder, 'accel0')), 'its socket is still there')
    await t.rejects(openAccel(contractUapi, 'accel0', { folder }), {
      code: 'ERR_ACCEL_NOT_FOUND',
      message: /its server has ended/,
    })
    const { said } = await startServer(t, 'contract', { folder })
    t.same(said, { served: ['accel0'] })
    const anew = await openAccel(contractUapi, 'accel0', { folder })
    t.same(await anew.call('add', { a: 1, b: 2 }), { sum: 3 })
    await anew.close()
    const { said: refused } = await startServer(t, 'contract', { folder })
    t.match(
      refused,
      { code: 'ERR_ACCEL_BUSY', message: /is served by process \d+/ },
      'one that lives keeps them',
    )
  },
)

t.test('of servers that start at once, one gets the node', async (t) => {
  const folder = nodeFolder(t)
  const started = await Promise.all([1, 2, 3].map(() => startServer(t, 'contract', { folder })))
  t.equal(started.filter(({ said }) => 'served' in said).length, 1)
  t.equal(started.filter(({ said }) => said.code === 'ERR_ACCEL_BUSY').length, 2)
  t.same(readdirSync(folder), ['accel0'], 'and nothing else is left there')
  const dev = await openAccel(contractUapi, 'accel0', { folder })
  t.same(await dev.call('add', { a: 1, b: 2 }), { sum: 3 })
  await dev.close()
})

t.test('two processes with a device each, and two with the same', async (t) => {
  const folder = nodeFolder(t)
  const { said } = await startServer(t, 'edu,npu', { folder })
  t.same(said, { served: ['accel0', 'accel1'] })
  const ran = await Promise.all(
    ['edu', 'edu', 'npu'].map((program) => startProcess(t, './nodes.client.js', [program, folder])),
  )
  for (const { said } of ran) t.equal(said.wrong, 0)
})
