import {
  DeviceLease,
  type DeviceShare,
  type EventLine,
  type SharedBarToken,
  type SharedEventToken,
  type SharedMemoryToken,
  type ShareToken,
} from '@uaccel/core'
import type { AccelError } from '@uaccel/uapi'
import type { NamespaceIdentity } from './identify.js'
import type { PairMemory } from './pair.js'

/** How a queue for a worker thread is made. */
export interface ShareQueueOptions {
  /** Entries, a power of two, as far as the controller takes so many. Default as `queueEntries` of the controller. */
  readonly entries?: number
  /** Memory for its data, in bytes, which does not grow. Default 4 MiB. */
  readonly memoryBytes?: number
}

/** What a worker needs to use a queue pair: see `NvmeLease.token`. `device.port` has to be transferred with it. */
export interface NvmeQueueToken {
  readonly kind: 'nvme-queue'
  readonly device: ShareToken
  readonly id: number
  readonly entries: number
  /** The two doorbells of the queue, `stride` bytes from each other. */
  readonly doorbells: SharedBarToken
  readonly stride: number
  readonly submissions: SharedMemoryToken
  readonly completions: SharedMemoryToken
  readonly lists: SharedMemoryToken
  /** Both pages of shadow doorbells, of all queues. */
  readonly shadow: SharedMemoryToken | undefined
  /** For data. */
  readonly memory: SharedMemoryToken
  readonly irq: SharedEventToken | undefined
  readonly timeoutMs: number
  readonly maxTransferBytes: number
  /** As of when the queue was lent. */
  readonly namespaces: readonly NamespaceIdentity[]
}

/** To the owner, besides what every lease says: a command of the worker's queue is late. */
export interface AbortRequest {
  readonly abort: number
}

/** What a lease is made of. */
export interface NvmeLeaseParts {
  readonly share: DeviceShare
  readonly token: NvmeQueueToken
  readonly pair: PairMemory
  /** Everything that is to be freed, the pair's memory included. */
  free(): void
  /** Tells the worker of its vector, where it cannot wait for that itself. */
  readonly line: EventLine | undefined
  close(lease: NvmeLease): Promise<void>
  broke(error: AccelError): void
  abort(cid: number): void
}

/** A queue pair that a worker thread uses. Made by `Nvme.shareQueue`. */
export class NvmeLease extends DeviceLease {
  /** For the worker's `attachNvmeQueue`. */
  readonly token: NvmeQueueToken
  /** @internal */
  readonly pair: PairMemory
  /** @internal The controller has the queue, or may have. */
  on = false
  readonly #parts: NvmeLeaseParts

  /** @internal */
  constructor(parts: NvmeLeaseParts) {
    const { share, token, pair } = parts
    super(share, {
      close: () => parts.close(this),
      broke: (error) => parts.broke(error),
      said: (value) => parts.abort((value as AbortRequest).abort),
    })
    this.token = token
    this.pair = pair
    this.#parts = parts
  }

  get id(): number {
    return this.token.id
  }

  /** @internal Interrupts that do not reach the worker by themselves are passed on. */
  signal(): void {
    this.#parts.line?.signal()
  }

  /** @internal The device touches none of it any more. */
  free(): void {
    this.#parts.free()
  }
}
