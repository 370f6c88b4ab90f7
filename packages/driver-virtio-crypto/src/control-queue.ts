import { Completion } from '@uaccel/core'
import type { DmaRegion } from '@uaccel/memory'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import type { SplitQueue } from '@uaccel/virtio'
import { CONTROL_BYTES, NO_STATUS } from './protocol.js'
import { MAX_RSA_KEY_BYTES } from './uapi.js'

/** Of a request and its answer: the longest request has a key behind it. */
const ANSWER_AT = CONTROL_BYTES + MAX_RSA_KEY_BYTES + 8
/** struct virtio_crypto_create_session_input. */
const ANSWER_BYTES = 16
export const CONTROL_MEMORY_BYTES = ANSWER_AT + ANSWER_BYTES
/** Of a request: what it asks, what is answered. */
export const CONTROL_SEGMENTS = 2

/** The control queue (virtio 1.2, 5.9.7.2): one request at a time. */
export class ControlQueue {
  readonly #queue: SplitQueue
  readonly #memory: DmaRegion
  readonly #timeoutMs: number
  readonly #kick: () => void
  readonly #answered = new Completion('the answer of the control queue')
  #turn: Promise<unknown> = Promise.resolve()
  #failure: AccelError | undefined
  #resets = 0

  /**
   * @param memory {@link CONTROL_MEMORY_BYTES}
   * @param kick called when the device was told of something, for whoever polls
   */
  constructor(queue: SplitQueue, memory: DmaRegion, timeoutMs: number, kick: () => void) {
    this.#queue = queue
    this.#memory = memory
    this.#timeoutMs = timeoutMs
    this.#kick = kick
  }

  /** Requests that the device has not answered. */
  get inFlight(): number {
    return this.#queue.inFlight
  }

  /** Why it takes no requests. */
  get failure(): AccelError | undefined {
    return this.#failure
  }

  /** How often {@link fail} was called: what the device knew before it has forgotten. */
  get resets(): number {
    return this.#resets
  }

  /**
   * Sends a request and answers the `answerBytes` that the device wrote; what it did not write is 0xff. Afterwards the request, which
   * may hold a key, is gone from memory. `ERR_ACCEL_TIMEOUT`: then no other is sent until {@link restart}. A request whose turn comes
   * after a reset is not sent: it was meant for the device before that.
   */
  request(request: Uint8Array, answerBytes: number): Promise<DataView> {
    const resets = this.#resets
    const answer = this.#turn.then(() => {
      if (this.#failure !== undefined) throw this.#failure
      if (resets !== this.#resets)
        throw accelError('ERR_ACCEL_AGAIN', 'The virtio-crypto device was reset before this request was sent')
      return this.#exchange(request, answerBytes)
    })
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

  /** Ends the request that is under way, and refuses others: the device is reset, or gone. */
  fail(error: AccelError): void {
    this.#resets++
    this.#failure = error
    this.#answered.fail(error)
  }

  /** The device was reset. */
  restart(): void {
    this.#failure = undefined
  }

  async #exchange(request: Uint8Array, answerBytes: number): Promise<DataView> {
    const { u8, iovaLow, iovaHigh } = this.#memory
    u8.set(request)
    u8.fill(NO_STATUS, ANSWER_AT, ANSWER_AT + ANSWER_BYTES)
    try {
      this.#answered.reinit()
      this.#queue.begin(CONTROL_SEGMENTS)
      // A region this small lies within 2 MiB of its arena, and crosses no 4 GiB.
      this.#queue.add(iovaLow, iovaHigh, request.length, false)
      this.#queue.add(iovaLow + ANSWER_AT, iovaHigh, answerBytes, true)
      this.#queue.end()
      this.#queue.flush()
      this.#kick()
      await this.#answered.wait({ timeoutMs: this.#timeoutMs })
      return new DataView(u8.slice(ANSWER_AT, ANSWER_AT + answerBytes).buffer)
    } catch (cause) {
      // Where it was reset, what comes next is for the device as it is then.
      this.#failure ??= isAccelError(cause, 'ERR_ACCEL_TIMEOUT') ? unanswered(cause) : undefined
      throw cause
    } finally {
      u8.fill(0, 0, request.length)
    }
  }
}

function unanswered(cause: AccelError): AccelError {
  return accelError('ERR_ACCEL_TIMEOUT', `The virtio-crypto device has to be reset: ${cause.message}`, {
    cause,
  })
}
