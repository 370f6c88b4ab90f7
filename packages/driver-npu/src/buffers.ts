import type { Mmio } from '@uaccel/core'
import { MemoryViews, RangeAllocator } from '@uaccel/memory'
import { accelError } from '@uaccel/uapi'

/** Memory for tensors: in the host, with typed views, or on the card, reached by `read` and `write`. Belongs to one context. */
export class NpuBuffer extends MemoryViews {
  readonly place: 'host' | 'card'
  /** @internal The address in the device's terms, for descriptors. */
  readonly address: bigint
  readonly #name: string
  readonly #where: HostPlace | CardPlace
  readonly #owner: ContextMemory
  #bytes: Uint8Array | undefined
  #freed = false
  readonly #release: () => void

  /** @internal */
  constructor(
    name: string,
    owner: ContextMemory,
    sizeBytes: number,
    where: HostPlace | CardPlace,
    release: () => void,
  ) {
    super(sizeBytes)
    this.#name = name
    this.#owner = owner
    this.#where = where
    this.place = 'chunk' in where ? 'host' : 'card'
    this.address = BigInt(where.offset) + ('chunk' in where ? where.chunk.iova : where.card.base)
    this.#release = release
  }

  get freed(): boolean {
    return this.#freed
  }

  /** Copies `bytes` into the buffer, `offset` bytes from its start. */
  write(offset: number, bytes: Uint8Array): void {
    this.checkRange(offset, bytes.length)
    const where = this.#where
    if ('chunk' in where) this.bytes().set(bytes, offset)
    else where.card.memory.writeBytes(where.card.offset + where.offset + offset, bytes)
  }

  /** Copies from the buffer into `into`. In a worker thread this knows better than a view whether the memory was there all the while. */
  read(offset: number, into: Uint8Array): void {
    this.checkRange(offset, into.length)
    const where = this.#where
    do {
      if ('chunk' in where) into.set(this.bytes().subarray(offset, offset + into.length))
      else where.card.memory.readBytes(where.card.offset + where.offset + offset, into)
    } while (this.#owner.overtaken())
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
    const where = this.#where
    if (!('chunk' in where)) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `NPU buffer ${this.#name} is on the card: use its read() and write()`,
      )
    }
    const { u8 } = where.chunk // throws once the memory was taken back
    if (this.#bytes?.buffer !== u8.buffer)
      this.#bytes = u8.subarray(where.offset, where.offset + this.sizeBytes)
    return this.#bytes
  }
}

/** Memory of the host as a context gets it: a `DmaRegion`, or in a worker thread a `SharedMemory`. */
export interface HostChunk {
  readonly u8: Uint8Array
  readonly iova: bigint
  readonly sizeBytes: number
}

interface HostPlace {
  readonly chunk: HostChunk
  readonly offset: number
}

/** A part of the on-card memory: `offset` bytes from the start of `memory`. */
export interface CardPart {
  /** In the device's terms. */
  readonly base: bigint
  readonly sizeBytes: number
  readonly memory: Mmio
  readonly offset: number
}

interface CardPlace {
  readonly card: CardPart
  /** From the start of the part. */
  readonly offset: number
}

/** Where a context's memory comes from. */
export interface MemorySource {
  readonly card: CardPart | undefined
  /**
   * Where another thread may take the memory back, or the card: hears of that. True where there was something to hear, so that what
   * was read before may be nothing.
   */
  overtaken?(): boolean
  /** Takes another chunk of at least so many bytes, which the context's queue may touch. `ERR_ACCEL_NO_MEMORY` where there is no more. */
  grow(wantedBytes: number): HostChunk
}

export const ALIGN_BYTES = 64
/** What a buffer of so many bytes takes. */
export const aligned = (sizeBytes: number) => Math.ceil(sizeBytes / ALIGN_BYTES) * ALIGN_BYTES

/** The memory of one context, handed out in buffers. */
export class ContextMemory {
  readonly #source: MemorySource
  readonly #cardFree: RangeAllocator
  readonly #chunks: { readonly chunk: HostChunk; readonly free: RangeAllocator }[] = []
  readonly #busy: () => boolean
  readonly #retired: (() => void)[] = []
  /** How many of its buffers were freed: while that stays, what was alive is. */
  frees = 0

  /** @param busy True while a job may touch memory. */
  constructor(source: MemorySource, busy: () => boolean) {
    this.#source = source
    this.#busy = busy
    this.#cardFree = new RangeAllocator([[0, source.card?.sizeBytes ?? 0]])
  }

  /** Takes zeroed host memory, or on-card memory as it is. `ERR_ACCEL_NO_MEMORY`, and the errors of `DmaDomain.map`. */
  alloc(sizeBytes: number, place: 'host' | 'card', name: string): NpuBuffer {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `NPU buffer ${name} of ${sizeBytes} bytes: wanted a positive integer`,
      )
    }
    const taken = aligned(sizeBytes)
    if (place === 'card') return this.#allocOnCard(sizeBytes, taken, name)
    for (const { chunk, free } of this.#chunks) {
      const buffer = this.#carve(chunk, free, sizeBytes, taken, name)
      if (buffer !== undefined) return buffer
    }
    const chunk = this.#source.grow(taken)
    const free = new RangeAllocator([[0, chunk.sizeBytes]])
    this.#chunks.push({ chunk, free })
    return this.#carve(chunk, free, sizeBytes, taken, name)!
  }

  /** See `MemorySource.overtaken`. */
  overtaken(): boolean {
    return this.#source.overtaken?.() ?? false
  }

  /** Runs `release` as soon as nothing is under way. */
  retire(release: () => void): void {
    this.frees++
    if (this.#busy()) this.#retired.push(release)
    else release()
  }

  /** Gives back what was freed while jobs were under way. */
  idle(): void {
    for (let release = this.#retired.pop(); release !== undefined; release = this.#retired.pop()) release()
  }

  #allocOnCard(sizeBytes: number, taken: number, name: string): NpuBuffer {
    const { card } = this.#source
    const offset = this.#cardFree.alloc(taken, ALIGN_BYTES)
    if (card === undefined || offset === undefined) {
      throw accelError(
        'ERR_ACCEL_NO_MEMORY',
        `NPU buffer ${name} wants ${sizeBytes} bytes on the card; its context took ${card?.sizeBytes ?? 0} (cardBytes)`,
      )
    }
    return new NpuBuffer(name, this, sizeBytes, { card, offset }, () => this.#cardFree.release(offset, taken))
  }

  #carve(
    chunk: HostChunk,
    free: RangeAllocator,
    sizeBytes: number,
    taken: number,
    name: string,
  ): NpuBuffer | undefined {
    const offset = free.alloc(taken, ALIGN_BYTES)
    if (offset === undefined) return undefined
    chunk.u8.fill(0, offset, offset + sizeBytes)
    return new NpuBuffer(name, this, sizeBytes, { chunk, offset }, () => free.release(offset, taken))
  }
}
