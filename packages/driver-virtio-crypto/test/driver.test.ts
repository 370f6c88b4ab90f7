import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from 'node:crypto'
import { Accel, openBuffers } from '@uaccel/accel'
import { AutoClock, loopback } from '@uaccel/model'
import type { Handle } from '@uaccel/uapi'
import type { VirtioModelOptions } from '@uaccel/virtio/model'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { type VirtioCryptoOptions, virtioCryptoModel } from '../model/index.js'
import driver from '../src/driver.js'
import { encodeOperations, padPkcs7, unpadPkcs7, virtioCryptoUapi } from '../src/uapi.js'

const INDIRECT = 1n << 28n
const EVENT_INDEX = 1n << 29n
const ACCESS_PLATFORM = 1n << 33n

async function bringUp(t: Test, model: VirtioCryptoOptions & VirtioModelOptions = {}) {
  const transport = loopback(virtioCryptoModel, {
    model,
    clock: new AutoClock({ spreadNs: 50_000, seed: 7 }),
  })
  const accel = new Accel()
  accel.register(driver)
  await accel.add(transport)
  t.teardown(() => accel.close())
  return { accel, transport, client: accel.open(virtioCryptoUapi, 'accel0') }
}

const ringModes = [
  { name: 'indirect descriptors and event index', features: ACCESS_PLATFORM | INDIRECT | EVENT_INDEX },
  { name: 'event index', features: ACCESS_PLATFORM | EVENT_INDEX },
  { name: 'indirect descriptors', features: ACCESS_PLATFORM | INDIRECT },
  { name: 'neither', features: ACCESS_PLATFORM },
]

for (const { name, features } of ringModes) {
  t.test(`AES-CBC, hashes and MACs as node:crypto has them, with ${name}`, async (t) => {
    const { client, transport } = await bringUp(t, { features })
    for (const keyBytes of [16, 24, 32]) {
      const key = randomBytes(keyBytes)
      const [there, back] = await Promise.all(
        (['encrypt', 'decrypt'] as const).map((direction) =>
          client.call('createCipherSession', { algorithm: 'aesCbc', direction, key }),
        ),
      )
      for (const length of [0, 1, 15, 16, 17, 1000, 4000]) {
        const [message, iv] = [randomBytes(length), randomBytes(16)]
        const node = createCipheriv(`aes-${8 * keyBytes}-cbc`, key, iv)
        const wanted = Buffer.concat([node.update(message), node.final()])
        const data = padPkcs7(message)
        const encrypted = await client.call('cipher', { session: there!.session, iv, data })
        t.ok(wanted.equals(encrypted.data), `${length} bytes encrypted with a key of ${keyBytes}`)
        const plain = await client.call('cipher', { session: back!.session, iv, data: encrypted.data })
        t.ok(message.equals(unpadPkcs7(plain.data)), 'and back')
      }
    }
    const message = randomBytes(777)
    const { session: hash } = await client.call('createHashSession', { algorithm: 'sha256' })
    const hashed = await client.call('digest', { session: hash, data: message })
    t.ok(createHash('sha256').update(message).digest().equals(hashed.digest))
    const key = randomBytes(40)
    const { session: mac } = await client.call('createMacSession', { algorithm: 'hmacSha512', key })
    const signed = await client.call('digest', { session: mac, data: message })
    t.ok(createHmac('sha512', key).update(message).digest().equals(signed.digest))
    transport.assertClean()
  })
}

t.test('jobs over buffers, in place and scattered, many at once', async (t) => {
  const { client, transport } = await bringUp(t, { dataQueues: 2 })
  const key = randomBytes(32)
  const { session } = await client.call('createCipherSession', {
    algorithm: 'aesCbc',
    direction: 'encrypt',
    key,
  })
  const buffers = openBuffers(client)
  const lanes = await Promise.all(Array.from({ length: 6 }, () => buffers.create(1 << 17)))
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          size: fc.integer({ min: 1, max: 1 << 16 }),
          inPlace: fc.boolean(),
          parts: fc.integer({ min: 1, max: 16 }),
        }),
        {
          minLength: 1,
          maxLength: lanes.length,
        },
      ),
      async (jobs) => {
        await Promise.all(
          jobs.map(async ({ size, inPlace, parts }, i) => {
            const [message, iv] = [randomBytes(size), randomBytes(16)]
            const padded = padPkcs7(message).slice(0, 1 << 16)
            const data = padded.length % 16 === 0 ? padded : padded.subarray(0, padded.length & ~15)
            const buffer = lanes[i]!
            buffer.u8.set(data)
            const side = (from: number) => {
              const each = Math.ceil(data.length / parts)
              return Array.from({ length: Math.ceil(data.length / each) }, (_, k) => ({
                buffer: 0,
                offset: from + k * each,
                sizeBytes: Math.min(each, data.length - k * each),
              }))
            }
            const at = inPlace ? 0 : 1 << 16
            const payload = encodeOperations([{ session, iv, source: side(0), destination: side(at) }])
            await buffers.run({ buffers: [{ buffer }], payload })
            const node = createCipheriv('aes-256-cbc', key, iv).setAutoPadding(false)
            const wanted = Buffer.concat([node.update(data), node.final()])
            if (!wanted.equals(buffer.u8.subarray(at, at + data.length)))
              throw new Error(`${size} bytes differ`)
            const decipher = createDecipheriv('aes-256-cbc', key, iv).setAutoPadding(false)
            if (!Buffer.concat([decipher.update(wanted), decipher.final()]).equals(data))
              throw new Error('node differs')
          }),
        )
      },
    ),
    { numRuns: 40 },
  )
  const many = Array.from({ length: 14 }, (_, i) => ({
    session,
    iv: new Uint8Array(16),
    source: [{ buffer: 0, offset: 16 * i, sizeBytes: 16 }],
    destination: [{ buffer: 0, offset: 4096 + 16 * i, sizeBytes: 16 }],
  }))
  await Promise.all(
    Array.from({ length: 40 }, (_, i) =>
      buffers.run({ buffers: [{ buffer: lanes[i % 6]! }], payload: encodeOperations(many) }),
    ),
  )
  transport.assertClean()
})

t.test('what is refused', async (t) => {
  const { client, transport } = await bringUp(t, { services: 0b101 })
  const key = randomBytes(16)
  const cipher = { algorithm: 'aesCbc', direction: 'encrypt', key } as const
  for (const length of [0, 1, 15, 17, 31, 33, 64])
    await t.rejects(
      client.call('createCipherSession', { ...cipher, key: new Uint8Array(length) }),
      { code: 'ERR_ACCEL_OUT_OF_RANGE' },
      `a key of ${length} bytes`,
    )
  const refusals = [
    [
      () => client.call('createCipherSession', { ...cipher, algorithm: 'aesXts', key: randomBytes(32) }),
      'ERR_ACCEL_UNSUPPORTED',
    ],
    [
      () => client.call('createCipherSession', { ...cipher, algorithm: 'none' }),
      'ERR_ACCEL_INVALID_ARGUMENT',
    ],
    [() => client.call('createHashSession', { algorithm: 'sha256' }), 'ERR_ACCEL_UNSUPPORTED'],
    [() => client.call('createMacSession', { algorithm: 'hmacMd5', key }), 'ERR_ACCEL_UNSUPPORTED'],
    [
      () => client.call('createMacSession', { algorithm: 'hmacSha1', key: new Uint8Array() }),
      'ERR_ACCEL_OUT_OF_RANGE',
    ],
    [() => client.call('destroySession', { session: 9 as Handle<'session'> }), 'ERR_ACCEL_NOT_FOUND'],
  ] as const
  for (const [refused, code] of refusals) await t.rejects(refused(), { code })

  const { session } = await client.call('createCipherSession', cipher)
  const iv = new Uint8Array(16)
  for (const [request, code] of [
    [{ session, iv, data: new Uint8Array(15) }, 'ERR_ACCEL_OUT_OF_RANGE'],
    [{ session, iv, data: new Uint8Array() }, 'ERR_ACCEL_OUT_OF_RANGE'],
    [{ session, iv: new Uint8Array(12), data: new Uint8Array(16) }, 'ERR_ACCEL_OUT_OF_RANGE'],
  ] as const)
    await t.rejects(client.call('cipher', request), { code })
  await t.rejects(client.call('digest', { session, data: iv }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })

  const buffers = openBuffers(client)
  const buffer = await buffers.create(4096)
  const whole = { buffer: 0, sizeBytes: 16 }
  const good = { session, iv, source: [whole], destination: [whole] }
  for (const [steps, access, code] of [
    [[{ ...good, source: [{ buffer: 1, sizeBytes: 16 }] }], 'readwrite', 'ERR_ACCEL_OUT_OF_RANGE'],
    [
      [{ ...good, source: [{ buffer: 0, offset: 4090, sizeBytes: 16 }] }],
      'readwrite',
      'ERR_ACCEL_OUT_OF_RANGE',
    ],
    [[{ ...good, destination: [{ buffer: 0, sizeBytes: 32 }] }], 'readwrite', 'ERR_ACCEL_OUT_OF_RANGE'],
    [[good], 'read', 'ERR_ACCEL_PERMISSION'],
    [[good], 'write', 'ERR_ACCEL_PERMISSION'],
    [[{ ...good, session: 77 as Handle<'session'> }], 'readwrite', 'ERR_ACCEL_NOT_FOUND'],
  ] as const)
    await t.rejects(buffers.run({ buffers: [{ buffer, access }], payload: encodeOperations(steps) }), {
      code,
    })
  await t.rejects(buffers.run({ buffers: [{ buffer }], payload: new Uint8Array(5) }), {
    code: 'ERR_ACCEL_BAD_SIZE',
  })
  await buffers.run({ buffers: [{ buffer }], payload: encodeOperations([good]) })
  transport.assertClean()
})

t.test('sessions go with their open, and the device keeps none', async (t) => {
  let sessions = 0
  const { accel, client, transport } = await bringUp(t, {
    maxSessions: 70,
    onSessions: (count) => {
      sessions = count
    },
  })
  const cipher = { algorithm: 'aesCbc', direction: 'encrypt', key: randomBytes(16) } as const
  for (let i = 0; i < 300; i++) {
    const { session } = await client.call('createCipherSession', cipher)
    await client.call('destroySession', { session })
  }
  t.equal(sessions, 0)
  for (let i = 0; i < 64; i++) await client.call('createCipherSession', cipher)
  await t.rejects(client.call('createCipherSession', cipher), { code: 'ERR_ACCEL_AGAIN' })
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

t.test('a command that is withdrawn has the device reset; sessions end, and new ones work', async (t) => {
  const { client, transport } = await bringUp(t)
  const cipher = { algorithm: 'aesCbc', direction: 'encrypt', key: randomBytes(16) } as const
  const { session } = await client.call('createCipherSession', cipher)
  const request = { session, iv: new Uint8Array(16), data: new Uint8Array(16) }
  transport.faults.hang()
  await t.rejects(client.call('cipher', request, { timeoutMs: 50 }), { code: 'ERR_ACCEL_TIMEOUT' })
  transport.faults.hang(false)
  await t.rejects(client.call('cipher', request), { code: 'ERR_ACCEL_CLOSED' })
  const again = await client.call('createCipherSession', cipher)
  await client.call('cipher', { ...request, session: again.session })
  transport.assertClean()
})
