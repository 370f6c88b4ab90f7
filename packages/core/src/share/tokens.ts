import type { MessagePort } from 'node:worker_threads'
import type { WatchHelper } from '@uaccel/sys'
import type { ErrorCode } from '@uaccel/uapi'

/*
 * What goes from the thread that opened a device to a worker. Typed arrays over mapped memory cannot: a message copies them
 * silently. Addresses and descriptor numbers can, since both belong to the process.
 */

/** Where a worker finds a device: see `DeviceShare.token`. Its `port` has to be transferred with it. */
export interface ShareToken {
  readonly kind: 'device'
  readonly name: string
  /** Words over shared memory: {@link CHANGES}, {@link CLAIM} and {@link TAKEN_BACK}. */
  readonly words: Int32Array
  /** An eventfd, signalled with each announcement: for a worker that waits in the kernel. It stays the owner's. */
  readonly wake: number
  readonly port: MessagePort
}

/** Counts what the owner announced: a worker that never gets to its event loop sees by one load that there is something. */
export const CHANGES = 0
/** Whether a worker took the token: {@link Claim}. */
export const CLAIM = 1
export const Claim = { OFFERED: 0, TAKEN: 1, WITHDRAWN: 2 } as const
/** 1 from before the end of the share takes memory and BARs from the worker: see `SharedDevice.takenBack`. */
export const TAKEN_BACK = 2

/** A stretch of address space that a worker may view. Each mapping gets another `id`. */
export interface View {
  readonly id: number
  readonly address: bigint
  readonly sizeBytes: number
}

/** Mapped parts of a BAR. */
export interface SharedBarToken {
  readonly kind: 'bar'
  readonly label: string
  /** Bytes from the start of the BAR to the part that was asked for, and its size. */
  readonly offset: number
  readonly sizeBytes: number
  readonly areas: readonly SharedArea[]
}

/** A mapped part of a BAR, `offset` bytes from its start. */
export interface SharedArea {
  readonly window: number
  readonly region: number
  readonly offset: number
  readonly sizeBytes: number
}

/** DMA memory. */
export interface SharedMemoryToken {
  readonly kind: 'memory'
  readonly name: string
  readonly view: View
  readonly sizeBytes: number
  readonly iova: bigint
}

/** An eventfd. It stays the owner's. */
export interface SharedEventToken {
  readonly kind: 'event'
  readonly fd: number
}

/** The view of a window since it was mapped last. */
export interface PlacedWindow {
  readonly window: number
  readonly view: View
}

/** What an error looks like on its way. */
export interface SentError {
  readonly code: ErrorCode
  readonly message: string
}

/** From the owner. */
export type OwnerMessage =
  /** BARs cannot be reached: a reset. */
  | { readonly kind: 'away'; readonly reason: SentError }
  /** BARs are mapped: at first, and anew after a reset. */
  | { readonly kind: 'placed'; readonly windows: readonly PlacedWindow[]; readonly back: boolean }
  /** Memory was freed. */
  | { readonly kind: 'revoked'; readonly id: number }
  /** The device is gone, or was taken back. */
  | { readonly kind: 'gone'; readonly reason: SentError }
  /** Of the driver. */
  | { readonly kind: 'driver'; readonly value: unknown }

/** From a worker. */
export type WorkerMessage =
  /** No array over that view is left. */
  | { readonly kind: 'collected'; readonly id: number }
  /** Waits for events, through a helper thread whose descriptors outlive a worker that is terminated. */
  | { readonly kind: 'watching'; readonly helper: WatchHelper }
  /** Lets go: uses nothing of it any more. */
  | { readonly kind: 'detached' }
  | { readonly kind: 'driver'; readonly value: unknown }
