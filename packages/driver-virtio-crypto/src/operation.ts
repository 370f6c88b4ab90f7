import { accelError } from '@uaccel/uapi'
import type { CryptoSession } from './session.js'
import { MAX_PARTS } from './uapi.js'

/** The most data of one operation: QEMU's device takes as much memory as it has, and ends where there is none. */
const MAX_OPERATION_BYTES = 16 * 1024 * 1024
const NO_IV: Uint8Array = new Uint8Array()

/** A stretch of memory at an I/O address. */
export interface Stretch {
  readonly iova: bigint
  readonly sizeBytes: number
}

/** An operation in the form that a data queue takes: made once, run any number of times. */
export class CryptoOperation {
  readonly session: CryptoSession
  readonly iv: Uint8Array
  /** Three words for each stretch: the halves of its address, its bytes. Those that the device reads come first. */
  readonly words: Int32Array
  readonly readable: number
  readonly count: number
  readonly sourceBytes: number
  readonly resultBytes: number

  /**
   * Checks what the session's algorithm wants.
   *
   * @throws ERR_ACCEL_OUT_OF_RANGE sizes or an initialization vector that do not fit it, or the device
   */
  constructor(
    session: CryptoSession,
    source: readonly Stretch[],
    destination: readonly Stretch[],
    iv: Uint8Array = NO_IV,
    maxRequestBytes = Number.POSITIVE_INFINITY,
  ) {
    const { blockBytes, ivBytes, service, resultBytes } = session.kind
    const sourceBytes = total(source)
    const wanted = service === 'cipher' ? sourceBytes : resultBytes
    const room = total(destination)
    if (source.length > MAX_PARTS || destination.length > MAX_PARTS) {
      refuse(`has ${Math.max(source.length, destination.length)} parts on one side, at most ${MAX_PARTS} go`)
    }
    if (sourceBytes === 0 || sourceBytes % blockBytes !== 0)
      refuse(`has ${sourceBytes} bytes to be read, wanted a multiple of ${blockBytes}; padPkcs7 makes one`)
    if (room !== wanted) refuse(`has room for ${room} bytes, and its result has ${wanted}`)
    if (iv.length !== ivBytes)
      refuse(`has an initialization vector of ${iv.length} bytes, its algorithm wants ${ivBytes}`)
    if (Math.max(sourceBytes, room) > MAX_OPERATION_BYTES)
      refuse(`has ${sourceBytes} bytes to be read, at most ${MAX_OPERATION_BYTES} go at once`)
    if (sourceBytes + room + iv.length > maxRequestBytes)
      refuse(`has ${sourceBytes + room} bytes, and the device takes ${maxRequestBytes}`)
    const stretches = [...source, ...destination]
    this.session = session
    this.iv = iv
    this.words = new Int32Array(3 * stretches.length)
    for (const [i, { iova, sizeBytes }] of stretches.entries()) {
      this.words[3 * i] = Number(iova & 0xffff_ffffn)
      this.words[3 * i + 1] = Number(iova >> 32n)
      this.words[3 * i + 2] = sizeBytes
    }
    this.readable = source.length
    this.count = stretches.length
    this.sourceBytes = sourceBytes
    this.resultBytes = wanted
  }
}

function total(stretches: readonly Stretch[]): number {
  let sum = 0
  for (const { sizeBytes } of stretches) {
    if (sizeBytes === 0) refuse('has a part of no bytes')
    sum += sizeBytes
  }
  return sum
}

function refuse(what: string): never {
  throw accelError('ERR_ACCEL_OUT_OF_RANGE', `A crypto operation ${what}`)
}
