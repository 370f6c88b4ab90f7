import { accelError } from '@uaccel/uapi'
import { rsaUses } from './algorithms.js'
import type { CryptoSession, SessionKind } from './session.js'
import { MAX_PARTS } from './uapi.js'

/** The most data of one operation: QEMU's device takes as much memory as it has, and ends where there is none. */
const MAX_OPERATION_BYTES = 16 * 1024 * 1024
/** What PKCS #1 puts around a message that is encrypted (RFC 8017, 7.2.1). */
const PKCS1_BYTES = 11
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
   * @throws ERR_ACCEL_INVALID_ARGUMENT bytes that are written twice, or written before they were read
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
    const verifies = service === 'asymmetric' && requireRsa(session.kind, source, sourceBytes)
    const wanted = service === 'cipher' ? sourceBytes : verifies ? 0 : resultBytes
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
    requireOnce(destination)
    if (service === 'cipher') requireInPlace(source, destination)
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
    // Who verifies has no result: in its place stands the digest.
    this.sourceBytes = verifies ? source[0].sizeBytes : sourceBytes
    this.resultBytes = verifies ? source[1].sizeBytes : wanted
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

/** What an operation of RSA reads has to have its length: a device may take that for granted. Answers whether it verifies. */
function requireRsa(
  { operation, resultBytes: modulus, digestBytes = 0 }: SessionKind,
  source: readonly Stretch[],
  sourceBytes: number,
): boolean {
  const { encrypt, decrypt, verify } = rsaUses
  if (operation === verify.number) {
    if (source.length !== 2 || source[0].sizeBytes !== modulus || source[1].sizeBytes !== digestBytes)
      refuse(`of RSA verifies a signature of ${modulus} bytes with a digest of ${digestBytes}, found others`)
    return true
  }
  if (operation === encrypt.number && sourceBytes > modulus - PKCS1_BYTES)
    refuse(`of RSA encrypts at most ${modulus - PKCS1_BYTES} bytes with this key, found ${sourceBytes}`)
  const exact = operation === decrypt.number ? modulus : digestBytes
  if (operation !== encrypt.number && sourceBytes !== exact)
    refuse(`of RSA wants exactly ${exact} bytes, found ${sourceBytes}`)
  return false
}

/** The position of each stretch among all bytes of its side. */
function placed(stretches: readonly Stretch[]) {
  let at = 0n
  return stretches.map(({ iova, sizeBytes }) => {
    const from = at
    at += BigInt(sizeBytes)
    return { iova, end: iova + BigInt(sizeBytes), from }
  })
}

/** No byte is in two parts of a result: which of them it would have in the end is the device's choice. */
function requireOnce(destination: readonly Stretch[]): void {
  const sorted = placed(destination).sort((a, b) => (a.iova < b.iova ? -1 : 1))
  for (let i = 1; i < sorted.length; i++) {
    if (sorted[i]!.iova < sorted[i - 1]!.end) overlap('parts of its result overlap')
  }
}

/** Where both sides have a byte in common, it is at the same place of both: a device writes a block when it has read it. */
function requireInPlace(source: readonly Stretch[], destination: readonly Stretch[]): void {
  const results = placed(destination)
  for (const read of placed(source)) {
    for (const written of results) {
      const common = read.iova < written.end && written.iova < read.end
      if (common && read.iova - read.from !== written.iova - written.from)
        overlap(
          'its result lies over bytes that it has still to read; in place, both sides name the same bytes',
        )
    }
  }
}

function overlap(what: string): never {
  throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `A crypto operation cannot be: ${what}`)
}

function refuse(what: string): never {
  throw accelError('ERR_ACCEL_OUT_OF_RANGE', `A crypto operation ${what}`)
}
