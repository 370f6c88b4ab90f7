import { accelError } from '@uaccel/uapi'

/** What the device would see cut to 32 bits is refused: buffers are checked against the number as given. */
export function int32(value: number): number {
  if ((value | 0) === value) return value
  throw accelError('ERR_ACCEL_OUT_OF_RANGE', `A field of an NPU step wants an int32, found ${value}`)
}

/** As {@link int32}, from 0 to `max`. */
export function uint(value: number, max: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= max) return value
  throw accelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `A field of an NPU step wants an integer from 0 to ${max}, found ${value}`,
  )
}

/** A parameter block under construction (docs/devices/npu.md, 7.5). */
export class Block {
  readonly bytes: Uint8Array
  readonly #view: DataView

  constructor(sizeBytes: number) {
    this.bytes = new Uint8Array(sizeBytes)
    this.#view = new DataView(this.bytes.buffer)
    this.#view.setUint16(0, 1, true)
    this.#view.setUint16(2, sizeBytes, true)
  }

  u8(offset: number, ...values: number[]): this {
    for (const [i, value] of values.entries()) this.#view.setUint8(offset + i, uint(value, 0xff))
    return this
  }
  u32(offset: number, ...values: number[]): this {
    for (const [i, value] of values.entries()) {
      this.#view.setUint32(offset + 4 * i, uint(value, 0xffff_ffff), true)
    }
    return this
  }
  i32(offset: number, ...values: number[]): this {
    for (const [i, value] of values.entries()) this.#view.setInt32(offset + 4 * i, int32(value), true)
    return this
  }
  f32(offset: number, ...values: number[]): this {
    for (const [i, value] of values.entries()) this.#view.setFloat32(offset + 4 * i, value, true)
    return this
  }
}
