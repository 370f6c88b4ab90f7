import { closeSync, openSync, writeSync } from 'node:fs'
import { encodeRecord, monotonicNs, RECORD_BYTES } from '@uaccel/trace'
import { accelError } from '@uaccel/uapi'
import { encodeHeader, type RecordedDevice } from './header.js'
import { Kind } from './kinds.js'

/** What a record says besides its kind and time; what is left out is 0. */
export interface RecordFields {
  readonly width?: number
  readonly index?: number
  readonly id?: number
  readonly a?: number | bigint
  readonly b?: number | bigint
}

const LIMIT_REACHED = 2

/**
 * Writes a recording. Each record is in the file, whole, before the call that made it returns, so that whatever ends the process
 * leaves all that was before.
 */
export class RecordWriter {
  readonly path: string
  readonly #maxBytes: number
  readonly #onStop: (error: Error) => void
  readonly #record = Buffer.alloc(RECORD_BYTES)
  #fd: number | undefined
  #bytes = 0

  /**
   * @param maxBytes What the file may have: the recording ends there, and the session goes on.
   * @param onStop Told why a recording ended before its session.
   * @throws ERR_ACCEL_BUSY the file exists, ERR_ACCEL_SYSTEM it cannot be made
   */
  constructor(path: string, device: RecordedDevice, maxBytes: number, onStop: (error: Error) => void) {
    this.path = path
    this.#maxBytes = maxBytes
    this.#onStop = onStop
    try {
      this.#fd = openSync(path, 'wx', 0o600)
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException
      if (code === 'EEXIST')
        throw accelError('ERR_ACCEL_BUSY', `${path} exists: remove it, or record into another file`, {
          cause,
        })
      throw accelError('ERR_ACCEL_SYSTEM', `no recording can be made in ${path}: ${message}`, { cause })
    }
    this.#append(encodeHeader(device))
  }

  /** False once the recording ended. */
  get writing(): boolean {
    return this.#fd !== undefined
  }

  put(kind: number, fields: RecordFields = {}, payload?: Uint8Array): void {
    if (this.#fd === undefined) return
    const padded = payload === undefined ? 0 : Math.ceil(payload.length / 8) * 8
    if (this.#bytes + 2 * RECORD_BYTES + padded > this.#maxBytes) {
      this.end(LIMIT_REACHED)
      this.#onStop(
        accelError(
          'ERR_ACCEL_OUT_OF_RANGE',
          `the recording ${this.path} ended at its limit of ${this.#maxBytes} bytes`,
        ),
      )
      return
    }
    this.#encode(kind, fields)
    if (payload === undefined) this.#append(this.#record)
    else {
      const whole = Buffer.alloc(RECORD_BYTES + padded)
      this.#record.copy(whole)
      whole.set(payload, RECORD_BYTES)
      this.#append(whole)
    }
  }

  /** Ends the recording; again is harmless. `why` is that of `Kind.end`. */
  end(why: number): void {
    if (this.#fd === undefined) return
    this.#encode(Kind.end, { a: why })
    this.#append(this.#record)
    this.#close()
  }

  #encode(kind: number, { width = 0, index = 0, id = 0, a = 0, b = 0 }: RecordFields): void {
    const timeNs = BigInt(Math.round(monotonicNs()))
    encodeRecord({ timeNs, kind, width, index, id, a: BigInt(a), b: BigInt(b) }, this.#record)
  }

  /** A full disk ends the recording, and not the session that it is of. */
  #append(bytes: Uint8Array): void {
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd!, bytes, done)
      this.#bytes += bytes.length
    } catch (cause) {
      this.#close()
      this.#onStop(
        accelError('ERR_ACCEL_SYSTEM', `the recording ${this.path} ended: ${(cause as Error).message}`, {
          cause,
        }),
      )
    }
  }

  #close(): void {
    const fd = this.#fd
    this.#fd = undefined
    if (fd !== undefined) closeSync(fd)
  }
}
