import { Accel } from '@uaccel/accel'
import { loopback } from '@uaccel/model'
import { errorTable } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { npuModel } from '../model/index.js'
import { type Npu, npuDriver, npuUapi } from '../src/driver.js'

const TEST_FATAL = 0xc1

async function setup(t: Test) {
  const npus: Npu[] = []
  const accel = new Accel()
  accel.register(npuDriver({ onReady: (npu) => npus.push(npu) }))
  const transport = loopback(npuModel, { model: { testMode: true } })
  const node = await accel.add(transport)
  t.teardown(() => accel.close())
  const client = accel.open(npuUapi, 'accel0')
  const show = async (path: string) => (await client.common('attrShow', { path })).value
  return { accel, transport, node, npu: npus[0]!, client, show }
}

t.test('what the NPU tells of itself', async (t) => {
  const { npu, client, transport } = await setup(t)
  t.match(await client.query('identity'), {
    vendor: 0xacce,
    device: 1,
    revision: 1,
    name: 'NPU-1 1.1.0',
    firmware: '',
    emulated: 'yes',
  })
  t.match((await client.query('limits'))?.entries.slice(-7), [
    { name: 'queues', value: 16n },
    { name: 'windows', value: 8n },
    { name: 'minRingEntries', value: 2n },
    { name: 'maxRingEntries', value: 4096n },
    { name: 'maxDimension', value: 65_535n },
    { name: 'maxElements', value: 2n ** 26n },
    { name: 'maxMacs', value: 2n ** 32n },
  ])
  t.match(await client.query('clocks'), { total: 1, entries: [{ name: 'core', hz: 1_000_000_000n }] })
  for (const kind of ['sensors', 'power', 'timeSync'] as const)
    t.equal(await client.query(kind), undefined, `its specification has no ${kind}`)
  const engine = async () => (await client.query('engines'))!.entries.find(({ name }) => name === 'npu')!
  const card = async () => (await client.query('memoryRegions'))!.entries.find(({ name }) => name === 'card')
  t.equal((await engine()).busyNs, 0n)
  t.match(await card(), { sizeBytes: 16n * 1024n * 1024n, known: { used: true }, usedBytes: 0n })
  const context = await npu.createContext({ cardBytes: 4096 })
  t.match(await card(), { usedBytes: 4096n })
  const buffer = context.allocate(65_536)
  const cycles = await context.run(
    context.encode([{ op: 'fill', y: { buffer }, length: 65_536, pattern: 0 }]),
  )
  const { busyNs } = await engine()
  t.ok(busyNs >= BigInt(cycles) && cycles > 0, 'the descriptor, and what it took to fetch it')
  t.equal(busyNs, BigInt(npu.counters().cyclesBusy), 'at 1 GHz a cycle is a nanosecond')
  await context.close()
  t.match(await card(), { usedBytes: 0n })
  transport.assertClean()
})

t.test('its attributes', async (t) => {
  const { npu, client, show, transport } = await setup(t)
  t.equal(await show('version'), '1.1.0')
  t.equal(await show('irqMode'), 'msix')
  t.equal(await show('queues/total'), '16')
  t.equal(await show('queues/inUse'), '0')
  t.equal(await show('queues/0'), 'disabled')
  await t.rejects(show('irqs/1/fired'), { code: 'ERR_ACCEL_NOT_FOUND' }, 'nobody counts that vector yet')
  const { revision } = await client.common('attrShow', { path: 'queues/inUse' })
  const watching = client.common('attrWatch', { path: 'queues/inUse', after: revision })
  const context = await npu.createContext()
  const taken = await watching
  t.equal(taken.value, '1')
  t.equal(await show('queues/0'), 'running')
  const buffer = context.allocate(8)
  await context.run(context.encode([{ op: 'fill', y: { buffer }, length: 8, pattern: 1 }]))
  t.equal(await show('performance/descriptors'), '1')
  t.equal(await show('performance/bytesWritten'), '8')
  t.equal(await show('performance/errors'), '0')
  t.ok(Number(await show('irqs/1/fired')) >= 1)
  t.ok(Number(await show('dma/mappedBytes')) > 0)
  await t.rejects(client.common('attrStore', { path: 'performance/clear', value: '2' }), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
  })
  await t.rejects(show('performance/clear'), { code: 'ERR_ACCEL_PERMISSION' })
  await client.common('attrStore', { path: 'performance/clear', value: '1' })
  t.equal(await show('performance/descriptors'), '0')
  const freed = client.common('attrWatch', { path: 'queues/inUse', after: taken.revision })
  await context.close()
  t.equal((await freed).value, '0')
  transport.assertClean()
})

t.test('a fatal error is told to all, and the device needs a reset', async (t) => {
  const { accel, node, npu, client, show } = await setup(t)
  const other = accel.open(npuUapi, 'accel0')
  const told = [client, other].map((each) => each.common('events', { after: 0n, options: {} }))
  const context = await npu.createContext()
  const job = context.encode([{ op: 'nop' }])
  job.words[0] = TEST_FATAL | 0x400
  await t.rejects(context.run(job), { code: 'ERR_ACCEL_IO', message: /machineCheck/ })
  for (const { events } of await Promise.all(told)) {
    t.match(events, [
      { sequence: 1n, kind: 'error', error: errorTable.ERR_ACCEL_IO.number, reason: /machineCheck/ },
    ])
  }
  t.match(await client.query('status'), { state: 'needsReset', reason: /machineCheck/ })
  await client.common('reset', { kind: 'default', reason: 'it has to' })
  t.match((await other.common('events', { after: 1n, options: {} })).events, [{ kind: 'reset' }])
  t.match(await client.query('status'), { state: 'operational' })
  t.equal(await show('queues/inUse'), '1', 'the context is there as before')
  t.equal(node.state, 'live')
  await context.run(context.encode([{ op: 'nop' }]))
})
