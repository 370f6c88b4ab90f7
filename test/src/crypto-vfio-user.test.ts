import { setTimeout as sleep } from 'node:timers/promises'
import type { AccelClient, ClientBuffers } from '@uaccel/accel'
import { type Bench, cryptoContract, encrypted, withCrypto } from '@uaccel/driver-virtio-crypto/contract'
import { encodeOperations, type virtioCryptoUapi } from '@uaccel/driver-virtio-crypto/uapi'
import { leavesNothing } from '@uaccel/testkit'
import { isAccelError } from '@uaccel/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'
import t from 'tap'
import { inOwnProcess, type Victim } from './faults/bench.js'
import { serveModel } from './serve-model.js'

t.setTimeout(300_000)

const key = new Uint8Array(16).fill(3)
const iv = new Uint8Array(16)
const block = new Uint8Array(16).fill(9)
const wanted = encrypted('cbc', key, iv, block)

t.test('the contract over vfio-user, DMA by messages', async (t) => {
  const { path, violations } = await serveModel(t, 'crypto')
  cryptoContract(t, () => connectVfioUser(path, { shareMemory: false }), { messages: 20 })
  t.test('the driver kept the rules of the device', async (t) => t.same(await violations(), []))
})

/** A session, and jobs that go on until something happens: answers the codes that they ended with. */
async function busy(client: AccelClient<typeof virtioCryptoUapi>, buffers: ClientBuffers) {
  const { session } = await client.call('createCipherSession', {
    algorithm: 'aesCbc',
    direction: 'encrypt',
    key,
  })
  const side = [{ buffer: 0, sizeBytes: 4096 }]
  const payload = encodeOperations([{ session, iv, source: side, destination: side }])
  const load = async () => {
    const buffer = await buffers.create(4096)
    for (;;) {
      try {
        await buffers.run({ buffers: [{ buffer }], payload })
      } catch (error) {
        await buffer.destroy()
        if (!isAccelError(error)) throw error
        return error.code
      }
    }
  }
  return { session, ends: Promise.all(Array.from({ length: 6 }, load)) }
}

/** Runs `work` with a device whose model is in a process of its own. */
async function withVictim(work: (bench: Bench, victim: Victim) => Promise<void>): Promise<void> {
  const victim = await inOwnProcess('crypto')
  try {
    await withCrypto(
      () => victim.connect(),
      async (bench) => work(bench, victim),
      { timeoutMs: 3000 },
    )
  } finally {
    await victim.end()
  }
}

t.test('a device that hangs is reset, and its sessions last', async (t) => {
  await leavesNothing(t, () =>
    withVictim(async ({ client, buffers, crypto }, victim) => {
      const { session, ends } = await busy(client, buffers)
      await sleep(20)
      await victim.befall('hang')
      while (crypto.resets === 0) await sleep(10)
      await victim.befall('hang', false)
      for (const code of await ends)
        if (!['ERR_ACCEL_TIMEOUT', 'ERR_ACCEL_AGAIN'].includes(code)) t.fail(code)
      const { data } = await client.call('cipher', { session, iv, data: block })
      t.ok(wanted.equals(data))
      if (crypto.resets !== 1) t.fail(`${crypto.resets} resets`)
    }),
  )
})

for (const fault of ['vanish', 'allOnes', 'request'] as const) {
  t.test(`a busy device that is taken away: ${fault}`, async (t) => {
    await leavesNothing(t, () =>
      withVictim(async ({ client, buffers, accel }, victim) => {
        const removed = new Promise((resolve) => accel.once('removed', resolve))
        const { session, ends } = await busy(client, buffers)
        await sleep(20)
        await victim.befall(fault)
        for (const code of await ends) if (code !== 'ERR_ACCEL_NO_DEVICE') t.fail(code)
        await removed
        const late = client.call('cipher', { session, iv, data: block })
        await t.rejects(late, { code: 'ERR_ACCEL_NO_DEVICE' })
      }),
    )
  })
}
