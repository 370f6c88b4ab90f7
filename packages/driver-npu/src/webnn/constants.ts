import type { MLOperandDataType } from '@uaccel/webnn'

const arrays = {
  float32: Float32Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
} as const

/** Numbers as elements of a tensor. */
export function arrayBytes(dataType: MLOperandDataType, values: readonly (number | bigint)[]): Uint8Array {
  const { buffer } = new arrays[dataType as keyof typeof arrays](values as never)
  return new Uint8Array(buffer)
}
