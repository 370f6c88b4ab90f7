import { accelError } from '@uaccel/uapi'

/** Digits as MNIST's own files hold them: one byte a pixel (0 background, 255 ink), row by row, and one label each. */
export interface Digits {
  readonly count: number
  /** Height of an image in pixels. */
  readonly rows: number
  /** Width of an image in pixels. */
  readonly columns: number
  /** count * rows * columns bytes. */
  readonly pixels: Uint8Array
  /** One digit 0-9 per image. */
  readonly labels: Uint8Array
}

// IDX format (yann.lecun.com/exdb/mnist): two zero bytes, element type 0x08 = unsigned byte, number of dimensions,
// then each dimension as a big-endian u32, then the elements.
const unsignedByte = 0x08

/** One IDX file of unsigned bytes. */
export function encodeIdx(shape: readonly number[], data: Uint8Array): Uint8Array {
  const file = new Uint8Array(4 + 4 * shape.length + data.length)
  const view = new DataView(file.buffer)
  view.setUint8(2, unsignedByte)
  view.setUint8(3, shape.length)
  shape.forEach((dimension, i) => {
    view.setUint32(4 + 4 * i, dimension)
  })
  file.set(data, 4 + 4 * shape.length)
  return file
}

/** Reads an IDX file of unsigned bytes with `dimensions` dimensions; ERR_ACCEL_INVALID_ARGUMENT if it is not one. */
export function decodeIdx(file: Uint8Array, dimensions: number): { shape: number[]; data: Uint8Array } {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  const headerBytes = 4 + 4 * dimensions
  const wanted = (unsignedByte << 8) | dimensions
  if (file.length < headerBytes || view.getUint32(0) !== wanted) {
    const found = file.length < 4 ? `${file.length} bytes` : `0x${view.getUint32(0).toString(16)}`
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `an IDX file of ${dimensions} dimensions starts with 0x${wanted.toString(16)}, found ${found}`,
    )
  }
  const shape = Array.from({ length: dimensions }, (_, i) => view.getUint32(4 + 4 * i))
  const sizeBytes = shape.reduce((product, dimension) => product * dimension, 1)
  if (file.length !== headerBytes + sizeBytes) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `an IDX file of shape ${shape.join('x')} has ${headerBytes + sizeBytes} bytes, found ${file.length}`,
    )
  }
  return { shape, data: file.subarray(headerBytes) }
}

/** A pair of IDX files, images (count x rows x columns) and labels (count). */
export function decodeDigits(images: Uint8Array, labels: Uint8Array): Digits {
  const { shape, data } = decodeIdx(images, 3)
  const [count, rows, columns] = shape
  const answers = decodeIdx(labels, 1)
  if (answers.shape[0] !== count) {
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${count} images come with ${answers.shape[0]} labels`)
  }
  return { count, rows, columns, pixels: data, labels: answers.data }
}
