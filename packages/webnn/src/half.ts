/**
 * Halves: IEEE 754 binary16, as bits. Numbers become the nearest half, ties to the one whose last bit is 0, without a stop at float32.
 */

/** Halves below this are subnormal; their step is 2 ** -24. */
const LEAST_NORMAL = 2 ** -14
/** From half way between the greatest half, 65504, and 2 ** 16 on, a number is infinite. */
const INFINITE_FROM = 65_520

const scratch = new Float64Array(1)
const words = new Uint32Array(scratch.buffer)

/** The bits of the half that is nearest to a number. */
export function halfBits(x: number): number {
  scratch[0] = x
  const sign = (words[1]! >>> 16) & 0x8000
  if (Number.isNaN(x)) return 0x7e00
  const size = Math.abs(x)
  if (size >= INFINITE_FROM) return sign | 0x7c00
  const exponent = size < LEAST_NORMAL ? -14 : ((words[1]! >>> 20) & 0x7ff) - 1023
  // In steps of the half's last bit: exact, as a number has many more bits. Rounding up out of the fraction carries into the exponent.
  const steps = size * 2 ** (10 - exponent)
  const floor = Math.floor(steps)
  const rest = steps - floor
  const rounded = floor + (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? 1 : 0)
  return sign | (rounded + (size < LEAST_NORMAL ? 0 : (exponent + 14) * 1024))
}

/** The number that a half's bits are. */
export function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25))
}

/** The numbers of all halves, by their bits: made when the first is wanted. */
let table: Float32Array | undefined

export function widen(halves: Uint16Array, numbers: Float32Array): void {
  table ??= Float32Array.from({ length: 65_536 }, (_, bits) => halfValue(bits))
  for (let at = 0; at < numbers.length; at++) numbers[at] = table[halves[at]!]!
}

export function narrow(numbers: Float32Array, halves: Uint16Array): void {
  for (let at = 0; at < halves.length; at++) halves[at] = halfBits(numbers[at]!)
}
