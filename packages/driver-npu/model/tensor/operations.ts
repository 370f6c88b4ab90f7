import { Address } from '../descriptor.js'
import { contract } from './contract.js'
import { elementwise } from './elementwise.js'
import { gather, scatter } from './gather.js'
import { normalise } from './normalise.js'
import { TensorOpcode, type TensorOperation } from './params.js'
import { reduce } from './reduce.js'
import { resample } from './resample.js'
import { scan } from './scan.js'

/** What section 9 says of an operation on a tensor block. */
export interface TensorOperationOf {
  /** Words of the descriptor besides DW0, DW1 and TAG that may be other than 0. */
  readonly uses: readonly number[]
  readonly run: TensorOperation
  /** True where its multiply-accumulates are the product of the dimensions. */
  readonly counts: boolean
  /** True where the `INNER` last dimensions have no result each. */
  readonly reduces: boolean
}

const { A, B, C, D, P } = Address
const words = (...slots: number[]) => slots.flatMap((slot) => [2 * slot, 2 * slot + 1])
const three = words(A, B, C, D, P)
const two = words(A, B, D, P)

/** By opcode. */
export const tensorOperations: Readonly<Record<number, TensorOperationOf>> = {
  [TensorOpcode.ELEMENTWISE]: { uses: three, run: elementwise, counts: false, reduces: false },
  [TensorOpcode.CONTRACT]: { uses: three, run: contract, counts: true, reduces: true },
  [TensorOpcode.REDUCE]: { uses: three, run: reduce, counts: true, reduces: true },
  [TensorOpcode.NORMALISE]: { uses: three, run: normalise, counts: true, reduces: false },
  [TensorOpcode.SCAN]: { uses: three, run: scan, counts: true, reduces: false },
  [TensorOpcode.GATHER]: { uses: two, run: gather, counts: false, reduces: false },
  [TensorOpcode.SCATTER]: { uses: two, run: scatter, counts: false, reduces: false },
  [TensorOpcode.RESAMPLE]: { uses: three, run: resample, counts: false, reduces: false },
}
