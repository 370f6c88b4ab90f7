import { accelError } from '@uaccel/uapi'
import type { VirtioConfig } from '@uaccel/virtio'
import { CONFIG } from './protocol.js'

/** What a device says of itself. */
export interface CryptoCapabilities {
  readonly dataQueues: number
  readonly services: number
  readonly ciphers: bigint
  readonly hashes: bigint
  readonly macs: bigint
  /** Asymmetric ciphers. */
  readonly asymmetric: number
  readonly maxCipherKeyBytes: number
  readonly maxMacKeyBytes: number
  readonly maxRequestBytes: bigint
}

/** Reads them from the configuration (virtio 1.2, 5.9.4). `ERR_ACCEL_IO` for a number of queues that cannot be. */
export function readCapabilities(config: VirtioConfig): CryptoCapabilities {
  const found = config.stable(() => ({
    dataQueues: config.u32(CONFIG.maxDataQueues),
    services: config.u32(CONFIG.services),
    ciphers: config.u64(CONFIG.ciphers),
    hashes: BigInt(config.u32(CONFIG.hashes)),
    macs: config.u64(CONFIG.macs),
    asymmetric: config.u32(CONFIG.asymmetric),
    maxCipherKeyBytes: config.u32(CONFIG.maxCipherKeyBytes),
    maxMacKeyBytes: config.u32(CONFIG.maxMacKeyBytes),
    maxRequestBytes: config.u64(CONFIG.maxRequestBytes),
  }))
  // Its control queue comes behind them, and queues have numbers of 16 bits.
  if (found.dataQueues >= 1 && found.dataQueues < 0xffff) return found
  throw accelError(
    'ERR_ACCEL_IO',
    `The virtio-crypto device says that it has ${found.dataQueues} data queues`,
  )
}
