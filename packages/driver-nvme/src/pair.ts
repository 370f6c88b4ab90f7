import type { DmaDomain, DmaRegion } from '@uaccel/memory'
import { accelError, isAccelError } from '@uaccel/uapi'
import type { AdminQueue } from './admin.js'
import { Admin, COMMAND_BYTES, COMPLETION_BYTES, PAGE_BYTES } from './command.js'
import { listBytes } from './prp.js'
import { type Doorbells, NvmeQueue } from './queue.js'
import { warmUp } from './warm-up.js'

/** A queue pair and where its rings are. */
export interface Pair {
  readonly queue: NvmeQueue
  readonly entries: number
  readonly submissions: DmaRegion
  readonly completions: DmaRegion
  /** Absent where commands move two pages at most. */
  readonly lists: DmaRegion | undefined
}

/** Memory of a queue pair. */
export type PairMemory = Omit<Pair, 'queue'>

/** What a pair is like. */
export interface PairOptions {
  /** 0 is the admin queue. */
  readonly id: number
  readonly entries: number
  /** What one command moves at most; 0 where two pages are enough. */
  readonly maxTransferBytes: number
}

/** Entries of the largest ring that is a power of two. CAP.MQES counts from 0 and is at least 1 (NVMe base 1.4, 3.1.1). */
export function maxEntries(maxQueueEntries: number): number {
  return 2 ** Math.floor(Math.log2(Math.max(2, maxQueueEntries + 1)))
}

/** Takes memory for a queue pair, all of it page-aligned. */
export function allocPair(
  { entries, maxTransferBytes }: Omit<PairOptions, 'id'>,
  alloc: (sizeBytes: number, name: string) => DmaRegion,
): PairMemory {
  return {
    entries,
    submissions: alloc(entries * COMMAND_BYTES, 'submissions'),
    completions: alloc(entries * COMPLETION_BYTES, 'completions'),
    lists: maxTransferBytes === 0 ? undefined : alloc(entries * listBytes(maxTransferBytes), 'PRP lists'),
  }
}

/** A queue pair for this thread. `stride` is the distance of two doorbells in bytes. */
export function makePair(dma: DmaDomain, doorbells: Doorbells, stride: number, options: PairOptions): Pair {
  warmUp()
  const { id, entries } = options
  const memory = allocPair(options, (sizeBytes, name) =>
    dma.alloc(sizeBytes, { alignBytes: PAGE_BYTES, name: `${name} of NVMe queue ${id}` }),
  )
  const { submissions, completions, lists } = memory
  const queue = new NvmeQueue({
    id,
    entries,
    memory: { submissions, completions, ...(lists && { lists }) },
    doorbells,
    submissionDoorbell: 2 * id * stride,
    completionDoorbell: (2 * id + 1) * stride,
  })
  return { queue, ...memory }
}

/** Has the controller make completion and submission queue of a pair (5.3, 5.4). Completions raise `vector`, or nothing. It has neither where it refused one. */
export async function createPair(
  admin: AdminQueue,
  id: number,
  { entries, submissions, completions }: PairMemory,
  vector: number | undefined,
): Promise<void> {
  const CONTIGUOUS = 1
  const INTERRUPTS = 2
  const cdw10 = id | ((entries - 1) << 16)
  const irq = vector === undefined ? 0 : INTERRUPTS | (vector << 16)
  await admin.run(
    { opcode: Admin.createCompletionQueue, cdw10, cdw11: CONTIGUOUS | irq },
    { data: completions },
  )
  const cdw11 = CONTIGUOUS | (id << 16)
  try {
    await admin.run({ opcode: Admin.createSubmissionQueue, cdw10, cdw11 }, { data: submissions })
  } catch (error) {
    if (wasRefused(error)) {
      await admin.run({ opcode: Admin.deleteCompletionQueue, cdw10: id }).catch((cause) => {
        throw accelError('ERR_ACCEL_IO', `NVMe completion queue ${id} could not be deleted`, { cause })
      })
    }
    throw error
  }
}

/** Whether the controller itself answered, with a status: then it did nothing. */
export function wasRefused(error: unknown): boolean {
  return isAccelError(error) && error.details?.statusCode !== undefined
}

/** Has the controller forget a queue pair (5.5, 5.6): it touches none of its memory any more. The submission queue goes first. */
export async function deletePair(admin: AdminQueue, id: number): Promise<void> {
  await admin.run({ opcode: Admin.deleteSubmissionQueue, cdw10: id })
  await admin.run({ opcode: Admin.deleteCompletionQueue, cdw10: id })
}
