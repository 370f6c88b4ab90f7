// Runs data queues hot; steady.test.ts reads V8's trace and the figures that it prints. Needs --allow-natives-syntax and --expose-gc.
import { type Mmio, openDevice } from '@uaccel/core'
import type { Iova } from '@uaccel/memory'
import { defineModel, loopback } from '@uaccel/model'
import { SplitQueue, splitLayout } from '@uaccel/virtio'
import { DataQueue, MAX_SEGMENTS, SLOT_BYTES } from '../src/data-queue.js'
import { DataQueues } from '../src/data-queues.js'
import { CryptoOperation } from '../src/operation.js'
import { CryptoSession, type SessionKind } from '../src/session.js'

const ENTRIES = 128
const MASK = ENTRIES - 1
/** Where the device writes a status: the last byte of a request, and what it writes there. */
const STATUS_AT = 96
const WARM_UP = 400_000
const OPERATIONS = 1_000_000

/** A line in V8's own output, which is buffered apart from Node's: there it stands between the traces before and after it. */
const mark = new Function('text', '%DebugPrint(text)') as (text: string) => void
const gc = globalThis.gc as () => void

/** The device's side of one queue: it uses chains at once, in the order of the available ring (virtio 1.2, 2.7.6, 2.7.8). */
class InstantDevice {
  readonly queue: DataQueue
  readonly #u16: Uint16Array
  readonly #i32: Int32Array
  readonly #slots: Uint8Array
  readonly #used: number
  readonly #avail = (16 * ENTRIES) / 2
  #done = 0

  constructor(index: number, indirect: boolean, doorbells: Mmio) {
    const { used, sizeBytes } = splitLayout(ENTRIES, indirect ? MAX_SEGMENTS : 0)
    const memory = new ArrayBuffer(sizeBytes)
    this.#u16 = new Uint16Array(memory)
    this.#i32 = new Int32Array(memory)
    this.#used = used
    const split = new SplitQueue({
      ...{ index, entries: ENTRIES, maxSegments: MAX_SEGMENTS, indirect, eventIndex: true },
      memory: { i32: this.#i32, u16: this.#u16, iova: 0x1_0000_0000n },
      ...{ notifier: doorbells, notifyAt: 4 * index },
    })
    const slots = new ArrayBuffer(ENTRIES * SLOT_BYTES)
    this.#slots = new Uint8Array(slots)
    this.queue = new DataQueue(split, {
      i32: new Int32Array(slots),
      u8: this.#slots,
      iova: 0x2_0000_0000n as Iova,
    })
  }

  /** Uses all that it was told of, with status OK. */
  work(): void {
    const end = this.#u16[this.#avail + 1]
    while (this.#done !== end) {
      const head = this.#u16[this.#avail + 2 + (this.#done & MASK)]
      const at = this.#used / 4 + 1 + 2 * (this.#done & MASK)
      this.#slots[head * SLOT_BYTES + STATUS_AT] = 0
      this.#i32[at] = head
      this.#i32[at + 1] = 1
      this.#done = (this.#done + 1) & 0xffff
    }
    this.#u16[this.#used / 2 + 1] = this.#done
    this.#u16[this.#used / 2 + 2 + 4 * ENTRIES] = this.#done
  }
}

/** Two queues, and operations of one and of four parts each side. */
class Subject {
  readonly #devices: readonly InstantDevice[]
  readonly #queues: DataQueues
  readonly #short: CryptoOperation
  readonly #long: CryptoOperation
  readonly #most: number
  #ended = 0
  readonly #count = (error: unknown): void => {
    if (error !== undefined) throw error
    this.#ended++
  }

  constructor(kind: SessionKind, indirect: boolean, doorbells: Mmio) {
    this.#devices = [0, 1].map((index) => new InstantDevice(index, indirect, doorbells))
    this.#queues = new DataQueues(this.#devices.map(({ queue }) => queue))
    this.#queues.resume()
    this.#most = indirect ? ENTRIES : 36
    const session = new CryptoSession(kind, new Uint8Array())
    const iv = new Uint8Array(kind.ivBytes)
    const stretch = (at: number, sizeBytes: number) => ({ iova: 0x3_0000_0000n + BigInt(at), sizeBytes })
    const result = [stretch(4096, kind.resultBytes || 64)]
    const parts = [0, 1, 2, 3].map((i) => stretch(16 * i, 16))
    this.#short = new CryptoOperation(session, [stretch(0, 64)], result, iv)
    this.#long = new CryptoOperation(session, parts, kind.service === 'cipher' ? parts : result, iv)
  }

  turn(batch: number): number {
    const queues = this.#queues
    this.#ended = 0
    // What does not fit would wait, and that allocates: 32 operations of four and four of ten descriptors fit both queues.
    const count = Math.min(batch, this.#most)
    for (let i = 0; i < count; i++) queues.submit((i & 7) === 7 ? this.#long : this.#short, this.#count)
    queues.flush()
    queues.poll(0)
    for (let i = 0; i < this.#devices.length; i++) {
      this.#devices[i].work()
      queues.poll(i)
    }
    if (this.#ended !== count || queues.inFlight !== 0)
      throw new Error(`${count} begun, ${this.#ended} ended`)
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
const kinds: Record<string, SessionKind> = {
  cipher: { service: 'cipher', algorithm: 3, operation: 0, blockBytes: 16, ivBytes: 16, resultBytes: 0 },
  mac: { service: 'mac', algorithm: 4, operation: 0, blockBytes: 1, ivBytes: 0, resultBytes: 32 },
}
const subjects = Object.entries(kinds).flatMap(([name, kind]) =>
  [false, true].map((indirect) => ({
    name: `${name}-${indirect ? 'indirect' : 'direct'}`,
    subject: new Subject(kind, indirect, doorbells),
  })),
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
  process.stderr.write(`${JSON.stringify({ name, count, grown })}\n`)
}
await device.release()
await transport.close()
