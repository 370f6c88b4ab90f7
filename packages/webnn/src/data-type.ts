import { halfBits, halfValue } from './half.js'
import { dictionary, enumeration, sequence, unsignedLong } from './web-idl.js'

/** `MLOperandDataType`, in the order of the specification. */
export const dataTypes = [
  'float32',
  'float16',
  'int32',
  'uint32',
  'int64',
  'uint64',
  'int8',
  'uint8',
] as const
export type MLOperandDataType = (typeof dataTypes)[number]
export const toDataType = enumeration(...dataTypes)

/** `MLOperandDescriptor`. */
export interface MLOperandDescriptor {
  dataType: MLOperandDataType
  shape: readonly number[]
}

export type TypedArray =
  | Float32Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | Int8Array
  | Uint8Array

/** The view that holds each type. Node 20 has no Float16Array: halves are words of 16 bits ([half.ts](./half.ts)). */
export const arrayOf = {
  float32: Float32Array,
  float16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  int8: Int8Array,
  uint8: Uint8Array,
} as const satisfies Record<MLOperandDataType, unknown>

/** The largest of each integer type that fits a number exactly, for the check of `argMin` and `argMax`. */
export const integerMaximum: Readonly<Partial<Record<MLOperandDataType, number>>> = {
  int32: 2 ** 31 - 1,
  int64: Number.MAX_SAFE_INTEGER,
}

/** Elements of a shape; 1 of a scalar. */
export const elementCount = (shape: readonly number[]): number =>
  shape.reduce((count, size) => count * size, 1)

export const byteLength = ({ dataType, shape }: MLOperandDescriptor): number =>
  elementCount(shape) * arrayOf[dataType].BYTES_PER_ELEMENT

/** "A valid dimension": above zero, and in the range of `long`. */
export const isValidDimension = (size: number): boolean =>
  Number.isInteger(size) && size > 0 && size <= 0x7fff_ffff

/** "A valid tensor count". */
export const isValidTensorCount = (count: number): boolean => count > 0 && count <= 8192

/** A tensor is held by one typed array, and Node's buffers are addressed by 32 bits in many places. */
export const MAX_TENSOR_BYTES = 0x7fff_ffff
/** Ranks above this are refused; the specification asks for 5 at least. */
export const MAX_RANK = 8

/** "Check dimensions": whether a tensor of this descriptor can be. */
export function checkDimensions(descriptor: MLOperandDescriptor): boolean {
  return (
    descriptor.shape.every(isValidDimension) &&
    descriptor.shape.length <= MAX_RANK &&
    isValidDimension(elementCount(descriptor.shape)) &&
    byteLength(descriptor) <= MAX_TENSOR_BYTES
  )
}

const descriptorMembers = {
  dataType: { convert: toDataType, required: true },
  shape: { convert: sequence(unsignedLong), required: true },
}

export const toOperandDescriptor = (value: unknown, what: string): MLOperandDescriptor =>
  dictionary(descriptorMembers)(value, what) as unknown as MLOperandDescriptor

/** `MLTensorDescriptor`. */
export interface MLTensorDescriptor extends MLOperandDescriptor {
  readable?: boolean
  writable?: boolean
}

export const toTensorDescriptor = (value: unknown, what: string): Required<MLTensorDescriptor> =>
  dictionary(descriptorMembers, {
    readable: { convert: Boolean, default: false },
    writable: { convert: Boolean, default: false },
  })(value, what) as unknown as Required<MLTensorDescriptor>

/** Rounded to the nearest, halves to the even one. */
export function roundEven(x: number): number {
  const floor = Math.floor(x)
  const rest = x - floor
  if (rest !== 0.5) return Math.round(x)
  return floor % 2 === 0 ? floor : floor + 1
}

/** The one element of a scalar, in memory. */
export function scalarBytes(value: number | bigint, dataType: MLOperandDataType): Uint8Array {
  const cast = castNumber(value, dataType)
  const { buffer } = new arrayOf[dataType]([
    dataType === 'float16' ? halfBits(cast as number) : cast,
  ] as never)
  return new Uint8Array(buffer)
}

/**
 * "Casts" a number of a call to a data type: rounded to the nearest, halves to the even one, and held to its range. The operator `cast` is another
 * matter: it truncates, and integers wrap.
 */
export function castNumber(value: number | bigint, dataType: MLOperandDataType): number | bigint {
  switch (dataType) {
    case 'float32':
      return Math.fround(Number(value))
    case 'float16':
      return halfValue(halfBits(Number(value)))
    case 'int64':
      return toInteger(value, -(2n ** 63n), 2n ** 63n - 1n)
    case 'uint64':
      return toInteger(value, 0n, 2n ** 64n - 1n)
    default: {
      const bits = 8 * arrayOf[dataType].BYTES_PER_ELEMENT
      const [least, greatest] = dataType.startsWith('u')
        ? [0, 2 ** bits - 1]
        : [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]
      const number = Number(value)
      return Number.isNaN(number) ? 0 : Math.min(Math.max(roundEven(number), least), greatest) + 0 // no -0
    }
  }
}

function toInteger(value: number | bigint, least: bigint, greatest: bigint): bigint {
  if (typeof value === 'number') {
    if (Number.isNaN(value)) return 0n
    if (!Number.isFinite(value)) return value > 0 ? greatest : least
  }
  const integer = typeof value === 'bigint' ? value : BigInt(roundEven(value))
  return integer < least ? least : integer > greatest ? greatest : integer
}
