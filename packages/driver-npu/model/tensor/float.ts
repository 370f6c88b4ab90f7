import { type Kernel, Stage } from './functions.js'
import { erf, gelu, power, roundEven } from './mathematics.js'

/** Stages that compute in `float32` (8.4). */
export const float: Readonly<Record<number, Kernel<Float32Array>>> = {
  [Stage.MOVE]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i]
  },
  [Stage.ABS]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.abs(x[i])
  },
  [Stage.NEG]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = -x[i]
  },
  [Stage.SIGN]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.sign(x[i])
  },
  [Stage.CEIL]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.ceil(x[i])
  },
  [Stage.FLOOR]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.floor(x[i])
  },
  [Stage.ROUND_EVEN]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = roundEven(x[i])
  },
  [Stage.TRUNC]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.trunc(x[i])
  },
  [Stage.SQRT]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.sqrt(x[i])
  },
  [Stage.RECIPROCAL]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = 1 / x[i]
  },
  [Stage.EXP]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.exp(x[i])
  },
  [Stage.LOG]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.log(x[i])
  },
  [Stage.SIN]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.sin(x[i])
  },
  [Stage.COS]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.cos(x[i])
  },
  [Stage.TAN]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.tan(x[i])
  },
  [Stage.ERF]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = erf(x[i])
  },
  [Stage.TANH]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.tanh(x[i])
  },
  [Stage.SIGMOID]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = 1 / (1 + Math.exp(-x[i]))
  },
  [Stage.SOFTPLUS]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.max(x[i], 0) + Math.log1p(Math.exp(-Math.abs(x[i])))
  },
  [Stage.SOFTSIGN]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] / (1 + Math.abs(x[i]))
  },
  [Stage.GELU]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = gelu(x[i])
  },
  [Stage.ELU]: (d, x, _y, _z, n, alpha) => {
    for (let i = 0; i < n; i++) d[i] = x[i] >= 0 ? x[i] : alpha * Math.expm1(x[i])
  },
  [Stage.HARD_SIGMOID]: (d, x, _y, _z, n, alpha, beta) => {
    for (let i = 0; i < n; i++) d[i] = Math.min(Math.max(alpha * x[i] + beta, 0), 1)
  },
  [Stage.LEAKY_RELU]: (d, x, _y, _z, n, alpha) => {
    for (let i = 0; i < n; i++) d[i] = x[i] >= 0 ? x[i] : alpha * x[i]
  },
  [Stage.LINEAR]: (d, x, _y, _z, n, alpha, beta) => {
    for (let i = 0; i < n; i++) d[i] = alpha * x[i] + beta
  },
  [Stage.CLAMP]: (d, x, _y, _z, n, alpha, beta) => {
    for (let i = 0; i < n; i++) d[i] = Math.min(Math.max(x[i], alpha), beta)
  },
  [Stage.IS_NAN]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Number.isNaN(x[i]) ? 1 : 0
  },
  [Stage.IS_INFINITE]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.abs(x[i]) === Number.POSITIVE_INFINITY ? 1 : 0
  },
  [Stage.NOT]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] === 0 ? 1 : 0
  },
  [Stage.HARD_SWISH]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = (x[i] * Math.min(Math.max(x[i] + 3, 0), 6)) / 6
  },
  [Stage.ADD]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] + y[i]
  },
  [Stage.SUB]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] - y[i]
  },
  [Stage.MUL]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] * y[i]
  },
  [Stage.DIV]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] / y[i]
  },
  [Stage.MIN]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.min(x[i], y[i])
  },
  [Stage.MAX]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.max(x[i], y[i])
  },
  [Stage.POW]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = power(x[i], y[i])
  },
  [Stage.EQUAL]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] === y[i] ? 1 : 0
  },
  [Stage.NOT_EQUAL]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] !== y[i] ? 1 : 0
  },
  [Stage.GREATER]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] > y[i] ? 1 : 0
  },
  [Stage.GREATER_OR_EQUAL]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] >= y[i] ? 1 : 0
  },
  [Stage.LESSER]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] < y[i] ? 1 : 0
  },
  [Stage.LESSER_OR_EQUAL]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] <= y[i] ? 1 : 0
  },
  [Stage.AND]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] !== 0 && y[i] !== 0 ? 1 : 0
  },
  [Stage.OR]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] !== 0 || y[i] !== 0 ? 1 : 0
  },
  [Stage.XOR]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = (x[i] !== 0) !== (y[i] !== 0) ? 1 : 0
  },
  [Stage.PRELU]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] >= 0 ? x[i] : y[i] * x[i]
  },
  [Stage.SELECT]: (d, x, y, z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] !== 0 ? y[i] : z[i]
  },
}
