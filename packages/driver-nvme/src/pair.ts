import type { DmaDomain, DmaRegion } from '@uaccel/memory'
import type { AdminQueue } from './admin.js'
import { Admin, COMMAND_BYTES, COMPLETION_BYTES, PAGE_BYTES } from './command.js'
import { listBytes } from './prp.js'
import { type Doorbells, NvmeQueue } from './queue.js'

/** A queue pair and where its rings are. */
export interface Pair {
  readonly queue: NvmeQueue
  readonly entries: number
  readonly submissions: DmaRegion
  readonly completions: DmaRegion
}

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

/** Takes memory for a queue pair. `stride` is the distance of two doorbells in bytes. */
export function makePair(
  dma: DmaDomain,
  doorbells: Doorbells,
  stride: number,
  { id, entries, maxTransferBytes }: PairOptions,
): Pair {
  const alloc = (sizeBytes: number, name: string) =>
    dma.alloc(sizeBytes, { alignBytes: PAGE_BYTES, name: `${name} of NVMe queue ${id}` })
  const submissions = alloc(entries * COMMAND_BYTES, 'submissions')
  const completions = alloc(entries * COMPLETION_BYTES, 'completions')
  const queue = new NvmeQueue({
    id,
    entries,
    memory: {
      submissions,
      completions,
      ...(maxTransferBytes === 0 ? {} : { lists: alloc(entries * listBytes(maxTransferBytes), 'PRP lists') }),
    },
    doorbells,
    submissionDoorbell: 2 * id * stride,
    completionDoorbell: (2 * id + 1) * stride,
  })
  return { queue, entries, submissions, completions }
}

/** Has the controller make completion and submission queue of a pair (5.3, 5.4). Completions raise `vector`, or nothing. */
export async function createPair(
  admin: AdminQueue,
  { queue, entries, submissions, completions }: Pair,
  vector: number | undefined,
): Promise<void> {
  const CONTIGUOUS = 1
  const INTERRUPTS = 2
  const cdw10 = queue.id | ((entries - 1) << 16)
  const irq = vector === undefined ? 0 : INTERRUPTS | (vector << 16)
  await admin.run(
    { opcode: Admin.createCompletionQueue, cdw10, cdw11: CONTIGUOUS | irq },
    { data: completions },
  )
  const cdw11 = CONTIGUOUS | (queue.id << 16)
  await admin.run({ opcode: Admin.createSubmissionQueue, cdw10, cdw11 }, { data: submissions })
}
