/**
 * What a driver package gives so that graphs run on its device. It declares operators with their data types, and lowers nodes to its own
 * commands; the planner decides what runs where, places buffers, and makes the lists of commands that are run.
 *
 * A command names memory by places: the memories of a list are counted, and whoever runs it says which they are. So a list is made once, and run with
 * other tensors by patching addresses.
 */
import type { MLOperandDataType } from './data-type.js'
import type { Operator, Value } from './graph.js'

/** Where a tensor lies: so many bytes into a memory of the list. */
export interface Place {
  readonly buffer: number
  /** In bytes; default 0. A multiple of 64 from the planner. */
  readonly offset?: number
}

/** What lowering asks of the planner, while `lower` runs and not later. Tensors are dense, the last dimension fastest. */
export interface Placement {
  /** Where a value lies: an input, a constant or an output of the operators that are lowered. */
  at(value: Value): Place
  /** Brings a constant of the lowering's own into the device's reach: the same bytes have the same place. */
  keep(bytes: Uint8Array): Place
  /** Memory for what passes between commands of this lowering; its content is undefined. */
  scratch(sizeBytes: number): Place
  /** The bytes of a constant; `undefined` for what is computed, or is a constant tensor whose content is not known yet. */
  constant(value: Value): Uint8Array | undefined
}

/** One operator on a device. `Command` is what the driver's lists are made of. */
export interface OperatorSupport<Command> {
  /** Data types by the name of an operand (`input`, `a`, ... and `output`); those that are not named may have any. */
  readonly types: Readonly<Record<string, readonly MLOperandDataType[]>>
  /** Why this node cannot be done; `undefined` where it can. Types are checked already. */
  refuses?(operator: Operator): string | undefined
  /**
   * The commands that do it, and the element-wise operators after it that `Accelerator.follows` let in: each reads the result of the one before.
   * The result of the last one is what is to be written.
   */
  lower(operator: Operator, followers: readonly Operator[], placement: Placement): readonly Command[]
}

/** Memory that the host and the device reach. */
export interface AcceleratorMemory {
  readonly bytes: Uint8Array
  free(): void
}

/** Commands that were made ready to be run any number of times. */
export interface CommandList {
  /** Says which memory a place's `buffer` is from now on: patches the words that name it. Not while the list runs. */
  bind(buffer: number, memory: AcceleratorMemory): void
  /**
   * Runs all commands, in order, with one doorbell. `done` is called once, later or from `Polling.look`, with the microseconds that the device
   * worked, where it tells.
   */
  submit(done: (error: Error | undefined, micros: number | undefined) => void): void
  free(): void
}

/** How the end of a list is found without an interrupt. */
export interface Polling {
  /** How long it is worth to look, in microseconds, before an interrupt is waited for; 0 never. */
  readonly forUs: number
  /**
   * Takes what has ended: `done` of lists is called from here. Answers whether it is worth looking on: not where nothing is under way, or will be
   * for long. Allocates nothing where nothing has ended.
   */
  look(): boolean
}

/** A device that takes part in graphs. */
export interface Accelerator<Command = unknown> {
  /** As reports have it, such as `npu`. */
  readonly name: string
  /** By the operator's name in the specification, or in `fused.ts` for those that the planner makes of several. */
  readonly operators: Readonly<Record<string, OperatorSupport<Command>>>
  /**
   * Whether `next`, which alone reads the result of the group, can be done in the commands of the group; it may read it more than once. It is an operator
   * that the accelerator takes, of any name. Its other operands are there when the group runs.
   */
  follows?(group: readonly Operator[], next: Operator): boolean
  /** Zeroed memory, whose `bytes` are exactly so many. Errors: `ERR_ACCEL_NO_MEMORY`. */
  allocate(sizeBytes: number): AcceleratorMemory
  /** Makes a list of commands ready; `memories` are those known already, by number. */
  prepare(commands: readonly Command[], memories: readonly (AcceleratorMemory | undefined)[]): CommandList
  /** Absent where only interrupts tell. */
  readonly polling?: Polling | undefined
  /** Resolves with the reason when the device is gone or was reset for good. */
  readonly lost: Promise<string>
  close(): Promise<void>
}
