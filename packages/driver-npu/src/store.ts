import type { Mmio } from '@uaccel/core'
import {
  type DmaAccess,
  type DmaDomain,
  type DmaRegion,
  hugePageBytes,
  type RangeAllocator,
} from '@uaccel/memory'
import { accelError, isAccelError } from '@uaccel/uapi'
import { ALIGN_BYTES, aligned, type CardPart, type HostChunk, type MemorySource } from './buffers.js'

/** A range that a queue may touch, as a window register pair takes it (4.3). */
export interface Window {
  readonly first: bigint
  /** Included. */
  readonly last: bigint
  /** What the queue may do there; default both. */
  readonly access?: DmaAccess
}

/** On-card memory as the controller sees it, and the way to it from here. */
export interface Card {
  readonly base: bigint
  readonly sizeBytes: number
  readonly free: RangeAllocator
  /** BAR 2. */
  readonly memory: Mmio
}

const FIRST_CHUNK_BYTES = hugePageBytes

/** The memory of one context: a few large chunks of the host's, and a part of the card's, so that its queue's windows cover it exactly. */
export class ContextStore implements MemorySource {
  readonly card: CardPart | undefined
  readonly #domain: DmaDomain
  readonly #onCard: Card
  readonly #maxChunks: number
  readonly #regions: DmaRegion[] = []
  readonly #opened: (index: number, window: Window) => void
  #nextChunkBytes = FIRST_CHUNK_BYTES

  /**
   * @param cardBytes On-card memory for this context, taken now. `ERR_ACCEL_NO_MEMORY` where the card has less.
   * @param opened Told of each range that the context's queue is to be allowed.
   */
  constructor(
    domain: DmaDomain,
    card: Card,
    cardBytes: number,
    windows: number,
    opened: (index: number, window: Window) => void,
  ) {
    this.#domain = domain
    this.#onCard = card
    this.#opened = opened
    this.#maxChunks = windows - 1
    if (cardBytes === 0) return
    const sizeBytes = aligned(cardBytes)
    const offset = card.free.alloc(sizeBytes, ALIGN_BYTES)
    if (offset === undefined) {
      throw accelError(
        'ERR_ACCEL_NO_MEMORY',
        `${cardBytes} bytes of on-card memory were wanted, and of ${card.sizeBytes} not as many are free in one piece`,
      )
    }
    this.card = { base: card.base + BigInt(offset), sizeBytes, memory: card.memory, offset }
  }

  /** Every range that the queue is to be allowed, by window. */
  *windows(): Iterable<readonly [index: number, window: Window]> {
    for (const [i, region] of this.#regions.entries()) yield [i, windowOf(region.iova, region.sizeBytes)]
    if (this.card !== undefined) yield [this.#maxChunks, windowOf(this.card.base, this.card.sizeBytes)]
  }

  grow(wantedBytes: number): HostChunk {
    const sizeBytes = Math.max(wantedBytes, this.#nextChunkBytes)
    try {
      return this.take(sizeBytes)
    } catch (error) {
      // Without an IOMMU nothing joins huge pages: what is larger than one may not be had, and one will do.
      const less = Math.max(wantedBytes, FIRST_CHUNK_BYTES)
      if (!isAccelError(error, 'ERR_ACCEL_NO_IOVA') || less >= sizeBytes) throw error
      return this.take(less)
    }
  }

  /** Takes a chunk of exactly that size. */
  take(sizeBytes: number): DmaRegion {
    if (this.#regions.length >= this.#maxChunks) {
      throw accelError(
        'ERR_ACCEL_NO_MEMORY',
        `An NPU context has ${this.#maxChunks} windows for host memory, and all are in use: allocate large buffers first, or use another context`,
      )
    }
    // In a buffer of its own: a window then opens nothing else.
    const region = this.#domain.alloc(sizeBytes, { name: 'npu-context', separate: true })
    this.#nextChunkBytes = sizeBytes * 2
    this.#regions.push(region)
    this.#opened(this.#regions.length - 1, windowOf(region.iova, region.sizeBytes))
    return region
  }

  /** Gives everything back; the queue must be stopped. */
  destroy(): void {
    for (const region of this.#regions.splice(0)) region.free()
    if (this.card !== undefined) this.#onCard.free.release(this.card.offset, this.card.sizeBytes)
  }
}

/** The window of exactly that range. */
export function windowOf(first: bigint, sizeBytes: number, access: DmaAccess = 'readwrite'): Window {
  return { first, last: first + BigInt(sizeBytes) - 1n, access }
}
