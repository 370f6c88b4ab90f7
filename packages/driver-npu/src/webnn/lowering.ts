import type { MLOperandDataType, Operator } from '@uaccel/webnn'
import type { Placement } from '@uaccel/webnn/accelerator'
import type { Draft } from './draft.js'

/** An operator: the steps that do it. Where it is one step, element-wise operators may follow in it. */
export interface Lowering {
  /** Data types by the name of an operand; those that are not named may have any. */
  readonly types: Readonly<Record<string, readonly MLOperandDataType[]>>
  /** Errors: `ERR_ACCEL_UNSUPPORTED` with the reason for what the device does not do. */
  readonly drafts: (operator: Operator, placement: Placement) => readonly Draft[]
}

export const everyType = ['float32', 'int32', 'uint32', 'int64', 'uint64', 'int8', 'uint8'] as const
export const floats = ['float32'] as const
/** What stages of an operator may take that has A for itself, and of one that has A and B. */
export const besidesA = ['b', 'c'] as const
export const besidesB = ['c'] as const
