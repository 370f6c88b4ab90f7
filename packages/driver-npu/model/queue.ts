import type { Controller } from './controller.js'
import { COMPLETION_BYTES, DESCRIPTOR_BYTES, type Descriptor, Flag, parseDescriptor } from './descriptor.js'
import type { Execution, Memory } from './memory.js'
import { Prepared } from './prepared.js'
import type { Registers } from './registers.js'

/** Numbers of docs/devices/npu.md, sections 3, 4.3 and 10. */
export const QUEUES = 16
export const WINDOWS = 8
export const LMEM_BASE = 0x8000_0000_0000_0000n
export const LMEM_SIZE = 16 * 1024 * 1024
export const State = { DISABLED: 0, STARTING: 1, RUNNING: 2, STOPPING: 3, ERROR: 4 } as const
export const Cause = { BAD_SIZE: 1, BAD_BASE: 2, BAD_VECTOR: 3, OVERRUN: 4 } as const
export const Fatal = { SQ_READ: 1, CQ_WRITE: 2, STATUS_WRITE: 3, MACHINE_CHECK: 4 } as const

/** `QUIET` in the status block (5.4). */
const QUIET_AT = 12n
const quietWord = new Uint32Array(1)
const quietBytes = new Uint8Array(quietWord.buffer)
/** A completion on its way. */
const answer = new Uint32Array(COMPLETION_BYTES / 4)
const answerBefore = new Uint8Array(answer.buffer, 0, COMPLETION_BYTES - 4)
const answerLast = new Uint8Array(answer.buffer, COMPLETION_BYTES - 4)

/** Descriptors that a queue holds between fetch and completion. */
const DEPTH = 64

/** Descriptors that are being fetched, and the bytes of the first so many of them. */
const DESCRIPTOR_WORDS = DESCRIPTOR_BYTES / 4
const fetchedWords = new Uint32Array(DEPTH * DESCRIPTOR_WORDS)
const fetched = Array.from(
  { length: DEPTH },
  (_, i) => new Uint8Array(fetchedWords.buffer, 0, (i + 1) * DESCRIPTOR_BYTES),
)

/** A descriptor between fetch and completion. */
export interface Entry {
  readonly descriptor: Descriptor
  started: boolean
  execution: Execution | undefined
}

// An atomic write to memory of our own is a full barrier on the machines that this runs on: store before load (5.4).
const barrierWord = new Int32Array(new SharedArrayBuffer(4))

/** A queue pair: registers, rings, order (docs/devices/npu.md, 4.3 and 5). */
export class Queue implements Memory {
  readonly index: number
  readonly entries: Entry[] = []
  readonly prepared = new Prepared()
  readonly #controller: Controller
  // SQ_BASE, CQ_BASE, STATUS_BASE as pairs, QSIZE, QVECTOR.
  readonly #setup = new Uint32Array(8)
  // BASE and LIMIT as pairs, and PERM, of each window.
  readonly #windows = new Uint32Array(WINDOWS * 5)
  #epoch = 0
  #enable = 0
  #state: number = State.DISABLED
  #cause = 0
  // As they were when the queue was started: they cannot be changed while it runs.
  #sq = 0n
  #cq = 0n
  #quiet = 0n
  #head = 0
  #cqTail = 0
  #idle = false
  #page: Int32Array | undefined
  /** SQ_TAIL as it was when the queue was stopped: read once, or a driver that goes on would keep the queue from its end (5.6). */
  #last: number | undefined

  constructor(index: number, controller: Controller) {
    this.index = index
    this.#controller = controller
  }

  get epoch(): number {
    return this.#epoch
  }

  /** False where there is nothing to do before a register is written. */
  get on(): boolean {
    return this.#state !== State.DISABLED && this.#state !== State.ERROR
  }

  /** True where a tick has something to look at. */
  get awake(): boolean {
    return (
      this.#state === State.STARTING ||
      this.#state === State.STOPPING ||
      (this.#state === State.RUNNING && !this.#idle)
    )
  }

  /** Nothing of it is under way, and it is not idle: nobody would write `WAKE` for what is rung now. */
  get waits(): boolean {
    return this.#state === State.RUNNING && !this.#idle && this.entries.length === 0
  }

  /** Its tail was moved while it waits. */
  get hasRung(): boolean {
    return this.waits && this.#doorbells()[0] >>> 0 !== this.#head
  }

  reset(): void {
    this.#setup.fill(0)
    this.#windows.fill(0)
    this.#epoch++
    this.prepared.clear()
    this.entries.length = 0
    this.#enable = this.#state = this.#cause = this.#head = this.#cqTail = 0
    this.#idle = false
    this.#last = undefined
  }

  declare(registers: Registers): void {
    const at = 0x1000 + 0x200 * this.index
    const q = `QUEUE[${this.index}]`
    const disabled = () => this.#state === State.DISABLED
    for (const [i, name] of ['SQ_BASE', 'CQ_BASE', 'STATUS_BASE'].entries()) {
      registers.pair(`${q}.${name}`, at + 8 * i, this.#setup, 2 * i, disabled)
    }
    const masks = { QSIZE: 0xf, QVECTOR: 0x11f }
    for (const [i, [name, mask]] of Object.entries(masks).entries()) {
      registers.add(`${q}.${name}`, at + 0x18 + 4 * i, 'rw', {
        read: () => this.#setup[6 + i],
        write: (value) => {
          if (disabled()) this.#setup[6 + i] = value & mask
        },
      })
    }
    registers.add(`${q}.QCTL`, at + 0x20, 'rw', {
      read: () => this.#enable,
      write: (value) => this.#setEnable(value & 1),
    })
    registers.add(`${q}.QSTS`, at + 0x24, 'ro', { read: () => this.#state | (this.#cause << 8) })
    registers.add(`${q}.WAKE`, at + 0x28, 'wo', { write: () => this.#wake() })
    registers.add(`${q}.SQ_HEAD`, at + 0x2c, 'ro', { read: () => this.#head })
    registers.add(`${q}.CQ_TAIL`, at + 0x30, 'ro', { read: () => this.#cqTail })
    for (let w = 0; w < WINDOWS; w++) {
      const name = `${q}.WINDOW[${w}]`
      const changes = () => {
        this.#epoch++
        return true
      }
      registers.pair(`${name}.WIN_BASE`, at + 0x80 + 0x20 * w, this.#windows, 5 * w, changes)
      registers.pair(`${name}.WIN_LIMIT`, at + 0x88 + 0x20 * w, this.#windows, 5 * w + 2, changes)
      registers.add(`${name}.WIN_PERM`, at + 0x90 + 0x20 * w, 'rw', {
        read: () => this.#windows[5 * w + 4],
        write: (value) => {
          this.#windows[5 * w + 4] = value & 3
          this.#epoch++
        },
      })
    }
  }

  /** One look at the queue: start it, fetch, go idle where it may, or end it. */
  service(mayIdle: boolean): void {
    if (this.#state === State.STARTING) this.#start()
    if (this.#state === State.RUNNING) this.#fetchOrIdle(mayIdle)
    if (this.#state === State.STOPPING) this.#stop()
  }

  /** The next descriptor that may start (5.2), if any. */
  next(): Entry | undefined {
    if (this.entries.length === 0 || this.#state !== State.RUNNING) return undefined
    let orderedBefore = false
    for (let i = 0; i < this.entries.length; i++) {
      const entry = this.entries[i]
      const { flags } = entry.descriptor
      if (entry.started) {
        if ((flags & Flag.FENCE) !== 0) return undefined
      } else if ((flags & Flag.FENCE) !== 0) return i === 0 ? entry : undefined
      else if ((flags & Flag.UNORDERED) !== 0 || !orderedBefore) return entry
      if ((flags & Flag.UNORDERED) === 0) orderedBefore = true
    }
    return undefined
  }

  /** Writes a completion (7.2) and raises the vector where it asks for it (6.1). */
  complete(entry: Entry, status: number, detail: number): void {
    if (this.entries[0] === entry) this.entries.shift()
    else this.entries.splice(this.entries.indexOf(entry), 1)
    const { tag, cid, flags } = entry.descriptor
    const log2 = this.#setup[6]
    const phase = ((this.#cqTail >>> log2) & 1) ^ 1
    answer[0] = tag
    answer[1] = detail
    answer[2] = this.#head
    answer[3] = (status << 24) | (phase << 16) | cid
    const at = this.#cq + BigInt((this.#cqTail & ((1 << log2) - 1)) * COMPLETION_BYTES)
    const { dma } = this.#controller.context
    try {
      // The word with the phase bit last: the rest is there when it is seen.
      dma.write(at, answerBefore)
      dma.write(at + 12n, answerLast)
    } catch {
      this.#controller.fail(Fatal.CQ_WRITE, this)
      return
    }
    this.#cqTail = (this.#cqTail + 1) >>> 0
    this.#controller.counters.add('descriptors', 1)
    if (status !== 0) this.#controller.counters.add('errors', 1)
    const vector = this.#setup[7]
    if ((vector & 0x100) !== 0 && (status !== 0 || (flags & Flag.IRQ) !== 0) && !this.#isQuiet())
      this.#controller.raise(vector & 0x1f)
  }

  /** Whether the driver looks by itself: loaded behind the barrier, once the completion is there (5.4). */
  #isQuiet(): boolean {
    Atomics.add(barrierWord, 0, 1)
    try {
      this.#controller.context.dma.read(this.#quiet, quietBytes)
    } catch {
      return false
    }
    return quietWord[0] !== 0
  }

  permits(address: bigint, sizeBytes: number, write: boolean): boolean {
    const last = address + BigInt(sizeBytes) - 1n
    const w = this.#windows
    for (let i = 0; i < w.length; i += 5) {
      const base = (BigInt(w[i + 1]) << 32n) | BigInt(w[i])
      const limit = (BigInt(w[i + 3]) << 32n) | BigInt(w[i + 2])
      if ((w[i + 4] & (write ? 2 : 1)) !== 0 && address >= base && last <= limit) return true
    }
    return false
  }

  read(address: bigint, sizeBytes: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(sizeBytes)
    if (address >= LMEM_BASE) bytes.set(this.#onCard(address, sizeBytes))
    else this.#controller.context.dma.read(address, bytes)
    this.#controller.counters.add('read', sizeBytes)
    return bytes
  }

  write(address: bigint, bytes: Uint8Array): void {
    if (address >= LMEM_BASE) this.#onCard(address, bytes.length).set(bytes)
    else this.#controller.context.dma.write(address, bytes)
    this.#controller.counters.add('written', bytes.length)
  }

  view(address: bigint, sizeBytes: number, access: 'read' | 'write'): Uint8Array | undefined {
    return address >= LMEM_BASE
      ? this.#onCard(address, sizeBytes)
      : this.#controller.context.dma.view(address, sizeBytes, access)
  }

  count(moved: 'read' | 'written', sizeBytes: number): void {
    this.#controller.counters.add(moved, sizeBytes)
  }

  #onCard(address: bigint, sizeBytes: number): Uint8Array {
    const offset = address - LMEM_BASE
    if (offset + BigInt(sizeBytes) > BigInt(LMEM_SIZE)) throw new Error('beyond on-card memory')
    return this.#controller.context.memory('lmem').subarray(Number(offset), Number(offset) + sizeBytes)
  }

  #base(at: number): bigint {
    return (BigInt(this.#setup[at + 1]) << 32n) | BigInt(this.#setup[at])
  }

  /** The two words of its doorbell page. */
  #doorbells(): Int32Array {
    if (this.#page === undefined) {
      const page = this.#controller.context.memory('doorbells')
      this.#page = new Int32Array(page.buffer, page.byteOffset + 0x1000 * this.index, 2)
    }
    return this.#page
  }

  #setEnable(enable: number): void {
    if (enable === this.#enable || !this.#controller.running) return
    if (enable === 1) {
      if (this.#state !== State.DISABLED) return
      this.#state = State.STARTING
    } else if (this.#state === State.ERROR) this.#enter(State.DISABLED)
    else this.#state = State.STOPPING
    this.#enable = enable
    this.#controller.scheduler.schedule()
  }

  #wake(): void {
    this.#idle = false
    this.#controller.scheduler.schedule()
  }

  #enter(state: number, cause = 0): void {
    this.#state = state
    this.#last = undefined
    this.#cause = cause
    this.entries.length = 0
    this.#controller.queueChanged(this)
  }

  #start(): void {
    const bases = [this.#base(0), this.#base(2), this.#base(4)]
    const vector = this.#setup[7]
    if (this.#setup[6] < 1 || this.#setup[6] > 12) this.#enter(State.ERROR, Cause.BAD_SIZE)
    else if (bases.some((base) => (base & 63n) !== 0n || base >= LMEM_BASE))
      this.#enter(State.ERROR, Cause.BAD_BASE)
    else if ((vector & 0x100) !== 0 && ((vector & 0x1f) < 1 || (vector & 0x1f) > 16))
      this.#enter(State.ERROR, Cause.BAD_VECTOR)
    else {
      this.#head = this.#cqTail = 0
      const [sq, cq, status] = bases
      this.#sq = sq
      this.#cq = cq
      this.#quiet = status + QUIET_AT
      this.#doorbells().fill(0)
      this.#idle = this.#publish()
      if (this.#controller.running) this.#enter(State.RUNNING)
    }
  }

  /** Stores WAKE_AT and passes the barrier. Answers false after a fatal error. */
  #publish(): boolean {
    try {
      this.#controller.context.dma.write(this.#base(4), new Uint8Array(new Uint32Array([this.#head]).buffer))
    } catch {
      this.#controller.fail(Fatal.STATUS_WRITE, this)
      return false
    }
    Atomics.add(barrierWord, 0, 1)
    return true
  }

  #fetchOrIdle(mayIdle: boolean): void {
    this.#fetch()
    if (!mayIdle) return
    if (this.entries.length > 0 || this.#state !== State.RUNNING || !this.#controller.running) return
    if (!this.#publish()) return
    this.#idle = this.#doorbells()[0] >>> 0 === this.#head
    if (!this.#idle) this.#fetch()
  }

  #fetch(last?: number): void {
    const doorbells = this.#doorbells()
    // The tail first: the driver stores CQ_HEAD before SQ_TAIL, so this order sees no more in flight than there was.
    const tail = last ?? doorbells[0] >>> 0
    const consumed = doorbells[1] >>> 0
    const size = 1 << this.#setup[6]
    const inFlight = (tail - consumed) >>> 0
    let waiting = (tail - this.#head) >>> 0
    if (inFlight > size || waiting > inFlight || (this.#cqTail - consumed) >>> 0 > size) {
      this.#enter(State.ERROR, Cause.OVERRUN)
      return
    }
    while (waiting > 0 && this.entries.length < DEPTH) {
      const slot = this.#head & (size - 1)
      const count = Math.min(waiting, size - slot, DEPTH - this.entries.length)
      try {
        this.#controller.context.dma.read(this.#sq + BigInt(slot * DESCRIPTOR_BYTES), fetched[count - 1])
      } catch {
        this.#controller.fail(Fatal.SQ_READ, this)
        return
      }
      for (let i = 0; i < count; i++) {
        const descriptor = parseDescriptor(
          fetchedWords.slice(i * DESCRIPTOR_WORDS, (i + 1) * DESCRIPTOR_WORDS),
        )
        this.entries.push({ descriptor, started: false, execution: undefined })
      }
      this.#head = (this.#head + count) >>> 0
      waiting -= count
    }
  }

  /** Ends the queue once nothing is under way: what has not started is answered with ABORTED (5.6). */
  #stop(): void {
    if (this.entries.some((entry) => entry.started)) return
    this.#last ??= this.#doorbells()[0] >>> 0
    do {
      for (const entry of this.entries.slice()) {
        this.complete(entry, 0x30, 0)
        if (!this.#controller.running) return
      }
      this.#fetch(this.#last)
    } while (this.entries.length > 0 && this.#state === State.STOPPING)
    // Doorbells that cannot be are no reason to stay in ERROR: the write of 0 was seen already (5.6).
    if (this.#controller.running) this.#enter(State.DISABLED)
  }
}
