import { product } from './gemm.js'

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

/** f32 `value` to an integer, ties to even, plus zero point, limited (8.2). Limiting first is the same: the limits are integers. */
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

/** `values - zero` in 16 bits, which hold every difference of 8-bit numbers, as rows of `k` numbers `stride` apart. */
function centred(
  values: Quantised,
  from: number,
  zero: number,
  into: Int16Array,
  rows: number,
  k: number,
  stride: number,
): void {
  for (let row = 0, at = from; row < rows; row++) {
    const end = row * stride + k
    for (let to = row * stride; to < end; to++, at++) into[to] = values[at] - zero
  }
}

/** As `centred`, of the transposed matrix: `k` rows of `columns` numbers become `columns` rows. */
function centredTransposed(
  values: Quantised,
  from: number,
  zero: number,
  into: Int16Array,
  columns: number,
  k: number,
  stride: number,
): void {
  for (let row = 0, at = from; row < k; row++) {
    for (let column = 0; column < columns; column++, at++) into[column * stride + row] = values[at] - zero
  }
}

/** Accumulators of one channel to the output tensor: bias, requantisation, limits (8.1, 8.2). */
function store(
  acc: Int32Array,
  at: number,
  y: Tensor,
  to: number,
  count: number,
  table: ChannelTable,
  channel: number,
  out: Output,
): void {
  const bias = table.bias[channel]
  const multiplier = table.multiplier[channel]
  const { min, max, zero, bug } = out
  if (y instanceof Int32Array) {
    for (let i = 0; i < count; i++) y[to + i] = Math.min(max, Math.max(min, (acc[at + i] + bias) | 0))
    return
  }
  if (bug !== undefined) {
    for (let i = 0; i < count; i++) {
      y[to + i] = quantise(fround(fround((acc[at + i] + bias) | 0) * multiplier), out)
    }
    return
  }
  // `quantise`, with what does not change taken out of the loop.
  const low = min - zero
  const high = max - zero
  for (let i = 0; i < count; i++) {
    const value = fround(fround((acc[at + i] + bias) | 0) * multiplier)
    y[to + i] = value <= low ? min : value >= high ? max : value + TO_INTEGER - TO_INTEGER + zero
  }
}

// Patches laid out at once, in numbers: bounds the memory of a convolution, and keeps it in the cache.
const TILE = 1 << 17

/** Lays the patches under the kernel at output positions `first` ... `last - 1` out as rows, centred, `stride` apart. */
function patches(
  x: Quantised,
  zero: number,
  from: number,
  cg: number,
  g: Sliding,
  ow: number,
  first: number,
  last: number,
  outside: number,
  rows: Int16Array,
  stride: number,
): void {
  const { h, w, kh, kw, sh, sw, dh, dw, padTop, padLeft } = g
  for (let spot = first; spot < last; spot++) {
    let to = (spot - first) * stride
    const top = Math.floor(spot / ow) * sh - padTop
    const left = (spot % ow) * sw - padLeft
    const whole = left >= 0 && left + (kw - 1) * dw < w
    for (let c = 0; c < cg; c++) {
      for (let i = 0, py = top; i < kh; i++, py += dh) {
        const row = from + (c * h + py) * w
        const end = to + kw
        if (py < 0 || py >= h) for (; to < end; to++) rows[to] = outside
        else if (whole) for (let at = row + left; to < end; to++, at += dw) rows[to] = x[at] - zero
        else {
          for (let px = left; to < end; to++, px += dw) {
            rows[to] = px >= 0 && px < w ? x[row + px] - zero : outside
          }
        }
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

/** Convolution (9.4): a matrix product for each image, group and tile of output positions. */
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
  const cg = g.c / g.groups
  const og = g.o / g.groups
  const k = cg * g.kh * g.kw
  const spots = oh * ow
  const tile = Math.min(spots, Math.max(1, Math.floor(TILE / k)))
  const sums = product(g.o, tile, k, og * tile)
  centred(w, 0, g.wZero, sums.a, g.o, k, sums.stride)
  const outside = out.bug === 'zero-padding' ? -g.xZero : 0
  for (let n = 0; n < g.n; n++) {
    for (let group = 0; group < g.groups; group++) {
      const from = (n * g.c + group * cg) * g.h * g.w
      for (let first = 0; first < spots; first += tile) {
        const count = Math.min(tile, spots - first)
        patches(x, g.xZero, from, cg, g, ow, first, first + count, outside, sums.b, sums.stride)
        sums.multiply(group * og, og, count)
        for (let o = 0; o < og; o++) {
          const channel = group * og + o
          store(sums.out, o * count, y, (n * g.o + channel) * spots + first, count, table, channel, out)
        }
      }
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
  const { batch, m, k, n } = g
  const sums = product(m, n, k, m * n)
  const lay = g.transposeB ? centred : centredTransposed
  for (let i = 0; i < batch; i++) {
    centred(a, i * m * k, g.aZero, sums.a, m, k, sums.stride)
    if (i === 0 || g.batchB) lay(b, i * k * n, g.bZero, sums.b, n, k, sums.stride)
    sums.multiply(0, m, n)
    for (let row = 0, at = 0; row < m; row++) {
      for (let column = 0; column < n; column++, at++) {
        store(sums.out, at, y, i * m * n + at, 1, table, column, out)
      }
    }
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
  const size = g.channels * g.inner
  const acc = new Int32Array(size)
  for (let outer = 0; outer < g.outer; outer++) {
    for (let i = 0; i < size; i++) acc[i] = x[outer * size + i] - g.xZero
    for (let c = 0; c < g.channels; c++) {
      store(acc, c * g.inner, y, outer * size + c * g.inner, g.inner, table, c, out)
    }
  }
}
