import { memoryFence } from '@uaccel/memory'
import type { ModelContext } from '@uaccel/model'
import type { UsedEntry, VirtioAnswer, VirtioRequest } from './index.js'

/** What a queue needs of its device. */
export interface QueueHost {
  readonly context: ModelContext
  readonly serveNs: number
  has(feature: bigint): boolean
  serve(request: VirtioRequest): Uint8Array | VirtioAnswer
  /** What is written into the used ring, which may be a lie. */
  used(entry: UsedEntry): UsedEntry
  interrupt(vector: number): void
  /** The driver broke a rule: the device stops. */
  broken(why: string): void
}

// virtio 1.2, 2.7 and 6.
const INDIRECT_DESC = 1n << 28n
const EVENT_INDEX = 1n << 29n
const DESC_F_NEXT = 1
const DESC_F_WRITE = 2
const DESC_F_INDIRECT = 4
const DESC_BYTES = 16
const NO_VECTOR = 0xffff

/** Thrown through work that the driver's reset overtook: while the device waits for memory, registers are written. */
const OVERTAKEN = Symbol('the device was reset')

interface Segment {
  readonly address: bigint
  readonly length: number
  readonly writable: boolean
}

/** A split virtqueue, the device's side: strict about what the driver puts into it. */
export class DeviceQueue {
  readonly index: number
  size: number
  vector = NO_VECTOR
  enabled = false
  descriptors = 0n
  driver = 0n
  device = 0n
  readonly #host: QueueHost
  readonly #largest: number
  readonly #busy = new Set<number>()
  /** Counts resets: work of before is dropped. */
  #life = 0
  #seen = 0
  #used = 0
  #stopped = false

  constructor(index: number, entries: number, host: QueueHost) {
    this.index = index
    this.size = entries
    this.#largest = entries
    this.#host = host
  }

  reset(): void {
    this.size = this.#largest
    this.vector = NO_VECTOR
    this.enabled = this.#stopped = false
    this.descriptors = this.driver = this.device = 0n
    this.#seen = this.#used = 0
    this.#busy.clear()
    this.#life++
  }

  set(name: 'size' | 'vector', value: number): void {
    if (this.enabled) this.#break('its registers were written while it is enabled (4.1.4.3.2).')
    else if (name === 'vector') this.vector = value
    else if (value === 0 || (value & (value - 1)) !== 0 || value > this.#largest)
      this.#break(`its size was set to ${value}: a power of two of at most ${this.#largest} (2.7).`)
    else this.size = value
  }

  setHalf(name: 'descriptors' | 'driver' | 'device', high: boolean, value: number): void {
    if (this.enabled) this.#break('its addresses were written while it is enabled (4.1.4.3.2).')
    const shift = high ? 32n : 0n
    this[name] = (this[name] & ~(0xffff_ffffn << shift)) | (BigInt(value) << shift)
  }

  enable(): void {
    if (this.descriptors % 16n !== 0n || this.driver % 2n !== 0n || this.device % 4n !== 0n)
      this.#break('its parts are not aligned to 16, 2 and 4 bytes (2.7).')
    this.enabled = true
  }

  /** It works no more until it is reset. */
  stop(): void {
    this.#stopped = true
  }

  /** There may be something new. */
  notified(): void {
    if (!this.enabled) return
    this.#later(0, () => this.#take())
  }

  /** Works at a time of its own; a reset before that, or while it waits for memory, ends it. */
  #later(delayNs: number, work: () => void): void {
    const life = this.#life
    this.#host.context.clock.after(delayNs, () => {
      if (life !== this.#life) return
      try {
        work()
      } catch (error) {
        if (error !== OVERTAKEN) throw error
      }
    })
  }

  /** Takes all that is available, until there is nothing new once the driver knows of what it is to notify. */
  #take(): void {
    while (!this.#stopped) {
      const available = this.#u16(this.driver + 2n)
      if (((available - this.#seen) & 0xffff) > this.size) {
        this.#break(
          `its available index went from ${this.#seen} to ${available}, and it has ${this.size} entries (2.7.13).`,
        )
        return
      }
      if (available === this.#seen) return
      if (!this.#takeTo(available) || !this.#host.has(EVENT_INDEX)) return
      // A driver in another process adds to it meanwhile, and read the old event: so the index is looked at again (2.7.10).
      this.#setU16(this.device + 4n + BigInt(8 * this.size), this.#seen)
      memoryFence()
    }
  }

  /** Takes what is available up to that index; each request is served at a time of its own. False where one breaks a rule. */
  #takeTo(available: number): boolean {
    while (this.#seen !== available) {
      const slot = this.#seen & (this.size - 1)
      const head = this.#u16(this.driver + 4n + BigInt(2 * slot))
      this.#seen = (this.#seen + 1) & 0xffff
      const chain = this.#chain(head)
      if (chain === undefined) return false
      this.#busy.add(head)
      this.#later(this.#host.serveNs, () => {
        if (!this.#stopped) this.#complete(head, chain)
      })
    }
    return true
  }

  #complete(head: number, chain: readonly Segment[]): void {
    const readable = chain.filter(({ writable }) => !writable)
    const input = new Uint8Array(readable.reduce((sum, { length }) => sum + length, 0))
    let at = 0
    for (const { address, length } of readable) {
      this.#fetch(address, input.subarray(at, at + length))
      at += length
    }
    const room = chain.filter(({ writable }) => writable)
    const roomBytes = room.reduce((sum, { length }) => sum + length, 0)
    const answer = this.#host.serve({ queue: this.index, input, roomBytes })
    const output = answer instanceof Uint8Array ? answer : answer.bytes
    at = 0
    for (const { address, length } of room) {
      const part = output.subarray(at, at + length)
      if (part.length > 0) this.#store(address, part)
      at += part.length
    }
    this.#busy.delete(head)
    const usedBytes = answer instanceof Uint8Array ? at : answer.usedBytes
    const before = this.#used
    this.#used = (before + 1) & 0xffff
    const used = this.#host.used({ queue: this.index, head, written: usedBytes, index: this.#used })
    const entry = new DataView(new ArrayBuffer(8))
    entry.setUint32(0, used.head, true)
    entry.setUint32(4, used.written, true)
    this.#store(this.device + 4n + BigInt(8 * (before & (this.size - 1))), new Uint8Array(entry.buffer))
    this.#setU16(this.device + 2n, used.index)
    memoryFence() // the index is seen before the driver's wish is read (2.7.7.2)
    if (this.#wantsInterrupt(before)) this.#host.interrupt(this.vector)
  }

  /** 2.7.7 and 2.7.8: by the driver's event, or its flag. */
  #wantsInterrupt(before: number): boolean {
    if (!this.#host.has(EVENT_INDEX)) return (this.#u16(this.driver) & 1) === 0
    return this.#u16(this.driver + 4n + BigInt(2 * this.size)) === before
  }

  /** The segments of a chain; undefined where it breaks a rule. */
  #chain(head: number): Segment[] | undefined {
    if (head >= this.size)
      return this.#break(`descriptor ${head} was made available, and it has ${this.size}.`)
    if (this.#busy.has(head)) return this.#break(`descriptor ${head} was made available while it is in use.`)
    let table = this.descriptors
    let entries = this.size
    let at = head
    let indirect = false
    const segments: Segment[] = []
    for (;;) {
      const view = this.#read(table + BigInt(DESC_BYTES * at), DESC_BYTES)
      const address = view.getBigUint64(0, true)
      const length = view.getUint32(8, true)
      const flags = view.getUint16(12, true)
      if ((flags & ~(DESC_F_NEXT | DESC_F_WRITE | DESC_F_INDIRECT)) !== 0)
        return this.#break(`a descriptor has flags ${flags} (2.7.5).`)
      if ((flags & DESC_F_INDIRECT) !== 0) {
        if (indirect || segments.length > 0 || flags !== DESC_F_INDIRECT)
          return this.#break(
            'an indirect descriptor is in a table, behind others, or has other flags (2.7.5.3).',
          )
        if (!this.#host.has(INDIRECT_DESC))
          return this.#break('it has indirect descriptors, which were not agreed on.')
        if (length === 0 || length % DESC_BYTES !== 0)
          return this.#break(`a table of ${length} bytes (2.7.5.3).`)
        indirect = true
        table = address
        entries = length / DESC_BYTES
        at = 0
        continue
      }
      const writable = (flags & DESC_F_WRITE) !== 0
      if (length === 0) return this.#break('a segment has no bytes.')
      if (!writable && segments.at(-1)?.writable)
        return this.#break('a segment to be read comes behind one to be written (2.7.4.2).')
      segments.push({ address, length, writable })
      if (segments.length > this.size)
        return this.#break('a chain is longer than the queue, or a loop (2.7.5.2).')
      if ((flags & DESC_F_NEXT) === 0) return segments
      at = view.getUint16(14, true)
      if (at >= entries) return this.#break(`a chain goes to descriptor ${at} of ${entries}.`)
    }
  }

  #break(why: string): undefined {
    this.#stopped = true
    this.#host.broken(`Virtqueue ${this.index}: ${why}`)
  }

  #fetch(address: bigint, into: Uint8Array): void {
    const life = this.#life
    this.#host.context.dma.read(address, into)
    if (life !== this.#life) throw OVERTAKEN
  }

  #store(address: bigint, bytes: Uint8Array): void {
    const life = this.#life
    this.#host.context.dma.write(address, bytes)
    if (life !== this.#life) throw OVERTAKEN
  }

  #read(address: bigint, length: number): DataView {
    const bytes = new Uint8Array(length)
    this.#fetch(address, bytes)
    return new DataView(bytes.buffer)
  }

  #u16(address: bigint): number {
    return this.#read(address, 2).getUint16(0, true)
  }

  #setU16(address: bigint, value: number): void {
    this.#store(address, Uint8Array.of(value & 0xff, value >> 8))
  }
}
