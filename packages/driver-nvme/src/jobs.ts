import type { Job } from '@uaccel/accel'
import type { DmaRegion } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import { DEALLOCATE, FORCE_UNIT_ACCESS } from './command.js'
import type { Nvme } from './nvme.js'
import type { CommandListener, NvmeQueue } from './queue.js'
import { statusError } from './status.js'
import { decodeSteps, type Work } from './steps.js'
import type { Operation } from './uapi.js'

/** One range of dataset management: context attributes, length, first block (NVMe base 1.4, 6.7.1). */
const RANGE_BYTES = 16
/** One source range of a copy, format 0: first block from byte 8 on, blocks counted from 0 from byte 16 on (TP 4065). */
const SOURCE_BYTES = 32

/** A queue, and what its commands under way are of, by CID. */
class JobQueue {
  readonly queue: NvmeQueue
  readonly operations: Operation[]
  /** Lists of ranges that they name. */
  readonly lists: (DmaRegion | undefined)[]

  constructor(queue: NvmeQueue) {
    this.queue = queue
    this.operations = new Array(queue.depth).fill('read')
    this.lists = new Array(queue.depth).fill(undefined)
  }
}

/** Runs the jobs of clients, on one queue after the other. */
export class NvmeJobs {
  /** How many jobs are run at once. */
  readonly depth = 64
  readonly #nvme: Nvme
  readonly #queues: readonly JobQueue[]
  readonly #waiting = new Set<JobRun>()
  #next = 0

  constructor(nvme: Nvme) {
    this.#nvme = nvme
    this.#queues = nvme.queues.map((queue) => new JobQueue(queue))
    nvme.onRoom(() => this.#room())
  }

  #room(): void {
    if (this.#waiting.size === 0) return
    const waiting = [...this.#waiting] // who still finds none waits again
    this.#waiting.clear()
    for (const run of waiting) run.pump()
  }

  /**
   * Settles when the device is done with the memory of the job. Nothing was begun where a step is refused: `ERR_ACCEL_BAD_SIZE`,
   * `ERR_ACCEL_OUT_OF_RANGE`, `ERR_ACCEL_PERMISSION`, `ERR_ACCEL_UNSUPPORTED`, `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_INVALID_ARGUMENT`,
   * `ERR_ACCEL_RESERVED` and those of the codec. Else the errors of a status, and of a reset.
   */
  async run(job: Job, signal: AbortSignal): Promise<void> {
    await this.#nvme.ready()
    const work = decodeSteps(job.payload, job.ranges, this.#nvme)
    this.#next = (this.#next + 1) % this.#queues.length
    const run = new JobRun(this.#nvme, this.#queues[this.#next], work, this.#waiting)
    const abort = () => run.abort(signal)
    signal.addEventListener('abort', abort)
    try {
      if (signal.aborted) abort()
      await run.done
    } finally {
      signal.removeEventListener('abort', abort)
      this.#waiting.delete(run)
    }
  }
}

/** One job on its queue: as many commands under way as there is room for. */
class JobRun implements CommandListener {
  readonly done: Promise<void>
  readonly #nvme: Nvme
  readonly #on: JobQueue
  readonly #work: readonly Work[]
  readonly #waiting: Set<JobRun>
  #at = 0
  /** Commands under way. */
  #under = 0
  #flushing = false
  #error: AccelError | undefined
  #resolve!: () => void
  #reject!: (error: unknown) => void

  constructor(nvme: Nvme, on: JobQueue, work: readonly Work[], waiting: Set<JobRun>) {
    this.#nvme = nvme
    this.#on = on
    this.#work = work
    this.#waiting = waiting
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.pump()
  }

  /** Nobody wants it any more: begins nothing, and asks the controller to abort what is under way. */
  abort(signal: AbortSignal): void {
    this.#error ??= accelError('ERR_ACCEL_ABORTED', 'The NVMe job was given up', { cause: signal.reason })
    for (const cid of this.#on.queue.cidsOf(this)) this.#nvme.abort(this.#on.queue, cid)
    this.#settle()
  }

  /** Submits what can be. */
  pump(): void {
    // Where nothing is left, that the controller is being reset says nothing of what it has acknowledged.
    if (this.#error === undefined && this.#at < this.#work.length) this.#go()
    this.#settle()
  }

  completed(cid: number, status: number): void {
    this.#end(cid)
    if (status !== 0) this.#error ??= statusError(this.#on.operations[cid], status)
    this.pump()
  }

  failed(cid: number, error: AccelError): void {
    if (error.details?.idle === false) this.#on.lists[cid] = undefined // the device may still read it: nobody else gets it
    this.#end(cid)
    this.#error ??= error
    this.#settle()
  }

  #go(): void {
    try {
      this.#nvme.checkUp()
      try {
        this.#submit()
      } finally {
        this.#nvme.kick(this.#on.queue) // what went into the ring before one that could not
      }
    } catch (error) {
      this.#error ??= error as AccelError
    }
  }

  #submit(): void {
    while (this.#error === undefined && this.#at < this.#work.length && !this.#flushing) {
      const work = this.#work[this.#at]
      if (work.operation === 'flush' && this.#under > 0) return
      if (this.#on.queue.free === 0) {
        // What is under way pumps when it ends; without any, others make room.
        if (this.#under === 0) this.#waiting.add(this)
        return
      }
      this.#issue(work)
      this.#flushing = work.operation === 'flush'
      if (this.#flushing || work.issued === work.blocks) this.#at++
    }
  }

  /** Submits the next command of a step. */
  #issue(work: Work): void {
    const { operation, kind, nsid, blockBytes, chunk } = work
    const { queue, operations, lists } = this.#on
    const blocks = Math.min(chunk, work.blocks - work.issued)
    const first = work.lba + work.issued
    const list = this.#listOf(work, blocks)
    let cdw10 = first | 0
    let cdw11 = Math.floor(first / 2 ** 32)
    let cdw12 = (blocks - 1) | (work.forceUnitAccess ? FORCE_UNIT_ACCESS : 0)
    let low = work.low + work.issued * blockBytes // below 2^53
    let high = work.high + Math.floor(low / 2 ** 32)
    let sizeBytes = blocks * blockBytes
    if (list !== undefined) {
      low = list.iovaLow
      high = list.iovaHigh
      sizeBytes = list.sizeBytes
    } else if (kind.access === undefined) low = high = sizeBytes = 0
    if (operation === 'flush') cdw10 = cdw11 = cdw12 = 0
    else if (operation === 'deallocate') {
      cdw10 = cdw12 = 0 // one range, counted from 0
      cdw11 = DEALLOCATE
    } else if (operation === 'copy') cdw12 += sizeBytes / SOURCE_BYTES - blocks // ranges for blocks
    const { opcode } = kind
    const cid = queue.submit(opcode, nsid, low | 0, high | 0, sizeBytes, cdw10, cdw11, cdw12, this)
    operations[cid] = operation
    lists[cid] = list
    this.#under++
    work.issued += blocks
  }

  /** The ranges that a step's next command names in memory, where it is one that does. */
  #listOf(work: Work, blocks: number): DmaRegion | undefined {
    if (work.operation === 'deallocate') {
      const list = this.#nvme.allocate(RANGE_BYTES)
      list.u32[1] = blocks
      list.u64[1] = BigInt(work.lba + work.issued)
      return list
    }
    if (work.operation !== 'copy') return undefined
    const { source, issued, rangeBlocks } = work
    const list = this.#nvme.allocate(Math.ceil(blocks / rangeBlocks) * SOURCE_BYTES)
    const { u32, u64 } = list
    for (let done = 0, at = 0; done < blocks; done += rangeBlocks, at += SOURCE_BYTES) {
      u64[at / 8 + 1] = BigInt(source + issued + done)
      u32[at / 4 + 4] = Math.min(rangeBlocks, blocks - done) - 1
    }
    return list
  }

  #end(cid: number): void {
    this.#under--
    this.#flushing = false // a flush is under way alone
    const list = this.#on.lists[cid]
    if (list === undefined) return
    list.free()
    this.#on.lists[cid] = undefined
  }

  #settle(): void {
    if (this.#under > 0) return
    if (this.#error !== undefined) this.#reject(this.#error)
    else if (this.#at === this.#work.length) this.#resolve()
  }
}
