// Quantised arithmetic as ONNX defines it, in float32 where ONNX says float32 (QuantizeLinear-13, QLinearConv-10).

/** Adding and taking away 1.5 * 2^52 leaves a double without fraction, rounded half to even, for |x| < 2^51. */
const roundingShift = 1.5 * 2 ** 52

/** Beyond this a quantised type saturates, whatever the zero point; within it the rounding below is exact. */
const farAway = 2 ** 40

/** Rounds half to even; what is further from 0 than 2^40 may come back as +-2^40, NaN as 0. */
export function roundHalfEven(x: number): number {
  if (x > farAway) return farAway
  if (x < -farAway) return -farAway
  return Number.isNaN(x) ? 0 : x + roundingShift - roundingShift
}

export function clamp(x: number, min: number, max: number): number {
  return Math.min(Math.max(x, min), max)
}

/** Integer sum to quantised value: fround(fround(acc) * multiplier), rounded half to even, plus zero point, limited. */
export function requantise(
  acc: number,
  multiplier: number,
  zeroPoint: number,
  min: number,
  max: number,
): number {
  return clamp(roundHalfEven(Math.fround(Math.fround(acc) * multiplier)) + zeroPoint, min, max)
}

/** QuantizeLinear of one float32, limited to min..max. */
export function quantise(x: number, scale: number, zeroPoint: number, min: number, max: number): number {
  return clamp(roundHalfEven(Math.fround(x / scale)) + zeroPoint, min, max)
}

/** DequantizeLinear of one element. */
export function dequantise(q: number, scale: number, zeroPoint: number): number {
  return Math.fround((q - zeroPoint) * scale)
}
