import { readFileSync } from 'node:fs'
import {
  allocate,
  describe,
  elementBytes,
  elementCount,
  type GraphValue,
  type Tensor,
  type TensorType,
  tensorOf,
} from '@uaccel/inference'
import { accelError } from '@uaccel/uapi'
import { fromImage, type ImageOptions, readPng, shapeOfImage } from './image.js'
import { fromNpy, readNpy } from './npy.js'

/** What a file says of its tensor: all of the shape, or some of it. */
export interface Source {
  /** The sizes of dimensions that are known from the file, for an input that is declared so. `undefined` where it does not tell. */
  shapeFor(value: GraphValue): readonly (number | undefined)[] | undefined
  /** An image: it becomes the size that is wanted. */
  readonly resized?: boolean
  /** `ERR_ACCEL_INVALID_SHAPE` where it is another. */
  tensor(wanted: TensorType): Tensor
}

const images = /\.(png|jpe?g|gif|webp|bmp|tiff?)$/i

/**
 * Reads a model's input: `.npy`; `.json`, numbers nested or flat; an image; or anything else as raw little-endian elements.
 *
 * @throws ERR_ACCEL_NOT_FOUND, ERR_ACCEL_INVALID_ARGUMENT, ERR_ACCEL_INVALID_SHAPE
 */
export function readSource(path: string, options: ImageOptions): Source {
  const file = readInputFile(path)
  if (/\.npy$/i.test(path)) {
    const array = readNpy(path, file)
    return { shapeFor: () => array.shape, tensor: (wanted) => fromNpy(path, array, wanted) }
  }
  if (/\.json$/i.test(path)) return jsonSource(path, file)
  if (images.test(path)) {
    const image = readPng(path, file)
    return {
      resized: true,
      shapeFor: ({ shape }) => shape && shapeOfImage(image, shape, options.layout),
      tensor: (wanted) => fromImage(path, image, wanted, options),
    }
  }
  return {
    shapeFor: ({ dtype, shape }) => shape && byCount(shape, file.length / elementBytes(dtype)),
    tensor(wanted) {
      if (file.length !== elementCount(wanted.shape) * elementBytes(wanted.dtype))
        throw mismatch(path, `${file.length} bytes`, wanted)
      return tensorOf(wanted, file)
    },
  }
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

const mismatch = (path: string, found: string, wanted: TensorType) =>
  accelError('ERR_ACCEL_INVALID_SHAPE', `${path} holds ${found}; the model takes ${describe(wanted)}.`)

/** Where one dimension alone is open, the number of elements says its size. */
function byCount(shape: readonly (number | string)[], count: number): (number | undefined)[] {
  const open = shape.filter((size) => typeof size === 'string').length
  const known = shape.reduce<number>(
    (product, size) => (typeof size === 'number' ? product * size : product),
    1,
  )
  const rest = count / known
  return shape.map((size) =>
    typeof size === 'number' ? size : open === 1 && Number.isInteger(rest) && rest > 0 ? rest : undefined,
  )
}

/** More than any tensor has dimensions; an array can be nested as deep as a file is long. */
const MAX_DEPTH = 16
/** Characters that are told of what is wrong. */
const TOLD = 80

/** Whether arrays of one depth have one length. */
const isEven = (value: unknown, [length, ...inner]: readonly number[]): boolean =>
  length === undefined ||
  (Array.isArray(value) && value.length === length && value.every((part) => isEven(part, inner)))

function jsonSource(path: string, file: Buffer): Source {
  let value: unknown
  try {
    value = JSON.parse(file.toString('utf8'))
  } catch (cause) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `${path} is not JSON: ${(cause as Error).message.slice(0, TOLD)}`,
      { cause },
    )
  }
  const nested: number[] = []
  for (let part = value; Array.isArray(part); part = part[0]) nested.push(part.length)
  if (nested.length > MAX_DEPTH)
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `${path} has arrays within arrays, ${nested.length} deep: at most ${MAX_DEPTH} are read.`,
    )
  const numbers = (Array.isArray(value) ? value : [value]).flat(nested.length - 1)
  return {
    shapeFor: ({ shape }) =>
      shape === undefined || shape.length === nested.length ? nested : byCount(shape, numbers.length),
    tensor(wanted) {
      const wrong = numbers.find((each) => typeof each !== 'number')
      if (Array.isArray(wrong)) throw mismatch(path, 'arrays of several depths', wanted)
      if (wrong !== undefined)
        throw mismatch(path, `${JSON.stringify(wrong).slice(0, TOLD)}, which is no number`, wanted)
      if (nested.length > 1 && (!isEven(value, nested) || nested.join() !== wanted.shape.join()))
        throw mismatch(
          path,
          isEven(value, nested) ? `numbers of the shape [${nested}]` : 'arrays of several lengths',
          wanted,
        )
      if (numbers.length !== elementCount(wanted.shape))
        throw mismatch(path, `${numbers.length} numbers`, wanted)
      const result = { ...wanted, data: allocate(wanted) }
      const big = wanted.dtype === 'int64' || wanted.dtype === 'uint64'
      for (const [at, number] of (numbers as number[]).entries()) {
        if (wanted.dtype === 'float32') {
          result.data[at] = number
          if (!Number.isFinite(result.data[at])) throw mismatch(path, 'a number beyond float32', wanted)
        } else {
          if (!Number.isInteger(number)) throw mismatch(path, `${number}`, wanted)
          // JSON.parse has rounded it.
          if (big && !Number.isSafeInteger(number))
            throw mismatch(path, `${number}, which JSON does not hold exactly (a .npy does)`, wanted)
          result.data[at] = big ? BigInt(number) : number
          if (Number(result.data[at]) !== number) throw mismatch(path, `${number}`, wanted)
        }
      }
      return result
    },
  }
}
