import { createCipheriv, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Accel, openBuffers } from '@uaccel/accel'
import { openDevice } from '@uaccel/core'
import { AutoClock, loopback } from '@uaccel/model'
import { type AccelError, accelError, type Handle, isAccelError } from '@uaccel/uapi'
import type { UsedEntry, VirtioControls, VirtioModelOptions } from '@uaccel/virtio/model'
import t, { type Test } from 'tap'
import { type VirtioCryptoOptions, virtioCryptoModel } from '../model/index.js'
import {
  CryptoOperation,
  VirtioCrypto,
  type VirtioCryptoDriverOptions,
  virtioCryptoDriver,
} from '../src/driver.js'
import { encodeOperations, padPkcs7, unpadPkcs7, virtioCryptoUapi } from '../src/uapi.js'
import { cryptoContract, encrypted } from './contract.js'

t.setTimeout(200_000)

const INDIRECT = 1n << 28n
const EVENT_INDEX = 1n << 29n
const ACCESS_PLATFORM = 1n << 33n
const SPREAD = { spreadNs: 50_000, seed: 7 }

type ModelOptions = VirtioCryptoOptions & VirtioModelOptions

async function bringUp(
  t: Test,
  model: ModelOptions = {},
  { strict = true, timeoutMs = 5000 }: { strict?: boolean; timeoutMs?: number } = {},
) {
  const transport = loopback(virtioCryptoModel, { model, strict, clock: new AutoClock(SPREAD) })
  const accel = new Accel()
  let crypto: VirtioCrypto | undefined
  accel.register(
    virtioCryptoDriver({
      timeoutMs,
      onReady: (ready) => {
        crypto = ready
      },
    }),
  )
  await accel.add(transport)
  t.teardown(() => accel.close())
  const client = accel.open(virtioCryptoUapi, 'accel0')
  return { accel, transport, client, buffers: openBuffers(client), crypto: crypto! }
}

const key = randomBytes(16)
const cipher = { algorithm: 'aesCbc', direction: 'encrypt', key } as const
const iv = new Uint8Array(16)
const block = new Uint8Array(16).fill(9)
const wanted = encrypted('cbc', key, iv, block)

const ringModes = [
  { name: 'indirect descriptors and event index', features: ACCESS_PLATFORM | INDIRECT | EVENT_INDEX },
  { name: 'event index', features: ACCESS_PLATFORM | EVENT_INDEX },
  { name: 'indirect descriptors', features: ACCESS_PLATFORM | INDIRECT },
  { name: 'neither', features: ACCESS_PLATFORM },
]

for (const { name, features } of ringModes) {
  t.test(`the contract over loopback, with ${name}`, async (t) =>
    cryptoContract(
      t,
      async () =>
        loopback(virtioCryptoModel, { model: { features, dataQueues: 2 }, clock: new AutoClock(SPREAD) }),
      { verify: (transport) => transport.assertClean() },
    ),
  )
}

t.test('PKCS #7 is what node:crypto does', async (t) => {
  for (const length of [0, 1, 15, 16, 17, 1000]) {
    const message = randomBytes(length)
    const node = createCipheriv('aes-128-cbc', key, iv)
    t.ok(
      Buffer.concat([node.update(message), node.final()]).equals(
        encrypted('cbc', key, iv, padPkcs7(message)),
      ),
    )
    t.ok(message.equals(unpadPkcs7(padPkcs7(message))))
  }
  for (const bad of [new Uint8Array(), new Uint8Array(15), new Uint8Array(16), new Uint8Array(16).fill(17)])
    t.throws(() => unpadPkcs7(bad), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
})

t.test('what the device does not offer', async (t) => {
  const { client, transport } = await bringUp(t, { services: 0b101 })
  const xts = { ...cipher, algorithm: 'aesXts', key: randomBytes(32) } as const
  for (const [refused, code] of [
    [() => client.call('createCipherSession', xts), 'ERR_ACCEL_UNSUPPORTED'],
    [() => client.call('createHashSession', { algorithm: 'sha256' }), 'ERR_ACCEL_UNSUPPORTED'],
    [() => client.call('createMacSession', { algorithm: 'hmacMd5', key }), 'ERR_ACCEL_UNSUPPORTED'],
    [
      () => client.call('createMacSession', { algorithm: 'hmacSha1', key: new Uint8Array() }),
      'ERR_ACCEL_OUT_OF_RANGE',
    ],
  ] as const)
    await t.rejects(refused(), { code })
  transport.assertClean()
})

t.test('the device keeps no session that was given back', async (t) => {
  let sessions = 0
  const { accel, client, transport } = await bringUp(t, {
    maxSessions: 70,
    onSessions: (count) => {
      sessions = count
    },
  })
  for (let i = 0; i < 2000; i++) {
    const { session } = await client.call('createCipherSession', cipher)
    await client.call('destroySession', { session })
  }
  t.equal(sessions, 0)
  for (let i = 0; i < 64; i++) await client.call('createCipherSession', cipher)
  const other = accel.open(virtioCryptoUapi, 'accel0')
  for (let i = 0; i < 6; i++) await other.call('createCipherSession', cipher)
  await t.rejects(
    other.call('createCipherSession', cipher),
    { code: 'ERR_ACCEL_IO' },
    'the device has no more',
  )
  await client.close()
  t.equal(sessions, 6)
  await other.close()
  t.equal(sessions, 0)
  transport.assertClean()
})

/** A device without the subsystem, with memory of its own: `operation(i)` takes block i, and puts its result 64 KiB behind it. */
async function direct(
  t: Test,
  model: ModelOptions = {},
  { strict = true, ...options }: VirtioCryptoDriverOptions & { strict?: boolean } = {},
) {
  const transport = loopback(virtioCryptoModel, { model, strict, clock: new AutoClock(SPREAD) })
  const dev = openDevice(transport)
  t.teardown(async () => {
    await dev.release()
    await transport.close()
  })
  const broke: AccelError[] = []
  const crypto = await VirtioCrypto.start(dev, options, (error) => broke.push(error))
  const memory = dev.dma.alloc(1 << 17)
  memory.u8.fill(9)
  const session = await crypto.createCipher('aesCbc', 'encrypt', key)
  const operation = (i: number, parts = 1) => {
    const at = memory.iova + BigInt(64 * i)
    const side = (from: bigint) =>
      Array.from({ length: parts }, (_, k) => ({
        iova: from + BigInt((16 / parts) * k),
        sizeBytes: 16 / parts,
      }))
    return new CryptoOperation(session, side(at), side(at + 65_536n), iv)
  }
  const result = (i: number) => memory.u8.subarray(65_536 + 64 * i, 65_536 + 64 * i + 16)
  return { transport, crypto, session, operation, result, broke }
}

t.test('32 operations that are submitted together make one notification', async (t) => {
  const notified: number[] = []
  const onNotify = (queue: number) => notified.push(queue)
  for (const { name, features } of ringModes) {
    const { crypto, transport, operation, result } = await direct(t, { features, onNotify })
    for (const count of [1, 32, 2]) {
      notified.length = 0
      await crypto.run(Array.from({ length: count }, (_, i) => operation(i)))
      t.same(notified, [0], `${count} with ${name}`)
      for (let i = 0; i < count; i++) if (!wanted.equals(result(i))) t.fail(`result ${i}`)
    }
    transport.assertClean()
  }
})

t.test('a device with small queues', async (t) => {
  const queueSize = (size: number) => (offset: number, value: number) => (offset === 0x18 ? size : value)
  for (const features of [ACCESS_PLATFORM, ACCESS_PLATFORM | INDIRECT]) {
    const { crypto, operation, result } = await direct(t, { features, lie: queueSize(4) }, { strict: false })
    await crypto.run(Array.from({ length: 100 }, (_, i) => operation(i)))
    for (let i = 0; i < 100; i++) if (!wanted.equals(result(i))) t.fail(`result ${i}`)
    const parts = { code: 'ERR_ACCEL_OUT_OF_RANGE', message: /4 parts, and the queues of this device take 2/ }
    t.throws(() => crypto.submit(operation(0, 2), () => {}), parts)
  }
  for (const size of [1, 2, 3])
    await t.rejects(bringUp(t, { lie: queueSize(size) }, { strict: false }), {
      code: 'ERR_ACCEL_PROBE_FAILED',
      cause: { code: 'ERR_ACCEL_UNSUPPORTED' },
    })
})

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
  const { client, crypto, transport, buffers } = await bringUp(t, {}, { timeoutMs: 250 })
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
    const { crypto, operation, result, broke, transport, session } = await direct(t, {}, { timeoutMs: 1000 })
    const ends: string[] = []
    const submit = (i: number) => {
      crypto.submit(operation(i), (error) => ends.push(`${i} ${error?.code}`))
      crypto.flush()
    }
    transport.faults.hang()
    submit(0)
    await sleep(500)
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
  const { crypto, operation, result, transport } = await direct(t, {}, { timeoutMs: 500 })
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
      { irq, timeoutMs: 500 },
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
    { timeoutMs: 200 },
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
    const { client, transport, buffers, accel } = await bringUp(t, {}, { timeoutMs: 250 })
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
