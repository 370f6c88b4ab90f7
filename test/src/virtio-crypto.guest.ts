import { createCipheriv, randomBytes, randomInt } from 'node:crypto'
import { Accel, openBuffers } from '@uaccel/accel'
import { openVfio, parseBdf } from '@uaccel/core'
import driver from '@uaccel/driver-virtio-crypto'
import { cryptoContract } from '@uaccel/driver-virtio-crypto/contract'
import {
  type CryptoPart,
  encodeOperations,
  MAX_INLINE_BYTES,
  padPkcs7,
  virtioCryptoUapi,
} from '@uaccel/driver-virtio-crypto/uapi'
import { parseDevices } from '@uaccel/lab'
import { leavesNothing } from '@uaccel/testkit'
import t from 'tap'
import { runCell } from './contracts/cells.js'
import { columns, suites } from './contracts/matrix.js'
import { lanes } from './iommufd-lane.js'

/** Runs in the lab: QEMU's virtio-crypto device, whose builtin backend knows ciphers and no hashes, through kernel VFIO. */
const device = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'crypto')
if (!device) throw new Error('UACCEL_LAB_DEVICES names no crypto: run this in the lab')
const bdf = parseBdf(device.bdf)
const what = process.argv[2] ?? '100'
/** Of a message, in bytes. */
const LARGEST = 65_536
/** The padded message, and the other side behind it. */
const SIDE_BYTES = LARGEST + 4096
/** Messages under way at once. */
const LANES = 8
/** MAX_NUM_SESSIONS of QEMU's backends/cryptodev-builtin.c, and what an open may have of them. */
const SESSIONS = 256
const OPEN_SESSIONS = 64

t.setTimeout(0) // the limit is that of the guest

/** From 1 byte to 64 KiB, each order of magnitude as often, and the ends. */
const sizeOf = (i: number) =>
  i < 2 ? [1, LARGEST][i]! : Math.max(1, Math.floor(2 ** (randomInt(1 << 20) / 65_536)))

/** So many bytes in random parts, from `start` on, the parts in ascending order with gaps between where `gap` says so. */
function scatter(sizeBytes: number, start: number, gap: number): CryptoPart[] {
  const parts: CryptoPart[] = []
  let at = start
  for (let left = sizeBytes; left > 0; ) {
    const part = parts.length === 15 ? left : 1 + randomInt(left)
    parts.push({ buffer: 0, offset: at, sizeBytes: part })
    at += part + gap
    left -= part
  }
  return parts
}

const gather = (bytes: Uint8Array, parts: readonly CryptoPart[]) =>
  Buffer.concat(parts.map(({ offset = 0, sizeBytes }) => bytes.subarray(offset, offset + sizeBytes)))

function spread(bytes: Uint8Array, parts: readonly CryptoPart[], data: Uint8Array): void {
  let from = 0
  for (const { offset = 0, sizeBytes } of parts) {
    bytes.set(data.subarray(from, from + sizeBytes), offset)
    from += sizeBytes
  }
}

async function bringUp(iommu: 'type1' | 'iommufd') {
  const accel = new Accel()
  accel.register(driver)
  await accel.add(await openVfio(bdf, { iommu }))
  return { accel, client: accel.open(virtioCryptoUapi, 'accel0') }
}

if (what === 'around') {
  t.test('refused before it gets an address', async (t) => {
    const accel = new Accel()
    accel.register(driver)
    const refused = accel.add(await openVfio(bdf, { iommu: 'type1' }))
    await t.rejects(refused, { code: 'ERR_ACCEL_PROBE_FAILED', cause: { code: 'ERR_ACCEL_UNSUPPORTED' } })
    await t.rejects(refused, { message: /around the IOMMU/ })
    await accel.close()
  })
} else {
  const count = Number(what)
  for (const { iommu, skip } of lanes()) {
    t.test(`messages by ${iommu}, in both directions, as node:crypto has them`, { skip }, async (t) => {
      const { accel, client } = await bringUp(iommu)
      t.match(await client.call('identify', {}), { ready: true, dataQueues: 1 })
      const keys = await Promise.all(
        [16, 24, 32].map(async (bytes) => {
          const key = randomBytes(bytes)
          const session = async (direction: 'encrypt' | 'decrypt') =>
            (await client.call('createCipherSession', { algorithm: 'aesCbc', direction, key })).session
          return { key, encrypt: await session('encrypt'), decrypt: await session('decrypt') }
        }),
      )
      const buffers = openBuffers(client)
      const started = performance.now()
      let next = 0
      let bytes = 0
      let wrong = 0
      let referenceMs = 0
      const ways = { inPlace: 0, scattered: 0, commands: 0 }
      async function lane(): Promise<void> {
        const buffer = await buffers.create(2 * SIDE_BYTES)
        while (next < count) {
          const i = next++
          const { key, encrypt, decrypt } = keys[i % keys.length]!
          const begun = performance.now()
          const [message, iv] = [randomBytes(sizeOf(i)), randomBytes(16)]
          const node = createCipheriv(`aes-${8 * key.length}-cbc`, key, iv)
          const wanted = Buffer.concat([node.update(message), node.final()])
          referenceMs += performance.now() - begun
          const plain = Buffer.from(padPkcs7(message))
          bytes += plain.length
          const way =
            i % 3 === 0
              ? 'inPlace'
              : i % 3 === 1 || plain.length > MAX_INLINE_BYTES
                ? 'scattered'
                : 'commands'
          ways[way]++
          if (way === 'commands') {
            const there = await client.call('cipher', { session: encrypt, iv, data: plain })
            const back = await client.call('cipher', { session: decrypt, iv, data: there.data })
            if (!wanted.equals(there.data) || !plain.equals(back.data)) wrong++
            continue
          }
          const from = way === 'inPlace' ? scatter(plain.length, 0, i % 2) : scatter(plain.length, 1, 64)
          const to = way === 'inPlace' ? from : scatter(plain.length, SIDE_BYTES, 48)
          const run = (session: typeof encrypt, source: CryptoPart[], destination: CryptoPart[]) =>
            buffers.run({
              buffers: [{ buffer }],
              payload: encodeOperations([{ session, iv, source, destination }]),
            })
          spread(buffer.u8, from, plain)
          await run(encrypt, from, to)
          if (!wanted.equals(gather(buffer.u8, to))) wrong++
          if (from !== to) spread(buffer.u8, from, new Uint8Array(plain.length))
          await run(decrypt, to, from)
          if (!plain.equals(gather(buffer.u8, from))) wrong++
        }
        await buffer.destroy()
      }
      await Promise.all(Array.from({ length: LANES }, lane))
      const seconds = (ms: number) => (ms / 1000).toFixed(1)
      t.comment(
        `AES-CBC by ${iommu}: ${count} messages, ${bytes} bytes both ways, ${JSON.stringify(ways)}, ${wrong} wrong, ` +
          `${seconds(referenceMs)} s of node:crypto, in ${seconds(performance.now() - started)} s`,
      )
      t.equal(wrong, 0)
      t.equal(ways.inPlace + ways.scattered + ways.commands, count)
      await client.close()
      await accel.close()
    })

    t.test(`sessions by ${iommu}, and what is refused`, { skip }, async (t) => {
      const { accel, client } = await bringUp(iommu)
      const cipher = { algorithm: 'aesCbc', direction: 'encrypt', key: randomBytes(16) } as const
      // What is not given back to QEMU shows: it has no room for all of these at once.
      for (let i = 0; i < 4 * SESSIONS; i++) {
        const { session } = await client.call('createCipherSession', cipher)
        await client.call('destroySession', { session })
      }
      for (let round = 0; round < 4; round++) {
        const opens = []
        for (let i = 0; i < SESSIONS; i++) {
          if (i % OPEN_SESSIONS === 0) opens.push(accel.open(virtioCryptoUapi, 'accel0'))
          await opens.at(-1)!.call('createCipherSession', cipher)
        }
        const full = { code: 'ERR_ACCEL_IO', message: /answered ERR$/ }
        await t.rejects(client.call('createCipherSession', cipher), full, `${SESSIONS} are all that QEMU has`)
        for (const open of opens) await open.close()
      }
      t.equal((await client.common('attrShow', { path: 'sessions/inUse' })).value, '0')
      for (const length of [0, 15, 17, 33, 64]) {
        const wrong = client.call('createCipherSession', { ...cipher, key: new Uint8Array(length) })
        await t.rejects(wrong, { code: 'ERR_ACCEL_OUT_OF_RANGE' }, `a key of ${length} bytes`)
      }
      const unsupported = { code: 'ERR_ACCEL_UNSUPPORTED' }
      const xts = { ...cipher, algorithm: 'aesXts', key: randomBytes(32) } as const
      await t.rejects(client.call('createCipherSession', xts), unsupported)
      await t.rejects(client.call('createHashSession', { algorithm: 'sha256' }), unsupported)
      // QEMU says that it has SHA-1, and answers NOTSUPP to whoever asks for it (virtio_crypto_handle_ctrl).
      await t.rejects(client.call('createHashSession', { algorithm: 'sha1' }), unsupported)
      await t.rejects(
        client.call('createMacSession', { algorithm: 'hmacSha1', key: cipher.key }),
        unsupported,
      )
      const { session } = await client.call('createCipherSession', cipher)
      const odd = { session, iv: new Uint8Array(16), data: new Uint8Array(17) }
      await t.rejects(client.call('cipher', odd), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
      await client.call('cipher', { ...odd, data: new Uint8Array(32) })
      await client.close()
      await accel.close()
    })

    t.test(`what is left by ${iommu}`, { skip }, async (t) => {
      await leavesNothing(t, async () => {
        const { accel, client } = await bringUp(iommu)
        const cipher = { algorithm: 'aesCbc', direction: 'encrypt', key: randomBytes(16) } as const
        const buffers = openBuffers(client)
        const buffer = await buffers.create(LARGEST)
        const whole = [{ buffer: 0, sizeBytes: LARGEST }]
        for (let i = 0; i < OPEN_SESSIONS; i++) {
          const { session } = await client.call('createCipherSession', cipher)
          const payload = encodeOperations([
            { session, iv: randomBytes(16), source: whole, destination: whole },
          ])
          await buffers.run({ buffers: [{ buffer }], payload })
        }
        await buffer.destroy()
        await client.close() // with all of its sessions
        await accel.close()
      })
    })
  }
  // Last: QEMU's backend keeps the sessions that there were when its device was reset (virtio_crypto_reset), and has so many fewer.
  for (const { iommu, skip } of lanes()) {
    if (skip) t.test(`${suites.crypto}: ${columns[iommu]}`, { skip }, async () => {})
    else
      await runCell(t, 'crypto', iommu, (t) =>
        cryptoContract(t, () => openVfio(bdf, { iommu }), { messages: 30 }),
      )
  }
}
