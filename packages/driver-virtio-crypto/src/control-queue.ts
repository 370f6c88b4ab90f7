import { Completion } from '@uaccel/core'
import type { DmaRegion } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { SplitQueue } from '@uaccel/virtio'
import { CONTROL_BYTES, NO_STATUS } from './protocol.js'
import { MAX_KEY_BYTES } from './uapi.js'

/** Of a request and its answer: the longest request has a key behind it. */
const ANSWER_AT = CONTROL_BYTES + MAX_KEY_BYTES + 8
/** struct virtio_crypto_create_session_input. */
const ANSWER_BYTES = 16
export const CONTROL_MEMORY_BYTES = ANSWER_AT + ANSWER_BYTES
/** A session is made in memory; an emulated device has a turn of its event loop between. */
const ANSWER_MS = 5_000

/** The control queue (virtio 1.2, 5.9.7.2): one request at a time. */
export class ControlQueue {
  readonly #queue: SplitQueue
  readonly #memory: DmaRegion
  readonly #answered = new Completion('the answer of the control queue')
  #turn: Promise<unknown> = Promise.resolve()
  #failure: AccelError | undefined

  /** @param memory {@link CONTROL_MEMORY_BYTES} */
  constructor(queue: SplitQueue, memory: DmaRegion) {
    this.#queue = queue
    this.#memory = memory
  }

  /**
   * Sends a request and answers the `answerBytes` that the device wrote; what it did not write is 0xff. Afterwards the request, which
   * may hold a key, is gone from memory. `ERR_ACCEL_TIMEOUT`: then no other is sent until {@link restart}.
   */
  request(request: Uint8Array, answerBytes: number): Promise<DataView> {
    const answer = this.#turn.then(() => this.#exchange(request, answerBytes))
    this.#turn = answer.catch(() => {})
    return answer
  }

  /** For the interrupt. `ERR_ACCEL_IO` where the device said what cannot be. */
  poll(): void {
    for (let slot = this.#queue.next(); slot >= 0; slot = this.#queue.next()) {
      this.#queue.release(slot)
      this.#answered.complete()
    }
  }

  /** Ends the request that is under way, and refuses others. */
  fail(error: AccelError): void {
    this.#failure = error
    this.#answered.fail(error)
  }

  /** The device was reset. */
  restart(): void {
    this.#failure = undefined
  }

  async #exchange(request: Uint8Array, answerBytes: number): Promise<DataView> {
    if (this.#failure !== undefined) throw this.#failure
    const { u8, iovaLow, iovaHigh } = this.#memory
    u8.set(request)
    u8.fill(NO_STATUS, ANSWER_AT, ANSWER_AT + ANSWER_BYTES)
    try {
      this.#answered.reinit()
      this.#queue.begin(2)
      // A region this small lies within 2 MiB of its arena, and crosses no 4 GiB.
      this.#queue.add(iovaLow, iovaHigh, request.length, false)
      this.#queue.add(iovaLow + ANSWER_AT, iovaHigh, answerBytes, true)
      this.#queue.end()
      this.#queue.flush()
      await this.#answered.wait({ timeoutMs: ANSWER_MS })
      return new DataView(u8.slice(ANSWER_AT, ANSWER_AT + answerBytes).buffer)
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause)
      this.#failure ??= accelError(
        'ERR_ACCEL_TIMEOUT',
        `The virtio-crypto device has to be reset: ${message}`,
        {
          cause,
        },
      )
      throw cause
    } finally {
      u8.fill(0, 0, request.length)
    }
  }
}
