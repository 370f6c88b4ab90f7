/*
 * What quantised operators compute, one number after the other: the judge where onnxruntime and uaccel differ. It knows nothing of either.
 * Sources: ONNX's QuantizeLinear, DequantizeLinear, QLinearConv, QLinearMatMul, MatMulInteger, ConvInteger, DynamicQuantizeLinear.
 */

export type ByteType = 'uint8' | 'int8'

/** Elements with a shape; the last dimension is the fastest. */
export interface Numbers {
  readonly shape: readonly number[]
  readonly data: readonly number[]
}

/** What bytes stand for: (q - zero) * scale, where the scale is a float32. */
export interface Quantization {
  readonly type: ByteType
  readonly scale: number
  readonly zero: number
}

/** A result, and what it would be without rounding and limits. */
export interface Judged {
  readonly data: readonly number[]
  readonly real: readonly number[]
}

const f32 = Math.fround

function roundHalfEven(x: number): number {
  const below = Math.floor(x)
  const part = x - below
  if (part !== 0.5) return part < 0.5 ? below : below + 1
  return below % 2 === 0 ? below : below + 1
}

const rangeOf: Readonly<Record<ByteType, readonly [number, number]>> = { uint8: [0, 255], int8: [-128, 127] }

const hold = (x: number, least: number, most: number) => Math.min(Math.max(x, least), most)

/** QuantizeLinear of one number. */
export function quantize(x: number, { scale, zero, type }: Quantization): number {
  return hold(roundHalfEven(f32(x / scale)) + zero, ...rangeOf[type])
}

/** DequantizeLinear of one. */
export const dequantize = (q: number, { scale, zero }: Quantization): number => f32((q - zero) * scale)

/** Limits of a result before it is quantised. */
export type Limits = readonly [least: number, most: number]
export const unlimited: Limits = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]

/** Sums that count in f32(x scale * w scale), one scale for each channel, quantised. */
export function requantized(
  sums: readonly number[],
  channelOf: (at: number) => number,
  x: Quantization,
  scales: readonly number[],
  to: Quantization,
  limits = unlimited,
): Judged {
  const [least, most] = limits.map((limit) => quantize(f32(limit), to)) as [number, number]
  const scale = (at: number) => scales[scales.length === 1 ? 0 : channelOf(at)]!
  return {
    data: sums.map((sum, at) => {
      const multiplier = f32(f32(x.scale * scale(at)) / to.scale)
      const steps = f32(f32(sum) * multiplier)
      return hold(hold(roundHalfEven(steps) + to.zero, ...rangeOf[to.type]), least, most)
    }),
    real: sums.map((sum, at) => hold((sum * x.scale * scale(at)) / to.scale + to.zero, least, most)),
  }
}

/** A window over images. */
export interface Window {
  readonly kernel: readonly [number, number]
  readonly strides: readonly [number, number]
  readonly dilations: readonly [number, number]
  /** Top, left, bottom, right. */
  readonly pads: readonly [number, number, number, number]
}

export function windowedSize(
  size: number,
  axis: 0 | 1,
  { kernel, strides, dilations, pads }: Window,
): number {
  return (
    Math.floor(
      (size + pads[axis] + pads[axis + 2]! - ((kernel[axis] - 1) * dilations[axis] + 1)) / strides[axis],
    ) + 1
  )
}

/** For each place of a result: the elements of one channel that its window is at, and which of the window's. */
function* places(
  h: number,
  w: number,
  window: Window,
): Generator<readonly (readonly [at: number, tap: number])[]> {
  const { kernel, strides, dilations, pads } = window
  for (let y = 0; y < windowedSize(h, 0, window); y++)
    for (let x = 0; x < windowedSize(w, 1, window); x++) {
      const found: [number, number][] = []
      for (let ky = 0; ky < kernel[0]; ky++)
        for (let kx = 0; kx < kernel[1]; kx++) {
          const [iy, ix] = [
            y * strides[0] - pads[0] + ky * dilations[0],
            x * strides[1] - pads[1] + kx * dilations[1],
          ]
          if (iy >= 0 && iy < h && ix >= 0 && ix < w) found.push([iy * w + ix, ky * kernel[1] + kx])
        }
      yield found
    }
}

/** The sums of a convolution, `nchw` by `oihw`, and the channel of each. */
export function convolved(
  x: Numbers,
  w: Numbers,
  window: Window,
  groups: number,
  zero: number,
  filterZero: number,
  bias?: readonly number[],
): { readonly sums: number[]; readonly shape: number[]; readonly channelOf: (at: number) => number } {
  const [n, c, height, width] = x.shape as [number, number, number, number]
  const [outputs, each, kh, kw] = w.shape as [number, number, number, number]
  const [area, taps] = [height * width, kh * kw]
  const sums: number[] = []
  for (let image = 0; image < n; image++)
    for (let o = 0; o < outputs; o++) {
      const first = Math.floor((o * groups) / outputs) * each
      for (const found of places(height, width, window)) {
        let sum = bias?.[o] ?? 0
        for (let i = 0; i < each; i++)
          for (const [at, tap] of found)
            sum +=
              (x.data[(image * c + first + i) * area + at]! - zero) *
              (w.data[(o * each + i) * taps + tap]! - filterZero)
        sums.push(sum)
      }
    }
  const shape = [n, outputs, windowedSize(height, 0, window), windowedSize(width, 1, window)]
  const plane = shape[2]! * shape[3]!
  return { sums, shape, channelOf: (at) => Math.floor(at / plane) % outputs }
}

/** The sums of a product of `[..., m, k]` and `[k, n]`, or of as many matrices. */
export function multiplied(
  a: Numbers,
  b: Numbers,
  zero: number,
  zeros: readonly number[],
  bias?: readonly number[],
): number[] {
  const [m, k] = a.shape.slice(-2) as [number, number]
  const n = b.shape.at(-1)!
  const batches = a.data.length / (m * k)
  const step = b.data.length === k * n ? 0 : k * n
  const sums: number[] = []
  for (let row = 0; row < batches * m; row++)
    for (let column = 0; column < n; column++) {
      let sum = bias?.[column] ?? 0
      for (let i = 0; i < k; i++)
        sum +=
          (a.data[row * k + i]! - zero) *
          (b.data[Math.floor(row / m) * step + i * n + column]! - zeros[zeros.length === 1 ? 0 : column]!)
      sums.push(sum)
    }
  return sums
}

/** Over each window: of those that are inside. */
export function pooled(x: Numbers, window: Window, of: (values: readonly number[]) => number): number[] {
  const [n, c, height, width] = x.shape as [number, number, number, number]
  const data: number[] = []
  for (let plane = 0; plane < n * c; plane++)
    for (const found of places(height, width, window))
      data.push(of(found.map(([at]) => x.data[plane * height * width + at]!)))
  return data
}

/** Averages of bytes, quantised anew: without rounding on the way. */
export function averaged(x: Numbers, window: Window, from: Quantization, to: Quantization): Judged {
  const real = pooled(x, window, (values) => {
    const mean = values.reduce((sum, q) => sum + q - from.zero, 0) / values.length
    return (mean * from.scale) / to.scale + to.zero
  })
  return { data: real.map((value) => hold(roundHalfEven(value), ...rangeOf[to.type])), real }
}

/** Element by element: dequantised, a function of float32, quantised. */
export function mapped(
  inputs: readonly { readonly numbers: Numbers; readonly by: Quantization }[],
  shape: readonly number[],
  to: Quantization,
  f: (...x: number[]) => number,
): Judged {
  const size = shape.reduce((all, each) => all * each, 1)
  const values = (at: number, read: (q: number, by: Quantization) => number) =>
    inputs.map(({ numbers, by }) => read(numbers.data[broadcastPlace(at, shape, numbers.shape)]!, by))
  const all = Array.from({ length: size }, (_, at) => at)
  return {
    data: all.map((at) => quantize(f32(f(...values(at, dequantize))), to)),
    real: all.map((at) => f(...values(at, (q, { scale, zero }) => (q - zero) * scale)) / to.scale + to.zero),
  }
}

function broadcastPlace(at: number, shape: readonly number[], from: readonly number[]): number {
  let [rest, place, step] = [at, 0, 1]
  for (let axis = shape.length - 1, its = from.length - 1; its >= 0; axis--, its--) {
    if (from[its] !== 1) place += (rest % shape[axis]!) * step
    rest = Math.floor(rest / shape[axis]!)
    step *= from[its]!
  }
  return place
}

/** ONNX, DynamicQuantizeLinear-11; a range of 0 has the scale 1. */
export function dynamicQuantization(x: readonly number[]): Quantization {
  const [least, most] = [Math.min(0, ...x), Math.max(0, ...x)]
  const scale = f32(f32(most - least) / 255) || 1
  return { type: 'uint8', scale, zero: hold(roundHalfEven(f32(f32(0 - least) / scale)), 0, 255) }
}

/** Whether a byte is a rounding of what the exact result is: where that is half way between two, either one. */
export function isRounding(q: number, real: number, type: ByteType): boolean {
  const held = hold(real, ...rangeOf[type])
  return Math.abs(q - held) <= 0.5 + 2 ** -18 * Math.max(1, Math.abs(real))
}
