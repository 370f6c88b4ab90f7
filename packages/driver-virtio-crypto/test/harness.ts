import { randomBytes } from 'node:crypto'
import { Accel, openBuffers } from '@uaccel/accel'
import { openDevice } from '@uaccel/core'
import { AutoClock, loopback } from '@uaccel/model'
import type { AccelError } from '@uaccel/uapi'
import type { VirtioModelOptions } from '@uaccel/virtio/model'
import type { Test } from 'tap'
import { type VirtioCryptoOptions, virtioCryptoModel } from '../model/index.js'
import {
  CryptoOperation,
  VirtioCrypto,
  type VirtioCryptoDriverOptions,
  virtioCryptoDriver,
} from '../src/driver.js'
import { virtioCryptoUapi } from '../src/uapi.js'
import { encrypted } from './bench.js'

export const INDIRECT = 1n << 28n
const EVENT_INDEX = 1n << 29n
export const ACCESS_PLATFORM = 1n << 33n
export const SPREAD = { spreadNs: 50_000, seed: 7 }

type ModelOptions = VirtioCryptoOptions & VirtioModelOptions

export async function bringUp(
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

export const key = randomBytes(16)
export const cipher = { algorithm: 'aesCbc', direction: 'encrypt', key } as const
export const iv = new Uint8Array(16)
export const block = new Uint8Array(16).fill(9)
export const wanted = encrypted('cbc', key, iv, block)

export const ringModes = [
  { name: 'indirect descriptors and event index', features: ACCESS_PLATFORM | INDIRECT | EVENT_INDEX },
  { name: 'event index', features: ACCESS_PLATFORM | EVENT_INDEX },
  { name: 'indirect descriptors', features: ACCESS_PLATFORM | INDIRECT },
  { name: 'neither', features: ACCESS_PLATFORM },
]

/** A device without the subsystem, with memory of its own: `operation(i)` takes block i, and puts its result 64 KiB behind it. */
export async function direct(
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
  return { transport, dev, crypto, session, operation, result, broke }
}
