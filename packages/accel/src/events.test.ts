import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { accelError, cmd, commonUapi, EVENTS_AT_ONCE, errorTable, u32, uapi } from '@uaccel/uapi'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { BinaryClient } from './dispatch.test.helper.js'
import { EVENT_HISTORY, EventLog } from './events.js'
import { FakeTransport } from './fake-transport.test.helper.js'
import { Accel, type AccelDevice, accelDriver } from './index.js'

const work = uapi({ name: 'work', version: 1, commands: { work: cmd(0x40, { in: { id: u32 } }) } })

/** A device whose work 1 goes on until its signal, 2 faults, 3 fails. */
async function setup(t: Test) {
  const accel = new Accel({ quotas: { openWaits: 16 }, limits: { settleMs: 50, recoverMs: 200 } })
  const devices: AccelDevice[] = []
  accel.register(
    accelDriver({
      name: 'work',
      uapi: work,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      probe(dev) {
        devices.push(dev)
        return {
          commands: {
            work({ id }, { signal }) {
              if (id === 2) throw accelError('ERR_ACCEL_DMA_FAULT', 'read of 0x1000 outside all mappings')
              if (id === 3) throw accelError('ERR_ACCEL_INVALID_ARGUMENT', 'no')
              if (id !== 1) return undefined
              return new Promise<never>((_, reject) => {
                signal.addEventListener('abort', () => reject(signal.reason), { once: true })
              })
            },
          },
          recover() {},
        }
      },
    }),
  )
  const transport = new FakeTransport()
  const node = await accel.add(transport)
  t.teardown(() => accel.close())
  const call = (client: BinaryClient, id: number, timeoutMs?: number) =>
    node.dispatch(
      client.open,
      0x40,
      work.commands.work.in.encode({ id }),
      timeoutMs === undefined ? {} : { timeoutMs },
    )
  return { accel, node, transport, devices, call, client: new BinaryClient(node) }
}

const number = (code: keyof typeof errorTable) => errorTable[code].number

t.test('what happens is told, in order, with what it is about', async (t) => {
  const { client, call, node, devices } = await setup(t)
  t.same(await client.events(0n, { nonblock: true }), { last: 0n, lost: 0n, events: [] })
  await t.rejects(call(client, 2), { code: 'ERR_ACCEL_DMA_FAULT' })
  await t.rejects(call(client, 3), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  await t.rejects(call(client, 1, 20), { code: 'ERR_ACCEL_TIMEOUT' })
  devices[0]!.publish({ kind: 'error', reason: `it is hot${'!'.repeat(200)}` })
  await node.reset({ reason: 'a test wants it' })
  const before = BigInt(Date.now()) * 1_000_000n
  const { last, lost, events } = await client.events(0n)
  t.equal(last, 4n)
  t.equal(lost, 0n)
  t.match(events, [
    { sequence: 1n, kind: 'pageFault', error: number('ERR_ACCEL_DMA_FAULT'), open: 1, reason: /0x1000/ },
    { sequence: 2n, kind: 'timeout', error: number('ERR_ACCEL_TIMEOUT'), open: 1, reason: /20 ms/ },
    { sequence: 3n, kind: 'error', error: 0, open: 0, reason: /^it is hot!{151}$/ },
    { sequence: 4n, kind: 'reset', error: number('ERR_ACCEL_IO'), open: 0, reason: /a test wants it/ },
  ])
  t.equal(events.length, 4, 'what only its caller has done wrong is no event')
  for (const { atNs } of events) t.ok(atNs <= before && atNs > before - 60_000_000_000n)
  t.same((await client.events(3n)).events, events.slice(3))
})

t.test(
  'an open is told what comes after it, whoever waits, also over a reset that probes anew',
  async (t) => {
    const { node, client, devices } = await setup(t)
    devices[0]!.publish({ kind: 'other', reason: 'before' })
    const late = new BinaryClient(node)
    const waiting = [client.events(1n), client.events(1n), late.events(0n)]
    await node.reset()
    t.equal(devices.length, 2, 'it was probed anew')
    for (const { events } of await Promise.all(waiting)) t.match(events, [{ sequence: 2n, kind: 'reset' }])
    devices[1]!.publish({ kind: 'other', reason: 'after' })
    t.match((await late.events(2n)).events, [{ sequence: 3n, reason: 'after' }])
    t.equal((await client.events(0n)).events.length, 3)
  },
)

t.test('a device that goes: who waits is told, who comes later too, and then refused', async (t) => {
  for (const how of ['removed', 'pulled out', 'wanted back'] as const) {
    const { accel, node, client, transport } = await setup(t)
    const waiting = client.events(0n)
    if (how === 'pulled out') transport.vanish()
    else if (how === 'wanted back') transport.request()
    else void accel.remove('accel0')
    const { events } = await waiting
    t.same(
      events.map(({ kind }) => kind),
      how === 'wanted back' ? ['request', 'removal'] : ['removal'],
    )
    t.match(events.at(-1), { error: number('ERR_ACCEL_NO_DEVICE') })
    await node.lost
    t.same((await client.events(0n)).events, events, 'who comes later is told, too')
    const last = BigInt(events.length)
    await t.rejects(client.events(last), { code: 'ERR_ACCEL_NO_DEVICE' })
    await t.rejects(client.events(last, { nonblock: true }), { code: 'ERR_ACCEL_NO_DEVICE' })
    await t.rejects(client.query('status'), { code: 'ERR_ACCEL_NO_DEVICE' })
  }
})

t.test('every refusal', async (t) => {
  const { node, client } = await setup(t)
  const { number: events } = commonUapi.commands.events
  const raw = (bytes: Uint8Array) => node.dispatch(client.open, events, bytes)
  await t.rejects(raw(new Uint8Array(15)), { code: 'ERR_ACCEL_BAD_SIZE' })
  await t.rejects(raw(new Uint8Array(16 + 4097)), { code: 'ERR_ACCEL_BAD_SIZE' })
  await t.rejects(raw(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0)), {
    code: 'ERR_ACCEL_BAD_FLAGS',
  })
  await t.rejects(raw(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)), {
    code: 'ERR_ACCEL_RESERVED',
  })
  await t.rejects(client.events(1n), { code: 'ERR_ACCEL_OUT_OF_RANGE', message: /the latest is 0/ })
  await t.rejects(client.events(2n ** 64n - 1n), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  await t.rejects(client.events(0n, { timeoutMs: 5 }), { code: 'ERR_ACCEL_TIMEOUT' })
  await t.rejects(client.events(0n, { timeoutMs: 0 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  await t.rejects(client.events(0n, { signal: AbortSignal.abort() }), { code: 'ERR_ACCEL_ABORTED' })
  t.equal(node.record.events.last, 0, 'a wait that ends is no event')

  const waits = Array.from({ length: 16 }, () => client.events(0n))
  const ended = Promise.all(waits.map((wait) => t.rejects(wait, { code: 'ERR_ACCEL_CLOSED' })))
  await t.rejects(client.events(0n), { code: 'ERR_ACCEL_AGAIN', message: /16 waits under way/ })
  const other = new BinaryClient(node)
  await t.rejects(other.events(0n, { timeoutMs: 5 }), { code: 'ERR_ACCEL_TIMEOUT' }, 'others may wait')
  await client.close()
  await ended
  await t.rejects(client.events(0n), { code: 'ERR_ACCEL_CLOSED' })
  t.equal(node.record.events.bell.waiting, 0, 'nothing of them is left')
  t.same([...node.opens], [other.open])
})

t.test('waits that end in whatever way leave nothing behind', async (t) => {
  const { node, devices } = await setup(t)
  for (let round = 0; round < 50; round++) {
    const client = new BinaryClient(node)
    const controller = new AbortController()
    const after = BigInt(node.record.events.last)
    const aborted = client.events(after, { signal: controller.signal })
    const told = client.events(after)
    const expired = client.events(after, { timeoutMs: 1 })
    const refused = Promise.all([
      t.rejects(aborted, { code: 'ERR_ACCEL_ABORTED' }),
      t.rejects(expired, { code: 'ERR_ACCEL_TIMEOUT' }),
    ])
    controller.abort()
    await refused
    devices[0]!.publish({ kind: 'other', reason: 'round' })
    await told
    await client.close()
  }
  t.equal(node.record.events.bell.waiting, 0)
  t.equal(node.opens.size, 1, 'the one of the setup')
})

t.test('a closed open is garbage, with all that it waited for', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const { node } = await setup(t)
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  const before = timers()
  const opens: WeakRef<object>[] = []
  for (let i = 0; i < 100; i++) {
    const client = new BinaryClient(node, { peer: { pid: i, uid: 0, gid: 0 } })
    opens.push(new WeakRef(client.open))
    const waits: Promise<unknown>[] = [
      client.events(0n),
      client.call('attrWatch', { path: 'identity/node', after: 1n }),
    ]
    const ended = Promise.all(waits.map((wait) => t.rejects(wait, { code: 'ERR_ACCEL_CLOSED' })))
    await client.query('contexts')
    await client.close()
    await ended
  }
  t.equal(timers(), before, 'no limit of a call is left')
  let left = opens.length
  for (let tries = 0; left > 1 && tries < 50; tries++) {
    await sleep(10)
    collect()
    left = opens.filter((open) => open.deref() !== undefined).length
  }
  t.ok(left <= 1, `${left} are left, of which one may be on the stack`)
})

t.test('an in-process client iterates over them to the end', async (t) => {
  const { accel, devices } = await setup(t)
  const client = accel.open(work, 'accel0')
  const seen: string[] = []
  let lostInAll = 0
  const reading = (async () => {
    for await (const { kind, reason, lost } of client.events()) {
      seen.push(`${kind} ${reason}`)
      lostInAll += Number(lost)
    }
  })()
  devices[0]!.publish({ kind: 'other', reason: 'one' })
  await sleep(1)
  devices[0]!.publish({ kind: 'other', reason: 'two' })
  for (let i = 0; i < EVENT_HISTORY + 5; i++) devices[0]!.publish({ kind: 'other', reason: 'many' })
  await accel.remove('accel0')
  await reading
  t.equal(seen[0], 'other one')
  t.match(seen.at(-1), /^removal /)
  t.equal(seen.length + lostInAll, EVENT_HISTORY + 8, 'each is told or counted')
  t.ok(lostInAll > 0 && seen.length > EVENTS_AT_ONCE)

  const stopped = new AbortController()
  const { accel: again } = await setup(t)
  const idle = (async () => {
    for await (const _ of again.open(work, 'accel0').events({ signal: stopped.signal })) t.fail('no event')
  })()
  stopped.abort()
  await idle
})

t.test('the log, against a list of all that there ever was', async (t) => {
  const step = fc.oneof(
    fc.record({ publish: fc.integer({ min: 1, max: 70 }) }),
    fc.record({ reader: fc.integer({ min: 0, max: 2 }) }),
  )
  const property = fc.property(
    fc.integer({ min: 1, max: 100 }),
    fc.array(step, { maxLength: 60 }),
    (capacity, steps) => {
      const log = new EventLog(capacity)
      const all: string[] = []
      const readers = [0, 0, 0].map(() => ({ after: 0, told: 0, lost: 0 }))
      for (const each of steps) {
        if ('publish' in each) {
          for (let i = 0; i < each.publish; i++) {
            all.push(`event ${all.length + 1}`)
            log.publish({ kind: 'other', reason: all.at(-1)! })
          }
          continue
        }
        const reader = readers[each.reader]!
        const { last, lost, events } = log.read(reader.after)
        // The reference: what is kept of all, and what of it the reader has not seen.
        const firstKept = Math.max(0, all.length - capacity)
        const expected = all.slice(Math.max(reader.after, firstKept)).slice(0, EVENTS_AT_ONCE)
        if (JSON.stringify(events.map(({ reason }) => reason)) !== JSON.stringify(expected))
          throw new Error(`told ${events.map(({ reason }) => reason)}, wanted ${expected}`)
        for (const [i, { sequence }] of events.entries())
          if (Number(sequence) !== all.indexOf(expected[i]!) + 1) throw new Error('a wrong number')
        if (Number(lost) !== Math.max(0, firstKept - reader.after)) throw new Error(`lost ${lost}`)
        reader.told += events.length
        reader.lost += Number(lost)
        reader.after = Number(last)
        if (reader.told + reader.lost !== reader.after) throw new Error('one is neither told nor lost')
      }
      if (log.overwritten !== Math.max(0, all.length - capacity)) throw new Error('overwritten')
    },
  )
  t.doesNotThrow(() => fc.assert(property, { numRuns: 300 }))
})
