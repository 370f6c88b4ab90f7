import { Refusal } from './blocks.js'
import type { Prepared } from './prepared.js'

/** How an execution reaches memory. `permits` asks the windows; the others throw where the bus refuses. */
export interface Memory {
  /** Another one whenever what is permitted may have changed. */
  readonly epoch: number
  /** Executions that were prepared before. */
  readonly prepared: Prepared
  permits(address: bigint, sizeBytes: number, write: boolean): boolean
  /** A copy of the bytes, aligned for any element type. */
  read(address: bigint, sizeBytes: number): Uint8Array<ArrayBuffer>
  write(address: bigint, bytes: Uint8Array): void
  /** The memory itself, where the device has all of it at one place. Not to be kept past the execution. */
  view(address: bigint, sizeBytes: number, access: 'read' | 'write'): Uint8Array | undefined
  /** Counts bytes that were moved through views (4.2). */
  count(moved: 'read' | 'written', sizeBytes: number): void
}

/** A descriptor that passed its checks: what it will cost, and the work itself, which may still end in a `Refusal`. */
export interface Execution {
  readonly macs: number
  readonly readBytes: number
  readonly writtenBytes: number
  run(): void
}

/** An access that the bus may refuse: then it is a `Refusal` of that status and address. */
export function guarded<T>(status: number, slot: number, access: () => T): T {
  try {
    return access()
  } catch {
    throw new Refusal(status, slot)
  }
}
