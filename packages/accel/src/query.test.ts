import { setTimeout as sleep } from 'node:timers/promises'
import {
  accelError,
  cmd,
  commonUapi,
  errorTable,
  QUERY_BYTES,
  queryRequest,
  queryUapi,
  u32,
  uapi,
} from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { BinaryClient } from './dispatch.test.helper.js'
import { FakeTransport } from './fake-transport.test.helper.js'
import { Accel, type AccelOptions, accelDriver, type Probed, type Telemetry } from './index.js'
import { Utilisation } from './utilisation.js'

const work = uapi({ name: 'work', version: 7, commands: { work: cmd(0x40, { in: { id: u32 } }) } })

interface Behaviour extends Pick<Probed<typeof work>, 'recover' | 'beforeReset' | 'afterReset'> {
  telemetry?: Telemetry
  limits?: AccelOptions['limits']
}

/** Work 1 goes on until its signal, 2 is refused, the rest takes `id` milliseconds. */
async function setup(t: Test, { telemetry, limits, ...behaviour }: Behaviour = {}) {
  const quotas = { nodeBytes: Number.POSITIVE_INFINITY }
  const accel = new Accel({ limits: { settleMs: 50, attributeMs: 60, ...limits }, quotas })
  accel.register(
    accelDriver({
      name: 'work',
      version: '1.2.3',
      uapi: work,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      probe: () => ({
        commands: {
          async work({ id }, { signal }) {
            if (id === 2) throw accelError('ERR_ACCEL_INVALID_ARGUMENT', 'no')
            if (id !== 1) await sleep(id)
            else {
              await new Promise<never>((_, reject) => {
                signal.addEventListener('abort', () => reject(signal.reason), { once: true })
              })
            }
            return undefined
          },
        },
        recover() {},
        ...behaviour,
        ...(telemetry === undefined ? {} : { telemetry }),
      }),
    }),
  )
  const transport = new FakeTransport()
  const node = await accel.add(transport)
  t.teardown(() => accel.close())
  const run = (client: BinaryClient, id: number, timeoutMs = 10_000) =>
    node.dispatch(client.open, 0x40, work.commands.work.in.encode({ id }), { timeoutMs })
  return { accel, node, transport, run, client: new BinaryClient(node) }
}

t.test('a driver that says nothing: what every node knows, and nothing else', async (t) => {
  const { client } = await setup(t)
  t.match(await client.query('identity'), {
    known: { pci: true },
    bus: 'pci',
    vendor: 0x1234,
    device: 0x5678,
    classCode: 0x120000,
    emulated: 'yes',
    node: 'accel0',
    driver: 'work',
    driverVersion: '1.2.3',
    uapi: 'work',
    uapiVersion: 7,
    name: '',
    firmware: '',
    transport: 'loopback',
    address: 'fake',
    tainted: '',
  })
  t.same(await client.query('status'), { state: 'operational', opens: 1, reason: '' })
  t.match(await client.query('memoryRegions'), {
    total: 1,
    entries: [{ name: 'bar0', kind: 'bar', sizeBytes: 4096n, mappable: false, known: { used: false } }],
  })
  t.match(await client.query('engines'), { total: 1, entries: [{ name: 'command', instances: 1 }] })
  t.same(
    (await client.query('limits'))?.entries.map(({ name, unit, value }) =>
      `${name} ${value} ${unit}`.trimEnd(),
    ),
    [
      'attributeBytes 4096 bytes',
      'eventHistory 256',
      'attributeTime 60 ms',
      'openObjects 1024',
      'openBytes 1073741824 bytes',
      'nodeObjects 16384',
      'openWaits 128',
    ],
    'a quota that is not there is no limit, and the driver takes no jobs',
  )
  for (const kind of ['clocks', 'power', 'sensors', 'timeSync'] as const) {
    t.same(await client.call('query', queryRequest(kind)), {
      present: false,
      truncated: false,
      sizeBytes: 0,
      data: new Uint8Array(),
    })
    t.equal(await client.query(kind), undefined)
  }
})

t.test('a driver that says all there is', async (t) => {
  let ticks = 0
  const { client, transport } = await setup(t, {
    telemetry: {
      name: 'Board of a test',
      firmware: '2.0-rc1',
      health: async () => ({ state: 'malfunction', reason: 'a fan stands' }),
      limits: () => [{ name: 'queues', value: 16 }],
      memoryRegions: () => [{ name: 'hbm', sizeBytes: 2 ** 34, usedBytes: 1.4, mappable: true }],
      engines: () => [
        { name: 'mac', instances: 2, busyNs: 1e9, heartbeat: 7n },
        { name: 'dma', utilisationPermille: 0 },
      ],
      clocks: () => [
        { name: 'core', hz: 1e9, maxHz: 2e9 },
        { name: 'bus', hz: 1e8 },
      ],
      power: () => ({ drawnMicrowatts: 12_500_000, state: 'D0' }),
      sensors: () => [
        { name: 'die', kind: 'temperature', unit: 'C', exponent: -3, value: -5250, critical: 105_000 },
        { name: 'fan', kind: 'fan', unit: 'rpm', value: 0, min: 0, max: 9000 },
      ],
      async time() {
        await sleep(2)
        return [{ name: 'core', ticks: ++ticks, ticksPerSecond: 1_000_000 }]
      },
    },
  })
  transport.memory[7].fill(0) // what was read of it is known
  t.match(await client.query('identity'), { name: 'Board of a test', firmware: '2.0-rc1', vendor: 0x1234 })
  t.same(await client.query('status'), { state: 'malfunction', opens: 1, reason: 'a fan stands' })
  t.match((await client.query('limits'))?.entries.at(-1), { name: 'queues', value: 16n, unit: '' })
  t.match((await client.query('memoryRegions'))?.entries.at(-1), {
    name: 'hbm',
    kind: 'device',
    known: { used: true },
    sizeBytes: 2n ** 34n,
    usedBytes: 1n,
    mappable: true,
  })
  const engines = await client.query('engines')
  t.match(engines?.entries.slice(1), [
    {
      name: 'mac',
      instances: 2,
      known: { busy: true, heartbeat: true, utilisation: false },
      busyNs: 1_000_000_000n,
      heartbeat: 7n,
    },
    { name: 'dma', known: { busy: false, heartbeat: false, utilisation: true }, utilisationPermille: 0 },
  ])
  t.match(await client.query('clocks'), {
    entries: [
      { name: 'core', hz: 1_000_000_000n, known: { max: true }, maxHz: 2_000_000_000n },
      { name: 'bus', hz: 100_000_000n, known: { max: false } },
    ],
  })
  t.match(await client.query('power'), {
    known: { drawn: true, cap: false, energy: false },
    drawnMicrowatts: 12_500_000n,
    state: 'D0',
  })
  t.match(await client.query('sensors'), {
    total: 2,
    entries: [
      { name: 'die', value: -5250n, exponent: -3, known: { min: false, max: false, critical: true } },
      { name: 'fan', value: 0n, known: { min: true, max: true, critical: false }, max: 9000n },
    ],
  })
  const before = process.hrtime.bigint()
  const sync = (await client.query('timeSync'))?.entries[0]
  const after = process.hrtime.bigint()
  t.match(sync, { name: 'core', deviceTicks: 1n, ticksPerSecond: 1_000_000n })
  const { monotonicNs, realtimeNs, uncertaintyNs } = sync!
  t.ok(before < monotonicNs && monotonicNs < after)
  t.ok(uncertaintyNs >= 500_000n && uncertaintyNs < (after - before) / 2n + 1_000_001n)
  t.ok(realtimeNs < BigInt(Date.now() + 1) * 1_000_000n + uncertaintyNs)
})

t.test('counters and contexts: each command becomes a completion or a failure', async (t) => {
  const { node, client, run } = await setup(t)
  const other = new BinaryClient(node, {
    rights: { as: 'group' },
    peer: { pid: 4711, uid: 1000, gid: 100 },
  })
  await run(client, 20)
  await t.rejects(run(other, 2), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  const held = t.rejects(run(client, 1, 600), { code: 'ERR_ACCEL_TIMEOUT' })
  const queued = t.rejects(run(other, 0, 300), { code: 'ERR_ACCEL_TIMEOUT' })
  await sleep(2)
  t.match(await client.query('counters'), { submissions: 4n, completions: 1n, failures: 1n, drops: 0n })
  await Promise.all([held, queued])
  await t.rejects(node.dispatch(client.open, 0x40, new Uint8Array(3)), { code: 'ERR_ACCEL_BAD_SIZE' })
  t.same(await client.query('counters'), {
    submissions: 4n,
    completions: 1n,
    failures: 3n,
    drops: 1n,
    refusals: 1n,
    opens: 2n,
    resets: 0n,
    events: 2n,
    eventsLost: 0n,
    errors: [
      { error: errorTable.ERR_ACCEL_INVALID_ARGUMENT.number, count: 1n },
      { error: errorTable.ERR_ACCEL_TIMEOUT.number, count: 2n },
    ],
  })
  const contexts = await other.query('contexts')
  t.match(contexts, {
    total: 2,
    entries: [
      {
        id: 1,
        self: false,
        known: { peer: false },
        rights: { reset: true, owner: true, group: false },
        submissions: 2n,
        completions: 1n,
        failures: 1n,
      },
      {
        id: 2,
        self: true,
        known: { peer: true },
        pid: 4711,
        uid: 1000,
        gid: 100,
        rights: { reset: false, owner: false, group: true },
        submissions: 2n,
        completions: 0n,
        failures: 2n,
      },
    ],
  })
  const busy = contexts!.entries.map(({ busyNs }) => busyNs)
  t.ok(busy[0]! >= 600_000_000n, 'it ran for 20 and 600 ms')
  const engine = (await client.query('engines'))?.entries[0]
  t.ok(engine!.busyNs >= busy[0]! + busy[1]!)
})

t.test('history of resets and opens', async (t) => {
  const { node, client, transport } = await setup(t)
  const other = new BinaryClient(node)
  await other.close()
  await client.call('reset', { kind: 'default', reason: 'first\nline\u001b[31m' })
  await client.call('reset', { kind: 'function', reason: '' })
  transport.refuseResets()
  await t.rejects(client.call('reset', { kind: 'default', reason: 'refused' }), { code: 'ERR_ACCEL_BUSY' })
  t.match(await client.query('resets'), {
    total: 3,
    entries: [
      { kind: 'default', error: errorTable.ERR_ACCEL_BUSY.number, reason: /refused/ },
      { kind: 'function', error: 0, reason: /its owner asked for it/ },
      { kind: 'default', error: 0, reason: 'accel0 was reset: first line [31m' },
    ],
  })
  t.match(await client.query('status'), { state: 'needsReset', reason: /others are on the bus/ })
  t.match((await client.events(2n)).events, [
    { kind: 'error', error: errorTable.ERR_ACCEL_BUSY.number, reason: /others are on the bus/ },
  ])
  t.match(await client.query('opens'), {
    total: 2,
    entries: [
      { id: 2, known: { closed: true, peer: false } },
      { id: 1, known: { closed: false, peer: false }, closedNs: 0n },
    ],
  })
  const { openedNs, closedNs } = (await client.query('opens'))!.entries[0]!
  t.ok(closedNs >= openedNs && closedNs - openedNs < 60_000_000_000n)
  for (let i = 0; i < 100; i++) await new BinaryClient(node).close()
  const opens = await client.query('opens')
  t.equal(opens?.total, 102)
  t.equal(opens?.entries.length, 32, 'the latest are remembered')
  t.equal(opens?.entries[0]?.id, 102)
})

t.test('a reset by right only; a node in a reset says so at once', async (t) => {
  let afterReset!: () => void
  let entered!: () => void
  const hookEntered = new Promise<void>((resolve) => {
    entered = resolve
  })
  const { node, client } = await setup(t, {
    beforeReset() {},
    afterReset: () =>
      new Promise<void>((resolve) => {
        afterReset = resolve
        entered()
      }),
    telemetry: { limits: () => [{ name: 'queues', value: 4 }] },
  })
  for (const rights of [{}, { as: 'owner' }] as const) {
    const other = new BinaryClient(node, { rights })
    await t.rejects(other.call('reset', { kind: 'default', reason: '' }), { code: 'ERR_ACCEL_PERMISSION' })
    await other.close()
  }
  t.equal((await client.query('resets'))?.total, 0)
  await t.rejects(client.call('reset', { kind: 'hot', reason: '' }), { code: 'ERR_ACCEL_UNSUPPORTED' })
  const { reset } = commonUapi.commands
  const bytes = reset.in.encode({ kind: 'default', reason: '' })
  bytes[0] = 9
  await t.rejects(node.dispatch(client.open, reset.number, bytes), { code: 'ERR_ACCEL_OUT_OF_RANGE' })

  const allowed = new BinaryClient(node, { rights: { reset: true } })
  const resetting = allowed.call('reset', { kind: 'default', reason: 'it may' })
  await hookEntered
  t.match(await client.query('status'), { state: 'inReset' })
  t.match(await client.show('state'), { value: 'inReset' })
  const asked = client.query('limits')
  t.equal(await Promise.race([asked, sleep(10, 'waits')]), 'waits', 'what its driver knows has to wait')
  afterReset()
  await resetting
  t.match((await asked)?.entries.at(-1), { name: 'queues' })
  t.match(await client.query('status'), { state: 'operational' })
})

t.test('a device that does not come back', async (t) => {
  const { node, client, transport } = await setup(t)
  transport.breakReset()
  const waiting = client.events(0n)
  await t.rejects(client.call('reset', { kind: 'default', reason: '' }), { code: 'ERR_ACCEL_WEDGED' })
  t.match((await waiting).events.at(-1), {
    kind: 'removal',
    error: errorTable.ERR_ACCEL_WEDGED.number,
  })
  t.match(node.status, { state: 'malfunction', reason: /did not come back/ })
  await t.rejects(client.query('status'), { code: 'ERR_ACCEL_NO_DEVICE' })
})

t.test('the states that only its owner sees', async (t) => {
  const { accel, node } = await setup(t)
  const removing = accel.remove('accel0')
  t.equal(node.status.state, 'beingCleaned')
  await removing
  t.equal(node.status.state, 'removed')
})

t.test('a shorter structure gets what fits; what is cut off is told', async (t) => {
  const { client } = await setup(t, { telemetry: { firmware: 'f' } })
  const { number: kind, out } = queryUapi.commands.identity
  const whole = await client.call('query', { kind, from: 0, sizeBytes: out.layout.sizeBytes })
  t.match(whole, { present: true, truncated: false, sizeBytes: out.layout.sizeBytes })
  t.equal(whole.data.length, out.layout.sizeBytes)
  const longer = await client.call('query', { kind, from: 0, sizeBytes: 0xffff_ffff })
  t.same(longer, whole, 'a longer one is the reader’s to extend')
  for (const sizeBytes of [0, 1, 4, 100, out.layout.sizeBytes - 1]) {
    const cut = await client.call('query', { kind, from: 0, sizeBytes })
    t.same(cut.data, whole.data.slice(0, sizeBytes))
    t.equal(
      cut.truncated,
      whole.data.slice(sizeBytes).some((byte) => byte !== 0),
      `${sizeBytes}`,
    )
    t.equal(cut.sizeBytes, out.layout.sizeBytes)
  }
  const last = await client.call('query', { kind, from: 0, sizeBytes: out.layout.sizeBytes - 1 })
  t.equal(last.truncated, false, 'zeros that are cut off are no loss')
  for (const command of Object.values(queryUapi.commands)) t.ok(command.out.layout.sizeBytes <= QUERY_BYTES)
})

t.test('a long list comes in parts', async (t) => {
  const limits = Array.from({ length: 150 }, (_, i) => ({ name: `limit${i}`, value: i }))
  const { client } = await setup(t, { telemetry: { limits: () => limits } })
  const all: string[] = []
  for (const wanted of [64, 64, 29, 0]) {
    const page = await client.query('limits', all.length)
    t.equal(page?.total, 157)
    t.equal(page?.entries.length, wanted)
    all.push(...page!.entries.map(({ name }) => name))
  }
  t.same(
    all.slice(7),
    limits.map(({ name }) => name),
  )
  t.same((await client.query('limits', 0xffff_ffff))?.entries, [])
})

t.test('every refusal', async (t) => {
  const { node, client } = await setup(t, {
    telemetry: {
      clocks() {
        throw new Error('a bug')
      },
      power: () => Promise.reject(accelError('ERR_ACCEL_UNSUPPORTED', 'no such sensor here')),
      sensors: () => new Promise<never>(() => {}),
      engines: () => [{ name: 'x', busyNs: -1 }],
      limits: () => [{ name: 'n'.repeat(33), value: 1 }],
      time: () => [{ name: 'x', ticks: 0.5 / 0, ticksPerSecond: 1 }],
    },
  })
  await t.rejects(client.call('query', { kind: 0xffff, from: 0, sizeBytes: 8 }), {
    code: 'ERR_ACCEL_UNKNOWN_COMMAND',
  })
  await t.rejects(client.call('query', { kind: 0xffff_ffff, from: 0, sizeBytes: 8 }), {
    code: 'ERR_ACCEL_UNKNOWN_COMMAND',
  })
  await t.rejects(client.call('query', { ...queryRequest('identity'), from: 1 }), {
    code: 'ERR_ACCEL_RESERVED',
  })
  await t.rejects(node.dispatch(client.open, 0x02, new Uint8Array(11)), { code: 'ERR_ACCEL_BAD_SIZE' })
  await t.rejects(node.dispatch(client.open, 0x02, new Uint8Array(16).fill(1)), {
    code: 'ERR_ACCEL_RESERVED',
  })
  await t.rejects(node.dispatch(client.open, 0x06, new Uint8Array()), { code: 'ERR_ACCEL_UNKNOWN_COMMAND' })
  await t.rejects(client.query('clocks'), { code: 'ERR_ACCEL_IO', cause: { message: 'a bug' } })
  await t.rejects(client.query('power'), { code: 'ERR_ACCEL_UNSUPPORTED' })
  await t.rejects(client.query('sensors'), { code: 'ERR_ACCEL_TIMEOUT', message: /sensors of driver work/ })
  await t.rejects(client.query('engines'), { code: 'ERR_ACCEL_IO', message: /does not fit/ })
  await t.rejects(client.query('limits'), { code: 'ERR_ACCEL_IO', message: /does not fit/ })
  await t.rejects(client.query('timeSync'), { code: 'ERR_ACCEL_IO' })
  t.match(await client.query('status'), { state: 'operational' }, 'nothing of that harmed the others')
  t.equal((await client.query('counters'))?.refusals, 0n, 'those count the driver’s commands')
  await client.close()
  await t.rejects(client.query('status'), { code: 'ERR_ACCEL_CLOSED' })
})

t.test('usage of each open, with the keys of DRM', async (t) => {
  const { node, client, run } = await setup(t, {
    telemetry: {
      engines: () => [{ name: 'mac array', instances: 4 }, { name: 'other' }],
      usage: (open) =>
        open === 1
          ? {
              engines: { 'mac array': 5e9 },
              memory: { card: { totalBytes: 4096, residentBytes: 1024n }, host: { totalBytes: 0 } },
            }
          : {},
    },
  })
  const other = new BinaryClient(node)
  await run(other, 5)
  const { total, entries } = (await client.query('usage'))!
  t.equal(total, 2)
  t.match(entries, [
    {
      open: 1,
      self: true,
      text: [
        'drm-driver:\twork',
        'drm-client-id:\t1',
        'drm-engine-command:\t0 ns',
        'drm-engine-mac-array:\t5000000000 ns',
        'drm-engine-capacity-mac-array:\t4',
        ...['total', 'shared', 'resident', 'active'].map((part) => `drm-${part}-memory:\t0`),
        'drm-total-card:\t4096',
        'drm-resident-card:\t1024',
        'drm-total-host:\t0',
        '',
      ].join('\n'),
    },
    {
      open: 2,
      self: false,
      text: /^drm-driver:\twork\ndrm-client-id:\t2\ndrm-engine-command:\t[1-9][0-9]{6,} ns\n(drm-\w+-memory:\t0\n){4}$/,
    },
  ])
  // The form that the specification of these keys asks for.
  for (const line of entries.flatMap(({ text }) => text.split('\n').slice(0, -1)))
    t.match(line, /^drm-[^:\s]+:\t[^:\s]+( (ns|KiB|MiB))?$/)
})

t.test('a usage that is too long is cut at a line', async (t) => {
  const engines = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`engine${i}`, i]))
  const { client } = await setup(t, { telemetry: { usage: () => ({ engines }) } })
  const { text } = (await client.query('usage'))!.entries[0]!
  t.ok(text.length <= 1000 && text.length > 900)
  t.match(text, /drm-engine-engine[0-9]+:\t[0-9]+ ns\n$/)
})

t.test('utilisation is of the latest interval that is long enough', async (t) => {
  const of = new Utilisation()
  const ms = 1_000_000n
  const at = (busyMs: bigint, nowMs: bigint, instances = 1) => of.of('x', busyMs * ms, instances, nowMs * ms)
  t.equal(at(0n, 0n), undefined, 'one look says nothing')
  t.equal(at(50n, 50n), undefined, 'too soon')
  t.equal(at(50n, 200n), 250)
  t.equal(at(90n, 250n), 360, 'the interval goes on')
  t.equal(at(150n, 400n), 500)
  t.equal(at(140n, 600n), undefined, 'the count was cleared')
  t.equal(at(540n, 1000n), 1000)
  t.equal(at(3000n, 2000n, 4), 615)
})
