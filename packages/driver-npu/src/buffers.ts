import type { Mmio } from '@uaccel/core'
import { type DmaDomain, type DmaRegion, MemoryViews, RangeAllocator } from '@uaccel/memory'
import { accelError } from '@uaccel/uapi'

/** A range that a queue may touch, as a window register pair takes it (4.3). */
export interface Window {
  readonly first: bigint
  /** Included. */
  readonly last: bigint
}

/** On-card memory as the controller sees it, and the way to it from here. */
export interface Card {
  readonly base: bigint
  readonly sizeBytes: number
  readonly free: RangeAllocator
  /** BAR 2. */
  readonly memory: Mmio
}

/** Memory for tensors: in the host, with typed views, or on the card, reached by `read` and `write`. Belongs to one context. */
export class NpuBuffer extends MemoryViews {
  readonly place: 'host' | 'card'
  /** @internal The address in the device's terms, for descriptors. */
  readonly address: bigint
  readonly #name: string
  readonly #card: { readonly memory: Mmio; readonly offset: number } | undefined
  readonly #owner: ContextMemory
  #bytes: Uint8Array | undefined
  #freed = false
  readonly #release: () => void

  /** @internal */
  constructor(
    name: string,
    owner: ContextMemory,
    address: bigint,
    sizeBytes: number,
    where: Uint8Array | { readonly memory: Mmio; readonly offset: number },
    release: () => void,
  ) {
    super(sizeBytes)
    this.#name = name
    this.#owner = owner
    this.address = address
    this.#bytes = where instanceof Uint8Array ? where : undefined
    this.#card = where instanceof Uint8Array ? undefined : where
    this.place = this.#card === undefined ? 'host' : 'card'
    this.#release = release
  }

  get freed(): boolean {
    return this.#freed
  }

  /** Copies `bytes` into the buffer, `offset` bytes from its start. */
  write(offset: number, bytes: Uint8Array): void {
    this.checkRange(offset, bytes.length)
    if (this.#card === undefined) this.bytes().set(bytes, offset)
    else this.#card.memory.writeBytes(this.#card.offset + offset, bytes)
  }

  /** Copies from the buffer into `into`. */
  read(offset: number, into: Uint8Array): void {
    this.checkRange(offset, into.length)
    if (this.#card === undefined) into.set(this.bytes().subarray(offset, offset + into.length))
    else this.#card.memory.readBytes(this.#card.offset + offset, into)
  }

  /** Gives the memory back, once no job that is under way can touch it. Jobs that name it can no longer be run. Idempotent. */
  free(): void {
    if (this.#freed) return
    this.#freed = true
    this.#bytes = undefined
    this.#owner.retire(this.#release)
  }

  [Symbol.dispose](): void {
    this.free()
  }

  /** @internal Refuses a range that is not within a live buffer of `owner`. */
  checkUse(owner: ContextMemory, offset: number, sizeBytes: number): void {
    if (owner !== this.#owner) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `NPU buffer ${this.#name} belongs to another context, whose queue alone may touch it`,
      )
    }
    this.checkRange(offset, sizeBytes)
  }

  protected checkRange(offset: number, sizeBytes: number): void {
    if (this.#freed) throw accelError('ERR_ACCEL_REVOKED', `NPU buffer ${this.#name} was freed and then used`)
    if (
      !(Number.isSafeInteger(offset) && offset >= 0 && sizeBytes >= 0 && offset + sizeBytes <= this.sizeBytes)
    ) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `NPU buffer ${this.#name} has ${this.sizeBytes} bytes, and ${sizeBytes} from ${offset} on were wanted`,
      )
    }
  }

  protected override bytes(): Uint8Array {
    if (this.#freed) throw accelError('ERR_ACCEL_REVOKED', `NPU buffer ${this.#name} was freed and then used`)
    if (this.#bytes === undefined) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `NPU buffer ${this.#name} is on the card: use its read() and write()`,
      )
    }
    return this.#bytes
  }
}

interface Chunk {
  readonly region: DmaRegion
  readonly free: RangeAllocator
}

// Above half of one of memory's arenas, so that a chunk is a mapping of its own: a window then opens nothing else.
const FIRST_CHUNK_BYTES = 4 * 1024 * 1024
const ALIGN_BYTES = 64

/** The memory of one context: a few large chunks, so that its queue's windows cover it exactly. */
export class ContextMemory {
  readonly #domain: DmaDomain
  readonly #card: Card
  readonly #cardOffset: number
  readonly #cardBytes: number
  readonly #cardFree: RangeAllocator
  readonly #maxChunks: number
  readonly #chunks: Chunk[] = []
  readonly #opened: (index: number, window: Window) => void
  readonly #busy: () => boolean
  readonly #retired: (() => void)[] = []
  #nextChunkBytes = FIRST_CHUNK_BYTES

  /**
   * @param cardBytes On-card memory for this context, taken now. `ERR_ACCEL_NO_MEMORY` where the card has less.
   * @param opened Told of each range that the context's queue is to be allowed.
   * @param busy True while a job may touch memory.
   */
  constructor(
    domain: DmaDomain,
    card: Card,
    cardBytes: number,
    windows: number,
    opened: (index: number, window: Window) => void,
    busy: () => boolean,
  ) {
    this.#domain = domain
    this.#card = card
    this.#opened = opened
    this.#busy = busy
    this.#maxChunks = windows - 1
    this.#cardBytes = Math.ceil(cardBytes / ALIGN_BYTES) * ALIGN_BYTES
    this.#cardOffset = 0
    this.#cardFree = new RangeAllocator([[0, this.#cardBytes]])
    if (this.#cardBytes === 0) return
    const offset = card.free.alloc(this.#cardBytes, ALIGN_BYTES)
    if (offset === undefined) {
      throw accelError(
        'ERR_ACCEL_NO_MEMORY',
        `${cardBytes} bytes of on-card memory were wanted, and of ${card.sizeBytes} not as many are free in one piece`,
      )
    }
    this.#cardOffset = offset
  }

  /** Every range that the queue is to be allowed, by window. */
  *windows(): Iterable<readonly [index: number, window: Window]> {
    for (const [i, { region }] of this.#chunks.entries()) yield [i, windowOf(region)]
    if (this.#cardBytes > 0) {
      const first = this.#card.base + BigInt(this.#cardOffset)
      yield [this.#maxChunks, { first, last: first + BigInt(this.#cardBytes) - 1n }]
    }
  }

  /** Takes zeroed host memory, or on-card memory as it is. `ERR_ACCEL_NO_MEMORY`, and the errors of `DmaDomain.map`. */
  alloc(sizeBytes: number, place: 'host' | 'card', name: string): NpuBuffer {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `NPU buffer ${name} of ${sizeBytes} bytes: wanted a positive integer`,
      )
    }
    const taken = Math.ceil(sizeBytes / ALIGN_BYTES) * ALIGN_BYTES
    if (place === 'card') return this.#allocOnCard(sizeBytes, taken, name)
    for (const chunk of this.#chunks) {
      const buffer = this.#carve(chunk, sizeBytes, taken, name)
      if (buffer !== undefined) return buffer
    }
    return this.#carve(this.#grow(taken), sizeBytes, taken, name)!
  }

  /** Runs `release` as soon as nothing is under way. */
  retire(release: () => void): void {
    if (this.#busy()) this.#retired.push(release)
    else release()
  }

  /** Gives back what was freed while jobs were under way. */
  idle(): void {
    for (let release = this.#retired.pop(); release !== undefined; release = this.#retired.pop()) release()
  }

  /** Gives everything back; the queue must be stopped. */
  destroy(): void {
    for (const { region } of this.#chunks.splice(0)) region.free()
    if (this.#cardBytes > 0) this.#card.free.release(this.#cardOffset, this.#cardBytes)
  }

  #allocOnCard(sizeBytes: number, taken: number, name: string): NpuBuffer {
    const offset = this.#cardFree.alloc(taken, ALIGN_BYTES)
    if (offset === undefined) {
      throw accelError(
        'ERR_ACCEL_NO_MEMORY',
        `NPU buffer ${name} wants ${sizeBytes} bytes on the card; its context took ${this.#cardBytes} (cardBytes)`,
      )
    }
    const at = this.#cardOffset + offset
    const address = this.#card.base + BigInt(at)
    return new NpuBuffer(name, this, address, sizeBytes, { memory: this.#card.memory, offset: at }, () =>
      this.#cardFree.release(offset, taken),
    )
  }

  #carve(chunk: Chunk, sizeBytes: number, taken: number, name: string): NpuBuffer | undefined {
    const offset = chunk.free.alloc(taken, ALIGN_BYTES)
    if (offset === undefined) return undefined
    const bytes = chunk.region.u8.subarray(offset, offset + sizeBytes)
    bytes.fill(0)
    return new NpuBuffer(name, this, chunk.region.iova + BigInt(offset), sizeBytes, bytes, () =>
      chunk.free.release(offset, taken),
    )
  }

  #grow(wanted: number): Chunk {
    if (this.#chunks.length >= this.#maxChunks) {
      throw accelError(
        'ERR_ACCEL_NO_MEMORY',
        `An NPU context has ${this.#maxChunks} windows for host memory, and all are in use: allocate large buffers first, or use another context`,
      )
    }
    const sizeBytes = Math.max(wanted, this.#nextChunkBytes)
    const region = this.#domain.alloc(sizeBytes, { name: 'npu-context' })
    this.#nextChunkBytes = sizeBytes * 2
    const chunk = { region, free: new RangeAllocator([[0, sizeBytes]]) }
    this.#chunks.push(chunk)
    this.#opened(this.#chunks.length - 1, windowOf(region))
    return chunk
  }
}

function windowOf(region: DmaRegion): Window {
  return { first: region.iova, last: region.iova + BigInt(region.sizeBytes) - 1n }
}
