import { setTimeout as sleep } from 'node:timers/promises'
import type { TransportIdentity } from '@uaccel/core'
import { accelError, cmd, u32, uapi } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { FakeTransport } from './fake-transport.test.helper.js'
import { Accel, type AccelOptions, accelDriver, type CommandContext } from './index.js'

const busy = uapi({
  name: 'busy',
  version: 1,
  commands: {
    work: cmd(0x40, { in: { id: u32 } }),
    aside: cmd(0x41, { in: { id: u32 }, concurrent: true }),
    state: cmd(0x42, { out: { value: u32 } }),
  },
})

const signalled = (signal: AbortSignal) =>
  new Promise<never>((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
const never = () => new Promise<never>(() => {})

interface Behaviour {
  work?(id: number, context: CommandContext): Promise<void> | void
  recover?(): Promise<void> | void
  beforeReset?(): Promise<void> | void
  afterReset?(): Promise<void> | void
  /** The step of its release. */
  rest?(): Promise<void> | void
}

/** A device of which work 1 goes on until it is told to end, unless the test says otherwise. */
async function setup(t: Test, behaviour: Behaviour = {}, limits: AccelOptions['limits'] = {}) {
  const accel = new Accel({ limits: { settleMs: 50, recoverMs: 100, ...limits } })
  const log: string[] = []
  for (const event of ['lost', 'removed', 'reset'] as const) {
    accel.on(event, (node, reason) => log.push(`${event} ${node.state} ${reason.code}: ${reason.message}`))
  }
  accel.on('error', (error) => log.push(`error ${(error.cause as { code: string }).code}`))
  const { work = (id: number, { signal }: CommandContext) => (id === 1 ? signalled(signal) : undefined) } =
    behaviour
  const hook = (name: 'recover' | 'beforeReset' | 'afterReset') => {
    const run = behaviour[name]
    if (run === undefined) return {}
    return {
      async [name]() {
        log.push(name)
        await run()
      },
    }
  }
  accel.register(
    accelDriver({
      name: 'busy',
      uapi: busy,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      probe(dev) {
        log.push('probe')
        dev.defer(async () => {
          log.push('release')
          await behaviour.rest?.()
        })
        const serve = async ({ id }: { id: number }, context: CommandContext) => {
          log.push(`start ${id}`)
          await work(id, context)
          return undefined
        }
        return {
          commands: {
            work: serve,
            aside: serve,
            state: (_request, { open }) => {
              open.defer(() => void log.push(`free ${open.id}`))
              return { value: open.id }
            },
          },
          ...hook('recover'),
          ...hook('beforeReset'),
          ...hook('afterReset'),
        }
      },
    }),
  )
  const transport = new FakeTransport()
  const node = await accel.add(transport)
  t.teardown(() => accel.close())
  log.length = 0
  return { accel, log, transport, node, open: () => accel.open(busy, 'accel0') }
}

const hooks = { beforeReset: () => {}, afterReset: () => {} }

t.test(
  'a driver with hooks is taken through a reset: what runs ends, what waits goes on, state stays',
  async (t) => {
    const { node, open, log, transport } = await setup(t, hooks)
    const client = open()
    await client.call('state', {})
    const running = [client.call('work', { id: 1 }), client.call('aside', { id: 1 })]
    const waiting = client.call('work', { id: 2 })
    const ended = Promise.all(
      running.map((call) =>
        t.rejects(call, { code: 'ERR_ACCEL_IO', message: 'accel0 was reset: a test wants it' }),
      ),
    )
    await sleep(5)
    t.equal(node.state, 'live')
    const resetting = [node.reset({ reason: 'a test wants it' }), node.reset()]
    t.equal(node.state, 'resetting')
    await Promise.all([...resetting, ended])
    t.equal(node.state, 'live')
    await waiting
    t.same(log, [
      'start 1',
      'start 1',
      'beforeReset',
      'afterReset',
      'reset live ERR_ACCEL_IO: accel0 was reset: a test wants it',
      'start 2',
    ])
    t.equal(transport.resetCount, 1)
    await client.call('work', { id: 3 })
  },
)

for (const [what, behaviour, said] of [
  ['without hooks', {}, []],
  ['with one of the two', { afterReset: () => {} }, []],
  [
    'whose hook throws',
    { ...hooks, beforeReset: () => Promise.reject(new Error('bug')) },
    ['beforeReset', 'error undefined'],
  ],
  [
    'whose hook hangs',
    { ...hooks, afterReset: never },
    ['beforeReset', 'afterReset', 'error ERR_ACCEL_TIMEOUT'],
  ],
] as const) {
  t.test(`a driver ${what} is probed anew`, async (t) => {
    const { node, open, log, transport } = await setup(t, behaviour)
    const [holder, other] = [open(), open()]
    await holder.call('state', {})
    await node.reset()
    t.same(log, [
      ...said,
      'free 1',
      'release',
      'probe',
      'reset live ERR_ACCEL_IO: accel0 was reset: its owner asked for it',
    ])
    t.equal(transport.resetCount, what.endsWith('hangs') ? 2 : 1)
    await t.rejects(holder.call('work', { id: 2 }), { code: 'ERR_ACCEL_CLOSED', message: /state|had in it/ })
    await other.call('work', { id: 2 })
  })
}

t.test('a device that its driver cannot recover is reset in place where the driver has hooks', async (t) => {
  const { open, log } = await setup(t, {
    ...hooks,
    recover: () => Promise.reject(accelError('ERR_ACCEL_IO', 'hangs')),
  })
  const client = open()
  await client.call('state', {})
  await t.rejects(client.call('work', { id: 1 }, { timeoutMs: 10 }), { code: 'ERR_ACCEL_TIMEOUT' })
  await client.call('work', { id: 2 })
  t.match(log, [
    'start 1',
    'recover',
    'error ERR_ACCEL_IO',
    'beforeReset',
    'afterReset',
    /^reset live/,
    'start 2',
  ])
})

t.test('a handler that ignores its signal keeps the driver from being reset in place', async (t) => {
  let end = () => {}
  const stubborn = new Promise<void>((resolve) => {
    end = resolve
  })
  const { node, open, log } = await setup(t, {
    ...hooks,
    rest: () => end(),
    work: (id) => (id === 1 ? stubborn : undefined),
  })
  const call = open().call('work', { id: 1 })
  const failed = t.rejects(call, { code: 'ERR_ACCEL_IO' })
  await sleep(5)
  await node.reset()
  await failed
  t.match(log, ['start 1', 'release', 'probe', /^reset live/])
})

t.test('a reset that is asked for while the device is let go and probed anew is that one', async (t) => {
  const { node, log, transport } = await setup(t, { rest: () => sleep(50) }, { recoverMs: 2000 })
  const first = node.reset()
  while (!log.includes('release')) await sleep(1)
  t.equal(node.state, 'resetting')
  await Promise.all([first, node.reset(), node.reset({ kind: 'function' })])
  t.equal(transport.resetCount, 1)
})

t.test('a reset that is asked for while the driver recovers', async (t) => {
  const { node, open, log } = await setup(t, { ...hooks, recover: () => sleep(30) })
  const client = open()
  await t.rejects(client.call('work', { id: 1 }, { timeoutMs: 10 }), { code: 'ERR_ACCEL_TIMEOUT' })
  await sleep(5)
  await node.reset()
  await client.call('work', { id: 2 })
  t.match(log, ['start 1', 'recover', 'beforeReset', 'afterReset', /^reset live/, 'start 2'])
})

t.test('a reset that the device does not have, and one that would hit others', async (t) => {
  const { node, open, log, transport } = await setup(t, hooks)
  await t.rejects(node.reset({ kind: 'hot' }), {
    code: 'ERR_ACCEL_UNSUPPORTED',
    message: /there are: function/,
  })
  t.same(log, [])
  transport.refuseResets()
  transport.resets.push('hot')
  await t.rejects(node.reset({ kind: 'hot' }), { code: 'ERR_ACCEL_BUSY', message: /others are on the bus/ })
  await open().call('work', { id: 2 })
  t.equal(node.state, 'live')
})

for (const [what, behaviour] of [
  ['with hooks', hooks],
  ['without', {}],
] as const) {
  t.test(`a device that does not come back is wedged, ${what}, and there is a way out`, async (t) => {
    const { accel, node, open, log, transport } = await setup(t, behaviour)
    const client = open()
    const removed = new Promise((resolve) => accel.once('removed', resolve))
    transport.breakReset(1)
    const queued = [client.call('work', { id: 1 }), client.call('work', { id: 2 })].map((call) =>
      call.catch(({ code }: { code: string }) => code),
    )
    await sleep(5)
    await t.rejects(node.reset(), {
      code: 'ERR_ACCEL_WEDGED',
      message:
        'accel0 did not come back from its reset, and was let go. Restart what emulates it, then add it again',
    })
    t.equal(node.state, 'wedged')
    t.same(await Promise.all(queued), ['ERR_ACCEL_IO', 'ERR_ACCEL_NO_DEVICE'])
    await removed
    t.equal(transport.closed, 1, 'whoever mends it can have it')
    t.match(log.slice(-3), [/^lost wedged ERR_ACCEL_WEDGED/, 'release', /^removed wedged ERR_ACCEL_WEDGED/])
    await t.rejects(node.reset(), { code: 'ERR_ACCEL_NO_DEVICE' })
    // What the error says: its reset works the second time.
    const again = await accel.add(new FakeTransport())
    t.equal(again.name, 'accel0')
    await again.reset()
    await open().call('work', { id: 2 })
  })
}

t.test('the way out names the commands for a device of the kernel', async (t) => {
  const { wedged } = await import('./wedged.js')
  const say = (bus: 'pci' | 'platform', kind: TransportIdentity['kind'], address: string) => {
    const identity = { bus, transport: { kind, address } } as Parameters<typeof wedged>[1]
    return wedged('accel3', identity, new Error('it is dead')).message
  }
  const offTheBus = 'echo 1 > /sys/bus/pci/devices/0000:01:00.0/remove && echo 1 > /sys/bus/pci/rescan'
  const vfio = say('pci', 'vfio', '0000:01:00.0')
  t.match(vfio, '`uaccel reset 0000:01:00.0 --hot`')
  t.match(vfio, offTheBus)
  const uio = say('pci', 'uio', '0000:01:00.0')
  t.notMatch(uio, '--hot', 'UIO has none')
  t.match(uio, offTheBus)
  const platform = say('platform', 'uio', 'uio:npu')
  t.notMatch(platform, '/pci/')
  t.match(platform, /unbind .* bind/)
})

t.test(
  'a device that the administrator wants back: work ends at once with the reason, then it is brought to rest',
  async (t) => {
    let reached: number | undefined
    const { accel, node, open, log, transport } = await setup(t, {
      rest: () => {
        reached = transport.read(0, 0, 4)
      },
    })
    const client = open()
    const removed = new Promise((resolve) => accel.once('removed', resolve))
    const calls = Array.from({ length: 256 }, (_, i) => client.call(i < 128 ? 'work' : 'aside', { id: 1 }))
    const outcomes = Promise.allSettled(calls)
    await sleep(5)
    log.length = 0
    const start = performance.now()
    transport.request()
    transport.request() // the kernel asks again and again
    const ended = await outcomes
    const tookMs = performance.now() - start
    for (const outcome of ended) {
      t.match(outcome, {
        status: 'rejected',
        reason: { code: 'ERR_ACCEL_NO_DEVICE', cause: { message: 'the fake is wanted back' } },
      })
    }
    t.ok(tookMs < 400, `before a handler would be given up: ${tookMs}`)
    t.throws(open, { code: 'ERR_ACCEL_NO_DEVICE' })
    await t.rejects(client.call('work', { id: 2 }), { code: 'ERR_ACCEL_NO_DEVICE', message: /wanted back/ })
    t.match(await client.lost, { message: 'the fake is wanted back' })
    await removed
    t.equal(node.state, 'gone')
    t.equal(reached, 0, 'it could be reached until then')
    t.equal(transport.closed, 1)
    t.same(log, ['release', 'removed gone ERR_ACCEL_NO_DEVICE: the fake is wanted back'], 'it was not lost')
  },
)

for (const [what, behaviour, how] of [
  ['a handler that ignores its signal', { work: never }, []],
  ['a recover that hangs', { recover: never }, ['recover']],
  ['a step of its release that hangs', { rest: never }, []],
  ['all of them', { work: never, recover: never, rest: never }, []],
] as const) {
  t.test(`an unbind does not wait for ${what}`, async (t) => {
    const { accel, open, log, transport } = await setup(t, behaviour, { settleMs: 2000, recoverMs: 10_000 })
    const removed = new Promise((resolve) => accel.once('removed', resolve))
    const call = open().call('work', { id: 1 })
    const failed = t.rejects(call, { code: 'ERR_ACCEL_NO_DEVICE' })
    await sleep(5)
    const start = performance.now()
    transport.request()
    await failed
    await removed
    t.ok(performance.now() - start < 1500, 'within its limit')
    t.equal(transport.closed, 1)
    t.match(log, ['start 1', ...how, 'release'])
  })
}

t.test('a device that is wanted back while it is probed', async (t) => {
  const accel = new Accel()
  t.teardown(() => accel.close())
  const transport = new FakeTransport()
  accel.register(
    accelDriver({
      name: 'busy',
      uapi: busy,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      probe: () => {
        setTimeout(() => transport.request(), 10)
        return never()
      },
    }),
  )
  await t.rejects(accel.add(transport), {
    code: 'ERR_ACCEL_PROBE_FAILED',
    cause: { code: 'ERR_ACCEL_NO_DEVICE', message: /wanted back/ },
  })
  t.equal(transport.closed, 1)
  t.same(accel.nodes, [])
})

t.test('an open that lost its state in a reset has nothing left that could be run or wait', async (t) => {
  const { node, open, log } = await setup(t)
  const [lost, other] = [open(), open()]
  await lost.call('state', {})
  const interrupted = t.rejects(other.call('work', { id: 1 }), { code: 'ERR_ACCEL_IO' })
  const { revision } = await lost.common('attrShow', { path: 'opens/current' })
  await sleep(5)
  const closed = { code: 'ERR_ACCEL_CLOSED', message: /what open 1 had in it is lost/ }
  const ended = [
    t.rejects(lost.call('work', { id: 2 }), closed, 'it waited for its turn'),
    t.rejects(lost.call('state', {}), closed),
    t.rejects(
      lost.common('attrWatch', { path: 'opens/current', after: revision }, { timeoutMs: 5000 }),
      closed,
    ),
  ]
  const waits = other.call('work', { id: 3 })
  await sleep(5)
  log.length = 0
  await node.reset()
  await Promise.all([...ended, interrupted, waits])
  t.same(
    log.filter((line) => /start|free/.test(line)),
    ['free 1', 'start 3'],
  )
  await t.rejects(lost.call('work', { id: 4 }), closed)
  await lost.close()
})
