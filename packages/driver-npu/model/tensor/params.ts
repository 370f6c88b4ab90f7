/** Opcodes of operations on tensor blocks (docs/devices/npu.md, 9). */
export const TensorOpcode = {
  ELEMENTWISE: 0x20,
  CONTRACT: 0x21,
  REDUCE: 0x22,
  NORMALISE: 0x23,
  SCAN: 0x24,
  GATHER: 0x25,
  SCATTER: 0x26,
  RESAMPLE: 0x27,
} as const

/** Data types (7.3) and the bytes of their elements. */
export const Type = {
  none: 0,
  uint8: 1,
  int8: 2,
  int32: 3,
  float32: 4,
  uint32: 7,
  int64: 8,
  uint64: 9,
} as const
export const bytesOf: Readonly<Record<number, number>> = { 1: 1, 2: 1, 3: 4, 4: 4, 7: 4, 8: 8, 9: 8 }

/** Functions of `REDUCE` (9.12) and of `NORMALISE` (9.13). */
export const Reduction = {
  SUM: 0,
  MEAN: 1,
  PRODUCT: 2,
  MIN: 3,
  MAX: 4,
  SUM_SQUARE: 5,
  L1: 6,
  L2: 7,
  LOG_SUM: 8,
  LOG_SUM_EXP: 9,
  ARG_MIN: 10,
  ARG_MAX: 11,
} as const
export const Normalisation = { SOFTMAX: 0, STANDARDISE: 1 } as const

/** A tensor block after its checks (docs/devices/npu.md, 7.6). */
export interface TensorParams {
  readonly opcode: number
  readonly rank: number
  readonly inner: number
  readonly fn: number
  readonly flags: number
  /** Data type code in which it computes; 0 moves elements. */
  readonly compute: number
  readonly dims: readonly number[]
  readonly a: View
  readonly b: View | undefined
  readonly c: View | undefined
  readonly d: View
  readonly stages: readonly Stage[]
  readonly windows: readonly Window[]
  /** Of GATHER and SCATTER. */
  readonly indices: Indices | undefined
  /** Of RESAMPLE. */
  readonly axes: readonly [Axis, Axis] | undefined
  /** Of NORMALISE. */
  readonly epsilon: number
}

export interface View {
  readonly type: number
  readonly strides: readonly number[]
  /** Elements before the one of index 0 and from it on that any index reaches: the range in memory is [address - before, address + after). */
  readonly before: number
  readonly after: number
}

export interface Stage {
  readonly fn: number
  readonly x: number
  readonly y: number
  readonly z: number
  readonly alpha: number
  readonly beta: number
}

export interface Window {
  readonly size: number
  readonly out: number
  readonly kernel: number
  readonly stride: number
  readonly dilation: number
  readonly pad: number
}

export interface Indices {
  readonly stride: number
  readonly sizes: readonly number[]
  readonly strides: readonly number[]
}

export interface Axis {
  readonly dimension: number
  readonly size: number
  readonly scale: number
}

export type Numbers = Int8Array | Uint8Array | Int32Array | Uint32Array | Float32Array

/** The range of an operand in memory. Index 0 of all dimensions is at element `base`. An element of 64 bits is two of `data`, the low half first. */
export interface Elements {
  readonly data: Numbers
  readonly base: number
}

/** What is read: memory itself where the device has it, so it may change meanwhile, but not through `d`. */
export interface Operands {
  readonly a: Elements
  readonly b: Elements | undefined
  readonly c: Elements | undefined
}

/** What an operation of 9.10 to 9.17 does once all is checked and read. Only the elements of `d` that are addressed may be written. */
export type TensorOperation = (p: TensorParams, operands: Operands, d: Elements) => void
