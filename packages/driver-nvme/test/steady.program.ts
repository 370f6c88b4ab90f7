// Runs real rings of an NVMe queue; steady.test.ts reads V8's trace and the figures that it prints. Needs --allow-natives-syntax and --expose-gc.
import { PerformanceObserver } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { openDevice } from '@uaccel/core'
import { DmaBuffer, type DmaRegion, withOwnCode } from '@uaccel/memory'
import { defineModel, loopback } from '@uaccel/model'
import { listBytes } from '../src/prp.js'
import { type CommandListener, NvmeQueue, type QueueCalls } from '../src/queue.js'
import { warmUp } from '../src/warm-up.js'

const ENTRIES = 128
const MASK = ENTRIES - 1
const MAX_BYTES = 4 << 20
const OPERATIONS = 1_000_000
const SIZES = [4096, 4096, 8192, 4096, 65536, 4096, 4096, 0, MAX_BYTES] as const

/** A line in V8's own output, which is buffered apart from Node's: there it stands between the traces before and after it. */
const mark = new Function('text', '%DebugPrint(text)') as (text: string) => void
const gc = globalThis.gc as () => void

/** A page of doorbells that is memory. */
const doorbellDevice = defineModel({
  identity: { name: 'doorbells', vendor: 0x1234, device: 0x0002, classCode: 0x120000 },
  bars: [
    { index: 0, sizeBytes: 4096, kind: 'mem32', memory: [{ name: 'page', offset: 0, sizeBytes: 4096 }] },
  ],
  interrupts: {},
  create: () => ({ read: () => undefined, write: () => false, reset: () => {} }),
})

/** Counts what ends. */
class Counter implements CommandListener {
  declare succeeded: number
  declare failures: number
  constructor() {
    this.succeeded = 0
    this.failures = 0
  }
  completed(_cid: number, status: number): void {
    if (status === 0) this.succeeded++
    else this.failures++
  }
  failed(_cid: number, error: Error): void {
    throw error
  }
}

/** Completes what a ring of commands holds, at once. Every 64th has an error. */
class InstantController {
  declare private readonly sq: Int32Array
  declare private readonly cq: Int32Array
  declare private completed: number
  constructor(sq: Int32Array, cq: Int32Array) {
    this.sq = sq
    this.cq = cq
    this.completed = 0
  }
  work(count: number): void {
    for (let i = 0; i < count; i++) {
      const slot = this.completed & MASK
      const phase = ((this.completed >>> 7) & 1) ^ 1
      this.completed = (this.completed + 1) | 0
      this.cq[slot * 4] = -1
      this.cq[slot * 4 + 2] = (this.completed & MASK) | (1 << 16)
      this.cq[slot * 4 + 3] =
        (this.sq[slot * 16] >>> 16) | (phase << 16) | ((this.completed & 63) === 0 ? 0x281 << 17 : 0)
    }
  }
}

/** One batch: commands of all sizes, one doorbell, polls that find nothing, a part, the rest. Answers how many there were. */
type Turn = (listener: CommandListener, at: number) => number

const makeTurn =
  (
    queue: NvmeQueue,
    calls: QueueCalls,
    controller: InstantController,
    sizes: readonly number[],
    eventIndexes: Int32Array,
  ): Turn =>
  (listener, at) => {
    const wanted = 1 + (at & 127)
    let count = 0
    for (let i = 0; i < wanted; i++) {
      const sizeBytes = sizes[(at + i) % sizes.length]
      if (calls.submit(2, 1, -4096, 7, sizeBytes, -1 - i, 0, 7, listener) < 0) break
      count++
    }
    eventIndexes.fill(at & 127) // wants the register written, or not
    calls.ring()
    if (calls.poll() !== 0) throw new Error('completions of nothing')
    const half = count >> 1
    controller.work(half)
    if (queue.spin(4) !== half) throw new Error('completions are missing')
    controller.work(count - half)
    if (queue.peekAhead(count - half)) throw new Error('more than there are')
    calls.poll()
    if (queue.inFlight !== 0) throw new Error(`${queue.inFlight} of ${count} are left`)
    return count
  }

const transport = loopback(doorbellDevice)
const device = openDevice(transport)
await device.enable()
const doorbells = await device.mapMemory(0)
const region = (sizeBytes: number) =>
  ({ i32: DmaBuffer.create(sizeBytes, { name: 'rings' }).i32, iova: 0n }) as unknown as DmaRegion
const counter = new Counter()
/** To show that the test sees what it looks for: --stumble has another class of listeners half-way, and keeps an object for each command. */
const stumble = process.argv.includes('--stumble')
const kept: object[] = []
class Other extends Counter {
  readonly other = true
}
warmUp({ listener: counter })
await sleep(300) // V8 compiles in other threads
warmUp({ listener: counter })

let collections = 0
const observer = new PerformanceObserver((list) => {
  collections += list.getEntries().length
})
observer.observe({ entryTypes: ['gc'] })
for (const [at, name] of ['methods', 'specialized', 'shadow doorbells'].entries()) {
  const memory = {
    submissions: region(ENTRIES * 64),
    completions: region(ENTRIES * 16),
    lists: region(ENTRIES * listBytes(MAX_BYTES)),
  }
  const queue = new NvmeQueue({
    id: 1,
    entries: ENTRIES,
    memory,
    doorbells,
    submissionDoorbell: 16 * at,
    completionDoorbell: 16 * at + 4,
  })
  const controller = new InstantController(memory.submissions.i32, memory.completions.i32)
  const calls = name === 'specialized' ? queue.specialize() : queue
  const shadow = { doorbells: region(4096).i32, eventIndexes: region(4096).i32 }
  if (name === 'shadow doorbells') {
    warmUp({ listener: counter, shadow: true })
    queue.useShadow(shadow)
  }
  // Each loop has code of its own, as in a program that has but one.
  const turn = withOwnCode(makeTurn)(queue, calls, controller, SIZES, shadow.eventIndexes)
  const before = counter.succeeded + counter.failures
  gc()
  await sleep(20)
  collections = 0
  const heap = process.memoryUsage().heapUsed
  mark(`${name} begins`)
  let count = 0
  for (let i = 0; count < OPERATIONS; i++) count += turn(counter, i * 37)
  if (stumble) {
    const other = new Other()
    for (let i = 0; i < 10_000; i++) for (let left = turn(other, i); left > 0; left--) kept.push({ left })
  }
  mark(`${name} ended`)
  const grown = process.memoryUsage().heapUsed - heap
  await sleep(20)
  if (counter.succeeded + counter.failures - before !== count) throw new Error('listeners were not told')
  process.stderr.write(`${JSON.stringify({ name, count, grown, collections })}\n`)
}
observer.disconnect()
await device.release()
await transport.close()
