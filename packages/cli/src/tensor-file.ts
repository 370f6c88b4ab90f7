import { readFileSync } from 'node:fs'
import {
  allocate,
  type DataType,
  describe,
  elementBytes,
  elementCount,
  type Tensor,
  type TensorType,
} from '@uaccel/inference'
import { accelError } from '@uaccel/uapi'

/** NumPy's name of each element type that a graph may have, little-endian (NEP 1). */
const npyTypes: Readonly<Record<string, DataType>> = {
  '<f4': 'float32',
  '|u1': 'uint8',
  '|i1': 'int8',
  '<i4': 'int32',
  '<i8': 'int64',
}
const NPY_MAGIC = Buffer.from('\x93NUMPY', 'latin1')

/**
 * Reads a graph's input from a file: `.npy`, `.json` (numbers, nested or flat), or anything else as raw little-endian
 * elements.
 *
 * @throws ERR_ACCEL_NOT_FOUND, ERR_ACCEL_INVALID_SHAPE, ERR_ACCEL_INVALID_ARGUMENT
 */
export function readTensor(path: string, wanted: TensorType): Tensor {
  const bytes = readInputFile(path)
  if (path.endsWith('.npy')) return fromNpy(path, bytes, wanted)
  if (path.endsWith('.json')) return fromJson(path, bytes, wanted)
  return fromRaw(path, bytes, wanted)
}

/** The bytes of a file. `ERR_ACCEL_NOT_FOUND` where there is none, `ERR_ACCEL_INVALID_ARGUMENT` where it cannot be read. */
export function readInputFile(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT') throw accelError('ERR_ACCEL_NOT_FOUND', `There is no file ${path}.`, { cause })
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path} cannot be read (${code}).`, { cause })
  }
}

function mismatch(path: string, found: string, wanted: TensorType) {
  return accelError('ERR_ACCEL_INVALID_SHAPE', `${path} holds ${found}; the model takes ${describe(wanted)}.`)
}

function fromRaw(path: string, bytes: Uint8Array, wanted: TensorType): Tensor {
  const sizeBytes = elementCount(wanted.shape) * elementBytes(wanted.dtype)
  if (bytes.length !== sizeBytes) throw mismatch(path, `${bytes.length} bytes`, wanted)
  const result = { ...wanted, data: allocate(wanted) }
  new Uint8Array(result.data.buffer, result.data.byteOffset, result.data.byteLength).set(bytes)
  return result
}

function fromJson(path: string, bytes: Buffer, wanted: TensorType): Tensor {
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch (cause) {
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path} is not JSON.`, { cause })
  }
  const numbers = (Array.isArray(value) ? value : [value]).flat(Number.POSITIVE_INFINITY)
  if (numbers.some((n) => typeof n !== 'number')) throw mismatch(path, 'something other than numbers', wanted)
  if (numbers.length !== elementCount(wanted.shape)) throw mismatch(path, `${numbers.length} numbers`, wanted)
  const result = { ...wanted, data: allocate(wanted) }
  const big = wanted.dtype === 'int64'
  for (const [i, n] of numbers.entries()) result.data[i] = big ? BigInt(Math.trunc(n)) : n
  return result
}

/** Magic, version, length of a Python dictionary literal, dictionary, data (NEP 1). */
function fromNpy(path: string, bytes: Buffer, wanted: TensorType): Tensor {
  const bad = (why: string) =>
    accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path} is no .npy file that can be read: ${why}.`)
  if (bytes.length < 12 || !bytes.subarray(0, 6).equals(NPY_MAGIC))
    throw bad('it does not start with \\x93NUMPY')
  const long = bytes[6]! >= 2
  const start = long ? 12 : 10
  const length = long ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8)
  if (start + length > bytes.length) throw bad('its header is cut off')
  const header = bytes.toString('latin1', start, start + length)
  const descr = /'descr':\s*'([^']+)'/.exec(header)?.[1] ?? ''
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1]
  if (!/'fortran_order':\s*False/.test(header)) throw bad('it is in Fortran order')
  const dtype = npyTypes[descr]
  if (dtype === undefined || shape === undefined) throw bad(`its elements are ${descr || 'of unknown type'}`)
  const dimensions = shape
    .split(',')
    .filter((part) => part.trim() !== '')
    .map(Number)
  if (dtype !== wanted.dtype || dimensions.join() !== wanted.shape.join()) {
    throw mismatch(path, describe({ dtype, shape: dimensions }), wanted)
  }
  return fromRaw(path, bytes.subarray(start + length), wanted)
}
