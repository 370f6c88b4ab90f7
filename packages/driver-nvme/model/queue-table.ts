import type { NvmeOptions } from './index.js'
import { CompletionQueue, SubmissionQueue } from './queues.js'
import { Failure } from './transfer.js'

/** I/O queue pairs. */
export const MOST_QUEUES = 16
/** Status codes (base specification 1.4, 4.6.1.2). */
const INVALID_FIELD = 0x02
const COMPLETION_QUEUE_INVALID = 0x100
const QUEUE_ID_INVALID = 0x101
const QUEUE_SIZE = 0x102
const VECTOR_INVALID = 0x108
const QUEUE_DELETION_INVALID = 0x10c

/** The queues of the controller, and the admin commands that make and delete them (5.3 to 5.6). */
export class QueueTable {
  readonly submissions = new Map<number, SubmissionQueue>()
  readonly completions = new Map<number, CompletionQueue>()
  readonly #offered: number
  readonly #maxEntries: number
  #granted = 0

  constructor({ queues = 4, maxEntries = 256 }: NvmeOptions) {
    this.#offered = Math.min(MOST_QUEUES, queues)
    this.#maxEntries = maxEntries
  }

  /** A controller reset. */
  clear(): void {
    this.submissions.clear()
    this.completions.clear()
    this.#granted = 0
  }

  /** Grants queue pairs, and answers how many. */
  grant(): number {
    this.#granted = this.#offered
    return this.#granted
  }

  addAdmin(
    submissions: bigint,
    submissionEntries: number,
    completions: bigint,
    completionEntries: number,
  ): void {
    const queue = new CompletionQueue(0, completions, completionEntries, 0)
    this.completions.set(0, queue)
    this.submissions.set(0, new SubmissionQueue(0, submissions, submissionEntries, queue))
  }

  #queueAt(command: DataView, cdw10: number, cdw11: number, taken: ReadonlyMap<number, unknown>) {
    const [id, entries] = [cdw10 & 0xffff, (cdw10 >>> 16) + 1]
    if (id === 0 || id > this.#granted || taken.has(id)) throw new Failure(QUEUE_ID_INVALID)
    if (entries < 2 || entries > this.#maxEntries) throw new Failure(QUEUE_SIZE)
    const base = command.getBigUint64(24, true)
    if ((cdw11 & 1) === 0 || base % 4096n !== 0n) throw new Failure(INVALID_FIELD)
    return { id, entries, base }
  }

  createCompletion(command: DataView, cdw10: number, cdw11: number): number {
    const { id, entries, base } = this.#queueAt(command, cdw10, cdw11, this.completions)
    const vector = cdw11 >>> 16
    if (vector > MOST_QUEUES) throw new Failure(VECTOR_INVALID)
    this.completions.set(id, new CompletionQueue(id, base, entries, cdw11 & 2 ? vector : undefined))
    return 0
  }

  createSubmission(command: DataView, cdw10: number, cdw11: number): number {
    const { id, entries, base } = this.#queueAt(command, cdw10, cdw11, this.submissions)
    const completions = this.completions.get(cdw11 >>> 16)
    if (completions === undefined || completions.id === 0) throw new Failure(COMPLETION_QUEUE_INVALID)
    this.submissions.set(id, new SubmissionQueue(id, base, entries, completions))
    return 0
  }

  deleteSubmission(id: number): SubmissionQueue {
    const queue = this.submissions.get(id)
    if (id === 0 || queue === undefined) throw new Failure(QUEUE_ID_INVALID)
    this.submissions.delete(id)
    return queue
  }

  deleteCompletion(id: number): void {
    const queue = this.completions.get(id)
    if (id === 0 || queue === undefined) throw new Failure(QUEUE_ID_INVALID)
    if ([...this.submissions.values()].some(({ completions }) => completions === queue))
      throw new Failure(QUEUE_DELETION_INVALID)
    this.completions.delete(id)
  }
}
