// Reads at random from an NVMe controller through the driver's queue pair: the TypeScript side of `c/nvme-reads.h`, step by step.
// Arguments: KIND (vfio-user or vfio) PLACE LOOK_AHEAD LOOK_LIMIT DEPTH... Each line of standard input is a number of reads.
import { createInterface } from 'node:readline'
import { openDevice, openVfio, parseBdf } from '@uaccel/core'
import { type CommandListener, Nvme, type NvmeQueue } from '@uaccel/driver-nvme'
import type { DmaRegion } from '@uaccel/memory'
import { connectVfioUser } from '@uaccel/vfio-user'
import { expect } from './measure.js'

/** The opcode (NVMe base 1.4, section 6), and what one read moves. */
const READ = 0x02
const READ_BYTES = 4096
const ENTRIES = 256
/** Reads are within so many places at most: their block numbers fit a signed word. */
const MAX_PLACES = 1 << 24
/** The watchdog has nothing to do here. */
const NEVER_MS = 3_600_000
/** A reading of the clock is timed so often: the shortest counts. */
const CALIBRATIONS = 1000
/** A depth has as many times the reads as it has under way, up to so many. */
const MOST_TIMES = 8
/** So long reads are made before any is measured: V8 compiles meanwhile, on the one core that this process has. */
const WARM_UP_NS = 200e6
const WARM_UP_READS = 1000

function nowNs(): number {
  const [s, ns] = process.hrtime() // a third of the time of performance.now(), on Node 20
  return s * 1e9 + ns
}

/** Looks for the completion that is `ahead` of the next, so that a batch can grow, no more often than `limit`. */
function wait(queue: NvmeQueue, ahead: number, limit: number): void {
  for (let looks = 0; looks < limit && !queue.peekAhead(ahead); looks++);
}

/**
 * Keeps so many reads under way: each that completes is followed by the next, in its buffer. Fields are declared and first stored by the
 * constructor, as in the rings.
 */
class Reads implements CommandListener {
  declare private readonly queue: NvmeQueue
  declare private readonly nsid: number
  declare private readonly blocks: number
  declare private readonly mask: number
  declare private readonly low: Int32Array
  declare private readonly high: Int32Array
  declare private readonly bufferOf: Int32Array
  declare private random: number
  declare private left: number
  declare private done: number
  declare private failures: number
  // Where each read is timed: when the reads of a poll began that ended, and which were submitted since.
  declare private stamped: boolean
  declare private readonly began: Float64Array
  declare private readonly ended: Float64Array
  declare private readonly fresh: Int32Array
  declare private endedCount: number
  declare private freshCount: number
  declare private latencies: Float64Array
  declare private latencyCount: number

  constructor(nvme: Nvme, buffers: DmaRegion) {
    this.queue = nvme.queues[0]!
    const { nsid, blockBytes, blocks } = nvme.namespaces[0]!
    this.nsid = nsid
    this.blocks = READ_BYTES / blockBytes
    this.mask = 2 ** Math.floor(Math.log2(Math.min(MAX_PLACES, Number(blocks) / this.blocks))) - 1
    const addresses = Array.from({ length: ENTRIES }, (_, i) => buffers.iova + BigInt(i * READ_BYTES))
    this.low = Int32Array.from(addresses, (iova) => Number(iova & 0xffff_ffffn))
    this.high = Int32Array.from(addresses, (iova) => Number(iova >> 32n))
    this.bufferOf = new Int32Array(ENTRIES)
    this.random = 0x2545_f491
    this.left = 0
    this.done = 0
    this.failures = 0
    this.stamped = false
    this.began = new Float64Array(ENTRIES)
    this.ended = new Float64Array(ENTRIES)
    this.fresh = new Int32Array(ENTRIES)
    this.endedCount = 0
    this.freshCount = 0
    this.latencies = new Float64Array(0)
    this.latencyCount = 0
  }

  completed(cid: number, status: number): void {
    this.done++
    if (status !== 0) this.failures++
    if (this.stamped) this.ended[this.endedCount++] = this.began[cid]
    if (this.left > 0) this.submit(this.bufferOf[cid])
  }

  failed(_: number, error: Error): void {
    throw error
  }

  private submit(buffer: number): void {
    this.left--
    let { random } = this
    random ^= random << 13
    random ^= random >>> 17
    random ^= random << 5
    this.random = random
    const lba = Math.imul(random & this.mask, this.blocks)
    const low = this.low[buffer]
    const high = this.high[buffer]
    const cdw12 = this.blocks - 1
    const cid = this.queue.submit(READ, this.nsid, low, high, READ_BYTES, lba, 0, cdw12, this)
    this.bufferOf[cid] = buffer
    if (this.stamped) this.fresh[this.freshCount++] = cid
  }

  /** The end of the reads that the last poll took, and the beginning of those that were submitted meanwhile and rung for. Answers that time. */
  private stamp(): number {
    const now = nowNs()
    for (let i = 0; i < this.endedCount; i++) this.latencies[this.latencyCount++] = now - this.ended[i]
    for (let i = 0; i < this.freshCount; i++) this.began[this.fresh[i]] = now
    this.endedCount = 0
    this.freshCount = 0
    return now
  }

  /**
   * Runs so many reads. Answers the nanoseconds that they took; with `latencies`, and a reading of the clock before and after each turn, those of
   * the turns alone, without what it waited. It waits for half of what is under way, `lookAhead` at most: the controller is left with something to do.
   */
  run(operations: number, depth: number, clockNs: number, latencies?: Float64Array): number {
    const { queue } = this
    const stamped = latencies !== undefined
    this.stamped = stamped
    this.latencies = latencies ?? this.latencies
    this.latencyCount = 0
    this.left = operations
    this.done = 0
    let busyNs = 0
    let fromNs = 0
    const startNs = nowNs()
    for (let i = 0; i < depth && this.left > 0; i++) this.submit(i)
    queue.ring()
    if (stamped) this.stamp()
    while (this.done < operations) {
      const half = (operations - this.left - this.done + 1) >> 1
      wait(queue, (half < lookAhead ? half : lookAhead) - 1, lookLimit)
      if (stamped) fromNs = nowNs()
      if (queue.poll() === 0) continue
      queue.ring()
      if (stamped) busyNs += this.stamp() - fromNs - clockNs
    }
    expect(this.failures, 0, 'reads that failed')
    return stamped ? busyNs : nowNs() - startNs
  }
}

/** Brings the controller up, measures each depth, and leaves the device: another program may use it then. */
async function session(operations: number): Promise<string> {
  const transport =
    kind === 'vfio'
      ? await openVfio(parseBdf(place), { iommu: 'type1' })
      : await connectVfioUser(place, foreign)
  const device = openDevice(transport)
  try {
    const nvme = await Nvme.start(device, {
      queues: 1,
      queueEntries: ENTRIES,
      irq: 'poll',
      timeoutMs: NEVER_MS,
    })
    const buffers = device.dma.alloc(ENTRIES * READ_BYTES, { alignBytes: READ_BYTES, name: 'read buffers' })
    const reads = new Reads(nvme, buffers)
    const latencies = new Float64Array(WARM_UP_READS)
    for (const end = nowNs() + WARM_UP_NS; nowNs() < end; ) {
      for (const depth of depths) {
        reads.run(WARM_UP_READS, depth, 0, latencies)
        reads.run(WARM_UP_READS, depth, 0)
      }
    }
    return depths.map((depth) => figures(reads, operations, depth).join(' ')).join(' ')
  } finally {
    await device.release()
    await transport.close()
  }
}

/** Nanoseconds from one reading of the clock to the next. */
function timeOfClock(): number {
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < CALIBRATIONS; i++) {
    const start = nowNs()
    least = Math.min(least, nowNs() - start)
  }
  return least
}

/** FIGURES of `c/nvme-reads.h`. */
function figures(reads: Reads, base: number, depth: number): string[] {
  const operations = base * Math.min(depth, MOST_TIMES)
  const latencies = new Float64Array(operations).fill(1) // no page is to be faulted in later
  const warmUp = Math.ceil(operations / 8)
  reads.run(warmUp, depth, 0, latencies)
  reads.run(warmUp, depth, 0)
  const kiops = (operations / reads.run(operations, depth, 0)) * 1e6
  const hostNs = reads.run(operations, depth, timeOfClock(), latencies) / operations
  latencies.sort()
  const at = (part: number) => latencies[Math.floor((operations - 1) * part)]! / 1000
  const [p50, p99, p9999] = [at(0.5), at(0.99), at(0.9999)]
  return [kiops, hostNs, p50, p99, p9999, p9999 / p50].map((figure) => figure.toFixed(3))
}

/** Servers of other makes do not seal what they share; this process risks only itself. */
const foreign = { mapUnsealed: true }
const [kind, place, ...numbers] = process.argv.slice(2) as [string, string, ...string[]]
const [lookAhead, lookLimit, ...depths] = numbers.map(Number) as [number, number, ...number[]]
for await (const line of createInterface({ input: process.stdin })) console.log(await session(Number(line)))
