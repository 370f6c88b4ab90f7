import { accelError } from '@uaccel/uapi'
import type { BarTrap } from './mmio.js'

/** Config space of a PCI device: 256 bytes, or 4096 with extended capabilities. */
export class ConfigSpace {
  readonly sizeBytes: number
  readonly #trap: BarTrap

  /** @internal */
  constructor(trap: BarTrap, sizeBytes: number) {
    this.#trap = trap
    this.sizeBytes = sizeBytes
  }

  read8(offset: number): number {
    return this.#trap.read(this.#check(offset, 1), 1)
  }
  read16(offset: number): number {
    return this.#trap.read(this.#check(offset, 2), 2)
  }
  read32(offset: number): number {
    return this.#trap.read(this.#check(offset, 4), 4)
  }
  write8(offset: number, value: number): void {
    this.#trap.write(this.#check(offset, 1), 1, value & 0xff)
  }
  write16(offset: number, value: number): void {
    this.#trap.write(this.#check(offset, 2), 2, value & 0xffff)
  }
  write32(offset: number, value: number): void {
    this.#trap.write(this.#check(offset, 4), 4, value >>> 0)
  }

  /** All of it, to be decoded. */
  snapshot(): Uint8Array {
    const bytes = new Uint8Array(this.sizeBytes)
    this.#trap.readBytes(0, bytes)
    return bytes
  }

  #check(offset: number, width: number): number {
    if (Number.isInteger(offset) && offset >= 0 && offset + width <= this.sizeBytes && offset % width === 0)
      return offset
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `config space: ${width} bytes at offset ${offset} are not aligned or not within its ${this.sizeBytes} bytes`,
    )
  }
}
