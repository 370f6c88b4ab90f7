import { openDevice } from '@uaccel/core'
import { warmUp } from '@uaccel/driver-nvme'
import { type CommandListener, NvmeQueue, type QueueCalls } from '@uaccel/driver-nvme/queue'
import { DmaBuffer, type DmaRegion, withOwnCode } from '@uaccel/memory'
import { loopback } from '@uaccel/model'
import { startBaseline } from './baseline.js'
import { expect, type Measure, median } from './measure.js'
import { doorbellDevice } from './ring.js'

const ENTRIES = 1024
const DEPTH = ENTRIES - 1
const COMMAND_WORDS = 16
const COMPLETION_WORDS = 4
const QUEUE_ID = 1
const PHASE = 1 << 16
/** The data of the reads: a page each, in the second 4 GiB. */
const IO_BYTES = 4096
const DATA_HIGH = 1

/** The row of so many commands for a doorbell. */
export const buildRow = (perDoorbell: number) =>
  `NVMe: build a 4 KiB read and ring its doorbell, ${perDoorbell} per doorbell`

/** Fetches what is in the submission ring, then completes it, at once: `work()` of `c/nvme-queue.c`. */
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
    let from = this.head
    this.head = (from + count) & (ENTRIES - 1)
    for (let i = 0; i < count; i++) {
      const at = this.tail * COMPLETION_WORDS
      cq[at] = sq[from * COMMAND_WORDS + 10]
      cq[at + 2] = this.head | (QUEUE_ID << 16)
      cq[at + 3] = (sq[from * COMMAND_WORDS] >>> 16) | this.phase
      from = (from + 1) & (ENTRIES - 1)
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

/** A queue pair, as a loop drives it, and its controller. */
interface Pair {
  readonly calls: QueueCalls
  readonly controller: InstantController
}

/** Fills a queue with reads of 4 KiB, so many commands for a doorbell. Answers the block after the last. */
type Build = (calls: QueueCalls, listener: CommandListener, perDoorbell: number, first: number) => number

const makeBuild =
  (depth: number, ioBytes: number, high: number): Build =>
  (calls, listener, perDoorbell, first) => {
    let lba = first | 0
    for (let from = 0; from < depth; from += perDoorbell) {
      const end = Math.min(from + perDoorbell, depth)
      for (let i = from; i < end; i++) {
        calls.submit(2, 1, i * ioBytes, high, ioBytes, lba, 0, 7, listener)
        lba = (lba + 8) | 0
      }
      calls.ring()
    }
    return lba
  }

/** Answers nanoseconds of the median batch to build a command, and to poll its completion, through one pair after the other. */
function reads(pairs: readonly Pair[], perDoorbell: number) {
  // As a program that does nothing else: this loop has not seen the queues of the other rows.
  const build = withOwnCode(makeBuild)(DEPTH, IO_BYTES, DATA_HIGH)
  return (operations: number): [number, number] => {
    const counter = new Counter()
    let [lba, done, wanted] = [0, 0, 0]
    const building: number[] = []
    const polling: number[] = []
    for (let turn = 0; done < operations; turn++) {
      const { calls, controller } = pairs[turn % pairs.length]
      let start = performance.now()
      lba = build(calls, counter, perDoorbell, lba)
      building.push(performance.now() - start)
      controller.work(DEPTH)
      start = performance.now()
      done += calls.poll()
      polling.push(performance.now() - start)
    }
    for (let i = 0; i < done; i++) wanted = (wanted + 8 * i) | 0
    expect(counter.told, done, 'reads that succeeded')
    expect(counter.sum, wanted, 'sum of the results')
    return [(median(building) * 1e6) / DEPTH, (median(polling) * 1e6) / DEPTH]
  }
}

/** Polls before a measurement: V8 compiles a queue's own code after some ten thousand. */
const EARLY_POLLS = 50_000

/** Reads one by one, as in the first tenth of a second of a program. */
function runIn({ calls, controller }: Pair): void {
  const counter = new Counter()
  for (let i = 0; i < EARLY_POLLS; i++) {
    for (let k = 0; k < 2; k++) calls.submit(2, 1, 0, DATA_HIGH, IO_BYTES, i, 0, 7, counter)
    calls.ring()
    controller.work(2)
    calls.poll()
  }
  expect(counter.told, 2 * EARLY_POLLS, 'reads that succeeded')
}

/** The rows, and how each is measured. C has one queue in all of them. */
const uses = [
  { perDoorbell: 1, queues: 1, rows: [buildRow(1)] },
  { perDoorbell: 32, queues: 1, rows: [buildRow(32), 'NVMe: poll a completion'] },
  {
    perDoorbell: 32,
    queues: 4,
    rows: [`${buildRow(32)}, four queues in turn`, 'NVMe: poll a completion, four queues in turn'],
  },
] as const

/** Queue pairs of the NVMe driver: all their bookkeeping, in DMA memory and with doorbells in a BAR, without the time that a device takes. */
export async function nvme(measure: Measure): Promise<void> {
  warmUp({ listener: new Counter() })
  const transport = loopback(doorbellDevice)
  const device = openDevice(transport)
  const memories: DmaBuffer[] = []
  const region = (sizeBytes: number) => {
    const buffer = DmaBuffer.create(sizeBytes, { name: 'queue pair' })
    memories.push(buffer)
    return { i32: buffer.i32, iova: 0n } as unknown as DmaRegion
  }
  try {
    await device.enable()
    const doorbells = await device.mapMemory(0)
    for (const { perDoorbell, queues, rows } of uses) {
      const pairs = Array.from({ length: queues }, (_, i): Pair => {
        const memory = {
          submissions: region(ENTRIES * COMMAND_WORDS * 4),
          completions: region(ENTRIES * COMPLETION_WORDS * 4),
        }
        const queue = new NvmeQueue({
          id: QUEUE_ID,
          entries: ENTRIES,
          memory,
          doorbells,
          submissionDoorbell: 8 * i,
          completionDoorbell: 8 * i + 4,
        })
        const controller = new InstantController(memory.submissions.i32, memory.completions.i32)
        return { calls: queues === 1 ? queue.specialize() : queue, controller }
      })
      for (const pair of pairs) runIn(pair)
      const baseline = startBaseline(
        'nvme-queue',
        [ENTRIES, perDoorbell, IO_BYTES, '0x100000000'].map(String),
      )
      try {
        await measure({
          rows,
          unit: 'ns',
          operations: 2000 * DEPTH,
          typescript: reads(pairs, perDoorbell),
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
