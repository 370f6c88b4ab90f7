import { createCipheriv, createDecipheriv } from 'node:crypto'
import { DeviceCipher } from './cbc.js'
import type { CryptoDevice } from './device.js'

/** What one direction came to. */
export interface Side {
  /** Of the result. */
  readonly bytes: number
  /** Time in which the device, the driver and its client had the data. */
  readonly deviceSeconds: number
  readonly nodeSeconds: number
  /** Bytes of the device's result that are not node:crypto's. */
  readonly mismatches: number
}

interface Results {
  readonly device: Uint8Array
  readonly node: Uint8Array
}

/** The same message through the device and through node:crypto. */
class Pair {
  bytes = 0
  deviceSeconds = 0
  nodeSeconds = 0
  mismatches = 0

  /** Has both do the same, and compares. */
  async both(device: () => Promise<Uint8Array>, node: () => Uint8Array): Promise<Results> {
    const start = performance.now()
    const result = await device()
    const middle = performance.now()
    const expected = node()
    this.nodeSeconds += (performance.now() - middle) / 1000
    this.deviceSeconds += (middle - start) / 1000
    this.bytes += result.length
    this.mismatches += countDifferences(result, expected)
    return { device: result, node: expected }
  }
}

/** In how many bytes two results differ; those that only one has count too. */
export function countDifferences(one: Uint8Array, other: Uint8Array): number {
  if (Buffer.compare(one, other) === 0) return 0
  let count = Math.abs(one.length - other.length)
  for (let i = 0; i < Math.min(one.length, other.length); i++) if (one[i] !== other[i]) count++
  return count
}

/**
 * Encrypts a message that comes in parts, and decrypts it again, on the device and by node:crypto, each its own cipher text; no
 * more than a part is in memory. `onCipherText` gets the device's. What is open on the device after an error goes with the open.
 */
export async function compare(
  device: CryptoDevice,
  parts: AsyncIterable<Uint8Array>,
  { key, iv }: { readonly key: Uint8Array; readonly iv: Uint8Array },
  onCipherText: (text: Uint8Array) => Promise<void> | void = () => {},
): Promise<{ readonly encrypted: Side; readonly decrypted: Side }> {
  const name = `aes-${key.length * 8}-cbc`
  const there = await DeviceCipher.open(device, { direction: 'encrypt', key, iv })
  const back = await DeviceCipher.open(device, { direction: 'decrypt', key, iv })
  const nodeThere = createCipheriv(name, key, iv)
  const nodeBack = createDecipheriv(name, key, iv)
  const [encrypted, decrypted] = [new Pair(), new Pair()]

  async function decrypt(text: Results): Promise<void> {
    await onCipherText(text.device)
    await decrypted.both(
      () => back.update(text.device),
      () => nodeBack.update(text.node),
    )
  }
  for await (const part of parts) {
    const texts = await encrypted.both(
      () => there.update(part),
      () => nodeThere.update(part),
    )
    await decrypt(texts)
  }
  const last = await encrypted.both(
    () => there.final(),
    () => nodeThere.final(),
  )
  await decrypt(last)
  await decrypted.both(
    () => back.final(),
    () => nodeBack.final(),
  )
  await there.close()
  await back.close()
  return { encrypted, decrypted }
}
