import type { Mmio } from '@uaccel/core'
import type { DmaDomain } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import { makePair, type Pair } from './pair.js'
import type { NvmeQueue } from './queue.js'

const ADMIN_ENTRIES = 32

/** The queue pairs of a controller. They are kept over resets: users hold them. */
export class NvmeQueues {
  readonly admin: Pair
  /** The I/O queue pairs; queue 1 is the first. */
  readonly io: Pair[] = []
  /** All queues, the admin queue first. */
  readonly all: NvmeQueue[]
  readonly #dma: DmaDomain
  readonly #doorbells: Mmio
  readonly #stride: number

  /** @param stride Bytes from one doorbell to the next. @param maxEntries Of the controller. */
  constructor(dma: DmaDomain, doorbells: Mmio, stride: number, maxEntries: number) {
    this.#dma = dma
    this.#doorbells = doorbells
    this.#stride = stride
    this.admin = this.#make(0, Math.min(ADMIN_ENTRIES, maxEntries), 0)
    this.all = [this.admin.queue]
  }

  /** Takes memory for I/O queue pairs until there are `count`. */
  grow(count: number, entries: number, maxTransferBytes: number): void {
    while (this.io.length < count) {
      const pair = this.#make(this.io.length + 1, entries, maxTransferBytes)
      this.io.push(pair)
      this.all.push(pair.queue)
    }
  }

  /** True where commands are under way that are to end. */
  get busy(): boolean {
    return this.all.some((queue) => queue.busy)
  }

  /** True where a command is under way that was to be aborted. */
  get stuck(): boolean {
    return this.all.some((queue) => queue.stuck)
  }

  /** Takes all completions. `ERR_ACCEL_IO` for what cannot be trusted. */
  poll(): number {
    let count = 0
    for (const queue of this.all) count += queue.poll()
    return count
  }

  /** Takes the completions that can be trusted, before a reset: what was acknowledged is not lost. */
  pollLast(): void {
    for (const queue of this.all) {
      try {
        queue.poll()
      } catch {
        // The reset is what helps.
      }
    }
  }

  /** The device is at rest: ends what was under way. A command that was late ends with that, all others may be repeated. */
  failAll(why: AccelError): void {
    for (const queue of this.all) {
      const late = new Set(queue.stuck ? queue.abortingCids : [])
      queue.fail((cid) => {
        if (why.code !== 'ERR_ACCEL_TIMEOUT' && why.code !== 'ERR_ACCEL_IO') return why
        const code = late.has(cid) ? 'ERR_ACCEL_TIMEOUT' : 'ERR_ACCEL_AGAIN'
        const advice = late.has(cid) ? '' : ': it was not acknowledged, and may be repeated'
        const message = `The NVMe controller was reset while the command was under way${advice}; ${why.message}`
        return accelError(code, message, { cause: why })
      })
    }
  }

  #make(id: number, entries: number, maxTransferBytes: number): Pair {
    return makePair(this.#dma, this.#doorbells, this.#stride, { id, entries, maxTransferBytes })
  }
}
