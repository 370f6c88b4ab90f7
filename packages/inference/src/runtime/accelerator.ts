import type { Capabilities, Plan } from '../graph/plan.js'

/** Memory that host and device see; a DmaBuffer is one. */
export interface RunMemory {
  readonly u8: Uint8Array
}

/** A plan on a device: weights and tables are in its reach, descriptors are prepared, only their submission is left. */
export interface LoadedPlan {
  /** One for each run that may be in flight, of `plan.arenaBytes` bytes. */
  readonly arenas: readonly RunMemory[]
  /** `plan.constantBytes` bytes, for the session to fill before the first run. */
  readonly constants: RunMemory
  /**
   * Does the steps of `plan.batches[batch]` in the arena `slot`, submitted with one doorbell, and resolves once their
   * results are visible.
   */
  submit(batch: number, slot: number): Promise<void>
  /** How long the device says it has worked, in microseconds from some moment on; undefined where it says nothing. */
  busyMicros(): number | undefined
  /** Ends what is under way and frees the memory. */
  close(): Promise<void>
}

/** A device that runs steps of plans. */
export interface Accelerator extends Capabilities {
  load(plan: Plan, slots: number): Promise<LoadedPlan>
}
