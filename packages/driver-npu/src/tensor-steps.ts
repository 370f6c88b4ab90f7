import type { Order, Place } from './operations.js'

/** Opcodes: docs/devices/npu.md, section 9. */
export const tensorOpcodes = {
  elementwise: 0x20,
  contract: 0x21,
  reduce: 0x22,
  normalise: 0x23,
  scan: 0x24,
  gather: 0x25,
  scatter: 0x26,
  resample: 0x27,
} as const
/** Of the parameter block that all of them have, 7.6. */
export const TENSOR_BLOCK_BYTES = 352

/** Data types of operands with strides: docs/devices/npu.md, 7.3. */
export const tensorTypes = {
  uint8: { code: 1, bytes: 1 },
  int8: { code: 2, bytes: 1 },
  int32: { code: 3, bytes: 4 },
  float32: { code: 4, bytes: 4 },
  uint32: { code: 7, bytes: 4 },
  int64: { code: 8, bytes: 8 },
  uint64: { code: 9, bytes: 8 },
} as const
export type TensorType = keyof typeof tensorTypes

/** Types in which tensor operations compute; `none` moves elements as they are. */
export const computeTypes = { none: 0, int32: 3, float32: 4, uint32: 7 } as const
export type ComputeType = keyof typeof computeTypes

/** An operand with strides, 7.6. */
export interface View {
  /** Of the element whose indices are all 0: with negative strides not the first in memory. */
  readonly at: Place
  readonly type: TensorType
  /** In elements, one for each of `dims`. */
  readonly strides: readonly number[]
}

/** Functions of stages, 7.6. */
export const stageFunctions = {
  move: 0x00,
  abs: 0x01,
  neg: 0x02,
  sign: 0x03,
  ceil: 0x04,
  floor: 0x05,
  roundEven: 0x06,
  trunc: 0x07,
  sqrt: 0x08,
  reciprocal: 0x09,
  exp: 0x0a,
  log: 0x0b,
  sin: 0x0c,
  cos: 0x0d,
  tan: 0x0e,
  erf: 0x0f,
  tanh: 0x10,
  sigmoid: 0x11,
  softplus: 0x12,
  softsign: 0x13,
  gelu: 0x14,
  elu: 0x15,
  hardSigmoid: 0x16,
  leakyRelu: 0x17,
  linear: 0x18,
  clamp: 0x19,
  isNaN: 0x1a,
  isInfinite: 0x1b,
  not: 0x1c,
  hardSwish: 0x1d,
  add: 0x40,
  sub: 0x41,
  mul: 0x42,
  div: 0x43,
  min: 0x44,
  max: 0x45,
  pow: 0x46,
  equal: 0x47,
  notEqual: 0x48,
  greater: 0x49,
  greaterOrEqual: 0x4a,
  lesser: 0x4b,
  lesserOrEqual: 0x4c,
  and: 0x4d,
  or: 0x4e,
  xor: 0x4f,
  prelu: 0x50,
  select: 0x60,
} as const
export type StageFunction = keyof typeof stageFunctions

/** Where an argument of a stage comes from: the result before it, an operand, a constant of the stage, or the index along a dimension. */
export type StageSource = 'result' | 'a' | 'b' | 'c' | 'alpha' | 'beta' | { readonly index: number }

/** What a result passes through before it is written, 7.6. */
export interface Stage {
  readonly fn: StageFunction
  /** Default the result before it; `y` and `z` have none, and are given exactly where the function takes them. */
  readonly x?: StageSource
  readonly y?: StageSource
  readonly z?: StageSource
  /** Of the type that the step computes in. Default 0. */
  readonly alpha?: number
  readonly beta?: number
}

/** A window that slides over A, 7.6: `out` and `kernel` are dimensions. */
export interface Window {
  readonly size: number
  readonly out: number
  readonly kernel: number
  readonly stride: number
  readonly dilation: number
  readonly pad: number
}

interface TensorStep<Op extends string> extends Order {
  readonly op: Op
  /** The indices that are gone through: 1 to 8 dimensions. */
  readonly dims: readonly number[]
  readonly compute: ComputeType
  readonly a: View
  readonly b?: View
  readonly c?: View
  readonly d: View
  /** At most 8. */
  readonly stages?: readonly Stage[]
}

/** D = A, through the stages, 9.10. */
export type ElementwiseStep = TensorStep<'elementwise'>

/** D = sum of A B over the `inner` last dimensions, 9.11. */
export interface ContractStep extends TensorStep<'contract'> {
  readonly b: View
  readonly inner: number
  /** At most two. */
  readonly windows?: readonly Window[]
  readonly transposed?: boolean
}

export const reduceFunctions = {
  sum: 0,
  mean: 1,
  product: 2,
  min: 3,
  max: 4,
  sumSquare: 5,
  l1: 6,
  l2: 7,
  logSum: 8,
  logSumExp: 9,
  argMin: 10,
  argMax: 11,
} as const
/** A function of the `inner` last dimensions, 9.12. */
export interface ReduceStep extends TensorStep<'reduce'> {
  readonly fn: keyof typeof reduceFunctions
  readonly inner: number
  readonly windows?: readonly Window[]
  readonly transposed?: boolean
  readonly countPadding?: boolean
}

export const normaliseFunctions = { softmax: 0, standardise: 1 } as const
/** Softmax or standardisation along the `inner` last dimensions, 9.13. */
export interface NormaliseStep extends TensorStep<'normalise'> {
  readonly fn: keyof typeof normaliseFunctions
  readonly inner: number
  /** Of `standardise`; default 0. */
  readonly epsilon?: number
}

/** Running sums along the last dimension, 9.14. */
export interface ScanStep extends TensorStep<'scan'> {
  readonly exclusive?: boolean
}

/** Indices of GATHER and SCATTER, 9.15: component k counts along an axis of `sizes[k]` elements that are `strides[k]` apart. */
export interface Indices {
  /** From one component to the next, in elements of B. */
  readonly stride: number
  /** 1 to 4. */
  readonly axes: readonly { readonly size: number; readonly stride: number }[]
}

/** D = A[indices in B], 9.15. */
export interface GatherStep extends TensorStep<'gather'> {
  readonly b: View
  readonly indices: Indices
}

/** D[indices in B] = A, 9.16. */
export interface ScatterStep extends TensorStep<'scatter'> {
  readonly b: View
  readonly indices: Indices
}

export const resampleFunctions = { nearest: 0, linear: 1 } as const
/** Scales along two dimensions, 9.17. */
export interface ResampleStep extends TensorStep<'resample'> {
  readonly fn: keyof typeof resampleFunctions
  /** Vertical, then horizontal: the dimension, the elements of A along it, and the factor. */
  readonly axes: readonly [ResampleAxis, ResampleAxis]
}
export interface ResampleAxis {
  readonly dimension: number
  readonly size: number
  readonly scale: number
}

/** Steps on tensors with strides: one layout of parameter block for all, 7.6. */
export type AnyTensorStep =
  | ElementwiseStep
  | ContractStep
  | ReduceStep
  | NormaliseStep
  | ScanStep
  | GatherStep
  | ScatterStep
  | ResampleStep
