import { createHash, createHmac, randomBytes, randomInt } from 'node:crypto'
import type { Transport } from '@uaccel/core'
import { accelError, type Handle, isAccelError } from '@uaccel/uapi'
import type { Test } from 'tap'
import { type CipherName, ciphers, type HashName, hashes, type MacName, macs } from '../src/algorithms.js'
import type { IrqMode } from '../src/driver.js'
import {
  type CryptoPart,
  encodeOperations,
  MAX_INLINE_BYTES,
  padPkcs7,
  virtioCryptoUapi,
} from '../src/uapi.js'
import { type Bench, encrypted, withCrypto } from './bench.js'
import { rsaAsNodeHasIt } from './rsa.js'

export { type Bench, encrypted, withCrypto } from './bench.js'

/** How the suite reaches a device, and how much it does. */
export interface CryptoContractOptions<T extends Transport> {
  /** Random messages by each kind of interrupt. Default 60. */
  readonly messages?: number
  /** Ways to learn of completions that the transport has. Default all. */
  readonly irqs?: readonly IrqMode[]
  /** Looks at the device after each test, such as for violations that a model kept. */
  verify?(transport: T): void
}

/** What Node calls the algorithms; a cipher after the size of its key. */
const NODE_CIPHERS: Readonly<Partial<Record<CipherName, string>>> = {
  aesEcb: 'ecb',
  aesCbc: 'cbc',
  aesCtr: 'ctr',
  aesXts: 'xts',
}
const NODE_HASHES: Readonly<Partial<Record<HashName, string>>> = {
  sha1: 'sha1',
  sha256: 'sha256',
  sha512: 'sha512',
}
const NODE_MACS: Readonly<Partial<Record<MacName, string>>> = {
  hmacSha1: 'sha1',
  hmacSha256: 'sha256',
  hmacSha512: 'sha512',
}
const LARGEST = 65_536
const LANES = 4
/** The sessions that an open may have. */
const OPEN_SESSIONS = 64

/** So many bytes in at most 16 random parts from `start` on, with gaps between them. */
function scatter(sizeBytes: number, start: number, gap: number): CryptoPart[] {
  const parts: CryptoPart[] = []
  let offset = start
  for (let left = sizeBytes; left > 0; ) {
    const part = parts.length === 15 ? left : 1 + randomInt(left)
    parts.push({ buffer: 0, offset, sizeBytes: part })
    offset += part + gap
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

const offers = (set: bigint, { number }: { readonly number: number }) => ((set >> BigInt(number)) & 1n) === 1n
const offered = <N extends string>(
  names: Readonly<Partial<Record<N, string>>>,
  table: Readonly<Record<N, { readonly number: number }>>,
  set: bigint,
) => (Object.keys(names) as N[]).filter((name) => offers(set, table[name]))

/**
 * What the driver's README promises, on any transport, with the algorithms that the device has; AES-CBC it has. `open` connects to the
 * device anew.
 */
export function cryptoContract<T extends Transport>(
  t: Test,
  open: () => Promise<T>,
  { messages = 60, irqs = ['msix', 'intx', 'poll'], verify }: CryptoContractOptions<T> = {},
): void {
  const test = (
    name: string,
    work: (t: Test, bench: Bench, transport: T) => Promise<void>,
    irq: IrqMode | 'auto' = 'auto',
  ) =>
    t.test(name, async (t) => {
      const transport = await withCrypto(open, (bench, transport) => work(t, bench, transport), { irq })
      verify?.(transport)
    })

  /** A session for a digest; undefined where the device answers NOTSUPP to what it says that it has, as QEMU does for SHA-1. */
  const made = (session: Promise<{ readonly session: Handle<'session'> }>) =>
    session.catch((error) => {
      if (isAccelError(error, 'ERR_ACCEL_UNSUPPORTED') && /NOTSUPP/.test(error.message)) return undefined
      throw error
    })

  const cbc = (key: Uint8Array, direction: 'encrypt' | 'decrypt' = 'encrypt') =>
    ({ algorithm: 'aesCbc', direction, key }) as const

  for (const irq of irqs) {
    test(
      `${messages} random messages as node:crypto has them, by ${irq}`,
      async (t, { client, buffers, crypto }) => {
        t.equal(crypto.irqMode, irq)
        const has = await client.call('identify', {})
        const kinds = await Promise.all(
          offered(NODE_CIPHERS, ciphers, has.ciphers).flatMap((algorithm) =>
            ciphers[algorithm].keyBytes.map(async (bytes) => {
              const key = randomBytes(bytes)
              const make = async (direction: 'encrypt' | 'decrypt') =>
                (await client.call('createCipherSession', { algorithm, direction, key })).session
              const { blockBytes, ivBytes } = ciphers[algorithm]
              const mode = NODE_CIPHERS[algorithm]!
              return {
                key,
                mode,
                blockBytes,
                ivBytes,
                encrypt: await make('encrypt'),
                decrypt: await make('decrypt'),
              }
            }),
          ),
        )
        t.ok(kinds.length >= 3, `${kinds.length} ciphers and sizes of keys`)
        let next = 0
        const lane = async () => {
          const buffer = await buffers.create(3 * LARGEST)
          while (next < messages) {
            const i = next++
            const { key, mode, blockBytes, ivBytes, encrypt, decrypt } = kinds[i % kinds.length]!
            const size = i === 0 ? LARGEST : Math.max(1, Math.floor(2 ** (randomInt(1 << 20) / 65_536)))
            const plain = blockBytes === 1 ? randomBytes(size) : padPkcs7(randomBytes(size))
            const iv = randomBytes(ivBytes)
            const wanted = encrypted(mode, key, iv, plain)
            if (i % 3 === 2 && plain.length <= MAX_INLINE_BYTES) {
              const there = await client.call('cipher', { session: encrypt, iv, data: plain })
              const back = await client.call('cipher', { session: decrypt, iv, data: there.data })
              if (!wanted.equals(there.data) || Buffer.compare(plain, back.data) !== 0)
                throw new Error(`${mode}, ${size} bytes, in a command`)
              continue
            }
            const from = scatter(plain.length, 0, i % 2)
            const to = i % 3 === 0 ? from : scatter(plain.length, LARGEST + 4096, 48)
            const run = (session: Handle<'session'>, source: CryptoPart[], destination: CryptoPart[]) =>
              buffers.run({
                buffers: [{ buffer }],
                payload: encodeOperations([{ session, iv, source, destination }]),
              })
            spread(buffer.u8, from, plain)
            await run(encrypt, from, to)
            if (!wanted.equals(gather(buffer.u8, to))) throw new Error(`${mode}, ${size} bytes encrypted`)
            await run(decrypt, to, from)
            if (Buffer.compare(plain, gather(buffer.u8, from)) !== 0)
              throw new Error(`${mode}, ${size} bytes decrypted`)
          }
          await buffer.destroy()
        }
        await Promise.all(Array.from({ length: LANES }, lane))
      },
      irq,
    )
  }

  test('hashes and MACs that the device has', async (t, { client }) => {
    const has = await client.call('identify', {})
    for (const size of [1, 777, MAX_INLINE_BYTES]) {
      const [data, key] = [randomBytes(size), randomBytes(40)]
      for (const algorithm of (has.services & 2) === 0 ? [] : offered(NODE_HASHES, hashes, has.hashes)) {
        const { session } = (await made(client.call('createHashSession', { algorithm }))) ?? {}
        if (session === undefined) continue
        const { digest } = await client.call('digest', { session, data })
        t.ok(
          createHash(NODE_HASHES[algorithm]!).update(data).digest().equals(digest),
          `${algorithm}, ${size} bytes`,
        )
        await client.call('destroySession', { session })
      }
      for (const algorithm of (has.services & 4) === 0 ? [] : offered(NODE_MACS, macs, has.macs)) {
        const { session } = (await made(client.call('createMacSession', { algorithm, key }))) ?? {}
        if (session === undefined) continue
        const { digest } = await client.call('digest', { session, data })
        t.ok(
          createHmac(NODE_MACS[algorithm]!, key).update(data).digest().equals(digest),
          `${algorithm}, ${size} bytes`,
        )
        await client.call('destroySession', { session })
      }
    }
  })

  test('RSA, where the device has it', (t, { client, buffers }) => rsaAsNodeHasIt(t, client, buffers))

  test('more operations at once than the queues have room for', async (t, { client, buffers }) => {
    const key = randomBytes(16)
    const { session } = await client.call('createCipherSession', cbc(key))
    const buffer = await buffers.create(1 << 16)
    const iv = randomBytes(16)
    buffer.u8.fill(7)
    const steps = (job: number) =>
      Array.from({ length: 14 }, (_, i) => {
        const at = 512 * job + 32 * i
        return {
          session,
          iv,
          source: [{ buffer: 0, offset: at, sizeBytes: 16 }],
          destination: [{ buffer: 0, offset: 0x8000 + at, sizeBytes: 16 }],
        }
      })
    const run = (job: number) => buffers.run({ buffers: [{ buffer }], payload: encodeOperations(steps(job)) })
    await Promise.all(Array.from({ length: 60 }, (_, job) => run(job)))
    const wanted = encrypted('cbc', key, iv, new Uint8Array(16).fill(7))
    const wrong = Array.from({ length: 60 }, (_, job) => steps(job))
      .flat()
      .filter(({ destination }) => !wanted.equals(gather(buffer.u8, destination)))
    t.same(wrong, [])
  })

  test('what is refused, and nothing begun', async (t, { accel, client, buffers }) => {
    const key = randomBytes(16)
    for (const length of [0, 1, 15, 17, 31, 33, 64])
      await t.rejects(
        client.call('createCipherSession', cbc(new Uint8Array(length))),
        { code: 'ERR_ACCEL_OUT_OF_RANGE' },
        `a key of ${length} bytes`,
      )
    const none = { ...cbc(key), algorithm: 'none' } as const
    await t.rejects(client.call('createCipherSession', none), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
    const gone = 9 as Handle<'session'>
    await t.rejects(client.call('destroySession', { session: gone }), { code: 'ERR_ACCEL_NOT_FOUND' })

    const { session } = await client.call('createCipherSession', cbc(key))
    const other = accel.open(virtioCryptoUapi, 'accel0')
    await other.call('createCipherSession', cbc(key))
    const { session: foreign } = await other.call('createCipherSession', cbc(key))
    t.not(foreign, session)
    const iv = new Uint8Array(16)
    const block = { session, iv, data: new Uint8Array(16) }
    for (const [request, code] of [
      [{ ...block, data: new Uint8Array(15) }, 'ERR_ACCEL_OUT_OF_RANGE'],
      [{ ...block, data: new Uint8Array() }, 'ERR_ACCEL_OUT_OF_RANGE'],
      [{ ...block, iv: new Uint8Array(12) }, 'ERR_ACCEL_OUT_OF_RANGE'],
      [{ ...block, iv: new Uint8Array() }, 'ERR_ACCEL_OUT_OF_RANGE'],
      [{ ...block, session: foreign }, 'ERR_ACCEL_NOT_FOUND'],
    ] as const)
      await t.rejects(client.call('cipher', request), { code })
    await t.rejects(client.call('digest', { session, data: iv }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })

    const { session: old } = await client.call('createCipherSession', cbc(key))
    await client.call('destroySession', { session: old })
    const buffer = await buffers.create(4096)
    const part = (offset: number, sizeBytes = 16, buffer = 0) => ({ buffer, offset, sizeBytes })
    const good = { session, iv, source: [part(0)], destination: [part(0)] }
    const cases = [
      ['another buffer than there is', { ...good, source: [part(0, 16, 1)] }, 'ERR_ACCEL_OUT_OF_RANGE'],
      [
        'buffer 0 of those that count from 1',
        { ...good, source: [part(0, 16, -1)] },
        'ERR_ACCEL_OUT_OF_RANGE',
      ],
      ['a part over the end', { ...good, source: [part(4090)] }, 'ERR_ACCEL_OUT_OF_RANGE'],
      ['a part beyond the end', { ...good, source: [part(2 ** 52)] }, 'ERR_ACCEL_OUT_OF_RANGE'],
      ['a result of another size', { ...good, destination: [part(0, 32)] }, 'ERR_ACCEL_OUT_OF_RANGE'],
      ['a part of no bytes', { ...good, source: [part(0), part(16, 0)] }, 'ERR_ACCEL_OUT_OF_RANGE'],
      ['no parts', { ...good, source: [] }, 'ERR_ACCEL_OUT_OF_RANGE'],
      ['no result', { ...good, destination: [] }, 'ERR_ACCEL_OUT_OF_RANGE'],
      [
        'no whole block',
        { ...good, source: [part(0, 8)], destination: [part(0, 8)] },
        'ERR_ACCEL_OUT_OF_RANGE',
      ],
      [
        'an initialization vector of another size',
        { ...good, iv: new Uint8Array(8) },
        'ERR_ACCEL_OUT_OF_RANGE',
      ],
      [
        'a result one byte behind its source',
        { ...good, destination: [part(1)] },
        'ERR_ACCEL_INVALID_ARGUMENT',
      ],
      ['a result one byte before its source', { ...good, source: [part(1)] }, 'ERR_ACCEL_INVALID_ARGUMENT'],
      [
        'parts of a result that overlap',
        { ...good, source: [part(64, 32)], destination: [part(0), part(15)] },
        'ERR_ACCEL_INVALID_ARGUMENT',
      ],
      [
        'in place, in another order',
        { ...good, source: [part(0), part(16)], destination: [part(16), part(0)] },
        'ERR_ACCEL_INVALID_ARGUMENT',
      ],
      ['a session that there is not', { ...good, session: 77 as Handle<'session'> }, 'ERR_ACCEL_NOT_FOUND'],
      ['a session of another open', { ...good, session: foreign }, 'ERR_ACCEL_NOT_FOUND'],
      ['a session that was destroyed', { ...good, session: old }, 'ERR_ACCEL_NOT_FOUND'],
    ] as const
    // By its size: memory may be larger without an IOMMU.
    const run = (payload: Uint8Array, access: 'read' | 'write' | 'readwrite' = 'readwrite') =>
      buffers.run({ buffers: [{ buffer, access, sizeBytes: 4096 }], payload })
    for (const [what, step, code] of cases)
      await t.rejects(run(encodeOperations([good, step])), { code }, what)
    for (const access of ['read', 'write'] as const)
      await t.rejects(run(encodeOperations([good]), access), { code: 'ERR_ACCEL_PERMISSION' }, access)
    for (const length of [0, 5, 100])
      await t.rejects(run(new Uint8Array(length)), { code: 'ERR_ACCEL_BAD_SIZE' }, `${length} bytes`)
    t.ok(
      buffer.u8.every((byte) => byte === 0),
      'nothing was written',
    )
    const halves = { ...good, source: [part(0), part(16)], destination: [part(0, 8), part(8, 24)] }
    await run(encodeOperations([halves]))
    t.ok(
      encrypted('cbc', key, iv, new Uint8Array(32)).equals(buffer.u8.subarray(0, 32)),
      'in place, divided otherwise',
    )
    await other.close()
  })

  test('sessions go with their open, and no more than its share is taken', async (t, {
    accel,
    client,
    crypto,
  }) => {
    const cipher = cbc(randomBytes(16))
    for (let round = 0; round < 5; round++) {
      const other = accel.open(virtioCryptoUapi, 'accel0')
      for (let i = 0; i < OPEN_SESSIONS; i++) await other.call('createCipherSession', cipher)
      await t.rejects(other.call('createCipherSession', cipher), { code: 'ERR_ACCEL_AGAIN' })
      await other.close()
    }
    for (let i = 0; i < OPEN_SESSIONS; i++) {
      const { session } = await client.call('createCipherSession', cipher)
      await client.call('destroySession', { session })
    }
    t.equal(crypto.sessions, 0)
  })

  for (const whose of ['the driver', 'somebody else'] as const) {
    test(`a reset by ${whose} under load: sessions and buffers last`, async (t, {
      accel,
      client,
      crypto,
      buffers,
    }, { resets }) => {
      if (whose === 'somebody else' && resets.length === 0) {
        t.pass('the transport has no reset here')
        return
      }
      const key = randomBytes(32)
      const { session } = await client.call('createCipherSession', cbc(key))
      const iv = randomBytes(16)
      const plain = randomBytes(4096)
      const wanted = encrypted('cbc', key, iv, plain)
      const ends = { done: 0, again: 0 }
      let over = false
      const load = async () => {
        const buffer = await buffers.create(8192)
        buffer.u8.set(plain)
        const payload = encodeOperations([
          {
            session,
            iv,
            source: [{ buffer: 0, sizeBytes: 4096 }],
            destination: [{ buffer: 0, offset: 4096, sizeBytes: 4096 }],
          },
        ])
        for (let after = 0; after < 3; after += over ? 1 : 0) {
          try {
            await buffers.run({ buffers: [{ buffer }], payload })
            if (!wanted.equals(buffer.u8.subarray(4096, 8192))) throw new Error('another result')
            ends.done++
          } catch (error) {
            if (!isAccelError(error, 'ERR_ACCEL_AGAIN') && !isAccelError(error, 'ERR_ACCEL_IO')) throw error
            ends.again++
          }
        }
        await buffer.destroy()
      }
      const loads = Array.from({ length: LANES }, load)
      for (let i = 0; i < 3; i++) {
        if (whose === 'the driver') await crypto.reset(accelError('ERR_ACCEL_AGAIN', 'the suite wants it'))
        else await accel.node('accel0').reset({ reason: 'the suite wants it' })
      }
      over = true
      await Promise.all(loads)
      t.equal(crypto.resets, 3)
      t.ok(ends.done >= 3 * LANES, JSON.stringify(ends))
      t.equal(crypto.sessions, 1)
    })
  }
}
