import { convolveQuantised } from './convolve.js'
import { blocksOf, LANES, multiplyHalves, panelled, ROWS } from './gemm.js'
import { requantiseSums } from './requantise.js'
import { halves, words } from './room.js'

/** The NPU's arithmetic, from docs/devices/npu.md sections 8 and 9. Tensors are dense; 8-bit ones come as `Uint8Array` or `Int8Array`. */
export type Quantised = Uint8Array | Int8Array
export type Tensor = Quantised | Int32Array

/** Errors that a test seeds to prove that a suite notices them. */
export type Bug = 'round-half-up' | 'zero-padding' | 'wrapping-saturation'

/** Where the accumulator goes: output zero point and the range of clamp and saturation together (8.2, 8.3). */
export interface Output {
  readonly zero: number
  readonly min: number
  readonly max: number
  readonly bug: Bug | undefined
}

/** Bias and multiplier of each output channel (7.4). */
export interface ChannelTable {
  readonly bias: Int32Array
  readonly multiplier: Float32Array
}

/** Geometry that convolution and pooling share (9.4, 9.6). */
export interface Sliding {
  readonly n: number
  readonly c: number
  readonly h: number
  readonly w: number
  readonly kh: number
  readonly kw: number
  readonly sh: number
  readonly sw: number
  readonly dh: number
  readonly dw: number
  readonly padTop: number
  readonly padLeft: number
  readonly padBottom: number
  readonly padRight: number
}

const fround = Math.fround
// Adding and taking away 1.5 * 2^52 leaves a double rounded to an integer, ties to even, for magnitudes below 2^51.
const TO_INTEGER = 6755399441055744

/** f32 `value` to an integer, ties to even, plus zero point, limited (8.2). Limiting first is the same: the limits are halves. */
function quantise(value: number, out: Output): number {
  if (out.bug === 'round-half-up') value = Math.floor(value + 0.5)
  const low = out.min - out.zero
  const high = out.max - out.zero
  if (out.bug === 'wrapping-saturation' && Number.isFinite(value))
    return (Math.trunc(value) + out.zero) & 0xff
  if (value <= low) return out.min
  if (value >= high) return out.max
  return value + TO_INTEGER - TO_INTEGER + out.zero
}

/** Output size along one axis (9.4); below 1 where the kernel does not fit. */
export function outputSize(
  size: number,
  kernel: number,
  stride: number,
  dilation: number,
  pads: number,
): number {
  return Math.floor((size + pads - dilation * (kernel - 1) - 1) / stride) + 1
}

/** A matrix in a tensor: of the element in row r and at k the place is `from + r * rowStep + k * step`. */
interface Matrix {
  readonly values: Quantised
  readonly zero: number
  readonly rowStep: number
  readonly step: number
}

/** Packs `count` rows (or lanes) and `length` k, less the zero point: 16 bits hold every difference of 8-bit numbers. */
function packMatrix(
  { values, zero, rowStep, step }: Matrix,
  from: number,
  count: number,
  length: number,
  into: Int16Array,
  width: typeof ROWS | typeof LANES,
): void {
  const words = Math.ceil(length / 2)
  for (let row = 0; row < count; row++) {
    const panel = row - (row % width)
    const wide = 2 * (width === LANES ? LANES : Math.min(width, count - panel))
    let to = 2 * (panel * words + row - panel)
    let at = from + row * rowStep
    for (let k = length; k > 1; k -= 2, to += wide, at += 2 * step) {
      into[to] = values[at] - zero
      into[to + 1] = values[at + step] - zero
    }
    if (length % 2 === 1) {
      into[to] = values[at] - zero
      into[to + 1] = 0
    }
  }
}

/** Accumulators of the room to the output tensor: bias, requantisation, limits (8.1, 8.2). The next one is of the channel `channelStep` on. */
function store(
  at: number,
  y: Tensor,
  to: number,
  count: number,
  { bias, multiplier }: ChannelTable,
  channel: number,
  channelStep: 0 | 1,
  out: Output,
): void {
  const { min, max, bug } = out
  const { sums: acc } = words
  if (y instanceof Int32Array) {
    for (let i = 0, c = channel; i < count; i++, c += channelStep)
      y[to + i] = Math.min(max, Math.max(min, (acc[at + i] + bias[c]) | 0))
    return
  }
  if (bug !== undefined) {
    for (let i = 0, c = channel; i < count; i++, c += channelStep)
      y[to + i] = quantise(fround(fround((acc[at + i] + bias[c]) | 0) * multiplier[c]), out)
    return
  }
  requantiseSums(at, 'int32', y, to, count, { bias, multiplier }, channel, channelStep, out)
}

/** Where the numbers under a kernel are: offset in the tensor from its first, and places down and right of that. */
interface Taps {
  readonly offset: Int32Array
  readonly down: Int32Array
  readonly right: Int32Array
}

function tapsOf({ h, w, kh, kw, dh, dw }: Sliding, k: number): Taps {
  const taps = { offset: new Int32Array(k), down: new Int32Array(k), right: new Int32Array(k) }
  for (let at = 0; at < k; at++) {
    taps.down[at] = (Math.floor(at / kw) % kh) * dh
    taps.right[at] = (at % kw) * dw
    taps.offset[at] = (Math.floor(at / (kh * kw)) * h + taps.down[at]) * w + taps.right[at]
  }
  return taps
}

/** Packs what is under the kernel at `count` output positions from `first` on as lanes: of the taps `tap` ... `tap + length - 1`. */
function packPatches(
  x: Quantised,
  zero: number,
  from: number,
  g: Sliding,
  { offset, down, right }: Taps,
  ow: number,
  first: number,
  count: number,
  tap: number,
  length: number,
  outside: number,
): void {
  const { h, w, kh, kw, sh, sw, dh, dw, padTop, padLeft } = g
  const into = halves.lanes
  const panel = 2 * LANES * Math.ceil(length / 2)
  const last = tap + length
  for (let lane = 0; lane < count; lane++) {
    const column = (first + lane) % ow
    const top = ((first + lane - column) / ow) * sh - padTop
    const left = column * sw - padLeft
    const at = from + top * w + left
    let to = Math.floor(lane / LANES) * panel + 2 * (lane % LANES)
    let k = tap
    if (top >= 0 && left >= 0 && top + (kh - 1) * dh < h && left + (kw - 1) * dw < w) {
      for (; k + 1 < last; k += 2, to += 2 * LANES) {
        into[to] = x[at + offset[k]] - zero
        into[to + 1] = x[at + offset[k + 1]] - zero
      }
      if (k < last) {
        into[to] = x[at + offset[k++]] - zero
        into[to + 1] = 0
      }
    }
    for (; k < last; k += 2, to += 2 * LANES) {
      for (let half = 0; half < 2; half++) {
        const t = k + half
        const [py, px] = [top + down[t], left + right[t]]
        if (t >= last) into[to + half] = 0
        else into[to + half] = py >= 0 && py < h && px >= 0 && px < w ? x[at + offset[t]] - zero : outside
      }
    }
  }
}

/** What a convolution has besides (9.4). */
export interface Convolution extends Sliding {
  readonly o: number
  readonly groups: number
  readonly xZero: number
  readonly wZero: number
}

/** What a product is of: rows and lanes are packed for so many k from `at` on, and sums of a row, which are at `sums`, are finished. */
interface Factors {
  packRows(row: number, rows: number, at: number, length: number): void
  packLanes(lane: number, lanes: number, at: number, length: number): void
  finish(row: number, lane: number, sums: number, count: number): void
}

/** A product of `rows` by `lanes`, block by block: what it takes of memory does not grow with the tensors. */
function product(rows: number, lanes: number, k: number, factors: Factors): void {
  const blocks = blocksOf(rows, lanes, Math.ceil(k / 2))
  const length = 2 * blocks.k
  for (let lane = 0; lane < lanes; lane += blocks.lanes) {
    const wide = Math.min(blocks.lanes, lanes - lane)
    const width = panelled(wide)
    for (let row = 0; row < rows; row += blocks.rows) {
      const high = Math.min(blocks.rows, rows - row)
      words.sums.fill(0, 0, high * width)
      for (let at = 0; at < k; at += length) {
        const some = Math.min(length, k - at)
        // One block of a side, and of k, stays packed.
        if (lane === 0 || high < rows || some < k) factors.packRows(row, high, at, some)
        if (row === 0 || some < k) factors.packLanes(lane, wide, at, some)
        multiplyHalves(high, wide, Math.ceil(some / 2))
      }
      for (let i = 0; i < high; i++) factors.finish(row + i, lane, i * width, wide)
    }
  }
}

/** Convolution (9.4): a matrix product for each image and group, of its weights with what is under the kernel. */
export function conv2d(
  x: Quantised,
  w: Quantised,
  y: Tensor,
  g: Convolution,
  table: ChannelTable,
  out: Output,
): void {
  const oh = outputSize(g.h, g.kh, g.sh, g.dh, g.padTop + g.padBottom)
  const ow = outputSize(g.w, g.kw, g.sw, g.dw, g.padLeft + g.padRight)
  if (
    !(y instanceof Int32Array) &&
    out.bug === undefined &&
    convolveQuantised(x, w, y, g, [oh, ow], table, out)
  )
    return
  const cg = g.c / g.groups
  const og = g.o / g.groups
  const k = cg * g.kh * g.kw
  const spots = oh * ow
  const taps = tapsOf(g, k)
  const weights = { values: w, zero: g.wZero, rowStep: k, step: 1 }
  const outside = out.bug === 'zero-padding' ? -g.xZero : 0
  for (let n = 0; n < g.n; n++) {
    for (let group = 0; group < g.groups; group++) {
      const from = (n * g.c + group * cg) * g.h * g.w
      const channel = group * og
      product(og, spots, k, {
        packRows: (row, rows, at, length) =>
          packMatrix(weights, (channel + row) * k + at, rows, length, halves.rows, ROWS),
        packLanes: (first, count, at, length) =>
          packPatches(x, g.xZero, from, g, taps, ow, first, count, at, length, outside),
        finish(row, first, sums, count) {
          const o = channel + row
          store(sums, y, (n * g.o + o) * spots + first, count, table, o, 0, out)
        },
      })
    }
  }
}

/** Matrix product (9.5). */
export function matmul(
  a: Quantised,
  b: Quantised,
  y: Tensor,
  g: {
    readonly batch: number
    readonly m: number
    readonly k: number
    readonly n: number
    readonly transposeB: boolean
    readonly batchB: boolean
    readonly aZero: number
    readonly bZero: number
  },
  table: ChannelTable,
  out: Output,
): void {
  const { m, k, n } = g
  const left = { values: a, zero: g.aZero, rowStep: k, step: 1 }
  const [rowStep, step] = g.transposeB ? [k, 1] : [1, n]
  const right = { values: b, zero: g.bZero, rowStep, step }
  // Without a B for each, batches are more rows.
  const [batches, rows] = g.batchB ? [g.batch, m] : [1, g.batch * m]
  for (let i = 0; i < batches; i++) {
    product(rows, n, k, {
      packRows: (row, count, at, length) =>
        packMatrix(left, (i * m + row) * k + at, count, length, halves.rows, ROWS),
      packLanes: (lane, count, at, length) =>
        packMatrix(right, i * k * n + lane * rowStep + at * step, count, length, halves.lanes, LANES),
      finish: (row, lane, sums, count) =>
        store(sums, y, (i * m + row) * n + lane, count, table, lane, 1, out),
    })
  }
}

/** Pooling (9.6). */
export function pool(
  x: Quantised,
  y: Quantised,
  g: Sliding & {
    readonly average: boolean
    readonly countPadding: boolean
    readonly xZero: number
    readonly multiplier: number
  },
  out: Output,
): void {
  const oh = outputSize(g.h, g.kh, g.sh, g.dh, g.padTop + g.padBottom)
  const ow = outputSize(g.w, g.kw, g.sw, g.dw, g.padLeft + g.padRight)
  const { h, w, kh, kw, sh, sw, dh, dw, padTop, padLeft, average } = g
  const lowest = x instanceof Int8Array ? -128 : 0
  let to = 0
  for (let plane = 0; plane < g.n * g.c; plane++) {
    const from = plane * h * w
    for (let oy = 0; oy < oh; oy++) {
      for (let ox = 0; ox < ow; ox++, to++) {
        let largest = lowest
        let sum = 0
        let count = 0
        for (let i = 0, py = oy * sh - padTop; i < kh; i++, py += dh) {
          if (py < 0 || py >= h) continue
          const row = from + py * w
          for (let j = 0, px = ox * sw - padLeft; j < kw; j++, px += dw) {
            if (px < 0 || px >= w) continue
            const value = x[row + px]
            if (value > largest) largest = value
            sum += value
            count++
          }
        }
        if (average) y[to] = quantise(mean(sum, count, g), out)
        else y[to] = Math.min(out.max, Math.max(out.min, largest))
      }
    }
  }
}

function mean(
  sum: number,
  count: number,
  g: {
    readonly kh: number
    readonly kw: number
    readonly countPadding: boolean
    readonly xZero: number
    readonly multiplier: number
  },
): number {
  const acc = (sum - count * g.xZero) | 0
  const divisor = g.countPadding ? g.kh * g.kw : count
  return divisor === 0 ? 0 : fround(fround(fround(acc) * g.multiplier) / fround(divisor))
}

/** Addition (9.7). Each input has 256 values, so their dequantised forms are looked up. */
export function add(
  a: Quantised,
  b: Quantised,
  y: Quantised,
  g: {
    readonly aZero: number
    readonly bZero: number
    readonly aScale: number
    readonly bScale: number
    readonly yScale: number
  },
  out: Output,
): void {
  const left = dequantised(a, g.aZero, g.aScale)
  const right = dequantised(b, g.bZero, g.bScale)
  for (let i = 0; i < y.length; i++) {
    const real = fround(fround(left[a[i] & 0xff] + right[b[i] & 0xff]) / g.yScale)
    y[i] = quantise(Number.isNaN(real) ? 0 : real, out)
  }
}

function dequantised(like: Quantised, zero: number, scale: number): Float32Array {
  const table = new Float32Array(256)
  for (let byte = 0; byte < 256; byte++) {
    const value = like instanceof Int8Array ? (byte << 24) >> 24 : byte
    table[byte] = fround(value - zero) * scale
  }
  return table
}

/** Table lookup (9.8), on bytes. */
export function lut(a: Uint8Array, table: Uint8Array, y: Uint8Array): void {
  for (let i = 0; i < y.length; i++) y[i] = table[a[i]]
}

/** Requantisation of a tensor (9.9). */
export function requantise(
  x: Tensor,
  y: Quantised,
  g: { readonly outer: number; readonly channels: number; readonly inner: number; readonly xZero: number },
  table: ChannelTable,
  out: Output,
): void {
  // Sums of one channel at a time, or of all where each has one.
  const [planes, length, step] =
    g.inner === 1 ? [g.outer, g.channels, 1 as const] : [g.outer * g.channels, g.inner, 0 as const]
  const { sums } = words
  for (let plane = 0, at = 0; plane < planes; plane++) {
    for (let first = 0; first < length; first += sums.length) {
      const count = Math.min(sums.length, length - first)
      for (let i = 0; i < count; i++) sums[i] = x[at + i] - g.xZero
      store(0, y, at, count, table, step === 1 ? first : plane % g.channels, step, out)
      at += count
    }
  }
}
