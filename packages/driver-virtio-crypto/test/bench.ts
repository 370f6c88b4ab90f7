import { createCipheriv } from 'node:crypto'
import { Accel, type AccelClient, type ClientBuffers, openBuffers } from '@uaccel/accel'
import type { Transport } from '@uaccel/core'
import { type VirtioCrypto, virtioCryptoDriver } from '../src/driver.js'
import { virtioCryptoUapi } from '../src/uapi.js'

/** A device for one test, as its clients and its owner see it. */
export interface Bench {
  readonly accel: Accel
  readonly crypto: VirtioCrypto
  readonly client: AccelClient<typeof virtioCryptoUapi>
  readonly buffers: ClientBuffers
}

/** Runs `work` with a device that was brought up anew by the subsystem. */
export async function withCrypto<T extends Transport>(
  open: () => Promise<T>,
  work: (bench: Bench, transport: T) => Promise<void>,
  options: Parameters<typeof virtioCryptoDriver>[0] = {},
): Promise<T> {
  const transport = await open()
  const accel = new Accel()
  try {
    let crypto: VirtioCrypto | undefined
    accel.register(
      virtioCryptoDriver({
        ...options,
        onReady: (ready) => {
          crypto = ready
        },
      }),
    )
    await accel.add(transport)
    const client = accel.open(virtioCryptoUapi, 'accel0')
    await work({ accel, crypto: crypto!, client, buffers: openBuffers(client) }, transport)
    await client.close()
  } finally {
    await accel.close()
  }
  return transport
}

/** What Node makes of whole blocks. */
export function encrypted(mode: string, key: Uint8Array, iv: Uint8Array, data: Uint8Array): Buffer {
  const bits = mode === 'xts' ? key.length * 4 : key.length * 8
  const engine = createCipheriv(`aes-${bits}-${mode}`, key, mode === 'ecb' ? null : iv).setAutoPadding(false)
  return Buffer.concat([engine.update(data), engine.final()])
}
