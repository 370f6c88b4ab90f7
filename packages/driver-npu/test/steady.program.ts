// Runs the rings of @uaccel/memory and the queue of the NPU hot; steady.test.ts reads V8's trace and the figures that it prints.
// Needs --allow-natives-syntax and --expose-gc.
import { type Mmio, openDevice } from '@uaccel/core'
import { CompletionRing, ProducerRing } from '@uaccel/memory'
import { loopback } from '@uaccel/model'
import { npuModel } from '../model/index.js'
import { newImage, type RingJob } from '../src/job.js'
import { NpuQueue, queueLayout } from '../src/queue.js'

const ENTRIES = 256
const MASK = ENTRIES - 1
const PHASE_BIT = 16
/** More than V8 takes to compile everything, also what is entered only once in 64 turns. */
const WARM_UP = 400_000
const OPERATIONS = 1_000_000

/** A line in V8's own output, which is buffered apart from Node's: there it stands between the traces before and after it. */
const mark = new Function('text', '%DebugPrint(text)') as (text: string) => void
const gc = globalThis.gc as () => void

/** What is run over and over: one turn of about `batch` operations. Answers how many there were. */
interface Subject {
  turn(batch: number): number
}

/** Completes what a ring of descriptors holds, at once; the words of a descriptor's CID are where both subjects have them. */
class InstantDevice {
  readonly #sq: Int32Array
  readonly #cq: Int32Array
  #taken = 0
  #completed = 0

  constructor(sq: Int32Array, cq: Int32Array) {
    this.#sq = sq
    this.#cq = cq
  }

  /** @param status Of the last of them. */
  work(count: number, status = 0): void {
    for (let i = 0; i < count; i++) {
      const at = (this.#completed & MASK) * 4
      const phase = ((this.#completed >>> 8) & 1) ^ 1
      this.#cq[at] = 0
      this.#cq[at + 1] = 1
      this.#cq[at + 3] =
        (this.#sq[this.#taken * 16] >>> 16) | (phase << PHASE_BIT) | (i === count - 1 ? status << 24 : 0)
      this.#taken = (this.#taken + 1) & MASK
      this.#completed = (this.#completed + 1) | 0
    }
  }
}

/** The rings by themselves, in each way that they are used. */
function rings(doorbells: Mmio): Subject {
  const words = new Int32Array(new ArrayBuffer(ENTRIES * (64 + 16)))
  const sq = new ProducerRing({ words: words.subarray(0, ENTRIES * 16), entries: ENTRIES, entryBytes: 64 })
  const cq = new CompletionRing({
    words: words.subarray(ENTRIES * 16),
    entries: ENTRIES,
    entryBytes: 16,
    phaseWord: 3,
    phaseBit: PHASE_BIT,
  })
  const device = new InstantDevice(sq.words, cq.words)
  return {
    turn(batch) {
      let count = Math.min(batch, sq.free)
      for (let i = 0; i < count; i++) sq.words[sq.at(i)] = i << 16
      sq.push(count)
      const at = sq.next()
      if (at >= 0) {
        sq.words[at] = 0
        sq.push()
        count++
      }
      doorbells.write32(0, sq.tail)
      device.work(count)
      let taken = 0
      if (cq.peekAhead(batch & 15)) {
        for (let at = cq.peek(); at >= 0 && taken < 3; at = cq.peek()) {
          cq.advance()
          taken++
        }
      }
      for (let ready = cq.ready(ENTRIES); ready > 0; ready = cq.ready(ENTRIES)) {
        cq.advance(ready)
        taken += ready
      }
      doorbells.write32(4, cq.head)
      sq.consumed((sq.head + taken) & MASK)
      if (taken !== count || sq.pending !== 0) throw new Error(`${count} submitted, ${taken} completed`)
      return count
    },
  }
}

/** The queue of the NPU: jobs of one and of three steps, polls that find nothing, a device that has to be woken. */
function npuQueue(doorbells: Mmio): Subject {
  const { cq, status, sizeBytes } = queueLayout(Math.log2(ENTRIES))
  const words = new Int32Array(new ArrayBuffer(sizeBytes))
  let woken = 0
  const queue = new NpuQueue(0, Math.log2(ENTRIES), { words, doorbells, page: 4096, wake: () => woken++ })
  const device = new InstantDevice(words.subarray(0, cq / 4), words.subarray(cq / 4, status / 4))
  const job = (steps: number): RingJob => ({
    words: Int32Array.from({ length: 16 * steps }, (_, i) => i & 15),
    steps,
    image: newImage(steps),
    stepNames: Array.from({ length: steps }, () => 'nop'),
  })
  const [short, long] = [job(1), job(3)]
  let ended = 0
  const done = (error: unknown, cycles: number) => {
    if (error !== undefined || cycles < 1) throw error
    ended++
  }
  let turns = 0
  let tail = 0
  return {
    turn(batch) {
      let jobs = 0
      let steps = 0
      for (let i = 0; i < batch; i++) {
        const next = i % 8 === 7 ? long : short
        if (queue.free < next.steps) break
        queue.push(next, done)
        jobs++
        steps += next.steps
      }
      words[status / 4] = turns++ % 4 === 0 ? tail : tail + (1 << 30) // the tail at which the device wants to be woken
      tail = (tail + steps) | 0
      queue.ring()
      if (queue.poll() !== 0) throw new Error('completions of nothing')
      ended = 0
      const half = steps >> 1
      device.work(half)
      let taken = queue.poll()
      device.work(steps - half)
      taken += queue.poll()
      if (taken !== steps || ended > jobs || queue.inFlight !== 0)
        throw new Error(`${taken} of ${steps} steps`)
      return steps
    },
  }
}

function run(subject: Subject, operations: number): number {
  let count = 0
  for (let turn = 0; count < operations; turn++) count += subject.turn(1 + ((turn * 37) & MASK))
  return count
}

const transport = loopback(npuModel)
const device = openDevice(transport)
await device.enable()
const doorbells = await device.mapMemory(1)
for (const [name, subject] of [
  ['rings', rings(doorbells)],
  ['npu-queue', npuQueue(doorbells)],
] as const) {
  run(subject, WARM_UP)
  await new Promise((resolve) => setTimeout(resolve, 200)) // V8 compiles in other threads
  run(subject, WARM_UP)
  gc()
  const before = process.memoryUsage().heapUsed
  mark(`${name} begins`)
  const count = run(subject, OPERATIONS)
  mark(`${name} ended`)
  const grown = process.memoryUsage().heapUsed - before
  process.stderr.write(`${JSON.stringify({ name, count, grown })}\n`)
}
await device.release()
await transport.close()
