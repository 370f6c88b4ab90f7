import type { ClientBuffer } from '@uaccel/client'
import { encodeOperations, padPkcs7, unpadPkcs7 } from '@uaccel/driver-virtio-crypto/uapi'
import { accelError, type Handle } from '@uaccel/uapi'
import type { CryptoDevice } from './device.js'

export const BLOCK_BYTES = 16
/** Of AES-128, AES-192 and AES-256. */
export const KEY_BYTES: readonly number[] = [16, 24, 32]
/** What goes to the device at once: larger than that gains little. */
const OPERATION_BYTES = 256 * 1024
/** Operations under way at once, where they do not wait for each other. */
const LANES = 4

export interface CbcOptions {
  readonly direction: 'encrypt' | 'decrypt'
  /** 16, 24 or 32 bytes. */
  readonly key: Uint8Array
  /** 16 bytes, which nobody can foretell (NIST SP 800-38A, appendix C). */
  readonly iv: Uint8Array
  /** The most bytes of one operation, a multiple of 16; default 256 KiB, or less where the device takes less. */
  readonly operationBytes?: number
}

/**
 * AES-CBC with PKCS #7 padding on a virtio-crypto device, in the words of node:crypto's Cipheriv and Decipheriv: any number of
 * `update`, one at a time, then `final`. A message may be longer than memory: each operation goes on where the one before ended.
 */
export class DeviceCipher {
  readonly #device: CryptoDevice
  readonly #session: Handle<'session'>
  readonly #encrypts: boolean
  readonly #operationBytes: number
  /** One for each operation that may be under way, which works in place. */
  readonly #buffers: readonly ClientBuffer[]
  /** The last block of cipher text so far. */
  #iv: Uint8Array
  /** What came and is no whole block yet; in decryption the last block too, which may be the padding. */
  #rest: Uint8Array = new Uint8Array()

  private constructor(
    device: CryptoDevice,
    session: Handle<'session'>,
    buffers: readonly ClientBuffer[],
    { direction, iv, operationBytes = OPERATION_BYTES }: CbcOptions,
  ) {
    this.#device = device
    this.#session = session
    this.#encrypts = direction === 'encrypt'
    this.#operationBytes = operationBytes
    this.#buffers = buffers
    this.#iv = iv
  }

  /** Errors: `ERR_ACCEL_OUT_OF_RANGE` for a key of another size, `ERR_ACCEL_UNSUPPORTED` where the device has no AES-CBC. */
  static async open(device: CryptoDevice, options: CbcOptions): Promise<DeviceCipher> {
    const { direction, key } = options
    const { client, buffers: memory } = device
    const { maxRequestBytes } = await client.call('identify', {})
    // A request holds the initialization vector and both sides.
    const most = Math.floor((Number(maxRequestBytes) - BLOCK_BYTES) / 2 / BLOCK_BYTES) * BLOCK_BYTES
    const operationBytes = Math.min(options.operationBytes ?? OPERATION_BYTES, most)
    const { session } = await client.call('createCipherSession', { algorithm: 'aesCbc', direction, key })
    // A block of cipher text is needed before the next can be made; all that decryption needs is there already.
    const lanes = direction === 'encrypt' ? 1 : LANES
    const buffers = await Promise.all(Array.from({ length: lanes }, () => memory.create(operationBytes)))
    return new DeviceCipher(device, session, buffers, { ...options, operationBytes })
  }

  /** The result of all whole blocks until now; in decryption the last one waits for `final`. */
  async update(data: Uint8Array): Promise<Uint8Array> {
    const bytes = Buffer.concat([this.#rest, data])
    const over = bytes.length % BLOCK_BYTES
    const kept = this.#encrypts || over > 0 ? over : Math.min(bytes.length, BLOCK_BYTES)
    this.#rest = bytes.subarray(bytes.length - kept)
    return this.#run(bytes.subarray(0, bytes.length - kept))
  }

  /**
   * Adds the padding, or takes it off. `ERR_ACCEL_OUT_OF_RANGE` where cipher text does not end with a block, `ERR_ACCEL_INVALID_ARGUMENT`
   * where it ends with no padding: key, initialization vector or text are not those of the encryption.
   */
  async final(): Promise<Uint8Array> {
    const rest = this.#rest
    this.#rest = new Uint8Array()
    if (this.#encrypts) return this.#run(padPkcs7(rest))
    if (rest.length === BLOCK_BYTES) return unpadPkcs7(await this.#run(rest))
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `Cipher text in CBC is whole blocks of ${BLOCK_BYTES} bytes, at least one; found one of ${rest.length} at the end`,
    )
  }

  /** Gives session and memory back. */
  async close(): Promise<void> {
    await Promise.all(this.#buffers.map((buffer) => buffer.destroy()))
    await this.#device.client.call('destroySession', { session: this.#session })
  }

  /** Whole blocks. Both directions chain over the cipher text: the result of encryption, the input of decryption. */
  async #run(bytes: Uint8Array): Promise<Uint8Array> {
    const result = new Uint8Array(bytes.length)
    const chain = this.#encrypts ? result : bytes
    let next = 0
    const work = async (buffer: ClientBuffer) => {
      while (next < bytes.length) {
        const from = next
        const to = Math.min(from + this.#operationBytes, bytes.length)
        next = to
        const iv = from === 0 ? this.#iv : chain.slice(from - BLOCK_BYTES, from)
        buffer.u8.set(bytes.subarray(from, to))
        await this.#operate(buffer, to - from, iv)
        result.set(buffer.u8.subarray(0, to - from), from)
      }
    }
    await Promise.all(this.#buffers.map(work))
    if (bytes.length > 0) this.#iv = chain.slice(-BLOCK_BYTES)
    return result
  }

  async #operate(buffer: ClientBuffer, sizeBytes: number, iv: Uint8Array): Promise<void> {
    const part = [{ buffer: 0, sizeBytes }]
    const payload = encodeOperations([{ session: this.#session, iv, source: part, destination: part }])
    await this.#device.buffers.run({ buffers: [{ buffer }], payload })
  }
}
