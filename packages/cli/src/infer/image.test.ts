import { deflateSync } from 'node:zlib'
import fc from 'fast-check'
import { PNG } from 'pngjs'
import t from 'tap'
import { fromImage, type Image, type ImageOptions, readPng, resize } from './image.js'

/** An image of so many pixels, each channel of its own. */
function image(width: number, height: number, pixel: (x: number, y: number) => readonly number[]): Image {
  const pixels = Array.from({ length: width * height }, (_, at) => pixel(at % width, Math.floor(at / width)))
  return { width, height, pixels: Float32Array.from(pixels.flat()) }
}

function png({ width, height, pixels }: Image): Buffer {
  const made = new PNG({ width, height })
  made.data.set(pixels)
  return PNG.sync.write(made)
}

const colours = image(3, 2, (x, y) => [10 * x, 100 + y, 200, 255])
const into = (shape: number[], options: ImageOptions = {}, dtype: 'float32' | 'uint8' | 'int8' = 'uint8') =>
  Array.from(fromImage('x', colours, { dtype, shape }, options).data as ArrayLike<number>)

t.test('a PNG file is read; a damaged one is an error', async (t) => {
  const file = png(colours)
  t.same(readPng('x', file), colours)
  for (let length = 0; length < file.length - 12; length++)
    t.throws(
      () => readPng('x', file.subarray(0, length)),
      { code: 'ERR_ACCEL_INVALID_ARGUMENT' },
      `${length}`,
    )
  const flipped = Buffer.from(file)
  flipped[45]! ^= 1
  t.throws(() => readPng('x', flipped), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  const vast = Buffer.from(file)
  vast.writeUInt32BE(1 << 20, 16)
  vast.writeUInt32BE(1 << 20, 20)
  t.throws(() => readPng('x', vast), { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /1048576 x 1048576/ })
})

/** CRC-32 of a chunk (PNG, annex D). */
function crc(bytes: Uint8Array): number {
  let sum = -1
  for (const byte of bytes) {
    sum ^= byte
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb8_8320 : 0)
  }
  return ~sum >>> 0
}

function chunk(type: string, data: Uint8Array): Buffer {
  const whole = Buffer.concat([Buffer.alloc(4), Buffer.from(type, 'latin1'), data, Buffer.alloc(4)])
  whole.writeUInt32BE(data.length, 0)
  whole.writeUInt32BE(crc(whole.subarray(4, -4)), whole.length - 4)
  return whole
}

/** A file of grey bytes, 3 x 2, of such scanlines. */
const grey = (scanlines: readonly number[], interlaced = 0) =>
  Buffer.concat([
    Buffer.from('89504e470d0a1a0a', 'hex'),
    chunk('IHDR', Uint8Array.of(0, 0, 0, 3, 0, 0, 0, 2, 8, 0, 0, 0, interlaced)),
    chunk('IDAT', deflateSync(Uint8Array.from(scanlines))),
    chunk('IEND', new Uint8Array(0)),
  ])

t.test('pixels that are missing are an error, and not what memory held before', async (t) => {
  const levels = (file: Buffer) => readPng('x', file).pixels.filter((_, at) => at % 4 === 0)
  t.same([...levels(grey([0, 1, 2, 3, 0, 4, 5, 6]))], [1, 2, 3, 4, 5, 6])
  const passes = [0, 1, 0, 3, 0, 2, 0, 4, 5, 6]
  t.same([...levels(grey(passes, 1))], [1, 2, 3, 4, 5, 6])
  for (const file of [grey([0, 1, 2, 3]), grey([0]), grey(passes.slice(0, 6), 1), grey(Array(5e6).fill(0))])
    t.throws(() => readPng('x', file), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
})

t.test('an image of many rows, and an input that no image is made for', async (t) => {
  const tall = image(1, 1 << 20, () => [9, 9, 9, 9])
  t.match(fromImage('x', tall, { dtype: 'uint8', shape: [1, 1024] }, {}).data, {
    0: 9,
    1023: 9,
    length: 1024,
  })
  t.throws(() => into([1, 3, 30_000, 30_000]), { code: 'ERR_ACCEL_INVALID_SHAPE', message: /pixels: give a/ })
})

t.test('layouts, and colours as the model has them', async (t) => {
  const planes = [0, 10, 20, 0, 10, 20, 100, 100, 100, 101, 101, 101, 200, 200, 200, 200, 200, 200]
  const together = [0, 100, 200, 10, 100, 200, 20, 100, 200, 0, 101, 200, 10, 101, 200, 20, 101, 200]
  t.same(into([1, 3, 2, 3]), planes)
  t.same(into([3, 2, 3]), planes)
  t.same(into([1, 2, 3, 3]), together)
  t.same(into([2, 3, 3], { layout: 'nhwc' }), together)
  t.same(into([1, 2, 3, 3], { bgr: true }).slice(0, 6), [200, 100, 0, 200, 100, 10])
  t.same(into([1, 2, 3, 4]).slice(0, 4), [0, 100, 200, 255])
  const grey = Math.round(0.299 * 0 + 0.587 * 100 + 0.114 * 200)
  for (const shape of [
    [2, 3],
    [1, 1, 2, 3],
    [1, 2, 3, 1],
  ])
    t.equal(into(shape)[0], grey)
})

t.test('numbers: scaled, normalised, held to the type', async (t) => {
  const close = (found: number[], wanted: number[]) =>
    t.ok(
      found.length === wanted.length && found.every((each, at) => Math.abs(each - wanted[at]!) < 1e-6),
      `${found}`,
    )
  close(into([3, 2, 3], {}, 'float32').slice(0, 3), [0, 10 / 255, 20 / 255])
  const options = { mean: [0.5, 0.25, 0], std: [0.5, 0.25, 2] }
  const normal = into([3, 2, 3], options, 'float32')
  close(
    [normal[1]!, normal[6]!, normal[12]!],
    [(10 / 255 - 0.5) / 0.5, (100 / 255 - 0.25) / 0.25, 200 / 255 / 2],
  )
  close(into([3, 2, 3], { scale: 1 }, 'float32').slice(0, 3), [0, 10, 20])
  t.same(into([3, 2, 3], {}, 'int8').slice(0, 3), [-128, -118, -108])
  t.same(into([3, 2, 3], { scale: 10 }).slice(0, 9), [0, 100, 200, 0, 100, 200, 255, 255, 255])
})

t.test('an input that is no image', async (t) => {
  for (const [shape, options] of [
    [[1, 5, 2, 3], { layout: 'nchw' }],
    [[1, 7, 2, 5], {}],
    [[2, 3, 2, 3], {}],
    [[6], {}],
  ] as const)
    t.throws(() => into([...shape], options), { code: 'ERR_ACCEL_INVALID_SHAPE' })
  t.throws(() => into([1, 3, 2, 3], { mean: [1, 2] }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
})

t.test('sizes: what is even stays even, and proportions are as told', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ min: 1, max: 9 }),
      async (width, height) => {
        const flat = resize(
          image(5, 4, () => [7, 7, 7, 7]),
          { width, height },
        )
        return (
          flat.pixels.length === width * height * 4 && flat.pixels.every((each) => Math.abs(each - 7) < 1e-4)
        )
      },
    ),
  )
  // Twice as large, bilinear: a quarter and three quarters of the way between two pixels.
  const wide = resize(
    image(2, 1, (x) => [100 * x, 0, 0, 0]),
    { width: 4, height: 1 },
  )
  t.same(
    [0, 4, 8, 12].map((at) => wide.pixels[at]),
    [0, 25, 75, 100],
  )
  const tall = image(2, 6, (_, y) => [y, 0, 0, 0])
  const rows = (fit: 'crop' | 'pad') =>
    Array.from(
      fromImage('x', tall, { dtype: 'uint8', shape: [2, 2, 3] }, { fit, layout: 'nhwc' }).data as Uint8Array,
    )
  t.same([rows('crop')[0], rows('crop')[6]], [2, 3])
  t.same(
    rows('pad').filter((_, at) => at % 3 === 0),
    [1, 0, 4, 0],
    'as high, a third as wide',
  )
})
