// Runs split virtqueues hot; steady.test.ts reads V8's trace and the figures that it prints. Needs --allow-natives-syntax and --expose-gc.
import { type Mmio, openDevice } from '@uaccel/core'
import { defineModel, loopback } from '@uaccel/model'
import { SplitQueue, splitLayout } from '../src/split-queue.js'

const ENTRIES = 256
const MASK = ENTRIES - 1
const MAX_SEGMENTS = 4
/** More than V8 takes to compile everything, also what is entered only once in 64 turns. */
const WARM_UP = 400_000
const OPERATIONS = 1_000_000

/** A line in V8's own output, which is buffered apart from Node's: there it stands between the traces before and after it. */
const mark = new Function('text', '%DebugPrint(text)') as (text: string) => void
const gc = globalThis.gc as () => void

interface Shape {
  readonly indirect: boolean
  readonly eventIndex: boolean
  readonly polled: boolean
}

/** A queue whose device uses chains at once, in the order of the available ring (virtio 1.2, 2.7.6, 2.7.8). */
class Subject {
  readonly #queue: SplitQueue
  readonly #u16: Uint16Array
  readonly #i32: Int32Array
  readonly #avail = (16 * ENTRIES) / 2
  readonly #used: number
  readonly #eventIndex: boolean
  #done = 0
  #turns = 0
  notified = 0

  constructor({ polled, ...shape }: Shape, doorbells: Mmio) {
    const { used, sizeBytes } = splitLayout(ENTRIES, shape.indirect ? MAX_SEGMENTS : 0)
    const memory = new ArrayBuffer(sizeBytes)
    this.#u16 = new Uint16Array(memory)
    this.#i32 = new Int32Array(memory)
    this.#used = used
    this.#eventIndex = shape.eventIndex
    this.#queue = new SplitQueue({
      index: 0,
      entries: ENTRIES,
      maxSegments: MAX_SEGMENTS,
      ...shape,
      memory: { i32: this.#i32, u16: this.#u16, iova: 0x1_0000_0000n },
      notifier: doorbells,
      notifyAt: 0,
    })
    if (polled) this.#queue.interrupts = false
  }

  /** The device uses so many chains. */
  #use(count: number): void {
    for (let i = 0; i < count; i++) {
      const at = this.#used / 4 + 1 + 2 * (this.#done & MASK)
      this.#i32[at] = this.#u16[this.#avail + 2 + (this.#done & MASK)]
      this.#i32[at + 1] = 4
      this.#done = (this.#done + 1) & 0xffff
    }
    this.#u16[this.#used / 2 + 1] = this.#done
  }

  #drain(): number {
    const queue = this.#queue
    let count = 0
    for (let slot = queue.next(); slot >= 0; slot = queue.next()) {
      if (queue.written !== 4) throw new Error('another length')
      queue.release(slot)
      count++
    }
    return count
  }

  /** One turn of at most `batch` chains. Answers how many there were. */
  turn(batch: number): number {
    const queue = this.#queue
    let count = 0
    for (; count < batch; count++) {
      const segments = 1 + (count & 3)
      if (!queue.fits(segments) || queue.begin(segments) < 0) break
      for (let k = 1; k < segments; k++) queue.add(k, 0, 16, false)
      queue.add(4096, 1, 16, true)
      queue.end()
    }
    // The device wants to hear of the next chain in three turns of four.
    const quiet = this.#turns++ % 4 === 0
    if (this.#eventIndex) this.#u16[this.#used / 2 + 2 + 4 * ENTRIES] = quiet ? this.#done - 1 : this.#done
    else this.#u16[this.#used / 2] = quiet ? 1 : 0
    if (queue.flush()) this.notified++
    if (this.#drain() !== 0) throw new Error('an answer of nothing')
    const half = count >> 1
    this.#use(half)
    const first = this.#drain()
    this.#use(count - half)
    if (first + this.#drain() !== count || queue.inFlight !== 0) throw new Error(`${count} chains were lost`)
    return count
  }

  run(operations: number): number {
    let count = 0
    for (let turn = 0; count < operations; turn++) count += this.turn(1 + ((turn * 37) & 127))
    return count
  }
}

const doorbell = defineModel({
  identity: { name: 'doorbell', vendor: 0x1234, device: 1, revision: 0, classCode: 0 },
  bars: [
    {
      index: 0,
      sizeBytes: 0x1000,
      kind: 'mem32',
      memory: [{ name: 'doorbell', offset: 0, sizeBytes: 0x1000 }],
    },
  ],
  interrupts: {},
  create: () => ({ read: () => undefined, write: () => false, reset: () => {} }),
})
const transport = loopback(doorbell)
const device = openDevice(transport)
await device.enable()
const doorbells = await device.mapMemory(0)
const both = [false, true]
const subjects = both.flatMap((indirect) =>
  both.flatMap((eventIndex) =>
    both.map((polled) => ({
      name: `${indirect ? 'indirect' : 'direct'}-${eventIndex ? 'events' : 'flags'}-${polled ? 'polled' : 'interrupts'}`,
      subject: new Subject({ indirect, eventIndex, polled }, doorbells),
    })),
  ),
)
for (const { subject } of subjects) subject.run(WARM_UP)
await new Promise((resolve) => setTimeout(resolve, 200)) // V8 compiles in other threads
for (const { subject } of subjects) subject.run(WARM_UP)
for (const { name, subject } of subjects) {
  gc()
  const before = process.memoryUsage().heapUsed
  mark(`${name} begins`)
  const count = subject.run(OPERATIONS)
  mark(`${name} ended`)
  const grown = process.memoryUsage().heapUsed - before
  process.stderr.write(`${JSON.stringify({ name, count, grown, notified: subject.notified > 0 })}\n`)
}
await device.release()
await transport.close()
