import { type Kernel, Stage } from './functions.js'

/** Stages that compute in `int32` and `uint32`, modulo 2^32 (8.4). */
export const integer: Readonly<Record<number, Kernel<Int32Array | Uint32Array>>> = {
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
  [Stage.CLAMP]: (d, x, _y, _z, n, alpha, beta) => {
    for (let i = 0; i < n; i++) d[i] = Math.min(Math.max(x[i], alpha), beta)
  },
  [Stage.NOT]: (d, x, _y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] === 0 ? 1 : 0
  },
  [Stage.ADD]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] + y[i]
  },
  [Stage.SUB]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] - y[i]
  },
  [Stage.MUL]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.imul(x[i], y[i])
  },
  [Stage.DIV]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = y[i] === 0 ? 0 : Math.trunc(x[i] / y[i])
  },
  [Stage.MIN]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.min(x[i], y[i])
  },
  [Stage.MAX]: (d, x, y, _z, n) => {
    for (let i = 0; i < n; i++) d[i] = Math.max(x[i], y[i])
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
    for (let i = 0; i < n; i++) d[i] = x[i] >= 0 ? x[i] : Math.imul(y[i], x[i])
  },
  [Stage.SELECT]: (d, x, y, z, n) => {
    for (let i = 0; i < n; i++) d[i] = x[i] !== 0 ? y[i] : z[i]
  },
}
