import type { AccelError } from '@uaccel/uapi'
import type { CryptoDone, DataQueue } from './data-queue.js'
import type { CryptoOperation } from './operation.js'

/** The data queues of a device, which take operations in turn. */
export class DataQueues {
  /** Parts of an operation that each of them takes. */
  readonly maxParts: number
  readonly #queues: readonly DataQueue[]
  #next = 0
  #now = 0

  constructor(queues: readonly DataQueue[]) {
    this.#queues = queues
    this.maxParts = Math.min(...queues.map(({ maxParts }) => maxParts))
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

  /** Puts an operation into one that has room. False where none has. */
  push(operation: CryptoOperation, done: CryptoDone): boolean {
    const queues = this.#queues
    for (let tries = 0; tries < queues.length; tries++) {
      const queue = queues[this.#next]
      this.#next = this.#next + 1 === queues.length ? 0 : this.#next + 1
      if (queue.push(operation, done)) return true
    }
    return false
  }

  /** Notifies the device of what was put in, once for each queue that got something. */
  flush(): void {
    for (let i = 0; i < this.#queues.length; i++) this.#queues[i].flush()
  }

  /** Ends what the device is done with in one of them. `ERR_ACCEL_IO` where it said what cannot be. */
  poll(position: number): void {
    this.#queues[position].poll()
  }

  /** Ends all operations: the device was reset, or is gone. `errorOf` answers with what, by the {@link tick} before which each was put in. */
  fail(errorOf: (turn: number) => AccelError): void {
    for (const queue of this.#queues) queue.fail(errorOf)
  }

  /** A turn of the watchdog's clock is over. Answers the last turn of operations that have been under way for `turns` whole ones; -1 without. */
  tick(turns: number): number {
    this.#now++
    for (const queue of this.#queues) queue.turn = this.#now
    const late = this.#now - turns - 1
    return this.#queues.some((queue) => queue.hasSince(late)) ? late : -1
  }
}
