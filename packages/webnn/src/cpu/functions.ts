const TWO_BY_ROOT_PI = 2 / Math.sqrt(Math.PI)
/** From here on the continued fraction of erfc converges fast (Abramowitz and Stegun 7.1.14); below, the series of erf does (7.1.5). */
const SERIES_LIMIT = 2.5
const TERMS = 60

function series(x: number): number {
  let power = x
  let sum = x
  for (let n = 1; n < TERMS; n++) {
    power *= (-x * x) / n
    sum += power / (2 * n + 1)
  }
  return TWO_BY_ROOT_PI * sum
}

function fraction(x: number): number {
  let rest = 0
  for (let n = TERMS; n > 0; n--) rest = n / 2 / (x + rest)
  return Math.exp(-x * x) / (x + rest) / Math.sqrt(Math.PI)
}

/** The error function. */
export function erf(x: number): number {
  if (Math.abs(x) < SERIES_LIMIT) return series(x)
  return x > 0 ? 1 - fraction(x) : fraction(-x) - 1
}

/** 1 - erf(x), also where that is small. */
export function erfc(x: number): number {
  if (x < SERIES_LIMIT) return 1 - erf(x)
  return fraction(x)
}

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))
export const gelu = (x: number): number =>
  x === Number.NEGATIVE_INFINITY ? 0 : 0.5 * x * erfc(-x / Math.SQRT2)
export const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))
