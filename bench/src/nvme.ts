import { openDevice } from '@uaccel/core'
import { type CommandListener, NvmeQueue } from '@uaccel/driver-nvme/queue'
import { DmaBuffer, type DmaRegion } from '@uaccel/memory'
import { loopback } from '@uaccel/model'
import { startBaseline } from './baseline.js'
import { expect, type Measure } from './measure.js'
import { doorbellDevice } from './ring.js'

const ENTRIES = 1024
const DEPTH = ENTRIES - 1
const COMMAND_WORDS = 16
const COMPLETION_WORDS = 4
const QUEUE_ID = 1
const SUBMISSION_DOORBELL = 0
const COMPLETION_DOORBELL = 4
const PHASE = 1 << 16
/** The data of the reads: in the second 4 GiB, a page each. */
const IO_BYTES = 4096
const DATA = { low: 0, high: 1 } as const

/** The row of so many commands for a doorbell. */
export const buildRow = (perDoorbell: number) =>
  `NVMe: build a 4 KiB read and ring its doorbell, ${perDoorbell} per doorbell`

/** Completes what is in the submission ring, at once: `device()` of `c/nvme-queue.c`. */
class InstantController {
  declare private readonly sq: Int32Array
  declare private readonly cq: Int32Array
  declare private head: number
  declare private tail: number
  declare private phase: number

  constructor(sq: Int32Array, cq: Int32Array) {
    this.sq = sq
    this.cq = cq
    this.head = 0
    this.tail = 0
    this.phase = PHASE
  }

  work(count: number): void {
    const { sq, cq } = this
    for (let i = 0; i < count; i++) {
      const from = this.head * COMMAND_WORDS
      const at = this.tail * COMPLETION_WORDS
      this.head = (this.head + 1) & (ENTRIES - 1)
      cq[at] = sq[from + 10]
      cq[at + 2] = this.head | (QUEUE_ID << 16)
      cq[at + 3] = (sq[from] >>> 16) | this.phase
      this.tail = (this.tail + 1) & (ENTRIES - 1)
      if (this.tail === 0) this.phase ^= PHASE
    }
  }
}

class Counter implements CommandListener {
  declare told: number
  declare sum: number

  constructor() {
    this.told = 0
    this.sum = 0
  }
  completed(_cid: number, status: number, result: number): void {
    if (status === 0) this.told++
    this.sum = (this.sum + result) | 0
  }
  failed(_cid: number, error: Error): void {
    throw error
  }
}

/** Reads of 4 KiB through a queue pair: so many commands for a doorbell. Answers nanoseconds to build one, and to poll its completion. */
function reads(queue: NvmeQueue, controller: InstantController, perDoorbell: number) {
  return (operations: number): [number, number] => {
    const counter = new Counter()
    let [buildingMs, pollingMs, lba, done, wanted] = [0, 0, 0, 0, 0]
    while (done < operations) {
      let start = performance.now()
      lba = build(queue, counter, perDoorbell, lba)
      buildingMs += performance.now() - start
      controller.work(DEPTH)
      start = performance.now()
      done += queue.poll()
      pollingMs += performance.now() - start
    }
    for (let i = 0; i < done; i++) wanted = (wanted + 8 * i) | 0
    expect(counter.told, done, 'reads that succeeded')
    expect(counter.sum, wanted, 'sum of the results')
    return [(buildingMs * 1e6) / done, (pollingMs * 1e6) / done]
  }
}

/** Fills the queue. Answers the block after the last. */
function build(queue: NvmeQueue, listener: CommandListener, perDoorbell: number, first: number): number {
  let lba = first | 0
  for (let from = 0; from < DEPTH; from += perDoorbell) {
    const end = Math.min(from + perDoorbell, DEPTH)
    for (let i = from; i < end; i++) {
      queue.submit(2, 1, DATA.low + i * IO_BYTES, DATA.high, IO_BYTES, lba, 0, 7, listener)
      lba = (lba + 8) | 0
    }
    queue.ring()
  }
  return lba
}

/** A queue pair of the NVMe driver: all its bookkeeping, in DMA memory and with doorbells in a BAR, without the time that a device takes. */
export async function nvme(measure: Measure): Promise<void> {
  const transport = loopback(doorbellDevice)
  const device = openDevice(transport)
  const memories: DmaBuffer[] = []
  const region = (sizeBytes: number, iova = 0n) => {
    const buffer = DmaBuffer.create(sizeBytes, { name: 'queue pair' })
    memories.push(buffer)
    return { i32: buffer.i32, iova } as unknown as DmaRegion
  }
  try {
    await device.enable()
    const doorbells = await device.mapMemory(0)
    for (const perDoorbell of [1, 32]) {
      const memory = {
        submissions: region(ENTRIES * COMMAND_WORDS * 4),
        completions: region(ENTRIES * COMPLETION_WORDS * 4),
        lists: region(ENTRIES * 4096),
      }
      const queue = new NvmeQueue({
        id: QUEUE_ID,
        entries: ENTRIES,
        memory,
        doorbells,
        submissionDoorbell: SUBMISSION_DOORBELL,
        completionDoorbell: COMPLETION_DOORBELL,
      })
      const controller = new InstantController(memory.submissions.i32, memory.completions.i32)
      const baseline = startBaseline(
        'nvme-queue',
        [ENTRIES, perDoorbell, IO_BYTES, '0x100000000'].map(String),
      )
      try {
        await measure({
          // Polling is the same for both.
          rows: [buildRow(perDoorbell), ...(perDoorbell === 1 ? [] : ['NVMe: poll a completion'])],
          unit: 'ns',
          operations: 2000 * DEPTH,
          typescript: reads(queue, controller, perDoorbell),
          c: (operations) => baseline.run(operations),
        })
      } finally {
        await baseline.close()
      }
    }
  } finally {
    for (const memory of memories) memory.destroy()
    await device.release()
    await transport.close()
  }
}
