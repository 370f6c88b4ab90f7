import { PciRegion } from '@uaccel/core'
import type { RecordedDevice } from './header.js'

/** Command register with its memory decode and bus master bits; BARs; expansion ROM (PCI Local Bus 3.0, 6.1 and 6.2). */
const COMMAND = 0x04
const MEMORY_DECODE = 1 << 1
const BUS_MASTER = 1 << 2
const BAR0 = 0x10
const BAR_END = 0x28
const BAR_IO = 1
const BAR_64 = 4
const ROM = 0x30
/** Where a write changes nothing: ids, status, class, header type, subsystem, capabilities pointer, pin (same, 6.2). */
const READ_ONLY: readonly (readonly [number, number])[] = [
  [0x00, 0x04],
  [0x06, 0x0c],
  [0x0e, 0x10],
  [0x28, 0x30],
  [0x34, 0x3c],
  [0x3d, 0x40],
]

/**
 * Configuration space of a replayed device. It is replayed as state and not in order, since those who read it are the framework and the
 * transport, and no two of them alike: it begins as recorded, and keeps what is written where a device does.
 */
export class ConfigShadow {
  readonly #initial: Buffer
  readonly #bytes: Buffer
  /** Bits that a write changes. */
  readonly #mask: Buffer

  constructor({ config, regions }: RecordedDevice) {
    this.#initial = Buffer.from(config)
    this.#bytes = Buffer.from(config)
    this.#mask = Buffer.alloc(config.length, 0xff)
    if (config.length === 0) return
    for (const [from, to] of READ_ONLY) this.#mask.fill(0, from, to)
    for (let at = BAR0, high = false; at < BAR_END; at += 4) {
      const sizeBytes = regions[(at - BAR0) / 4]?.sizeBytes ?? 0
      const kind = config[at] ?? 0
      this.#mask.writeUInt32LE(high ? 0xffff_ffff : sizeBytes === 0 ? 0 : bits(sizeBytes, kind), at)
      high = !high && sizeBytes > 0 && (kind & (BAR_IO | BAR_64)) === BAR_64
    }
    const romBytes = regions[PciRegion.ROM]?.sizeBytes ?? 0
    this.#mask.writeUInt32LE(romBytes === 0 ? 0 : (bits(romBytes, 0) | 1) >>> 0, ROM)
  }

  /** False where it is no PCI device. */
  get exists(): boolean {
    return this.#bytes.length > 0
  }

  get memoryDecode(): boolean {
    return !this.exists || (this.#bytes.readUInt16LE(COMMAND) & MEMORY_DECODE) !== 0
  }

  get busMaster(): boolean {
    return !this.exists || (this.#bytes.readUInt16LE(COMMAND) & BUS_MASTER) !== 0
  }

  read(offset: number, into: Uint8Array): void {
    into.set(this.#bytes.subarray(offset, offset + into.length))
  }

  write(offset: number, from: Uint8Array): void {
    for (const [i, byte] of from.entries()) {
      const mask = this.#mask[offset + i]!
      this.#bytes[offset + i] = (this.#bytes[offset + i]! & ~mask) | (byte & mask)
    }
  }

  reset(): void {
    this.#initial.copy(this.#bytes)
  }
}

/** Address bits of a BAR of that size; 4 or 2 bits below say what it is. */
function bits(sizeBytes: number, kind: number): number {
  const inLow = Math.min(sizeBytes, 2 ** 32)
  return (-inLow & ((kind & BAR_IO) !== 0 ? ~3 : ~15)) >>> 0
}
