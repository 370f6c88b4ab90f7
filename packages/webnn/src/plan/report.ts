/** Where an operator is done. `free` is one that costs nothing: its result is its operand, seen with another shape. */
export type PlaceName = 'device' | 'cpu' | 'free'

/** One operator of a graph, in the order in which they run. */
export interface OperatorReport {
  readonly name: string
  readonly label: string
  readonly place: PlaceName
  /** Why it is not on the device; absent where it is. */
  readonly reason?: string
  /** Which group of the device it is in: groups count from 0, and one that is fused with others shares theirs. */
  readonly group?: number
  readonly outputs: readonly { readonly dataType: string; readonly shape: readonly number[] }[]
  /** What it reads and writes of memory: operands and results, but for what passes within its group. 0 of one that costs nothing. */
  readonly movedBytes: number
}

/** Operators that run at one place, without a change in between. On the device they are one list of commands, with one doorbell. */
export interface StretchReport {
  readonly place: 'device' | 'cpu'
  /** Indices into `Report.operators`. */
  readonly operators: readonly number[]
  /** Of the device; absent on the CPU. */
  readonly commands?: number
}

/** What was decided for a graph: plain data, as `explain` answers it. */
export interface Report {
  /** The accelerator's name; absent where the context has none. */
  readonly device?: string
  readonly operators: readonly OperatorReport[]
  readonly stretches: readonly StretchReport[]
  /** Each dispatch rings so many doorbells. */
  readonly doorbells: number
  readonly commands: number
  /** Bytes that the host copies in each dispatch, between tensors and the memory that kernels of the CPU work on. */
  readonly copiedBytes: number
  /** Bytes of values that one place computes and the other reads, in each dispatch. They are in memory of both, and not copied. */
  readonly sharedBytes: number
  readonly arenaBytes: number
  /** The least that any arena for these values needs: what is alive at once, at the most. */
  readonly peakBytes: number
  /** Constants in the device's memory, each once. */
  readonly constantBytes: number
}

/** What one part of a run took. */
export interface PartProfile {
  readonly place: 'device' | 'cpu'
  /** Indices into `Report.operators`. */
  readonly operators: readonly number[]
  /** From the doorbell to the end, or of the kernel. */
  readonly micros: number
  /** Of these, what the device says that it worked; absent where it does not tell. */
  readonly deviceMicros?: number
}

/** The times of one run whose every group had a doorbell of its own. */
export interface Profile {
  readonly parts: readonly PartProfile[]
  readonly micros: number
}
