import { type DataType, describe, type Tensor, type TensorType, tensorOf } from '@uaccel/inference'
import { accelError } from '@uaccel/uapi'

/** NumPy's kind and size of an element (NEP 1, the array interface's typestr), by the names that ONNX's types have here. */
const typeNames: Readonly<Record<string, string>> = {
  f4: 'float32',
  f8: 'float64',
  f2: 'float16',
  b1: 'bool',
  u1: 'uint8',
  i1: 'int8',
  u2: 'uint16',
  i2: 'int16',
  u4: 'uint32',
  i4: 'int32',
  u8: 'uint64',
  i8: 'int64',
  c8: 'complex64',
  c16: 'complex128',
}
const typestrs: Readonly<Record<DataType, string>> = {
  float32: '<f4',
  uint8: '|u1',
  int8: '|i1',
  uint32: '<u4',
  int32: '<i4',
  uint64: '<u8',
  int64: '<i8',
}
const MAGIC = Buffer.from('\x93NUMPY', 'latin1')
/** The data starts at a multiple of this (NEP 1, version 1.0). */
const ALIGN_BYTES = 64

/** A file as it is written: elements are little-endian, the last dimension fastest. */
export interface NpyArray {
  /** `float32`, ...; `bool` and `float64`, which no tensor has, among them. */
  readonly type: string
  readonly shape: readonly number[]
  readonly bytes: Uint8Array
}

/**
 * Reads a `.npy` file (NEP 1, versions 1 to 3), of either byte order, C's or Fortran's.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT it is none, or is cut off
 */
export function readNpy(path: string, file: Buffer): NpyArray {
  const bad = (why: string) =>
    accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path} is no .npy file that can be read: ${why}.`)
  if (file.length < 12 || !file.subarray(0, 6).equals(MAGIC)) throw bad('it does not start with \\x93NUMPY')
  const long = file[6]! >= 2
  const start = long ? 12 : 10
  const length = long ? file.readUInt32LE(8) : file.readUInt16LE(8)
  if (start + length > file.length) throw bad('its header is cut off')
  const header = file.toString('latin1', start, start + length)
  const descr = /'descr':\s*'([<>|=])(\w+)'/.exec(header)
  const shape = /'shape':\s*\(([\d\s,L]*)\)/.exec(header)?.[1]
  const order = /'fortran_order':\s*(True|False)/.exec(header)?.[1]
  const type = typeNames[descr?.[2] ?? '']
  if (type === undefined || shape === undefined || order === undefined)
    throw bad(`its header is ${JSON.stringify(header.trim().slice(0, 100))}: numbers in an array are wanted`)
  const dimensions = shape
    .split(',')
    .filter((part) => part.trim() !== '')
    .map((part) => Number.parseInt(part, 10))
  const elementBytes = Number(descr![2]!.slice(1))
  const count = dimensions.reduce((product, size) => product * size, 1)
  const data = file.subarray(start + length)
  if (count * elementBytes !== data.length)
    throw bad(
      `${type} [${dimensions}] has ${count * elementBytes} bytes, and ${data.length} follow its header`,
    )
  const bytes = Uint8Array.from(data)
  if (descr![1] === '>') swap(bytes, type.startsWith('complex') ? elementBytes / 2 : elementBytes)
  return {
    type,
    shape: dimensions,
    bytes: order === 'True' ? rowMajor(bytes, dimensions, elementBytes) : bytes,
  }
}

function swap(bytes: Uint8Array, elementBytes: number): void {
  for (let at = 0; at < bytes.length; at += elementBytes) bytes.subarray(at, at + elementBytes).reverse()
}

/** Elements whose first dimension is the fastest, in the order of those whose last one is. */
function rowMajor(bytes: Uint8Array, shape: readonly number[], elementBytes: number): Uint8Array {
  const ordered = new Uint8Array(bytes.length)
  const index = shape.map(() => 0)
  const strides = shape.map((_, axis) => shape.slice(0, axis).reduce((product, size) => product * size, 1))
  for (let to = 0; to < bytes.length; to += elementBytes) {
    const from = index.reduce((sum, at, axis) => sum + at * strides[axis]!, 0) * elementBytes
    ordered.set(bytes.subarray(from, from + elementBytes), to)
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis]! === shape[axis]; axis--) index[axis] = 0
  }
  return ordered
}

/**
 * The tensor that a model takes, of an array: of its type, of bool where the tensor is of bytes, or of float64 numbers that float32 has as well.
 *
 * @throws ERR_ACCEL_INVALID_SHAPE another type or shape
 */
export function fromNpy(path: string, { type, shape, bytes }: NpyArray, wanted: TensorType): Tensor {
  const takes = `the model takes ${describe(wanted)}`
  const same = type === wanted.dtype || (type === 'bool' && wanted.dtype === 'uint8')
  const wide = type === 'float64' && wanted.dtype === 'float32'
  if ((!same && !wide) || shape.join() !== wanted.shape.join())
    throw accelError('ERR_ACCEL_INVALID_SHAPE', `${path} holds ${type} [${shape}]; ${takes}.`)
  if (same) return tensorOf(wanted, bytes)
  const doubles = new Float64Array(bytes.buffer)
  const singles = Float32Array.from(doubles)
  const lost = doubles.find((number, at) => !Object.is(number, singles[at]))
  if (lost === undefined) return { ...wanted, data: singles }
  throw accelError(
    'ERR_ACCEL_INVALID_SHAPE',
    `${path} holds ${type}, with numbers such as ${lost} that float32 does not have; ${takes}: x.astype('float32') rounds them.`,
  )
}

/** A tensor as a `.npy` file of version 1.0. */
export function toNpy({ dtype, shape, data }: Tensor): Uint8Array {
  const tuple = shape.length === 1 ? `${shape[0]},` : shape.join(', ')
  const words = `{'descr': '${typestrs[dtype]}', 'fortran_order': False, 'shape': (${tuple}), }`
  const start = MAGIC.length + 4
  const end = Math.ceil((start + words.length + 1) / ALIGN_BYTES) * ALIGN_BYTES
  const head = Buffer.alloc(end, ' ')
  MAGIC.copy(head)
  head.writeUInt16LE(1, 6) // version 1.0, a byte each
  head.writeUInt16LE(end - start, 8)
  head.write(words, start, 'latin1')
  head.write('\n', end - 1, 'latin1')
  return Buffer.concat([head, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)])
}
