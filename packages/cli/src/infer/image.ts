import { inflateSync } from 'node:zlib'
import { allocate, describe, type Tensor, type TensorType } from '@uaccel/inference'
import { accelError } from '@uaccel/uapi'
import { PNG } from 'pngjs'

/** How pixels become elements: `(pixel * scale - mean) / std`, by channel. */
export interface ImageOptions {
  readonly mean?: readonly number[]
  readonly std?: readonly number[]
  /** Default 1/255 for float32, else 1. */
  readonly scale?: number
  /** Default what the shape says. */
  readonly layout?: 'nchw' | 'nhwc'
  /** What is done to an image of other proportions. Default `stretch`. */
  readonly fit?: 'stretch' | 'crop' | 'pad'
  /** Blue before green before red. */
  readonly bgr?: boolean
}

/** Pixels of 0 to 255, the channels of a pixel together: red, green, blue, opacity. */
export interface Image {
  readonly width: number
  readonly height: number
  readonly pixels: Float32Array
}

/** Channels of a decoded image. */
const CHANNELS = 4
/** A file of some bytes can ask for any size. */
const MAX_PIXELS = 1 << 25
/** Weights of red, green and blue in grey (ITU-R BT.601, section 2.5.1). */
const GREY = [0.299, 0.587, 0.114] as const

/**
 * Decodes a PNG file (W3C PNG, third edition); those of 16 bits lose the lower half.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT it is none, is damaged, or has more than 32 Mi pixels
 */
export function readPng(path: string, file: Buffer): Image {
  const bad = (why: string, cause?: unknown) =>
    accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `${path} is no image that can be read: ${why}. PNG files are; of others make one, or a .npy.`,
      cause === undefined ? {} : { cause },
    )
  // 5.2 and 11.2.1: the signature, and width and height at the begin of the first chunk.
  if (file.length < 24 || file.readUInt32BE(0) !== 0x8950_4e47)
    throw bad('it has not the signature of a PNG file')
  const [wide, high] = [file.readUInt32BE(16), file.readUInt32BE(20)]
  if (wide * high > MAX_PIXELS) throw bad(`it is said to have ${wide} x ${high} pixels`)
  try {
    checkPixels(file)
    const { width, height, data } = PNG.sync.read(file)
    return { width, height, pixels: Float32Array.from(data) }
  } catch (cause) {
    throw bad((cause as Error).message, cause)
  }
}

/** First column and row, and the step to the next, of each pass of an interlaced image (PNG, 8.1, Adam7). */
const PASSES = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const
const ONE_PASS = [[0, 0, 1, 1]] as const
/** Samples of a pixel by the colour type (PNG, 11.2.1). */
const SAMPLES: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }

/** That the file holds all of its pixels and no more: pngjs takes what memory held before for those that are missing, and inflates any number. */
function checkPixels(file: Buffer): void {
  const [width, height] = [file.readUInt32BE(16), file.readUInt32BE(20)]
  const [depth, colourType, interlaced] = [file[24]!, file[25]!, file[28]! === 1]
  const bits = depth * (SAMPLES[colourType] ?? 0)
  const wanted = (interlaced ? PASSES : ONE_PASS).reduce((sum, [x, y, across, down]) => {
    const columns = Math.ceil(Math.max(0, width - x) / across)
    const rows = Math.ceil(Math.max(0, height - y) / down)
    // 7.2: a byte for the filter before each row.
    return sum + (columns === 0 ? 0 : rows * (1 + Math.ceil((columns * bits) / 8)))
  }, 0)
  // 5.3: length, type, data, CRC.
  const parts: Buffer[] = []
  for (let at = 8; at + 12 <= file.length; ) {
    const length = file.readUInt32BE(at)
    if (file.toString('latin1', at + 4, at + 8) === 'IDAT') parts.push(file.subarray(at + 8, at + 8 + length))
    at += 12 + length
  }
  const found = inflateSync(Buffer.concat(parts), { maxOutputLength: Math.max(1, wanted) }).length
  if (found !== wanted) throw new RangeError(`its pixels take ${wanted} bytes, and it has ${found}`)
}

/** Where the dimensions of an image are in a shape; `batch` and `channel` are absent in some. */
interface Axes {
  readonly batch?: number
  readonly channel?: number
  readonly height: number
  readonly width: number
}

const isChannels = (size: number | string | undefined) => size === 1 || size === 3 || size === 4

/** Which dimensions of an input are an image's. `undefined` where none are. */
export function imageAxes(
  shape: readonly (number | string)[],
  layout: ImageOptions['layout'],
): Axes | undefined {
  if (shape.length === 2) return { height: 0, width: 1 }
  if (shape.length !== 3 && shape.length !== 4) return undefined
  const first = shape.length - 3
  const batch = first === 1 ? { batch: 0 } : {}
  if (layout === 'nchw' || (layout === undefined && isChannels(shape[first])))
    return { ...batch, channel: first, height: first + 1, width: first + 2 }
  if (layout === 'nhwc' || isChannels(shape[first + 2]))
    return { ...batch, height: first, width: first + 1, channel: first + 2 }
  return undefined
}

/** The shape that an image has as such an input, where the model leaves it open. */
export function shapeOfImage(
  { width, height }: Image,
  shape: readonly (number | string)[],
  layout: ImageOptions['layout'],
): readonly (number | undefined)[] {
  const axes = imageAxes(shape, layout)
  return shape.map((size, axis) =>
    typeof size === 'number'
      ? size
      : axis === axes?.width
        ? width
        : axis === axes?.height
          ? height
          : axis === axes?.batch
            ? 1
            : undefined,
  )
}

/** The part of a line of pixels that each new one is made of: weights of a triangle as wide as the old pixels or the new, whichever are larger. */
function weightsOf(from: number, to: number, start: number, length: number) {
  const step = length / to
  const reach = Math.max(1, step)
  return Array.from({ length: to }, (_, at) => {
    const centre = start + (at + 0.5) * step
    const first = Math.max(0, Math.floor(centre - reach))
    const last = Math.min(from - 1, Math.ceil(centre + reach))
    const weights = Array.from({ length: last - first + 1 }, (_, tap) =>
      Math.max(0, 1 - Math.abs(first + tap + 0.5 - centre) / reach),
    )
    const sum = weights.reduce((all, weight) => all + weight, 0)
    return { first, weights: weights.map((weight) => weight / sum) }
  })
}

/** Bilinear, and averaged where it becomes smaller, as Pillow's. `part` is what is taken of the image. */
export function resize(
  { width, height, pixels }: Image,
  to: { readonly width: number; readonly height: number },
  part = { x: 0, y: 0, width, height },
): Image {
  const columns = weightsOf(width, to.width, part.x, part.width)
  const rows = weightsOf(height, to.height, part.y, part.height)
  // A row at a time: an image of one column can have any number of rows.
  const across = width * CHANNELS
  const row = new Float32Array(across)
  const small = new Float32Array(to.width * to.height * CHANNELS)
  let at = 0
  for (const { first, weights } of rows) {
    row.fill(0)
    for (let tap = 0; tap < weights.length; tap++)
      for (let x = 0; x < across; x++) row[x]! += weights[tap]! * pixels[(first + tap) * across + x]!
    for (const column of columns)
      for (let channel = 0; channel < CHANNELS; channel++, at++)
        for (let tap = 0; tap < column.weights.length; tap++)
          small[at]! += column.weights[tap]! * row[(column.first + tap) * CHANNELS + channel]!
  }
  return { ...to, pixels: small }
}

function fitted(image: Image, to: { width: number; height: number }, fit: ImageOptions['fit']): Image {
  const { width, height } = image
  if (width === to.width && height === to.height) return image
  const [across, down] = [to.width / width, to.height / height]
  if (fit === 'crop') {
    const scale = Math.max(across, down)
    const [w, h] = [to.width / scale, to.height / scale]
    return resize(image, to, { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h })
  }
  if (fit !== 'pad') return resize(image, to)
  const scale = Math.min(across, down)
  const inner = {
    width: Math.max(1, Math.round(width * scale)),
    height: Math.max(1, Math.round(height * scale)),
  }
  const small = resize(image, inner)
  const pixels = new Float32Array(to.width * to.height * CHANNELS)
  const [left, top] = [(to.width - inner.width) >> 1, (to.height - inner.height) >> 1]
  for (let y = 0; y < inner.height; y++) {
    const row = small.pixels.subarray(y * inner.width * CHANNELS, (y + 1) * inner.width * CHANNELS)
    pixels.set(row, ((top + y) * to.width + left) * CHANNELS)
  }
  return { ...to, pixels }
}

/** One channel of a pixel as a model with so many channels sees it: grey, colours, or colours and opacity. */
function channelOf(
  pixels: Float32Array,
  at: number,
  channel: number,
  channels: number,
  bgr: boolean,
): number {
  if (channels === 1) return GREY.reduce((sum, weight, colour) => sum + weight * pixels[at + colour]!, 0)
  return pixels[at + (bgr && channel < 3 ? 2 - channel : channel)]!
}

const limits = {
  uint8: [0, 255],
  int8: [-128, 127],
  int32: [-(2 ** 31), 2 ** 31 - 1],
  uint32: [0, 2 ** 32 - 1],
  int64: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  uint64: [0, Number.MAX_SAFE_INTEGER],
} as const

/**
 * An image as a model's input: resized to it, in its layout, scaled and normalised.
 *
 * @throws ERR_ACCEL_INVALID_SHAPE the input is none of one image
 * @throws ERR_ACCEL_INVALID_ARGUMENT options for another number of channels
 */
export function fromImage(path: string, image: Image, wanted: TensorType, options: ImageOptions): Tensor {
  const { dtype, shape } = wanted
  const axes = imageAxes(shape, options.layout)
  const channels = axes?.channel === undefined ? 1 : shape[axes.channel]!
  if (axes === undefined || !isChannels(channels) || (axes.batch !== undefined && shape[axes.batch] !== 1))
    throw accelError(
      'ERR_ACCEL_INVALID_SHAPE',
      `${path} is one image of 1, 3 or 4 channels; the model takes ${describe(wanted)}${options.layout ? ` in the layout ${options.layout}` : ''}.`,
    )
  const {
    mean = [dtype === 'int8' ? 128 : 0],
    std = [1],
    scale = dtype === 'float32' ? 1 / 255 : 1,
  } = options
  for (const [name, values] of [
    ['--mean', mean],
    ['--std', std],
  ] as const)
    if (values.length !== 1 && values.length !== channels)
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `${name} has ${values.length} numbers; the model takes ${channels} channels: give one, or one for each.`,
      )
  const [width, height] = [shape[axes.width]!, shape[axes.height]!]
  if (width * height > MAX_PIXELS)
    throw accelError(
      'ERR_ACCEL_INVALID_SHAPE',
      `The model takes ${describe(wanted)}, and images are made of at most ${MAX_PIXELS} pixels: give a .npy.`,
    )
  const { pixels } = fitted(image, { width, height }, options.fit)
  const data = allocate(wanted)
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1))
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let channel = 0; channel < channels; channel++) {
        const at = (y * width + x) * CHANNELS
        const pixel = channelOf(pixels, at, channel, channels, options.bgr === true)
        const value = (pixel * scale - mean[channel % mean.length]!) / std[channel % std.length]!
        const to =
          y * strides[axes.height]! +
          x * strides[axes.width]! +
          (axes.channel === undefined ? 0 : channel * strides[axes.channel]!)
        if (dtype === 'float32') data[to] = value
        else {
          const [least, most] = limits[dtype]
          const held = Math.min(most, Math.max(least, Math.round(value)))
          data[to] = dtype === 'int64' || dtype === 'uint64' ? BigInt(held) : held
        }
      }
  return { ...wanted, data }
}
