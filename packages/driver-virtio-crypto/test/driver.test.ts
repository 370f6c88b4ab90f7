import { createCipheriv, randomBytes } from 'node:crypto'
import { AutoClock, loopback } from '@uaccel/model'
import t from 'tap'
import { virtioCryptoModel } from '../model/index.js'
import { padPkcs7, unpadPkcs7, virtioCryptoUapi } from '../src/uapi.js'
import { cryptoContract, encrypted } from './contract.js'
import {
  ACCESS_PLATFORM,
  bringUp,
  cipher,
  direct,
  INDIRECT,
  iv,
  key,
  ringModes,
  SPREAD,
  wanted,
} from './harness.js'

t.setTimeout(200_000)

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
