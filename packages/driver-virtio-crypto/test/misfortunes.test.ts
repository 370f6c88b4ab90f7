import { setTimeout as sleep } from 'node:timers/promises'
import { accelError, type Handle, isAccelError } from '@uaccel/uapi'
import type { UsedEntry, VirtioControls } from '@uaccel/virtio/model'
import t from 'tap'
import { encodeOperations } from '../src/uapi.js'
import { block, bringUp, cipher, direct, iv, wanted } from './harness.js'

t.setTimeout(200_000)

t.test('a command that is withdrawn disturbs nobody, where the device ends it', async (t) => {
  const { client, crypto, transport } = await bringUp(t)
  const { session } = await client.call('createCipherSession', cipher)
  const aborted = AbortSignal.abort()
  for (let i = 0; i < 20; i++)
    await t.rejects(client.call('cipher', { session, iv, data: block }, { signal: aborted }), {
      code: 'ERR_ACCEL_ABORTED',
    })
  const soon = new AbortController()
  const ended = client.call('cipher', { session, iv, data: block }, { signal: soon.signal })
  setImmediate(() => soon.abort())
  await ended.catch(() => {})
  t.ok(wanted.equals((await client.call('cipher', { session, iv, data: block })).data))
  t.equal(crypto.resets, 0)
  transport.assertClean()
})

t.test('a device that hangs is reset: sessions and waiting operations go on', async (t) => {
  const { client, crypto, transport, buffers } = await bringUp(t, {}, { timeoutMs: 2000 })
  const { session } = await client.call('createCipherSession', cipher)
  const request = { session, iv, data: block }
  transport.faults.hang()
  const resetNow = async (count: number) => {
    while (crypto.resets < count) await sleep(5)
    transport.faults.hang(false)
  }
  const first = resetNow(1)
  await t.rejects(client.call('cipher', request, { timeoutMs: 50 }), { code: 'ERR_ACCEL_TIMEOUT' })
  await first
  t.ok(wanted.equals((await client.call('cipher', request)).data), 'the session is as it was')
  t.equal(crypto.resets, 1)

  const buffer = await buffers.create(1 << 16)
  const payload = encodeOperations(
    Array.from({ length: 14 }, (_, i) => {
      const side = [{ buffer: 0, offset: 64 * i, sizeBytes: 16 }]
      return { session, iv, source: side, destination: side }
    }),
  )
  transport.faults.hang()
  const jobs = Array.from({ length: 30 }, () =>
    buffers.run({ buffers: [{ buffer, access: 'readwrite' }], payload }),
  )
  const [, hung] = await Promise.all([resetNow(2), Promise.allSettled([jobs[0]])])
  t.match(hung, [{ status: 'rejected', reason: { code: 'ERR_ACCEL_TIMEOUT' } }])
  await Promise.allSettled(jobs)
  t.equal(crypto.resets, 2)
  t.equal(crypto.broken, undefined)
  await buffers.run({ buffers: [{ buffer }], payload })
  transport.assertClean()
})

t.test(
  'an operation that hangs ends with its error, those behind it are to be submitted again',
  async (t) => {
    const { crypto, operation, result, broke, transport, session } = await direct(t, {}, { timeoutMs: 2000 })
    const ends: string[] = []
    const submit = (i: number) => {
      crypto.submit(operation(i), (error) => ends.push(`${i} ${error?.code}`))
      crypto.flush()
    }
    transport.faults.hang()
    submit(0)
    await sleep(1000)
    submit(1)
    while (ends.length < 2) await sleep(5)
    transport.faults.hang(false)
    t.same(ends, ['0 ERR_ACCEL_TIMEOUT', '1 ERR_ACCEL_AGAIN'])
    t.match(broke, [{ code: 'ERR_ACCEL_TIMEOUT' }])
    await crypto.reset(broke[0]!)
    await crypto.run([operation(2)])
    t.ok(wanted.equals(result(2)))

    transport.faults.hang()
    await t.rejects(crypto.destroy(session), { code: 'ERR_ACCEL_TIMEOUT' }, 'the control queue')
    await t.rejects(crypto.createHash('sha256'), { code: 'ERR_ACCEL_TIMEOUT' })
    transport.faults.hang(false)
    await crypto.recover()
    t.equal(crypto.sessions, 0, 'one that was given back is not made again')
    await crypto.createHash('sha256')
    transport.assertClean()
  },
)

t.test('interrupts that are lost cost time, and nothing else', async (t) => {
  const { crypto, operation, result, transport } = await direct(t, {}, { timeoutMs: 2500 })
  transport.faults.lostInterrupt(1000)
  await crypto.run(Array.from({ length: 20 }, (_, i) => operation(i)))
  for (let i = 0; i < 20; i++) t.ok(wanted.equals(result(i)))
  t.equal(crypto.resets, 0)
  transport.assertClean()
})

t.test('DEVICE_NEEDS_RESET', async (t) => {
  let controls: VirtioControls | undefined
  const onCreate = (device: VirtioControls) => {
    controls = device
  }
  for (const irq of ['msix', 'intx', 'poll'] as const) {
    const { crypto, operation, result, transport, broke } = await direct(
      t,
      { onCreate },
      { irq, timeoutMs: 2500 },
    )
    transport.faults.hang()
    const under = crypto.run([operation(0)])
    controls!.needReset()
    transport.faults.hang(false)
    await t.rejects(under, { code: 'ERR_ACCEL_AGAIN', message: /DEVICE_NEEDS_RESET/ }, irq)
    await crypto.run([operation(1)])
    t.ok(wanted.equals(result(1)), 'with the same session')
    t.equal(crypto.resets, 1)
    t.equal(broke.length, 1)
    t.equal(crypto.broken, undefined)
    transport.assertClean()
  }
})

t.test('a device that lies about what it has done is reset', async (t) => {
  let lie: (used: UsedEntry) => UsedEntry = (used) => used
  const lies: [string, (used: UsedEntry) => UsedEntry][] = [
    ['another descriptor', (used) => ({ ...used, head: (used.head + 1) & 255 })],
    ['one that there is not', (used) => ({ ...used, head: 256 })],
    ['more bytes than there is room for', (used) => ({ ...used, written: used.written + 1 })],
    ['many bytes', (used) => ({ ...used, written: 0xffff_ffff })],
    ['an index that jumps', (used) => ({ ...used, index: (used.index + 1) & 0xffff })],
    ['an index that goes back', (used) => ({ ...used, index: (used.index - 2) & 0xffff })],
  ]
  for (const [what, untrue] of lies) {
    for (const queue of [0, 1]) {
      const { client, crypto, transport } = await bringUp(t, { lieUsed: (used) => lie(used) })
      const { session } = await client.call('createCipherSession', cipher)
      lie = (used) => (used.queue === queue ? untrue(used) : used)
      const told = { code: /^ERR_ACCEL_(IO|AGAIN)$/ }
      const asked: Promise<unknown> =
        queue === 0
          ? client.call('cipher', { session, iv, data: block })
          : client.call('createCipherSession', cipher)
      await t.rejects(asked, told, `${what}, queue ${queue}`)
      lie = (used) => used
      await client.call('identify', {})
      for (let tries = 0; crypto.broken !== undefined && tries < 100; tries++) await sleep(10)
      t.ok(crypto.resets >= 1)
      t.ok(wanted.equals((await client.call('cipher', { session, iv, data: block })).data), what)
      transport.assertClean()
    }
  }
})

t.test('a device that gives a number twice, and one that answers nothing', async (t) => {
  let twice = false
  let mute = false
  const tamper = (queue: number, answer: Uint8Array) => {
    if (queue === 1 && mute) return new Uint8Array()
    if (queue === 1 && twice) answer.set([0, 0, 0, 0, 1, 0, 0, 0])
    return answer
  }
  const { client, crypto } = await bringUp(t, { tamper })
  twice = true
  const { session } = await client.call('createCipherSession', cipher)
  const again = client.call('createCipherSession', cipher)
  await t.rejects(again, { code: 'ERR_ACCEL_IO', message: /0x100000000, which another has/ })
  t.equal(crypto.sessions, 1)
  twice = false
  t.ok(wanted.equals((await client.call('cipher', { session, iv, data: block })).data))
  mute = true
  const silent = { code: 'ERR_ACCEL_IO', message: /answered 4294967295/ }
  await t.rejects(client.call('createCipherSession', cipher), silent)
  await t.rejects(client.call('destroySession', { session }), {
    code: 'ERR_ACCEL_IO',
    message: /answered 255/,
  })
})

t.test('sessions that the device does not take again after a reset', async (t) => {
  let room = 10
  const { client, crypto, transport, buffers } = await bringUp(t, {
    get maxSessions() {
      return room
    },
  })
  const all = []
  for (let i = 0; i < 4; i++) all.push((await client.call('createCipherSession', cipher)).session)
  room = 3
  await crypto.reset(accelError('ERR_ACCEL_AGAIN', 'the test wants it'))
  t.equal(crypto.sessions, 3)
  const run = (session: Handle<'session'>) => client.call('cipher', { session, iv, data: block })
  for (const session of all.slice(0, 3)) t.ok(wanted.equals((await run(session)).data))
  await t.rejects(run(all[3]!), { code: 'ERR_ACCEL_CLOSED' })
  const buffer = await buffers.create(4096)
  const side = [{ buffer: 0, sizeBytes: 16 }]
  const payload = encodeOperations([{ session: all[3]!, iv, source: side, destination: side }])
  await t.rejects(buffers.run({ buffers: [{ buffer }], payload }), { code: 'ERR_ACCEL_CLOSED' })
  await client.call('destroySession', { session: all[3]! })
  transport.assertClean()
})

t.test('a device that does not come back is wedged, and comes back by a reset of the function', async (t) => {
  let stuck = false
  const { client, crypto, transport } = await bringUp(
    t,
    { lie: (offset, value) => (offset === 0x14 && stuck ? value | 0x80 : value) },
    { timeoutMs: 1500 },
  )
  const { session } = await client.call('createCipherSession', cipher)
  const run = () => client.call('cipher', { session, iv, data: block })
  transport.faults.hang()
  stuck = true
  const reset = crypto.reset(accelError('ERR_ACCEL_AGAIN', 'the test wants it'))
  await t.rejects(reset, { code: 'ERR_ACCEL_WEDGED' })
  t.match(crypto.broken, /did not come back/)
  stuck = false
  transport.faults.hang(false)
  await t.rejects(run(), { code: 'ERR_ACCEL_WEDGED' })
  t.ok(wanted.equals((await run()).data), 'the subsystem had it recovered')
})

t.test('a device that is pulled out', async (t) => {
  for (const fault of ['vanish', 'allOnes'] as const) {
    const { client, transport, buffers, accel } = await bringUp(t, {}, { timeoutMs: 2000 })
    const { session } = await client.call('createCipherSession', cipher)
    const buffer = await buffers.create(4096)
    const side = [{ buffer: 0, sizeBytes: 16 }]
    const payload = encodeOperations([{ session, iv, source: side, destination: side }])
    const removed = new Promise((resolve) => accel.once('removed', resolve))
    transport.faults.hang()
    const jobs = Array.from({ length: 40 }, () => buffers.run({ buffers: [{ buffer }], payload }))
    const call = client.call('cipher', { session, iv, data: block })
    transport.faults[fault]()
    const ends = await Promise.allSettled([...jobs, call])
    const codes = new Set(
      ends.map((end) => (end.status === 'rejected' && isAccelError(end.reason) ? end.reason.code : end)),
    )
    t.same([...codes], ['ERR_ACCEL_NO_DEVICE'], fault)
    await removed
  }
})

t.test('a session that the device does not give back keeps no others when an open goes', async (t) => {
  let sessions = 0
  let refusals = 1
  const { crypto, client, transport } = await bringUp(t, {
    onSessions: (count) => {
      sessions = count
    },
    tamper: (queue, answer) =>
      queue === 1 && answer.length === 1 && refusals-- > 0 ? Uint8Array.of(1) : answer,
  })
  for (let i = 0; i < 3; i++) await client.call('createCipherSession', cipher)
  await client.close().catch(() => {})
  t.equal(crypto.sessions, 0)
  t.equal(sessions, 0)
  transport.assertClean()
})

t.test('operations of a device that is released end when it was stopped, and not before', async (t) => {
  for (const how of ['released', 'withdrawn'] as const) {
    const seen: string[] = []
    const lie = (offset: number, value: number) => {
      if (offset === 0x14) seen.push(`status ${value}`)
      return value
    }
    const { crypto, dev, operation, transport } = await direct(t, { lie })
    transport.faults.hang()
    seen.length = 0
    const ended = crypto.run([operation(0)]).catch((error) => seen.push(error.code))
    if (how === 'withdrawn') dev.withdraw(accelError('ERR_ACCEL_NO_DEVICE', 'It is wanted elsewhere'))
    else await dev.release()
    await ended
    t.same(
      seen.slice(0, seen.indexOf('ERR_ACCEL_NO_DEVICE') + 1).slice(-2),
      ['status 0', 'ERR_ACCEL_NO_DEVICE'],
      how,
    )
    t.throws(() => crypto.submit(operation(1), () => {}), { code: 'ERR_ACCEL_NO_DEVICE' })
  }
})

t.test('a recovery that is given up holds nothing back', async (t) => {
  const { crypto, operation, result, transport } = await direct(t)
  transport.faults.hang()
  const first = crypto.run([operation(0)])
  await t.rejects(crypto.recover(AbortSignal.timeout(20)))
  transport.faults.hang(false)
  const second = crypto.run([operation(1)])
  t.equal(await Promise.race([Promise.all([first, second]).then(() => 'ended'), sleep(3000)]), 'ended')
  for (const i of [0, 1]) t.ok(wanted.equals(result(i)))
  t.equal(crypto.resets, 0)
  transport.assertClean()
})
