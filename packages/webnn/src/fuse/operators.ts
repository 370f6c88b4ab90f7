/**
 * The operators that `fuse` makes: integers in, integers out, with the arithmetic of ONNX's QLinearConv and its kin. They are no operators of the
 * specification, and no builder makes them. Images are `nchw`, filters `oihw`; all that is not an operand is an attribute.
 */

/** What integers stand for: (q - zeroPoint) * scale. The scale is a float32. */
export interface Quantization {
  readonly scale: number
  readonly zeroPoint: number
}

/** Limits of a result, both included: those of its data type, or what a relu or clamp before the quantization leaves of them. */
export type Limits = readonly [least: number, greatest: number]

/**
 * How an `int32` sum becomes a result: limits(roundEven(f32(f32(sum) * multiplier)) + outputZeroPoint), where a multiplier is
 * f32(f32(input scale * filter scale) / output scale).
 */
export interface Requantization {
  /** One for each output channel: begins the sum. */
  readonly bias: Int32Array
  /** One for each output channel. */
  readonly multipliers: Float32Array
  readonly outputZeroPoint: number
  readonly limits: Limits
}

/** A window that slides over height and width. */
export interface Sliding {
  readonly window: readonly [height: number, width: number]
  readonly strides: readonly [number, number]
  readonly dilations: readonly [number, number]
  /** Those at the ends are what the windows reach, which may be less or more than the graph asked for. */
  readonly pads: readonly [top: number, left: number, bottom: number, right: number]
}

/** `quantizedConv2d(input, filter)`: the sum of (input - inputZeroPoint) (filter - filterZeroPoint) and the bias; what is outside counts as 0. */
export interface QuantizedConv2d extends Sliding, Requantization {
  readonly groups: number
  readonly inputZeroPoint: number
  /** One for each output channel. */
  readonly filterZeroPoints: Int32Array
}

/** `quantizedMatmul(a, b)`: `a` is `[batch, m, k]`, `b` `[k, n]`, transposed `[n, k]`, with `batchB` one for each of the batch. */
export interface QuantizedMatmul extends Requantization {
  readonly batch: number
  readonly m: number
  readonly k: number
  readonly n: number
  readonly transposeB: boolean
  readonly batchB: boolean
  readonly aZeroPoint: number
  /** One for each column. */
  readonly bZeroPoints: Int32Array
}

/** `quantizedMaxPool2d(input)`: the greatest of those in the window that are inside; each window has one. */
export type QuantizedMaxPool2d = Sliding

/**
 * `quantizedAveragePool2d(input)`: limits(roundEven(f32(f32(f32(sum) * multiplier) / f32(count))) + outputZeroPoint), the sum and count of those
 * inside, and the multiplier f32(input scale / output scale).
 */
export interface QuantizedAveragePool2d extends Sliding {
  readonly inputZeroPoint: number
  readonly multiplier: number
  readonly outputZeroPoint: number
  readonly limits: Limits
}

/** Functions of `quantizedBinary`. */
export type BinaryFunction = 'add' | 'sub' | 'mul'

/** `quantizedBinary(a, b)`, broadcast to each other: both dequantized, the function, quantized; each step rounded to float32. */
export interface QuantizedBinary {
  readonly function: BinaryFunction
  readonly a: Quantization
  readonly b: Quantization
  readonly output: Quantization
  readonly limits: Limits
}

/** `quantizedTable(input)`: each byte is replaced by `table[byte]`; an `int8` is taken and given by its bits. */
export interface QuantizedTable {
  readonly table: Uint8Array
}
