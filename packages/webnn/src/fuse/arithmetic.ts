import type { MLOperandDataType } from '../data-type.js'
import type { Limits, Quantization } from './operators.js'

/** Types of quantised values. */
export type QuantizedType = 'uint8' | 'int8'
export const isQuantized = (dataType: MLOperandDataType): dataType is QuantizedType =>
  dataType === 'uint8' || dataType === 'int8'

export const rangeOf: Readonly<Record<QuantizedType, Limits>> = { uint8: [0, 255], int8: [-128, 127] }

/** Adding and taking away 1.5 * 2^52 leaves a double without fraction, rounded half to even, for |x| < 2^51. */
const ROUNDING_SHIFT = 1.5 * 2 ** 52
/** Beyond this a quantised type saturates, whatever the zero point; within it the rounding is exact. */
const FAR = 2 ** 40

/** Rounds half to even; what is further from 0 than 2^40 comes back as +-2^40, NaN as 0. */
function round(x: number): number {
  if (x > FAR) return FAR
  if (x < -FAR) return -FAR
  return Number.isNaN(x) ? 0 : x + ROUNDING_SHIFT - ROUNDING_SHIFT
}

const hold = (x: number, [least, greatest]: Limits): number =>
  x < least ? least : x > greatest ? greatest : x

/** A float32 in steps of a scale to a quantised value. */
export const toQuantized = (steps: number, zeroPoint: number, limits: Limits): number =>
  hold(round(steps) + zeroPoint, limits)

/** An `int32` sum to a quantised value. */
export const requantize = (sum: number, multiplier: number, zeroPoint: number, limits: Limits): number =>
  toQuantized(Math.fround(Math.fround(sum) * multiplier), zeroPoint, limits)

/** QuantizeLinear of ONNX and WebNN. */
export const quantize = (x: number, { scale, zeroPoint }: Quantization, limits: Limits): number =>
  toQuantized(Math.fround(x / scale), zeroPoint, limits)

/** DequantizeLinear of ONNX and WebNN. */
export const dequantize = (q: number, { scale, zeroPoint }: Quantization): number =>
  Math.fround((q - zeroPoint) * scale)

/** What `limits` leave of what `before` left. */
export const narrow = (before: Limits, limits: Limits): Limits => [
  hold(before[0], limits),
  hold(before[1], limits),
]
