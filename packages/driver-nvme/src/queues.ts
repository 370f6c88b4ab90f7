import type { Mmio } from '@uaccel/core'
import type { DmaDomain } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { NvmeLease } from './lease.js'
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
  /** The queue pairs that worker threads use, by id. */
  readonly lent = new Map<number, NvmeLease>()
  /** How many of those there may be. */
  lendable = 0
  /** Ids of leases that have ended before their worker let go. */
  readonly #late = new Set<number>()
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

  /** The id of a queue pair for a worker thread. `ERR_ACCEL_BUSY` where all are lent. */
  freeId(): number {
    for (let id = this.io.length + 1; id <= this.io.length + this.lendable; id++)
      if (!this.lent.has(id) && !this.#late.has(id)) return id
    throw accelError(
      'ERR_ACCEL_BUSY',
      `All ${this.lendable} queues for worker threads are in use: close one, or start the driver with more workerQueues, of which the controller grants what it has`,
    )
  }

  /** Gives the id of a lease to nobody before its worker has let go: what that stores into shadow doorbells would be another's. */
  keepFrom({ id, detached }: NvmeLease): void {
    this.#late.add(id)
    void detached.then(() => this.#late.delete(id))
  }

  /** Has worker threads touch the device no more, before it is brought to rest. */
  async pauseLent(): Promise<void> {
    await Promise.all(Array.from(this.lent.values(), (lease) => lease.pause()))
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
    for (const queue of this.all) failQueue(queue, why)
    for (const lease of this.lent.values()) {
      if (why.details?.idle !== false) lease.on = false
      lease.fail(why)
    }
  }

  #make(id: number, entries: number, maxTransferBytes: number): Pair {
    return makePair(this.#dma, this.#doorbells, this.#stride, { id, entries, maxTransferBytes })
  }
}

/** Ends what is under way on a queue, of a device that was brought to rest for that reason. */
export function failQueue(queue: NvmeQueue, why: AccelError): void {
  const late = new Set(queue.stuck ? queue.abortingCids : [])
  queue.fail((cid) => {
    if (why.code !== 'ERR_ACCEL_TIMEOUT' && why.code !== 'ERR_ACCEL_IO') return why
    const code = late.has(cid) ? 'ERR_ACCEL_TIMEOUT' : 'ERR_ACCEL_AGAIN'
    const advice = late.has(cid) ? '' : ': it was not acknowledged, and may be repeated'
    const message = `The NVMe controller was reset while the command was under way${advice}; ${why.message}`
    return accelError(code, message, { cause: why })
  })
}
