import { accelError } from '@uaccel/uapi'

/** The typed array that holds the elements of each data type, dense, the last dimension fastest. */
const arrays = {
  float32: Float32Array,
  uint8: Uint8Array,
  int8: Int8Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
} as const

export type DataType = keyof typeof arrays

interface Elements {
  float32: Float32Array
  uint8: Uint8Array
  int8: Int8Array
  int32: Int32Array
  uint32: Uint32Array
  int64: BigInt64Array
  uint64: BigUint64Array
}

/** Elements of a tensor. */
export type TensorData<T extends DataType = DataType> = Elements[T]

export interface TensorType {
  readonly dtype: DataType
  /** Dimensions, outermost first; empty for a scalar. */
  readonly shape: readonly number[]
}

export interface Tensor<T extends DataType = DataType> extends TensorType {
  readonly dtype: T
  readonly data: TensorData<T>
}

export function elementBytes(dtype: DataType): number {
  return arrays[dtype].BYTES_PER_ELEMENT
}

/** Number of elements of a shape; 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, dimension) => product * dimension, 1)
}

/** Size of a dense tensor in bytes. */
export function sizeBytes({ dtype, shape }: TensorType): number {
  return elementCount(shape) * elementBytes(dtype)
}

type ViewType = new (buffer: ArrayBufferLike, byteOffset: number, length: number) => TensorData

/** The elements of a tensor of that type which lies at `byteOffset` of `buffer`: a view, nothing is copied. */
export function viewAs(
  { dtype, shape }: TensorType,
  buffer: ArrayBufferLike,
  byteOffset: number,
): TensorData {
  const Type = arrays[dtype] as ViewType
  return new Type(buffer, byteOffset, elementCount(shape))
}

/** New elements, all 0, for a tensor of that type. */
export function allocate(type: TensorType): TensorData {
  return viewAs(type, new ArrayBuffer(sizeBytes(type)), 0)
}

/** A tensor of that type from its bytes, dense and little-endian, which are copied; ERR_ACCEL_INVALID_SHAPE when they are more or less. */
export function tensorOf(type: TensorType, bytes: Uint8Array): Tensor {
  if (bytes.length !== sizeBytes(type))
    throw accelError(
      'ERR_ACCEL_INVALID_SHAPE',
      `${describe(type)} wants ${sizeBytes(type)} bytes, found ${bytes.length}`,
    )
  return { ...type, data: viewAs(type, Uint8Array.from(bytes).buffer, 0) }
}

/** A type as it stands in messages: `uint8 [1,8,28,28]`. */
export function describe({ dtype, shape }: TensorType): string {
  return `${dtype} [${shape.join(',')}]`
}

/** A tensor from elements; ERR_ACCEL_INVALID_SHAPE when their number or kind is not that of the shape and type. */
export function tensor<T extends DataType>(
  dtype: T,
  shape: readonly number[],
  data: TensorData<T>,
): Tensor<T> {
  if (!(data instanceof arrays[dtype]) || data.length !== elementCount(shape)) {
    throw accelError(
      'ERR_ACCEL_INVALID_SHAPE',
      `${describe({ dtype, shape })} wants a ${arrays[dtype].name} of ${elementCount(shape)} elements, ` +
        `found a ${data.constructor.name} of ${data.length}`,
    )
  }
  return { dtype, shape: [...shape], data }
}
