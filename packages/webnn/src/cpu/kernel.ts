import type { MLOperandDataType, TypedArray } from '../data-type.js'

/** An operand in memory. */
export interface Operand {
  readonly dataType: MLOperandDataType
  readonly shape: readonly number[]
  readonly data: TypedArray
}

/** A node whose operands have their memory, for good. */
export interface KernelNode {
  readonly name: string
  readonly inputs: Readonly<Record<string, Operand>>
  readonly attributes: Readonly<Record<string, unknown>>
  readonly outputs: readonly Operand[]
}

/** Looks at a node once, and answers what computes it: any number of times, allocating nothing. */
export type Kernel = (node: KernelNode) => () => void

/** Types whose elements are bigints. */
export const isBig = (dataType: MLOperandDataType): boolean => dataType === 'int64' || dataType === 'uint64'
export const isFloat = (dataType: MLOperandDataType): boolean =>
  dataType === 'float32' || dataType === 'float16'

/** The elements of a type that fits a number. */
export const numbers = ({ data }: Operand): Float32Array => data as Float32Array
/** The elements of a type of 64 bits. */
export const bigints = ({ data }: Operand): BigInt64Array => data as BigInt64Array

/** How far apart neighbours of each dimension are. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length).fill(1)
  for (let at = shape.length - 2; at >= 0; at--) strides[at] = strides[at + 1] * shape[at + 1]
  return strides
}

/**
 * For each element of `shape`, in order, the sum of its coordinates times `strides`, plus `base`: where an element is found in an operand that is
 * broadcast, transposed, sliced or stepped through in any other regular way.
 */
export function offsetsOf(shape: readonly number[], strides: readonly number[], base = 0): Int32Array {
  const offsets = new Int32Array(shape.reduce((count, size) => count * size, 1))
  const at = new Array<number>(shape.length).fill(0)
  let offset = base
  for (let index = 0; index < offsets.length; index++) {
    offsets[index] = offset
    for (let dimension = shape.length - 1; dimension >= 0; dimension--) {
      offset += strides[dimension]
      if (++at[dimension] < shape[dimension]) break
      offset -= strides[dimension] * shape[dimension]
      at[dimension] = 0
    }
  }
  return offsets
}

/** Where each element of `to` is found in an operand of shape `from` that is broadcast to it; `undefined` where at its own place. */
export function broadcastOffsets(from: readonly number[], to: readonly number[]): Int32Array | undefined {
  if (from.length === to.length && from.every((size, at) => size === to[at])) return undefined
  const strides = stridesOf(from)
  const missing = to.length - from.length
  return offsetsOf(
    to,
    to.map((_, at) => (at < missing || from[at - missing] === 1 ? 0 : strides[at - missing])),
  )
}
