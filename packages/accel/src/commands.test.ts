import { setTimeout as sleep } from 'node:timers/promises'
import { accelError, cmd, isAccelError, u32, uapi } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { FakeTransport } from './fake-transport.test.helper.js'
import { Accel, accelDriver, type CommandContext } from './index.js'

const busy = uapi({
  name: 'busy',
  version: 1,
  commands: {
    work: cmd(0x40, { in: { id: u32 }, out: { order: u32 } }),
    aside: cmd(0x41, { in: { id: u32 }, concurrent: true }),
    state: cmd(0x42, { out: { value: u32 } }),
  },
})

const signalled = (signal: AbortSignal) =>
  new Promise<never>((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })

/** A device whose work each test tells what to do, and how to recover. */
async function setup(
  t: Test,
  work: (id: number, context: CommandContext) => Promise<void> | void,
  recover?: (context: { signal: AbortSignal }) => Promise<void> | void,
) {
  const accel = new Accel({ limits: { settleMs: 50, recoverMs: 100 } })
  const log: string[] = []
  let order = 0
  let probes = 0
  accel.on('lost', (node, { code }) => log.push(`lost ${node.name} ${code}`))
  accel.on('error', (error) => log.push(`error ${(error.cause as { code: string }).code}`))
  accel.register(
    accelDriver({
      name: 'busy',
      uapi: busy,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      probe(dev) {
        probes++
        log.push(`probe ${probes}`)
        dev.defer(() => void log.push('release'))
        return {
          commands: {
            async work({ id }, context) {
              log.push(`start ${id}`)
              try {
                await work(id, context)
              } finally {
                log.push(`end ${id}`)
              }
              return { order: ++order }
            },
            async aside({ id }, context) {
              log.push(`start ${id}`)
              await work(id, context)
              return undefined
            },
            state: (_request, { open }) => {
              open.defer(() => void log.push(`free ${open.id}`))
              return { value: open.id }
            },
          },
          ...(recover === undefined
            ? {}
            : {
                recover: async (context: { signal: AbortSignal }) => {
                  log.push('recover')
                  await recover(context)
                },
              }),
        }
      },
    }),
  )
  const transport = new FakeTransport()
  const node = await accel.add(transport)
  t.teardown(() => accel.close())
  return { accel, log, transport, node, open: () => accel.open(busy, 'accel0') }
}

t.test('commands run one at a time, in order, whoever asks', async (t) => {
  let running = 0
  const { open } = await setup(t, async () => {
    t.equal(++running, 1)
    await sleep(2)
    running--
  })
  const [a, b] = [open(), open()]
  const orders = await Promise.all([1, 2, 3, 4, 5, 6].map((id) => (id % 2 ? a : b).call('work', { id })))
  t.same(
    orders.map(({ order }) => order),
    [1, 2, 3, 4, 5, 6],
  )
})

t.test('a concurrent command does not wait', async (t) => {
  const { open, log } = await setup(
    t,
    (id, { signal }) => (id === 1 ? signalled(signal) : undefined),
    () => {},
  )
  const client = open()
  const held = client.call('work', { id: 1 }, { timeoutMs: 40 })
  await sleep(1)
  await client.call('aside', { id: 2 })
  t.same(log, ['probe 1', 'start 1', 'start 2'])
  await t.rejects(held, { code: 'ERR_ACCEL_TIMEOUT' })
})

t.test('a call that was aborted keeps its turn until the hardware is idle', async (t) => {
  let idle!: () => void
  const { open, log } = await setup(
    t,
    (id, { signal }) => (id === 1 ? signalled(signal) : undefined),
    () =>
      new Promise<void>((resolve) => {
        idle = resolve
      }),
  )
  const [culprit, other] = [open(), open()]
  const reason = new Error('no longer wanted')
  const controller = new AbortController()
  const aborted = culprit.call('work', { id: 1 }, { signal: controller.signal })
  const next = other.call('work', { id: 2 })
  await sleep(5)
  controller.abort(reason)
  await t.rejects(aborted, { code: 'ERR_ACCEL_ABORTED', cause: reason, message: /work of open 1/ })
  await sleep(5)
  t.same(log, ['probe 1', 'start 1', 'end 1', 'recover'], 'the next one waits for the recovery')
  idle()
  t.same(await next, { order: 1 })
  t.same(await culprit.call('work', { id: 3 }), { order: 2 }, 'the open that caused it goes on')
})

t.test('a call that times out does not harm the others', async (t) => {
  const { open, log, transport } = await setup(
    t,
    (id, { signal }) => (id === 1 ? signalled(signal) : undefined),
    () => {},
  )
  const [culprit, other] = [open(), open()]
  const late = culprit.call('work', { id: 1 }, { timeoutMs: 20 })
  const next = other.call('work', { id: 2 })
  await t.rejects(late, { code: 'ERR_ACCEL_TIMEOUT', message: /within 20 ms, spent in the device/ })
  await next
  t.same(log, ['probe 1', 'start 1', 'end 1', 'recover', 'start 2', 'end 2'])
  t.equal(transport.resetCount, 0)
})

t.test('a call that is withdrawn before its turn leaves without a trace', async (t) => {
  const { open, log } = await setup(
    t,
    () => sleep(30),
    () => {},
  )
  const client = open()
  const first = client.call('work', { id: 1 })
  await t.rejects(client.call('work', { id: 2 }, { timeoutMs: 10 }), {
    code: 'ERR_ACCEL_TIMEOUT',
    message: /spent behind work of open 1/,
  })
  await t.rejects(client.call('work', { id: 3 }, { signal: AbortSignal.abort() }), {
    code: 'ERR_ACCEL_ABORTED',
  })
  await first
  t.same(await client.call('work', { id: 4 }), { order: 2 })
  t.same(log, ['probe 1', 'start 1', 'end 1', 'start 4', 'end 4'])
})

t.test('limits that are none are refused', async (t) => {
  const { open } = await setup(t, () => {})
  for (const timeoutMs of [0, -1, Number.NaN, 2 ** 31, '5' as never]) {
    await t.rejects(open().call('work', { id: 1 }, { timeoutMs }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  }
})

t.test('an error of the table is the answer; anything else is a bug to recover from', async (t) => {
  const bug = new TypeError('oops')
  const errors = [
    accelError('ERR_ACCEL_IO', 'device said no'),
    bug,
    accelError('ERR_ACCEL_TIMEOUT', 'no interrupt'),
  ]
  const { open, log } = await setup(
    t,
    (id) => {
      throw errors[id]
    },
    () => {},
  )
  const client = open()
  await t.rejects(client.call('work', { id: 0 }), { code: 'ERR_ACCEL_IO', message: 'device said no' })
  t.same(log.splice(0), ['probe 1', 'start 0', 'end 0'])
  await t.rejects(client.call('work', { id: 1 }), { code: 'ERR_ACCEL_IO', cause: bug })
  await sleep(1)
  t.same(log.splice(0), ['start 1', 'end 1', 'recover'])
  await t.rejects(client.call('work', { id: 2 }), { code: 'ERR_ACCEL_TIMEOUT', message: 'no interrupt' })
  await sleep(1)
  t.same(log.splice(0), ['start 2', 'end 2', 'recover'])
})

t.test(
  'without recovery the device is reset and probed again; opens with state end, others go on',
  async (t) => {
    const { open, log, transport } = await setup(t, (id, { signal }) =>
      id === 1 ? signalled(signal) : undefined,
    )
    const [culprit, plain, stateful] = [open(), open(), open()]
    await stateful.call('state', {})
    await t.rejects(culprit.call('work', { id: 1 }, { timeoutMs: 10 }), { code: 'ERR_ACCEL_TIMEOUT' })
    t.same(await plain.call('work', { id: 2 }), { order: 1 })
    t.same(log, [
      'probe 1',
      'start 1',
      'end 1',
      'error ERR_ACCEL_UNSUPPORTED',
      'free 3',
      'release',
      'probe 2',
      'start 2',
      'end 2',
    ])
    t.equal(transport.resetCount, 1)
    await t.rejects(stateful.call('work', { id: 3 }), {
      code: 'ERR_ACCEL_CLOSED',
      message: /reset because of work of open 1/,
    })
    t.same(await culprit.call('work', { id: 4 }), { order: 2 })
  },
)

for (const [what, recover] of [
  ['throws', () => Promise.reject(accelError('ERR_ACCEL_IO', 'still busy'))],
  ['does not end', () => new Promise<void>(() => {})],
] as const) {
  t.test(`a recovery that ${what} ends in a reset`, async (t) => {
    const { open, log, transport } = await setup(
      t,
      (id, { signal }) => (id === 1 ? signalled(signal) : undefined),
      recover,
    )
    const client = open()
    await t.rejects(client.call('work', { id: 1 }, { timeoutMs: 10 }), { code: 'ERR_ACCEL_TIMEOUT' })
    t.same(await client.call('work', { id: 2 }), { order: 1 })
    t.equal(transport.resetCount, 1)
    t.ok(log.includes('probe 2'))
  })
}

t.test('a handler that ignores its signal until the reset', async (t) => {
  let finish!: () => void
  const { open, transport, accel } = await setup(
    t,
    (id) => {
      if (id !== 1) return
      return new Promise((resolve) => {
        finish = resolve
      })
    },
    () => {},
  )
  accel.once('error', () => finish())
  const client = open()
  await t.rejects(client.call('work', { id: 1 }, { timeoutMs: 10 }), { code: 'ERR_ACCEL_TIMEOUT' })
  t.same(await client.call('work', { id: 2 }), { order: 2 })
  t.equal(transport.resetCount, 1)
})

for (const [what, prepare] of [
  ['a handler that never ends', () => {}],
  ['a reset that fails', (transport: FakeTransport) => transport.breakReset()],
  ['no reset', (transport: FakeTransport) => transport.removeReset()],
] as const) {
  t.test(`${what} wedges the device, which is then lost`, async (t) => {
    const { open, transport, log, node } = await setup(t, (id) =>
      id === 1 ? new Promise(() => {}) : undefined,
    )
    prepare(transport)
    const client = open()
    const late = client.call('work', { id: 1 }, { timeoutMs: 10 })
    const waiting = client.call('work', { id: 2 })
    await t.rejects(late, { code: 'ERR_ACCEL_TIMEOUT' })
    await t.rejects(waiting, { code: 'ERR_ACCEL_NO_DEVICE', cause: { code: 'ERR_ACCEL_WEDGED' } })
    t.equal((await client.lost).code, 'ERR_ACCEL_WEDGED')
    await node.release(node.reason!, 'gone')
    t.ok(log.includes('lost accel0 ERR_ACCEL_WEDGED'))
    t.equal(log.filter((line) => line === 'release').length, 1)
    t.equal(transport.closed, 1)
    t.equal(transport.listeners, 0)
  })
}

t.test('a device that vanishes ends all calls with the reason and frees everything', async (t) => {
  const { accel, open, transport, log } = await setup(
    t,
    (_id, { signal }) => signalled(signal),
    () => {},
  )
  const [a, b] = [open(), open()]
  await b.call('state', {})
  const calls = [a.call('work', { id: 1 }), a.call('work', { id: 2 })]
  await sleep(1)
  calls.push(b.call('aside', { id: 3 }) as never)
  await sleep(1)
  const removed = new Promise<string>((resolve) => accel.once('removed', ({ name }) => resolve(name)))
  transport.vanish()
  for (const result of await Promise.allSettled(calls)) {
    t.match(result, {
      status: 'rejected',
      reason: { code: 'ERR_ACCEL_NO_DEVICE', cause: { message: /pulled out/ } },
    })
  }
  t.match(await a.lost, { message: /pulled out/ })
  t.equal(await removed, 'accel0')
  t.same(log, [
    'probe 1',
    'start 1',
    'start 3',
    'lost accel0 ERR_ACCEL_NO_DEVICE',
    'end 1',
    'free 2',
    'release',
  ])
  t.equal(transport.closed, 1)
  t.equal(transport.listeners, 0)
  t.same(accel.nodes, [])
  await t.rejects(b.call('work', { id: 4 }), { code: 'ERR_ACCEL_NO_DEVICE' })
  t.throws(() => open(), { code: 'ERR_ACCEL_NOT_FOUND' })
})

t.test('remove during a reset that takes long: the device is not probed again', async (t) => {
  const { accel, open, transport, log } = await setup(t, (_id, { signal }) => signalled(signal))
  let end = () => {}
  const slow = new Promise<void>((resolve) => {
    end = resolve
  })
  transport.reset = () => slow
  const call = open().call('work', { id: 1 }, { timeoutMs: 5 })
  await t.rejects(call, { code: 'ERR_ACCEL_TIMEOUT' })
  await sleep(20)
  const removing = accel.remove('accel0')
  await sleep(10)
  end()
  await removing
  await sleep(100)
  t.same(
    log.filter((line) => line.startsWith('probe') || line === 'release'),
    ['probe 1', 'release'],
  )
  t.equal(transport.closed, 1)
  t.equal(transport.listeners, 0)
})

t.test('remove with a call pending brings the hardware to idle first', async (t) => {
  const { accel, open, log } = await setup(
    t,
    (_id, { signal }) => signalled(signal),
    () => {},
  )
  const call = open().call('work', { id: 1 })
  call.catch(() => {})
  await sleep(1)
  await accel.remove('accel0')
  await t.rejects(call, { code: 'ERR_ACCEL_NO_DEVICE', message: /removed/ })
  t.same(log, ['probe 1', 'start 1', 'end 1', 'recover', 'release'])
})

t.test('closing an open ends its calls and frees what is its own, after the hardware is done', async (t) => {
  const { open, log } = await setup(
    t,
    (id, { signal }) => (id === 1 ? signalled(signal) : sleep(5)),
    () => sleep(5),
  )
  const [a, b] = [open(), open()]
  await a.call('state', {})
  const mine = a.call('work', { id: 1 })
  const others = b.call('work', { id: 2 })
  mine.catch(() => {})
  await sleep(1)
  a.close()
  await a.close()
  t.same(log, ['probe 1', 'start 1', 'end 1', 'recover', 'start 2', 'free 1'], 'also when asked twice')
  await t.rejects(mine, { code: 'ERR_ACCEL_CLOSED' })
  await t.rejects(a.call('work', { id: 3 }), { code: 'ERR_ACCEL_CLOSED' })
  await a.close()
  t.same(await others, { order: 1 })
})

t.test('each open has a signal and a number of its own', async (t) => {
  const seen: CommandContext[] = []
  const { open } = await setup(t, (_id, context) => void seen.push(context))
  const [a, b] = [open(), open()]
  for (const client of [a, b, a]) await client.call('work', { id: 1 })
  t.equal(seen[0].open, seen[2].open)
  t.not(seen[0].open.id, seen[1].open.id)
  await a.close()
  t.ok(seen[0].open.signal.aborted)
  t.notOk(seen[1].open.signal.aborted)
  t.ok(isAccelError(seen[0].open.signal.reason, 'ERR_ACCEL_CLOSED'))
})

t.test(
  'a timeout of a device that answers all ones is its loss: it is neither recovered nor reset',
  async (t) => {
    const { open, transport, log } = await setup(
      t,
      (_id, { signal }) => signalled(signal),
      () => {},
    )
    const client = open()
    const late = client.call('work', { id: 1 }, { timeoutMs: 20 })
    const waiting = client.call('work', { id: 2 })
    const [first, second] = [late, waiting].map((call) => call.catch((error: unknown) => error))
    transport.memory[7].fill(0xff)
    t.match(await first, { code: 'ERR_ACCEL_TIMEOUT' })
    t.match(await second, { code: 'ERR_ACCEL_NO_DEVICE', cause: { message: /answers all ones/ } })
    t.match(await client.lost, { code: 'ERR_ACCEL_NO_DEVICE', message: /answers all ones/ })
    t.equal(transport.resetCount, 0)
    t.notOk(log.includes('recover'))
  },
)
