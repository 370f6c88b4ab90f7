import { type AccelError, accelError } from '@uaccel/uapi'
import type { CryptoDone, DataQueue } from './data-queue.js'
import type { CryptoOperation } from './operation.js'

/** An operation that waits for room in a queue. */
interface Waiting {
  readonly operation: CryptoOperation
  readonly done: CryptoDone
}

/** The data queues of a device, which take operations in turn. What does not fit them, or comes while they are held, waits here. */
export class DataQueues {
  readonly #queues: readonly DataQueue[]
  readonly #waiting: Waiting[] = []
  /** Parts of an operation that each of them takes. */
  readonly #maxParts: number
  #held = true
  #next = 0
  #now = 0

  constructor(queues: readonly DataQueue[]) {
    this.#queues = queues
    this.#maxParts = Math.min(...queues.map(({ maxParts }) => maxParts))
  }

  get count(): number {
    return this.#queues.length
  }

  /** Operations that the device was told of and has not ended. */
  get inFlight(): number {
    let sum = 0
    for (let i = 0; i < this.#queues.length; i++) sum += this.#queues[i].inFlight
    return sum
  }

  /** Nothing goes to the device until {@link resume}. So it is at first. */
  get held(): boolean {
    return this.#held
  }

  hold(): void {
    this.#held = true
  }

  /** What waited goes on. */
  resume(): void {
    this.#held = false
    this.#advance()
  }

  /** See `VirtioCrypto.submit`. */
  submit(operation: CryptoOperation, done: CryptoDone): void {
    if (operation.session.closed) throw closedError()
    if (operation.count > this.#maxParts) this.#refuse(operation.count)
    if (!this.#held && this.#waiting.length === 0 && this.#push(operation, done)) return
    operation.session.operations++ // it keeps its session while it waits
    this.#waiting.push({ operation, done })
  }

  /** Notifies the device of what was put in, once for each queue that got something. */
  flush(): void {
    if (this.#held) return
    for (let i = 0; i < this.#queues.length; i++) this.#queues[i].flush()
  }

  /** Ends what the device is done with in one of them. `ERR_ACCEL_IO` where it said what cannot be. */
  poll(position: number): void {
    this.#queues[position].poll()
    if (this.#waiting.length > 0) this.#advance()
  }

  /**
   * Ends all operations that the device was told of: it was reset. `errorOf` answers with what, by the {@link tick} before which each
   * was put in.
   */
  fail(errorOf: (turn: number) => AccelError): void {
    for (const queue of this.#queues) queue.fail(errorOf)
  }

  /** Ends all, also what waits, and holds. */
  lose(error: AccelError): void {
    this.hold()
    this.fail(() => error)
    for (const { operation, done } of this.#waiting.splice(0)) {
      operation.session.left()
      done(error, 0)
    }
  }

  /** A turn of the watchdog's clock is over. Answers the last turn of operations that hang since `turns` whole ones; -1 without. */
  tick(turns: number): number {
    this.#now++
    for (const queue of this.#queues) queue.turn = this.#now
    const late = this.#now - turns - 1
    return this.#queues.some((queue) => queue.hangsSince(late)) ? late : -1
  }

  /** Puts an operation into one that has room. False where none has. */
  #push(operation: CryptoOperation, done: CryptoDone): boolean {
    const queues = this.#queues
    for (let tries = 0; tries < queues.length; tries++) {
      const queue = queues[this.#next]
      this.#next = this.#next + 1 === queues.length ? 0 : this.#next + 1
      if (queue.push(operation, done)) return true
    }
    return false
  }

  #advance(): void {
    for (let next = this.#waiting[0]; next !== undefined && !this.#held; next = this.#waiting[0]) {
      const { operation, done } = next
      if (operation.session.closed && !operation.session.live)
        done(closedError(), 0) // it went with a reset
      else if (!this.#push(operation, done)) break
      this.#waiting.shift()
      operation.session.left()
    }
    this.flush()
  }

  #refuse(parts: number): never {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `A crypto operation has ${parts} parts, and the queues of this device take ${this.#maxParts}: use larger parts`,
    )
  }
}

const closedError = () =>
  accelError('ERR_ACCEL_CLOSED', 'The session of a crypto operation was destroyed, or went with a reset')
