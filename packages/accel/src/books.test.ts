import { setTimeout as sleep } from 'node:timers/promises'
import { sys } from '@uaccel/sys'
import { accelError, errorTable } from '@uaccel/uapi'
import t from 'tap'
import { metricsOf } from './metrics.js'
import { codeOf, createBo, jobOf, send, toy, turn, waitFor } from './work.test.helper.js'

const number = (code: keyof typeof errorTable) => errorTable[code].number

t.test('jobs count as commands do: submitted, done, failed by cause, dropped, refused', async (t) => {
  const { node, open, taken } = await toy(t)
  await using client = open()
  await using other = open()
  const { handle: fence } = await send(client, 'fenceCreate', { initialValue: 0n, flags: {} })
  const { handle: foreign } = await send(other, 'fenceCreate', { initialValue: 0n, flags: {} })
  const bo = await createBo(client)
  await send(client, 'submit', jobOf([[bo]], [], [fence, 1]))
  taken[0]!.finish()
  await send(client, 'submit', jobOf([[bo]], [], [fence, 2]))
  taken[1]!.fail(accelError('ERR_ACCEL_DMA_FAULT', 'the device was refused memory'))
  t.equal(await codeOf(waitFor(client, [[fence, 2]])), 'ERR_ACCEL_DMA_FAULT')
  // Not run, as it waited for that one.
  await send(client, 'submit', jobOf([], [[fence, 2]], [fence, 3]))
  t.equal(await codeOf(waitFor(client, [[fence, 3]])), 'ERR_ACCEL_DMA_FAULT')
  // Refused: a handle of nobody, and bytes that mean nothing.
  t.equal(await codeOf(send(client, 'submit', jobOf([[99]]))), 'ERR_ACCEL_NOT_FOUND')
  t.equal(await codeOf(client.dispatch(0x20, new Uint8Array(3))), 'ERR_ACCEL_BAD_SIZE')
  // One that waits, and one under way, of an open that closes.
  await send(other, 'submit', jobOf([], [], [foreign, 1]))
  await send(other, 'submit', jobOf([], [[foreign, 1]]))
  const closing = other.close()
  taken[2]!.finish()
  await closing
  await client.call('nothing', { id: 1 })

  const counters = (await client.query('counters'))!
  t.match(counters, { submissions: 6n, completions: 3n, failures: 3n, drops: 2n, refusals: 2n })
  t.same(
    counters.errors.map(({ error, count }) => [error, count]),
    [
      [number('ERR_ACCEL_DMA_FAULT'), 2n],
      [number('ERR_ACCEL_CLOSED'), 1n],
    ],
  )
  const contexts = (await client.query('contexts'))!
  t.match(contexts.entries, [{ id: 1, submissions: 4n, completions: 2n, failures: 2n }])
  const { events } = node.record.events.read(0)
  t.match(
    events,
    [{ kind: 'pageFault', error: number('ERR_ACCEL_DMA_FAULT'), open: 1, reason: /^job 2 of open 1/ }],
    'told once, with the job that had it',
  )
  t.equal(events.length, 1)
  const metrics = await metricsOf([client])
  t.match(metrics, /^uaccel_submissions_total\{node="accel0"\} 6$/m)
  t.match(metrics, /^uaccel_failures_total\{node="accel0",code="ERR_ACCEL_DMA_FAULT"\} 2$/m)
  t.match(metrics, /^uaccel_engine_busy_seconds_total\{node="accel0",engine="job"\} 0?\.?[0-9]/m)
})

t.test('a job that takes too long is an event', async (t) => {
  const { node, open, log } = await toy(t, { limits: { jobMs: 20 } })
  await using client = open()
  const { handle: fence } = await send(client, 'fenceCreate', { initialValue: 0n, flags: {} })
  await send(client, 'submit', jobOf([], [], [fence, 1]))
  t.equal(await codeOf(waitFor(client, [[fence, 1]])), 'ERR_ACCEL_TIMEOUT')
  t.ok(log.includes('recover'))
  t.match(node.record.events.read(0).events, [
    { kind: 'timeout', error: number('ERR_ACCEL_TIMEOUT'), open: 1, reason: /^job 1 of open 1/ },
  ])
})

t.test('jobs are an engine: time of each open, several at once, as many as the driver takes', async (t) => {
  const { node, open, taken } = await toy(t, { depth: 2 })
  await using client = open()
  await using idle = open()
  for (let job = 0; job < 3; job++) await send(client, 'submit', jobOf())
  t.equal(taken.length, 2, 'the third waits')
  t.match((await client.query('engines'))!.entries, [
    { name: 'command', instances: 1, known: { busy: true } },
    { name: 'job', instances: 2, known: { busy: true, utilisation: false } },
  ])
  await sleep(220)
  await client.query('engines')
  await sleep(120)
  const busy = (await client.query('engines'))!.entries[1]!
  t.ok(busy.known.utilisation)
  t.ok(busy.utilisationPermille > 900, `both places were taken all the time: ${busy.utilisationPermille}`)
  t.ok(busy.busyNs >= 2n * 330_000_000n, `two for 340 ms: ${busy.busyNs}`)
  taken[0]!.finish()
  taken[1]!.finish()
  await turn()
  taken[2]!.finish()
  await turn()
  const ended = (await client.query('engines'))!.entries[1]!.busyNs
  await sleep(30)
  t.equal((await client.query('engines'))!.entries[1]!.busyNs, ended, 'an idle device is not busy')
  t.equal(node.record.counters.busy.command.ns(), 0n)
  const contexts = (await idle.query('contexts'))!.entries
  t.equal(contexts[0]!.busyNs, ended)
  t.equal(contexts[1]!.busyNs, 0n)
})

t.test('usage has jobs and memory of an open, with the keys of DRM', async (t) => {
  const { accel, open, taken } = await toy(t, { depth: 2 })
  await using client = open()
  await using other = open()
  const used = await createBo(client, 8192)
  await createBo(client, 4096)
  const { fd } = await send(client, 'boExport', { handle: used, kind: 'memory', flags: {} })
  await send(other, 'boImport', { fd, flags: {} })
  await send(client, 'submit', jobOf([[used]]))
  // The device writes a page of two: so much of it takes memory.
  taken[0]!.ranges[0]!.memory.u8[0] = 1
  const usage = async () => {
    const { entries } = (await client.query('usage'))!
    return entries.map(({ text }) =>
      Object.fromEntries(
        text
          .split('\n')
          .slice(0, -1)
          .map((line) => line.split(':\t')),
      ),
    )
  }
  const [mine, theirs] = await usage()
  t.match(mine, {
    'drm-driver': 'toy',
    'drm-client-id': '1',
    'drm-engine-job': /^[1-9][0-9]* ns$/,
    'drm-engine-capacity-job': '2',
    'drm-total-memory': '12288',
    'drm-shared-memory': '8192',
    'drm-resident-memory': '4096',
    'drm-active-memory': '4096',
  })
  t.match(theirs, {
    'drm-client-id': '2',
    'drm-engine-job': '0 ns',
    'drm-total-memory': '8192',
    'drm-shared-memory': '8192',
    'drm-active-memory': '4096',
  })
  taken[0]!.finish()
  await turn()
  t.match((await usage())[0], { 'drm-active-memory': '0' })
  t.same((await client.query('usage', 1))!.entries.length, 1, 'of those that are asked for')
  t.equal((await client.query('usage', 1))!.total, 2)
  sys.close(fd!)
  t.equal(accel.nodes[0]!.opens.size, 2)
})

t.test('the memory of many objects is not looked at for each question', async (t) => {
  const { open } = await toy(t, { quotas: { openObjects: 200 } })
  await using client = open()
  const made = await Promise.all(Array.from({ length: 65 }, () => createBo(client)))
  const total = async () =>
    /drm-total-memory:\t(\d+)/.exec((await client.query('usage'))!.entries[0]!.text)![1]
  const asked = performance.now()
  t.equal(await total(), `${65 * 4096}`)
  await createBo(client)
  let told = await total()
  if (performance.now() - asked < 200) t.equal(told, `${65 * 4096}`, 'as of a moment ago')
  while (told !== `${66 * 4096}` && performance.now() - asked < 20_000) {
    await sleep(20)
    told = await total()
  }
  t.equal(told, `${66 * 4096}`)
  await send(client, 'boDestroy', { handle: made[0]! })
  await send(client, 'boDestroy', { handle: made[1]! })
  t.equal(await total(), `${64 * 4096}`, 'of few, always')
})
