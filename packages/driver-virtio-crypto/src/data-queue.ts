import type { DmaRegion } from '@uaccel/memory'
import type { AccelError } from '@uaccel/uapi'
import type { SplitQueue } from '@uaccel/virtio'
import type { CryptoOperation } from './operation.js'
import { DATA_BYTES, DATA_OP_TYPE, NO_STATUS, OK, SYM_OP_CIPHER, statusError } from './protocol.js'
import type { CryptoSession } from './session.js'
import { MAX_PARTS } from './uapi.js'

/** Memory of a slot: the request, the initialization vector behind it, and the status that the device writes. */
export const SLOT_BYTES = 128
const SLOT_WORDS = SLOT_BYTES / 4
const STATUS_AT = 96
/** Words of a request that depend on the operation. */
const PARAMETERS = 6
const PARAMETER_WORDS = 12
/** VIRTIO_CRYPTO_FLAG_SESSION_MODE (5.9.7.4), which devices without VIRTIO_CRYPTO_F_REVISION_1 ignore. */
const SESSION_MODE = 1

/** Request and status. */
const OWN_SEGMENTS = 2
/** Segments of the longest operation, and of the shortest: both sides have at least one part. */
export const MAX_SEGMENTS = OWN_SEGMENTS + 2 * MAX_PARTS
export const MIN_SEGMENTS = OWN_SEGMENTS + 2

/**
 * Told when an operation has ended, or cannot any more: then the device was reset or is gone. `resultBytes` are those that the device
 * says it wrote: of RSA, the length of its result.
 */
export type CryptoDone = (error: AccelError | undefined, resultBytes: number) => void

/** A data queue (virtio 1.2, 5.9.7.4). Nothing here allocates but for an operation that failed. */
export class DataQueue {
  readonly #queue: SplitQueue
  readonly #words: Int32Array
  readonly #bytes: Uint8Array
  /** Addresses of the slots. */
  readonly #low: Int32Array
  readonly #high: Int32Array
  readonly #sessions: (CryptoSession | undefined)[]
  readonly #done: (CryptoDone | undefined)[]
  /** By slot: the {@link turn} in which its operation was put in. */
  readonly #turns: Int32Array
  #ended = -1
  /** Of a clock that whoever watches for operations that do not end advances. */
  turn = 0

  /** @param memory {@link SLOT_BYTES} for each entry of the queue */
  constructor(queue: SplitQueue, memory: Pick<DmaRegion, 'i32' | 'u8' | 'iova'>) {
    const { entries } = queue
    this.#queue = queue
    this.#words = memory.i32
    this.#bytes = memory.u8
    this.#low = new Int32Array(entries)
    this.#high = new Int32Array(entries)
    for (let slot = 0; slot < entries; slot++) {
      const iova = memory.iova + BigInt(slot * SLOT_BYTES)
      this.#low[slot] = Number(iova & 0xffff_ffffn)
      this.#high[slot] = Number(iova >> 32n)
    }
    this.#sessions = new Array(entries).fill(undefined)
    this.#done = new Array(entries).fill(undefined)
    this.#turns = new Int32Array(entries)
  }

  /** Of an operation: its parts on both sides, beside request and status. */
  get maxParts(): number {
    return this.#queue.maxSegments - OWN_SEGMENTS
  }

  /** Operations that the device was told of and has not ended. */
  get inFlight(): number {
    return this.#queue.inFlight
  }

  /** Puts an operation in, for {@link flush} to tell the device of. False where there is no room. */
  push(operation: CryptoOperation, done: CryptoDone): boolean {
    const { session, iv, words: parts, readable, count, sourceBytes, resultBytes } = operation
    const queue = this.#queue
    const slot = queue.begin(count + OWN_SEGMENTS)
    if (slot < 0) return false
    const words = this.#words
    const at = slot * SLOT_WORDS
    // struct virtio_crypto_op_header
    words[at] = session.opcode
    words[at + 1] = session.kind.algorithm
    words[at + 2] = session.idLow
    words[at + 3] = session.idHigh
    words[at + 4] = SESSION_MODE
    words[at + 5] = 0
    words.fill(0, at + PARAMETERS, at + PARAMETERS + PARAMETER_WORDS)
    if (session.kind.service === 'cipher') {
      // struct virtio_crypto_cipher_data_flf
      words[at + PARAMETERS] = iv.length
      words[at + PARAMETERS + 1] = sourceBytes
      words[at + PARAMETERS + 2] = resultBytes
      words[at + DATA_OP_TYPE / 4] = SYM_OP_CIPHER
    } else {
      // struct virtio_crypto_hash_data_flf, which that of a MAC begins with; virtio_crypto_akcipher_data_flf
      words[at + PARAMETERS] = sourceBytes
      words[at + PARAMETERS + 1] = resultBytes
    }
    const base = slot * SLOT_BYTES
    this.#bytes.set(iv, base + DATA_BYTES)
    this.#bytes[base + STATUS_AT] = NO_STATUS
    const low = this.#low[slot]
    const high = this.#high[slot]
    queue.add(low, high, DATA_BYTES + iv.length, false)
    for (let i = 0; i < count; i++) queue.add(parts[3 * i], parts[3 * i + 1], parts[3 * i + 2], i >= readable)
    // A region starts on 64 bytes, so that no slot crosses 4 GiB.
    queue.add((low + STATUS_AT) | 0, high, 1, true)
    queue.end()
    session.operations++
    this.#sessions[slot] = session
    this.#done[slot] = done
    this.#turns[slot] = this.turn
    return true
  }

  /** Tells the device of what was put in, with one notification at most. */
  flush(): void {
    this.#queue.flush()
  }

  /** Ends what the device is done with. `ERR_ACCEL_IO` where it said what cannot be: it has to be reset. Answers how many. */
  poll(): number {
    const queue = this.#queue
    let count = 0
    for (let slot = queue.next(); slot >= 0; slot = queue.next()) {
      const status = this.#bytes[slot * SLOT_BYTES + STATUS_AT]
      this.#ended = this.turn
      const resultBytes = queue.written > 0 ? queue.written - 1 : 0 // behind it is the status
      queue.release(slot)
      this.#end(
        slot,
        status === OK ? undefined : statusError('A crypto operation failed', status),
        resultBytes,
      )
      count++
    }
    return count
  }

  /** Whether nothing has ended since that {@link turn}, and an operation is under way that was put in at it or before. */
  hangsSince(turn: number): boolean {
    // What waits behind many large operations takes its time: that some end says that the device works.
    if (this.#ended > turn) return false
    return this.#done.some((done, slot) => done !== undefined && this.#turns[slot] <= turn)
  }

  /** Ends all operations: the device was reset, or is gone. `errorOf` answers with what, by the {@link turn} that each was put in. */
  fail(errorOf: (turn: number) => AccelError): void {
    for (let slot = 0; slot < this.#done.length; slot++) this.#end(slot, errorOf(this.#turns[slot]), 0)
  }

  #end(slot: number, error: AccelError | undefined, resultBytes: number): void {
    const done = this.#done[slot]
    if (done === undefined) return
    this.#done[slot] = undefined
    this.#sessions[slot]!.left()
    this.#sessions[slot] = undefined
    done(error, resultBytes)
  }
}
