import { bytes, floats, LANES_AT, ROOM, SUMS_AT, words } from './room.js'
import { LEAST_COUNT, type SourceType, spreadOf } from './spread.js'
import { type Fold, noneOf, TILE_ROWS, tileOf } from './tiles.js'

/**
 * Convolution without a matrix, in WebAssembly SIMD (docs/devices/npu.md, 9.4 and 9.11). What is under a kernel at neighbouring places of the
 * output lies side by side in the input, so with few channels of output for each of input (a depthwise convolution has one) packing it as a
 * matrix costs more than multiplying it. Here an image is packed once, as planes with their padding, one for each remainder that a tap has by the
 * stride; each tap is then an offset from the place of a result, and a weight.
 *
 * Sums are added up in the order of the taps, in `float32`. Whole numbers whose sums are below 2^24 it holds exactly.
 */

/** Along one axis: extents of the input and of the output, and how a kernel slides (7.6). */
export interface Axis {
  readonly size: number
  readonly out: number
  readonly kernel: number
  readonly stride: number
  readonly dilation: number
  readonly pad: number
}

/** Words of 32 bits, of `ROOM`: planes and sums that are worked on at once stay in a second-level cache. */
const MOST = { planes: 1 << 17, taps: 1 << 15, sums: 1 << 16 }
/** Where elements wait that are not packed yet, in bytes. */
const RAW_AT = 4 * (MOST.planes + 16)
const RAW_BYTES = 4 * ROOM.rows - RAW_AT - 32
/** A tile may go past the end of a row by so many places, whose results are thrown away. */
const SLACK = 16

/** The most taps of a convolution. */
export const MOST_TAPS = Math.floor(MOST.taps / (1 + TILE_ROWS))

const { rows: planes, lanes: weights } = floats
const { lanes: offsets } = words

/** Of an axis: the remainders by its stride that taps have, in ascending order, and the elements of each. */
function phasesOf({ kernel, stride, dilation }: Axis, out: number) {
  const used = new Set<number>()
  for (let tap = 0; tap < kernel && used.size < stride; tap++) used.add((tap * dilation) % stride)
  return {
    phases: [...used].sort((a, b) => a - b),
    length: out + Math.floor(((kernel - 1) * dilation) / stride),
  }
}

/** How images are packed, a strip of the output's rows at a time. */
export class Planes {
  /** Rows of output of a strip, and whole results of one channel there. */
  readonly rows: number
  readonly places: number
  /** From the sums of one channel to those of the next. */
  readonly width: number
  /** Images of `images` planes each, with `perImage` channels of output, in a block. */
  readonly images: number
  readonly vertical: Axis
  readonly #horizontal: Axis
  readonly #down: readonly number[]
  readonly #right: readonly number[]
  readonly #pitch: number
  /** Words of one remainder's plane, and of all of one plane of the image. */
  readonly #phaseRows: number
  readonly #phaseWords: number
  readonly #words: number
  readonly #vectors: number
  readonly #count: number
  readonly #perImage: number
  /** The elements that wait to be packed. */
  #loaded = 0
  #loadedEnd = 0
  #top = 0
  #height = 0

  private constructor(
    vertical: Axis,
    horizontal: Axis,
    rows: number,
    shape: { readonly count: number; readonly perImage: number },
  ) {
    this.vertical = vertical
    this.#horizontal = horizontal
    const right = phasesOf(horizontal, horizontal.out)
    const down = phasesOf(vertical, rows)
    this.#down = down.phases
    this.#right = right.phases
    this.#pitch = right.length
    this.#phaseRows = down.length
    this.#phaseWords = down.length * right.length
    this.#words = this.#phaseWords * down.phases.length * right.phases.length
    this.#count = shape.count
    this.#perImage = shape.perImage
    this.rows = rows
    this.places = rows * horizontal.out
    this.width = 4 * Math.ceil(this.places / 4) + (shape.perImage < TILE_ROWS ? 0 : SLACK)
    this.images = Math.min(
      Math.floor(MOST.planes / (shape.count * this.#words)),
      Math.max(1, Math.floor(MOST.sums / (shape.perImage * this.width))),
    )
    // The fewest cycles by count: a vector has 9 of them with what each tap costs besides at 6.
    const cost = (vectors: number) => Math.ceil(horizontal.out / (4 * vectors)) * (vectors + 1.5)
    this.#vectors = [4, 2, 1].reduce((best, vectors) => (cost(vectors) < cost(best) ? vectors : best))
  }

  /** Of images with `count` planes and `perImage` channels of output; undefined where even one row of output has no room. */
  static of(
    vertical: Axis,
    horizontal: Axis,
    shape: { readonly count: number; readonly perImage: number },
  ): Planes | undefined {
    for (let rows = vertical.out; rows > 0; rows = rows === 1 ? 0 : Math.ceil(rows / 2)) {
      const planes = new Planes(vertical, horizontal, rows, shape)
      if (planes.images > 0 && planes.width * Math.min(TILE_ROWS, shape.perImage) <= MOST.sums) return planes
    }
    return undefined
  }

  /** The most channels of output of a block. */
  get most(): number {
    return Math.floor(MOST.sums / this.width)
  }

  /** Channels of output of a block that begins with one: those of whole images, or a part of those of one. */
  channels(first: number, count: number): number {
    const each = this.#perImage
    const { most } = this
    const some =
      most < each
        ? Math.min(most, each - (first % each))
        : Math.min(this.images, Math.floor(most / each)) * each
    return Math.min(some, count - first)
  }

  /** Goes to `height` rows of output from `top` on. */
  strip(top: number, height: number): void {
    this.#top = top
    this.#height = height
  }

  /** Begins a block of so many images, with that around them. What was read of elements is forgotten: they may have changed. */
  begin(images: number, around: number): void {
    planes.fill(around, 0, images * this.#count * this.#words)
    this.#loaded = this.#loadedEnd = 0
  }

  /** Where a tap's element is from that of the first result, in bytes: of a plane, at a place down and right in the input. */
  offset(plane: number, down: number, right: number): number {
    const [v, h] = [this.vertical, this.#horizontal]
    const phase =
      this.#down.indexOf(down % v.stride) * this.#right.length + this.#right.indexOf(right % h.stride)
    const row = Math.floor(down / v.stride)
    const column = Math.floor(right / h.stride)
    return 4 * (plane * this.#words + phase * this.#phaseWords + row * this.#pitch + column)
  }

  /**
   * Packs one plane of an image: its elements, `down` and `right` apart from `from` on, less `zero`. Elements up to `end` are those
   * of planes that will follow.
   */
  pack(
    image: number,
    plane: number,
    data: PlaneData,
    from: number,
    end: number,
    down: number,
    right: number,
    zero: number,
  ): void {
    const [v, h] = [this.vertical, this.#horizontal]
    const pitch = this.#pitch
    const begin = (image * this.#count + plane) * this.#words
    const above = this.#top * v.stride - v.pad
    // The rows of the input that are needed, which vectors copy from where they lie together.
    const firstRow = Math.max(0, above)
    const endRow = Math.min(
      v.size,
      above + this.#down[this.#down.length - 1] + (this.#phaseRows - 1) * v.stride + 1,
    )
    const rowBytes = down * data.BYTES_PER_ELEMENT
    const wanted = from + firstRow * down
    const length = (endRow - firstRow - 1) * down + h.size
    const room = RAW_BYTES / data.BYTES_PER_ELEMENT
    const spread =
      right === 1 && down >= h.size && length <= room ? spreadOf(typeOf(data), h.stride) : undefined
    if (spread !== undefined && endRow > firstRow) {
      if (wanted < this.#loaded || wanted + length > this.#loadedEnd) {
        this.#loaded = wanted
        this.#loadedEnd = Math.min(wanted + room, Math.max(wanted + length, end))
        bytes.set(bytesOf(data, wanted, this.#loadedEnd - wanted), RAW_AT)
      }
    }
    const rawAt = RAW_AT + (wanted - this.#loaded) * data.BYTES_PER_ELEMENT
    for (let fy = 0, to = begin; fy < this.#down.length; fy++) {
      const y = above + this.#down[fy]
      const firstIn = y < 0 ? Math.ceil(-y / v.stride) : 0
      const endIn = Math.min(this.#phaseRows, Math.floor((v.size - 1 - y) / v.stride) + 1)
      for (let fx = 0; fx < this.#right.length; fx++, to += this.#phaseWords) {
        // Column c is at x = c stride + left in the input.
        const left = this.#right[fx] - h.pad
        const first = left < 0 ? Math.ceil(-left / h.stride) : 0
        const count = Math.min(pitch, Math.floor((h.size - 1 - left) / h.stride) + 1) - first
        const rows = endIn - firstIn
        if (count <= 0 || rows <= 0) continue
        const [row, column] = [y + firstIn * v.stride, left + first * h.stride]
        const into = to + firstIn * pitch + first
        if (spread !== undefined && count >= LEAST_COUNT) {
          const source = rawAt + (row - firstRow) * rowBytes + column * data.BYTES_PER_ELEMENT
          spread(source, 4 * into, rows, 4 * count, v.stride * rowBytes, zero, 4 * pitch)
          continue
        }
        const start = from + row * down + column * right
        for (let r = 0; r < rows; r++)
          copy(data, (start + r * v.stride * down) | 0, h.stride * right, into + r * pitch, count, zero)
      }
    }
  }

  /** Multiplies an image with the taps, or folds its elements. The sums are those of `rows` channels of the block from `channel` on. */
  multiply(rows: number, image: number, channel: number, taps: number, fold?: Fold): void {
    const { out } = this.#horizontal
    const vectors = rows === 1 ? this.#vectors : Math.min(this.#vectors, 2)
    tileOf(rows, vectors, fold)(
      LANES_AT,
      LANES_AT + 4 * taps * (fold === undefined ? 1 + rows : 1),
      4 * image * this.#count * this.#words,
      SUMS_AT + 4 * channel * this.width,
      Math.ceil(out / (4 * vectors)),
      this.#height,
      4 * this.#pitch,
      4 * out,
      4 * this.width,
    )
  }
}

export type PlaneData = Float32Array | Uint8Array | Int8Array
const typeOf = (data: PlaneData): SourceType =>
  data instanceof Float32Array ? 'float32' : data instanceof Uint8Array ? 'uint8' : 'int8'
const bytesOf = (data: PlaneData, at: number, count: number) =>
  new Uint8Array(data.buffer, data.byteOffset + at * data.BYTES_PER_ELEMENT, count * data.BYTES_PER_ELEMENT)

function copy(
  data: ArrayLike<number>,
  at: number,
  step: number,
  to: number,
  count: number,
  zero: number,
): void {
  for (let i = 0; i < count; i++, at += step) planes[to + i] = data[at] - zero
}

/** Sets the taps of `rows` channels, 1 or `TILE_ROWS`, from the `first` on: for each tap its offset, then the weights. */
function setTaps(
  rows: number,
  taps: Int32Array,
  { data, base, steps, zero }: Weights,
  from: Int32Array,
  first: number,
): void {
  for (let k = 0, to = 0; k < taps.length; k++, to += 1 + rows) {
    offsets[to] = taps[k]
    for (let r = 0; r < rows; r++) weights[to + 1 + r] = data[(base + from[first + r] + steps[k]) | 0] - zero
  }
}

interface Weights {
  readonly data: ArrayLike<number>
  readonly base: number
  /** Of the taps. */
  readonly steps: Int32Array
  readonly zero: number
}

/** What is convolved, or pooled. Offsets are in elements. */
export interface Convolution {
  readonly data: PlaneData
  readonly base: number
  /** Between rows and columns of an image. */
  readonly down: number
  readonly right: number
  readonly zero: number
  /** Of the planes of an image, and of its taps. */
  readonly planes: readonly number[]
  readonly taps: Int32Array
  /** Of a fold there is one channel for each image. */
  readonly by: Weights | Fold
  /** Channels of output in all, those of an image together. */
  readonly channels: number
  readonly perImage: number
  /** Goes to `count` channels from `first` on: where the image of each is, and its weights. */
  seek(first: number, count: number): { readonly a: Int32Array; readonly b: Int32Array }
  /** Takes the sums of `rows` rows of output from `top` on, for `count` channels from `first` on, those of a channel `width` from those of the one before. */
  finish(top: number, rows: number, first: number, count: number, width: number): void
}

/** Goes through strips of the output, and blocks of its channels. */
export function convolve(planes: Planes, c: Convolution): void {
  const { data, base, down, right, zero, perImage, by } = c
  const fold = typeof by === 'string' ? by : undefined
  if (fold !== undefined) offsets.set(c.taps)
  const { out: height, size } = planes.vertical
  // The elements of an image whose planes lie side by side.
  const each = c.planes.length * down * size
  for (let top = 0; top < height; top += planes.rows) {
    const rows = Math.min(planes.rows, height - top)
    planes.strip(top, rows)
    for (let first = 0, count = 0; first < c.channels; first += count) {
      count = planes.channels(first, c.channels)
      const { a, b } = c.seek(first, count)
      const images = Math.ceil(count / perImage)
      planes.begin(images, fold === undefined ? 0 : noneOf(fold))
      // Images that lie side by side are read together where all of them is needed.
      const reach = a[count - 1] - a[0] + each
      const together = rows === height && reach <= images * each
      const end = together ? Math.min(data.length, base + a[0] + reach) : 0
      for (let row = 0, image = -1; row < count; ) {
        if (row === 0 || a[row] !== a[row - 1]) {
          image++
          for (let plane = 0; plane < c.planes.length; plane++)
            planes.pack(image, plane, data, (base + a[row] + c.planes[plane]) | 0, end, down, right, zero)
        }
        let some = 1
        while (some < TILE_ROWS && row + some < count && a[row + some] === a[row]) some++
        if (some < TILE_ROWS || perImage < TILE_ROWS) some = 1
        if (typeof by !== 'string') setTaps(some, c.taps, by, b, row)
        planes.multiply(some, image, row, c.taps.length, fold)
        row += some
      }
      c.finish(top, rows, first, count, planes.width)
    }
  }
}
