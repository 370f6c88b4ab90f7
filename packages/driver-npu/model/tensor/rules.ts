import { Normalisation, Reduction, TensorOpcode, Type } from './params.js'

/** Types of elements that are computed with. */
export const narrow: readonly number[] = [Type.uint8, Type.int8, Type.int32, Type.float32, Type.uint32]
/** Types of elements that are moved. */
export const every: readonly number[] = [...narrow, Type.int64, Type.uint64]
const indexTypes: readonly number[] = [Type.int32, Type.uint32, Type.int64]
const computing: readonly number[] = [Type.float32, Type.int32, Type.uint32]
/** Functions of `REDUCE` that integers have (9.12). */
export const integerReductions: readonly number[] = [
  Reduction.SUM,
  Reduction.PRODUCT,
  Reduction.MIN,
  Reduction.MAX,
  Reduction.SUM_SQUARE,
  Reduction.L1,
  Reduction.ARG_MIN,
  Reduction.ARG_MAX,
]

/** What sections 9.10 to 9.17 allow. */
export interface Rules {
  readonly computes: readonly number[]
  /** Dimensions that `INNER` may name: none, one, or all of them. */
  readonly inner: 0 | 1 | 'any'
  readonly lastFunction: number
  readonly flags: number
  /** Operands that stages may take: 1 A, 2 B, 3 C. */
  readonly stageOperands: readonly number[]
  /** Types of A and B where they are not those of `COMPUTE`. */
  readonly a?: readonly number[]
  readonly b?: readonly number[]
  readonly own?: 'windows' | 'indices' | 'axes' | 'epsilon'
  /** True where the `INNER` last dimensions have no result each. */
  readonly reduces?: true
}

/** By opcode. */
export const rules: Readonly<Record<number, Rules>> = {
  [TensorOpcode.ELEMENTWISE]: {
    computes: [Type.none, ...computing],
    inner: 0,
    lastFunction: 0,
    flags: 0,
    stageOperands: [1, 2, 3],
  },
  [TensorOpcode.CONTRACT]: {
    computes: [Type.float32],
    inner: 'any',
    lastFunction: 0,
    flags: 1,
    stageOperands: [3],
    a: [Type.float32],
    b: [Type.float32],
    own: 'windows',
    reduces: true,
  },
  [TensorOpcode.REDUCE]: {
    computes: computing,
    inner: 'any',
    lastFunction: Reduction.ARG_MAX,
    flags: 3,
    stageOperands: [2, 3],
    own: 'windows',
    reduces: true,
  },
  [TensorOpcode.NORMALISE]: {
    computes: [Type.float32],
    inner: 'any',
    lastFunction: Normalisation.STANDARDISE,
    flags: 0,
    stageOperands: [2, 3],
    own: 'epsilon',
  },
  [TensorOpcode.SCAN]: { computes: computing, inner: 1, lastFunction: 0, flags: 1, stageOperands: [2, 3] },
  [TensorOpcode.GATHER]: {
    computes: [Type.none],
    inner: 0,
    lastFunction: 0,
    flags: 0,
    stageOperands: [],
    b: indexTypes,
    own: 'indices',
  },
  [TensorOpcode.SCATTER]: {
    computes: [Type.none],
    inner: 0,
    lastFunction: 0,
    flags: 0,
    stageOperands: [],
    b: indexTypes,
    own: 'indices',
  },
  [TensorOpcode.RESAMPLE]: {
    computes: [Type.float32],
    inner: 0,
    lastFunction: 1,
    flags: 0,
    stageOperands: [2, 3],
    own: 'axes',
  },
}
