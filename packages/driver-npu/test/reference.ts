/**
 * What docs/devices/npu.md, sections 8 and 9, says of each operation, written as plainly as it can be: one output element at a time,
 * one index at a time. Imports nothing, so that it shares no error with the model.
 */
export type Type = 'uint8' | 'int8' | 'int32'

/** Any tensor as a list of integers. */
export type Values = ArrayLike<number>

export interface Quantisation {
  readonly zero: number
  readonly type: Type
  readonly clamp: readonly [min: number, max: number]
}

export const range: Readonly<Record<Type, readonly [number, number]>> = {
  uint8: [0, 255],
  int8: [-128, 127],
  int32: [-2147483648, 2147483647],
}

const f32 = Math.fround

function limit(value: number, [min, max]: readonly [number, number]): number {
  return value < min ? min : value > max ? max : value
}

export function roundHalfEven(value: number): number {
  const below = Math.floor(value)
  const rest = value - below
  if (rest === 0.5) return below % 2 === 0 ? below : below + 1
  return rest < 0.5 ? below : below + 1
}

function toQuantised(real: number, q: Quantisation): number {
  const whole = Number.isFinite(real) ? roundHalfEven(real) : real
  return limit(limit(whole + q.zero, range[q.type]), q.clamp)
}

/** The sum modulo 2^32, as a signed number. */
function wrapped(sum: bigint): number {
  return Number(BigInt.asIntN(32, sum))
}

function requant(acc: number, multiplier: number, q: Quantisation): number {
  if (q.type === 'int32') return limit(acc, q.clamp)
  return toQuantised(f32(f32(acc) * f32(multiplier)), q)
}

export interface Channels {
  readonly bias: Values
  readonly multiplier: Values
}

export interface Window2d {
  readonly n: number
  readonly c: number
  readonly h: number
  readonly w: number
  readonly kernel: readonly [number, number]
  readonly strides: readonly [number, number]
  readonly dilations: readonly [number, number]
  /** Top, left, bottom, right. */
  readonly pads: readonly [number, number, number, number]
}

export function outputShape(g: Window2d): readonly [number, number] {
  const along = (size: number, axis: 0 | 1) =>
    Math.floor(
      (size + g.pads[axis] + g.pads[axis + 2] - g.dilations[axis] * (g.kernel[axis] - 1) - 1) /
        g.strides[axis],
    ) + 1
  return [along(g.h, 0), along(g.w, 1)]
}

export function conv2d(
  x: Values,
  w: Values,
  channels: Channels,
  g: Window2d & {
    readonly o: number
    readonly groups: number
    readonly xZero: number
    readonly wZero: number
  },
  q: Quantisation,
): number[] {
  const [oh, ow] = outputShape(g)
  const cg = g.c / g.groups
  const result: number[] = []
  for (let n = 0; n < g.n; n++)
    for (let o = 0; o < g.o; o++)
      for (let y = 0; y < oh; y++)
        for (let xx = 0; xx < ow; xx++) {
          let sum = BigInt(channels.bias[o])
          const group = Math.floor((o * g.groups) / g.o)
          for (let c = 0; c < cg; c++)
            for (let i = 0; i < g.kernel[0]; i++)
              for (let j = 0; j < g.kernel[1]; j++) {
                const row = y * g.strides[0] + i * g.dilations[0] - g.pads[0]
                const column = xx * g.strides[1] + j * g.dilations[1] - g.pads[1]
                const inside = row >= 0 && row < g.h && column >= 0 && column < g.w
                const value = inside ? x[((n * g.c + group * cg + c) * g.h + row) * g.w + column] : g.xZero
                const weight = w[((o * cg + c) * g.kernel[0] + i) * g.kernel[1] + j]
                sum += BigInt((value - g.xZero) * (weight - g.wZero))
              }
          result.push(requant(wrapped(sum), channels.multiplier[o], q))
        }
  return result
}

export function matmul(
  a: Values,
  b: Values,
  channels: Channels,
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
  q: Quantisation,
): number[] {
  const result: number[] = []
  for (let i = 0; i < g.batch; i++)
    for (let m = 0; m < g.m; m++)
      for (let n = 0; n < g.n; n++) {
        let sum = BigInt(channels.bias[n])
        for (let k = 0; k < g.k; k++) {
          const at = g.transposeB ? n * g.k + k : k * g.n + n
          const right = b[(g.batchB ? i * g.k * g.n : 0) + at]
          sum += BigInt((a[(i * g.m + m) * g.k + k] - g.aZero) * (right - g.bZero))
        }
        result.push(requant(wrapped(sum), channels.multiplier[n], q))
      }
  return result
}

export function pool(
  x: Values,
  g: Window2d & {
    readonly mode: 'max' | 'average'
    readonly countPadding: boolean
    readonly xZero: number
    readonly multiplier: number
  },
  q: Quantisation,
): number[] {
  const [oh, ow] = outputShape(g)
  const result: number[] = []
  for (let plane = 0; plane < g.n * g.c; plane++)
    for (let y = 0; y < oh; y++)
      for (let xx = 0; xx < ow; xx++) {
        const inside: number[] = []
        for (let i = 0; i < g.kernel[0]; i++)
          for (let j = 0; j < g.kernel[1]; j++) {
            const row = y * g.strides[0] + i * g.dilations[0] - g.pads[0]
            const column = xx * g.strides[1] + j * g.dilations[1] - g.pads[1]
            if (row >= 0 && row < g.h && column >= 0 && column < g.w)
              inside.push(x[(plane * g.h + row) * g.w + column])
          }
        if (g.mode === 'max') {
          result.push(limit(Math.max(range[q.type][0], ...inside), q.clamp))
          continue
        }
        const acc = wrapped(inside.reduce((sum, value) => sum + BigInt(value - g.xZero), 0n))
        const count = g.countPadding ? g.kernel[0] * g.kernel[1] : inside.length
        const mean = count === 0 ? 0 : f32(f32(f32(acc) * f32(g.multiplier)) / f32(count))
        result.push(toQuantised(mean, q))
      }
  return result
}

export function add(
  a: Values,
  b: Values,
  g: {
    readonly aZero: number
    readonly bZero: number
    readonly aScale: number
    readonly bScale: number
    readonly yScale: number
  },
  q: Quantisation,
): number[] {
  return Array.from(a, (value, i) => {
    const left = f32(f32(value - g.aZero) * f32(g.aScale))
    const right = f32(f32(b[i] - g.bZero) * f32(g.bScale))
    const real = f32(f32(left + right) / f32(g.yScale))
    return toQuantised(Number.isNaN(real) ? 0 : real, q)
  })
}

export function lut(a: Values, table: Values): number[] {
  return Array.from(a, (value) => table[value & 0xff])
}

export function requantise(
  x: Values,
  channels: Channels,
  g: { readonly outer: number; readonly channels: number; readonly inner: number; readonly xZero: number },
  q: Quantisation,
): number[] {
  return Array.from(x, (value, i) => {
    const c = Math.floor(i / g.inner) % g.channels
    return requant(wrapped(BigInt(value - g.xZero) + BigInt(channels.bias[c])), channels.multiplier[c], q)
  })
}
