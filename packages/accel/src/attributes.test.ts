import { setTimeout as sleep } from 'node:timers/promises'
import { accelError, cmd, commonUapi, uapi } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { BinaryClient } from './dispatch.test.helper.js'
import { FakeTransport } from './fake-transport.test.helper.js'
import { Accel, type AttributeDefinitions, accelDriver, attribute } from './index.js'

const plain = uapi({ name: 'plain', version: 1, commands: { nop: cmd(0x40) } })

async function setup(
  t: Test,
  make: () => AttributeDefinitions = () => ({}),
  probing: () => Promise<void> | void = () => {},
) {
  const accel = new Accel({
    quotas: { openWaits: 16 },
    limits: { settleMs: 50, recoverMs: 200, attributeMs: 60 },
  })
  accel.register(
    accelDriver({
      name: 'plain',
      uapi: plain,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      async probe() {
        await probing()
        return { commands: { nop: () => undefined }, attributes: make() }
      },
    }),
  )
  t.teardown(() => accel.close())
  const node = await accel.add(new FakeTransport())
  return { accel, node, client: new BinaryClient(node) }
}

async function paths(client: BinaryClient, path = ''): Promise<string[]> {
  return (await client.call('attrList', { path, from: 0 })).entries.map((entry) => entry.path)
}

t.test('every device has the common ones', async (t) => {
  const { node, client } = await setup(t)
  t.same(await paths(client), [
    'counters/completions',
    'counters/drops',
    'counters/events',
    'counters/eventsLost',
    'counters/failures',
    'counters/opens',
    'counters/refusals',
    'counters/resets',
    'counters/submissions',
    'identity/address',
    'identity/bus',
    'identity/classCode',
    'identity/device',
    'identity/driver',
    'identity/emulated',
    'identity/node',
    'identity/revision',
    'identity/subsystem',
    'identity/subsystemVendor',
    'identity/transport',
    'identity/uapi',
    'identity/uapiVersion',
    'identity/vendor',
    'opens/current',
    'state',
  ])
  t.same(await client.show('identity/vendor'), {
    mode: 0o444,
    scope: 'stable',
    type: 'text',
    unit: '',
    revision: 1n,
    value: '0x1234',
  })
  t.match(await client.show('identity/classCode'), { value: '0x120000' })
  t.match(await client.show('state'), { value: 'operational' })
  const nop = () => node.dispatch(client.open, 0x40, new Uint8Array())
  await nop()
  await t.rejects(node.dispatch(client.open, 0x40, new Uint8Array(1).fill(1)), { code: 'ERR_ACCEL_RESERVED' })
  await t.rejects(node.dispatch(client.open, 0x99, new Uint8Array()), { code: 'ERR_ACCEL_UNKNOWN_COMMAND' })
  await t.rejects(node.dispatch(client.open, 0x40, new Uint8Array(), { signal: AbortSignal.abort() }), {
    code: 'ERR_ACCEL_ABORTED',
  })
  t.match(await client.show('counters/submissions'), { value: '2', type: 'integer' })
  t.match(await client.show('counters/completions'), { value: '1' })
  t.match(await client.show('counters/drops'), { value: '1' })
  t.match(await client.show('counters/refusals'), { value: '2' })
  t.match(await client.show('counters/errors/ERR_ACCEL_ABORTED'), { value: '1' })
})

t.test("the driver's own: nested, typed, read and written", async (t) => {
  let gain = 3
  const { client } = await setup(t, () => ({
    'amplifier/gain': {
      show: () => gain,
      store(value) {
        gain = Number(value)
      },
      type: 'integer',
      unit: 'dB',
    },
    'amplifier/on': { show: () => true, type: 'boolean' },
    'amplifier/factor': { show: () => 1.5e-7, type: 'number' },
    serial: { show: async () => 'größer', mode: 0o440 },
    big: { show: () => 2n ** 63n, type: 'integer', scope: 'debug' },
    trigger: { store() {} },
  }))
  t.same(await paths(client, 'amplifier'), ['amplifier/factor', 'amplifier/gain', 'amplifier/on'])
  t.same(await paths(client, 'amplifier/gain'), ['amplifier/gain'])
  const { revision, ...found } = await client.show('amplifier/gain')
  t.same(found, { mode: 0o644, scope: 'stable', type: 'integer', unit: 'dB', value: '3' })
  const stored = await client.store('amplifier/gain', '-7\n')
  t.ok(stored.revision > revision)
  t.match(await client.show('amplifier/gain'), { value: '-7', revision: stored.revision })
  t.match(await client.show('amplifier/on'), { value: '1' })
  t.match(await client.show('amplifier/factor'), { value: '1.5e-7' })
  t.match(await client.show('serial'), { value: 'größer', mode: 0o440 })
  t.match(await client.show('big'), { value: '9223372036854775808', scope: 'debug' })
  await client.store('trigger', 'anything')
})

t.test('a list of many comes in parts', async (t) => {
  const many = Array.from({ length: 70 }, (_, i) => [`many/${i}`, { show: () => i }] as const)
  const { client } = await setup(t, () => Object.fromEntries(many))
  const all: string[] = []
  for (const wanted of [32, 32, 6, 0]) {
    const { total, entries } = await client.call('attrList', { path: 'many', from: all.length })
    t.equal(total, 70)
    t.equal(entries.length, wanted)
    all.push(...entries.map(({ path }) => path))
  }
  t.same(all, many.map(([path]) => path).sort())
})

t.test('mode bits and scope say who may do what', async (t) => {
  const value = { show: () => 'x', store() {} }
  const { node, client } = await setup(t, () => ({
    all: { ...value, mode: 0o666 },
    owner: { ...value, mode: 0o600 },
    group: { ...value, mode: 0o060 },
    usual: value,
    other: { ...value, mode: 0o002 },
    hidden: { ...value, mode: 0o666, scope: 'debug' },
  }))
  const opens = {
    owner: client,
    group: new BinaryClient(node, { rights: { as: 'group' } }),
    other: new BinaryClient(node, { rights: {} }),
  }
  const allowed: Record<string, string> = {}
  for (const [who, open] of Object.entries(opens)) {
    for (const path of ['all', 'owner', 'group', 'usual', 'other', 'hidden']) {
      const may = async (work: Promise<unknown>, letter: string) => {
        try {
          await work
          return letter
        } catch (error) {
          t.match(error, { code: 'ERR_ACCEL_PERMISSION' })
          return '-'
        }
      }
      allowed[`${who} ${path}`] = (await may(open.show(path), 'r')) + (await may(open.store(path, 'y'), 'w'))
    }
  }
  t.same(allowed, {
    'owner all': 'rw',
    'owner owner': 'rw',
    'owner group': '--',
    'owner usual': 'rw',
    'owner other': '--',
    'owner hidden': 'rw',
    'group all': 'rw',
    'group owner': '--',
    'group group': 'rw',
    'group usual': 'r-',
    'group other': '--',
    'group hidden': '--',
    'other all': 'rw',
    'other owner': '--',
    'other group': '--',
    'other usual': 'r-',
    'other other': '-w',
    'other hidden': '--',
  })
  t.ok((await paths(client)).includes('hidden'))
  t.notOk((await paths(opens.other)).includes('hidden'), 'debug is not even listed')
  await t.rejects(opens.other.call('attrWatch', { path: 'hidden', after: 0n }), {
    code: 'ERR_ACCEL_PERMISSION',
  })
  await t.rejects(opens.other.store('state', 'x'), { code: 'ERR_ACCEL_PERMISSION', message: /mode 0444/ })
  await t.rejects(client.store('state', 'x'), { code: 'ERR_ACCEL_PERMISSION' })
})

t.test('every refusal', async (t) => {
  let late: Promise<string> | undefined
  let end!: (value: string) => void
  const { node, client } = await setup(t, () => ({
    throws: {
      show() {
        throw new Error('a bug')
      },
      store() {
        throw accelError('ERR_ACCEL_UNSUPPORTED', 'not on this board')
      },
    },
    refuses: { show: () => Promise.reject(accelError('ERR_ACCEL_NO_MEMORY', 'nothing left')) },
    hangs: { show: () => new Promise<never>(() => {}) },
    late: { show: () => (late ??= new Promise<string>((resolve) => (end = resolve))) },
    long: { show: () => 'ä'.repeat(2049) },
    longest: { show: () => 'ä'.repeat(2048) },
    wrong: { show: () => 'seven', type: 'integer' },
    nothing: { show: () => undefined as unknown as string },
    surrogate: { show: () => '\ud800' },
    number: { show: () => 1, store() {}, type: 'integer' },
    switch: { show: () => false, store() {}, type: 'boolean' },
  }))
  await t.rejects(client.show('throws'), { code: 'ERR_ACCEL_IO', cause: { message: 'a bug' } })
  await t.rejects(client.store('throws', '1'), { code: 'ERR_ACCEL_UNSUPPORTED' })
  await t.rejects(client.show('refuses'), { code: 'ERR_ACCEL_NO_MEMORY' })
  await t.rejects(client.show('hangs'), { code: 'ERR_ACCEL_TIMEOUT', message: /show of attribute hangs/ })
  await t.rejects(client.show('hangs'), { code: 'ERR_ACCEL_AGAIN', message: /earlier show/ })
  await t.rejects(client.show('late'), { code: 'ERR_ACCEL_TIMEOUT' })
  await t.rejects(client.show('late'), { code: 'ERR_ACCEL_AGAIN' })
  end('at last')
  await late
  await sleep(1)
  t.match(await client.show('late'), { value: 'at last' }, 'it is asked again')
  await t.rejects(client.show('long'), { code: 'ERR_ACCEL_OUT_OF_RANGE', message: /4098 bytes/ })
  t.equal((await client.show('longest')).value.length, 2048)
  await t.rejects(client.show('wrong'), { code: 'ERR_ACCEL_IO', message: /type integer/ })
  await t.rejects(client.show('nothing'), { code: 'ERR_ACCEL_IO' })
  await t.rejects(client.show('surrogate'), { code: 'ERR_ACCEL_IO' })
  for (const value of ['', 'x', '1 ', '1\n\n', '1.5', '0x'])
    await t.rejects(
      client.store('number', value),
      { code: 'ERR_ACCEL_INVALID_ARGUMENT' },
      JSON.stringify(value),
    )
  await client.store('number', '0xFF')
  for (const value of ['true', '2', ''])
    await t.rejects(client.store('switch', value), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  await t.rejects(client.store('number', 'x'.repeat(4097)), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  for (const path of ['none', '', 'number/', '/number', '../number', 'identity', 'toString'])
    await t.rejects(client.show(path), { code: 'ERR_ACCEL_NOT_FOUND' }, path)
  await t.rejects(client.call('attrList', { path: 'none', from: 0 }), { code: 'ERR_ACCEL_NOT_FOUND' })
  await t.rejects(client.show('x'.repeat(129)), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  await t.rejects(client.call('attrWatch', { path: 'none', after: 0n }), { code: 'ERR_ACCEL_NOT_FOUND' })
  await t.rejects(client.call('attrWatch', { path: 'state', after: 10n ** 9n }), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
  })
  const { attrShow } = commonUapi.commands
  const raw = (bytes: Uint8Array) => node.dispatch(client.open, attrShow.number, bytes)
  await t.rejects(raw(new Uint8Array(attrShow.in.layout.sizeBytes - 1)), { code: 'ERR_ACCEL_BAD_SIZE' })
  const dirty = attrShow.in.encode({ path: 'state' })
  dirty[dirty.length - 1] = 1
  await t.rejects(raw(dirty), { code: 'ERR_ACCEL_RESERVED' })
  const forged = attrShow.in.encode({ path: 'state' })
  forged[0] = 200
  await t.rejects(raw(forged), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.match(await client.show('state'), { value: 'operational' }, 'nothing of that harmed the others')
})

t.test('a watch is told of the next change, and of none that it has seen', async (t) => {
  let level = 1
  const watched = attribute({ show: () => level, type: 'integer' })
  watched.changed() // nobody has it yet
  let held: Promise<void> | undefined
  const { node, client } = await setup(
    t,
    () => ({ level: watched, silent: { show: () => 'x' } }),
    () => held,
  )
  const watch = (after: bigint, path = 'level') => client.call('attrWatch', { path, after })
  const first = await watch(0n)
  t.match(first, { value: '1', type: 'integer' })
  const waiting = [watch(first.revision), watch(first.revision)]
  const silent = t.rejects(
    client.call('attrWatch', { path: 'silent', after: first.revision }, { timeoutMs: 50 }),
    {
      code: 'ERR_ACCEL_TIMEOUT',
    },
  )
  await sleep(2)
  level = 2
  watched.changed()
  const [next] = await Promise.all(waiting)
  t.match(next, { value: '2' })
  t.ok(next!.revision > first.revision)
  t.match(await watch(first.revision), { value: '2', revision: next!.revision }, 'a change that came before')
  await silent

  const state = await client.call('attrWatch', { path: 'state', after: 0n })
  const changing = client.call('attrWatch', { path: 'state', after: state.revision })
  let letGo!: () => void
  held = new Promise((resolve) => {
    letGo = resolve
  })
  const resetting = node.reset()
  t.match(await changing, { value: 'inReset' })
  const over = client.call('attrWatch', { path: 'state', after: (await changing).revision })
  letGo()
  await resetting
  t.match(await over, { value: 'operational' })
  const opens = await client.call('attrWatch', { path: 'opens/current', after: 0n })
  const other = new BinaryClient(node)
  t.match(await client.call('attrWatch', { path: 'opens/current', after: opens.revision }), { value: '2' })
  await other.close()
  t.match(await client.show('opens/current'), { value: '1' })
})

t.test('a change costs those nothing who watch something else', async (t) => {
  const watched = attribute({ show: () => 1, type: 'integer' })
  const { node, client } = await setup(t, () => ({ level: watched, still: { show: () => 'x' } }))
  const { revision } = await client.show('still')
  const others = Array.from({ length: 10 }, () =>
    client.call('attrWatch', { path: 'still', after: revision }).catch(() => {}),
  )
  const waiting = client.call('attrWatch', { path: 'level', after: (await client.show('level')).revision })
  await sleep(2)
  t.equal(node.attributes.watching, 11)
  let looks = 0
  const { attributes } = node
  const find = attributes.find.bind(attributes)
  attributes.find = (...args) => {
    looks++
    return find(...args)
  }
  await new BinaryClient(node).close() // changes `opens/current`, twice
  t.equal(looks, 0)
  watched.changed()
  await waiting
  t.equal(looks, 1)
  await client.close()
  await Promise.all(others)
  t.equal(attributes.watching, 0)
})

t.test('a reset that probes anew brings other attributes; those who watch are told', async (t) => {
  let probes = 0
  const made: ReturnType<typeof attribute>[] = []
  const { node, client } = await setup(t, () => {
    const probe = ++probes
    const both = attribute({ show: () => `probe ${probe}` })
    made.push(both)
    return { both, [`only${probe}`]: { show: () => '' } }
  })
  const first = await client.show('both')
  const waiting = client.call('attrWatch', { path: 'both', after: first.revision })
  const gone = t.rejects(client.call('attrWatch', { path: 'only1', after: first.revision }), {
    code: 'ERR_ACCEL_NOT_FOUND',
  })
  const resetting = node.reset()
  const during = client.show('both')
  t.match(await waiting, { value: 'probe 2' })
  t.match(await during, { value: 'probe 2' }, 'who asks during the reset waits')
  await gone
  await resetting
  const { revision } = await client.show('both')
  made[0]!.changed()
  t.match(await client.show('both'), { revision }, 'the old one has no say any more')
  made[1]!.changed()
  t.ok((await client.show('both')).revision > revision)
})

t.test('watches end with their open, with the device, and leave nothing', async (t) => {
  const { accel, node, client } = await setup(t, () => ({ still: { show: () => 'x' } }))
  const { revision } = await client.show('still')
  const watch = (who: BinaryClient) => who.call('attrWatch', { path: 'still', after: revision })
  for (let round = 0; round < 20; round++) {
    const other = new BinaryClient(node)
    const waits = Array.from({ length: 16 }, () => watch(other))
    const ended = Promise.all(waits.map((wait) => t.rejects(wait, { code: 'ERR_ACCEL_CLOSED' })))
    await t.rejects(watch(other), { code: 'ERR_ACCEL_AGAIN' })
    await other.close()
    await ended
  }
  t.equal(node.attributes.watching, 0)
  t.equal(node.opens.size, 1)
  const waiting = [t.rejects(watch(client), { code: 'ERR_ACCEL_NO_DEVICE' })]
  const state = client.call('attrWatch', { path: 'state', after: BigInt(node.attributes.latest) })
  await sleep(1)
  await accel.remove('accel0')
  await Promise.all(waiting)
  t.match(await state, { value: 'beingCleaned' }, 'who watches the state is told of the end')
  t.equal(node.attributes.watching, 0)
})

t.test('attributes that cannot work end the probe', async (t) => {
  const show = () => 'x'
  const bad: readonly [AttributeDefinitions, RegExp][] = [
    [{ 'a b': { show } }, /has no path/],
    [{ '': { show } }, /has no path/],
    [{ 'a//b': { show } }, /has no path/],
    [{ '../a': { show } }, /has no path/],
    [{ [`${'a'.repeat(32)}/`.repeat(4)]: { show } }, /has no path/],
    [{ state: { show } }, /of the common ones/],
    [{ 'irqs/mine': { show } }, /of the common ones/],
    [{ a: { show }, 'a/b': { show } }, /below a/],
    [{ a: {} }, /wants a mode/],
    [{ a: { show, mode: 0 } }, /wants a mode/],
    [{ a: { show, mode: 0o755 } }, /wants a mode/],
    [{ a: { show, mode: 0o644 } }, /has no store/],
    [{ a: { store() {}, mode: 0o400 } }, /has no show/],
    [{ a: { show, unit: 'furlongs per hour' } }, /more than 16 bytes/],
    [{ a: { show, type: 'colour' as 'text' } }, /unknown type/],
    [{ a: { show, scope: 'secret' as 'debug' } }, /unknown scope/],
  ]
  for (const [attributes, message] of bad) {
    const accel = new Accel()
    accel.register(
      accelDriver({
        name: 'plain',
        uapi: plain,
        ids: [{ bus: 'pci', vendor: 0x1234 }],
        probe: () => ({ commands: { nop: () => undefined }, attributes }),
      }),
    )
    await t.rejects(accel.add(new FakeTransport()), { code: 'ERR_ACCEL_PROBE_FAILED', message })
    t.same(accel.nodes, [])
  }
})
