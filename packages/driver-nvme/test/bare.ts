import type { DmaRegion } from '@uaccel/memory'
import { listBytes } from '../src/prp.js'
import { type CommandListener, NvmeQueue } from '../src/queue.js'

export const QUEUE_ID = 3
/** Where the doorbells of that queue are, in bytes from the first one. */
export const DOORBELL = { submission: 24, completion: 28 } as const

/** How a queue over plain memory is made. */
export interface BareOptions {
  readonly entries?: number
  readonly maxTransferBytes?: number
  /** I/O address of its lists. */
  readonly lists?: bigint
  /** In memory that another thread may see. */
  readonly shared?: boolean
}

/** A queue over plain memory; the test is the device. */
export function bareQueue({
  entries = 64,
  maxTransferBytes = 128 * 1024,
  lists = 0x10_0000n,
  shared = false,
}: BareOptions = {}) {
  const region = (bytes: number, iova: bigint) => {
    const memory = shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes)
    return { i32: new Int32Array(memory), iova } as unknown as DmaRegion
  }
  const memory = {
    submissions: region(entries * 64, 0n),
    completions: region(entries * 16, 0n),
    lists: region(entries * listBytes(maxTransferBytes), lists),
  }
  const rung: [number, number][] = []
  const doorbells = { write32: (offset: number, value: number) => void rung.push([offset, value]) }
  const cq = memory.completions.i32
  const queue = new NvmeQueue({
    id: QUEUE_ID,
    entries,
    memory,
    doorbells,
    submissionDoorbell: DOORBELL.submission,
    completionDoorbell: DOORBELL.completion,
  })
  let [tail, phase] = [0, 1]
  return {
    queue,
    /** Writes of doorbell registers: where, what. */
    rung,
    sq: memory.submissions.i32,
    cq,
    lists: memory.lists.i32,
    /** Writes a completion as the device would. */
    complete(cid: number, head: number, status = 0, result = 0, id = QUEUE_ID) {
      const at = tail * 4
      cq[at] = result
      cq[at + 2] = (id << 16) | head
      cq[at + 3] = cid | (phase << 16) | (status << 17)
      tail = (tail + 1) % entries
      if (tail === 0) phase ^= 1
    },
  }
}

/** Takes how commands end, and does nothing with it. */
export const indifferent: CommandListener = {
  completed() {},
  failed(cid, error) {
    throw new Error(`${cid}: ${error.message}`)
  },
}
