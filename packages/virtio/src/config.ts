import type { Mmio } from '@uaccel/core'
import { accelError } from '@uaccel/uapi'

/** Turns in which the device may change its configuration while it is read. */
const MAX_TRIES = 100

/** Where the configuration is, for {@link VirtioConfig}. */
export interface ConfigPlace {
  /** Undefined where the device has none. */
  readonly memory: Mmio | undefined
  /** Bytes from the start of `memory`. */
  readonly offset: number
  readonly sizeBytes: number
  /** Reads CONFIG_GENERATION. */
  generation(): number
}

/** The configuration that depends on the type of device (virtio 1.2, 2.5). Offsets are in bytes from its start, numbers little-endian. */
export class VirtioConfig {
  readonly sizeBytes: number
  readonly #place: ConfigPlace

  /** @internal */
  constructor(place: ConfigPlace) {
    this.sizeBytes = place.sizeBytes
    this.#place = place
  }

  u8(offset: number): number {
    return this.#memory(offset, 1).read8(this.#place.offset + offset)
  }
  u16(offset: number): number {
    return this.#memory(offset, 2).read16(this.#place.offset + offset)
  }
  u32(offset: number): number {
    return this.#memory(offset, 4).read32(this.#place.offset + offset)
  }
  /** In two reads of 32 bits, as 4.1.3.1 wants it: within {@link stable}. */
  u64(offset: number): bigint {
    return BigInt(this.u32(offset)) | (BigInt(this.u32(offset + 4)) << 32n)
  }

  /** Has `take` read several fields, all of one moment: once more, where the device changed its configuration meanwhile (2.5.1). */
  stable<T>(take: (config: this) => T): T {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const before = this.#place.generation()
      const taken = take(this)
      if (this.#place.generation() === before) return taken
    }
    throw accelError(
      'ERR_ACCEL_IO',
      `The virtio device changed its configuration at each of ${MAX_TRIES} times that it was read`,
    )
  }

  #memory(offset: number, width: number): Mmio {
    const { memory, sizeBytes } = this.#place
    if (memory !== undefined && offset >= 0 && offset + width <= sizeBytes) return memory
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `The virtio device has ${sizeBytes} bytes of configuration, and ${width} at ${offset} were wanted: another revision?`,
    )
  }
}
