// Adding and taking away 1.5 * 2^52 leaves a double rounded to an integer, ties to even; a float32 above 2^51 is one and stays.
const TO_INTEGER = 6755399441055744

/** To an integer, ties to even. A zero keeps its sign. */
export function roundEven(x: number): number {
  const whole = x + TO_INTEGER - TO_INTEGER
  return whole === 0 ? 0 * x : whole
}

// Powers of 2 down to what is least in float32.
const LEAST_POWER = 150
const powers = Float64Array.from({ length: LEAST_POWER + 1 }, (_, n) => 2 ** -n)
const LEAST_EXPONENT = -LEAST_POWER * Math.LN2

/** e to the power of a number that is not above 0, within 1e-11 of it; 0 where float32 has nothing so small. */
export function decay(x: number): number {
  if (!(x >= LEAST_EXPONENT)) return Number.isNaN(x) ? x : 0
  const n = (x * Math.LOG2E - 0.5) | 0
  const r = x - n * Math.LN2
  // The series of e^r, for r within half of ln 2: what follows its tenth term is below 1e-11.
  const high = 1 / 5040 + r * (1 / 40320 + r * (1 / 362880))
  const middle = 1 / 24 + r * (1 / 120 + r * (1 / 720 + r * high))
  return (1 + r * (1 + r * (0.5 + r * (1 / 6 + r * middle)))) * powers[-n]
}

// Points of the error function, 1/64 apart. Between them cubic interpolation errs by less than 2e-9, which 8.4 allows; from 6 on it is 1.
const END = 6
const STEPS = 64
const values = new Float64Array(END * STEPS + 2)
const slopes = values.map((_, i) => ((2 / Math.sqrt(Math.PI)) * Math.exp(-((i / STEPS) ** 2))) / STEPS)
// The slopes' integral by Simpson's rule on halves of the steps.
for (let i = 1; i < values.length; i++) {
  const middle = ((2 / Math.sqrt(Math.PI)) * Math.exp(-(((i - 0.5) / STEPS) ** 2))) / STEPS
  values[i] = values[i - 1] + (slopes[i - 1] + 4 * middle + slopes[i]) / 6
}

/** The error function. */
export function erf(x: number): number {
  const size = Math.abs(x)
  if (!(size < END)) return Math.sign(x)
  const at = size * STEPS
  const i = Math.floor(at)
  const t = at - i
  const between = hermite(values, slopes, i, t)
  return x < 0 ? -between : between
}

/** Hermite's cubic between point i and the next: their values and slopes are its own at both ends. */
function hermite(values: Float64Array, slopes: Float64Array, i: number, t: number): number {
  const rise = values[i + 1] - values[i]
  const square = 3 * rise - 2 * slopes[i] - slopes[i + 1]
  const cube = slopes[i] + slopes[i + 1] - 2 * rise
  return values[i] + t * (slopes[i] + t * (square + t * cube))
}

// Points of erfcx(z) = e^(z^2) (1 - erf(z)), by the same steps: it changes little where 1 - erf(z) is too small to be told from erf.
const TAIL_END = 11
const tailAt = (z: number): number => {
  // Its continued fraction (Abramowitz and Stegun 7.1.14), which is exact to a double from 1 on with so many terms.
  let rest = 0
  for (let n = 200; n > 0; n--) rest = n / 2 / (z + rest)
  return 1 / (z + rest) / Math.sqrt(Math.PI)
}
const tails = Float64Array.from({ length: (TAIL_END - 1) * STEPS + 2 }, (_, i) => tailAt(1 + i / STEPS))
const tailSlopes = tails.map((tail, i) => (2 * (1 + i / STEPS) * tail - 2 / Math.sqrt(Math.PI)) / STEPS)

/** 1 - erf(z) of z from 1 on, to 1e-9 of itself; 0 where it is below all of float32. */
function tailOf(z: number): number {
  if (!(z < TAIL_END)) return 0
  const at = (z - 1) * STEPS
  const i = Math.floor(at)
  return Math.exp(-z * z) * hermite(tails, tailSlopes, i, at - i)
}

/** x (1 + erf(x / sqrt 2)) / 2, with its limit at minus infinity; what is left far below 0 is as exact as the rest. */
export function gelu(x: number): number {
  if (x === Number.NEGATIVE_INFINITY) return 0
  return (x * (x < -2 ? tailOf(-x * Math.SQRT1_2) : 1 + erf(x * Math.SQRT1_2))) / 2
}

/** x to the power of y as IEEE-754 has it (9.2.1): 1 to any power is 1. */
export function power(x: number, y: number): number {
  if (x === 1) return 1
  return x === -1 && Math.abs(y) === Number.POSITIVE_INFINITY ? 1 : x ** y
}
