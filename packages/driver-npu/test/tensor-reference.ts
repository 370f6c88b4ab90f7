/**
 * What docs/devices/npu.md, sections 7.6, 8.4 and 9.10 to 9.17, says of operations on tensors with strides, written as plainly as it can
 * be: one index at a time, in double precision. Imports nothing, so that it shares no error with the model.
 */
export type Type = 'uint8' | 'int8' | 'int32' | 'float32' | 'uint32' | 'int64' | 'uint64'
export type Compute = 'none' | 'int32' | 'float32' | 'uint32'
type Value = number | bigint

export const bytesOf: Readonly<Record<Type, number>> = {
  uint8: 1,
  int8: 1,
  int32: 4,
  float32: 4,
  uint32: 4,
  int64: 8,
  uint64: 8,
}

/** An operand in memory; the element of index 0 is `first` elements behind the start. */
export interface Operand {
  readonly type: Type
  readonly memory: DataView
  readonly first: number
  readonly strides: readonly number[]
}

export function get({ type, memory, first }: Operand, element: number): Value {
  const at = (first + element) * bytesOf[type]
  switch (type) {
    case 'uint8':
      return memory.getUint8(at)
    case 'int8':
      return memory.getInt8(at)
    case 'int32':
      return memory.getInt32(at, true)
    case 'uint32':
      return memory.getUint32(at, true)
    case 'float32':
      return memory.getFloat32(at, true)
    case 'int64':
      return memory.getBigInt64(at, true)
    case 'uint64':
      return memory.getBigUint64(at, true)
  }
}

export function put({ type, memory, first }: Operand, element: number, value: Value): void {
  const at = (first + element) * bytesOf[type]
  if (type === 'float32') memory.setFloat32(at, Number(value), true)
  else if (bytesOf[type] === 8) memory.setBigUint64(at, BigInt.asUintN(64, BigInt(value)), true)
  else {
    const low = Number(BigInt.asUintN(32, BigInt(value)))
    if (bytesOf[type] === 4) memory.setUint32(at, low, true)
    else memory.setUint8(at, low & 0xff)
  }
}

const limits = {
  uint8: [0, 255],
  int8: [-128, 127],
  int32: [-2147483648, 2147483647],
  uint32: [0, 4294967295],
} as const

function wrap(value: bigint, compute: Compute): number {
  return Number(compute === 'uint32' ? BigInt.asUintN(32, value) : BigInt.asIntN(32, value))
}

/** A result as the type of D has it, 8.4. */
function written(value: number, compute: Compute, type: Type): number {
  if (compute !== 'float32' || type === 'float32') return value
  if (Number.isNaN(value)) return 0
  const [low, high] = limits[type as keyof typeof limits]
  return Math.min(Math.max(Math.trunc(value), low), high)
}

export interface Stage {
  readonly fn: string
  readonly x?: unknown
  readonly y?: unknown
  readonly z?: unknown
  readonly alpha?: number
  readonly beta?: number
}

/** Taylor's series, whose terms stay small there, and the asymptotic end. */
export function erf(x: number): number {
  if (Math.abs(x) > 4) return Math.sign(x)
  let term = x
  let sum = x
  for (let n = 1; n < 120; n++) {
    term *= (-x * x) / n
    sum += term / (2 * n + 1)
  }
  return (2 / Math.sqrt(Math.PI)) * sum
}

export function roundEven(value: number): number {
  if (!Number.isFinite(value)) return value
  const below = Math.floor(value)
  const rest = value - below
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1
}

const either = (...of: number[]) => of.some(Number.isNaN)
const bit = (yes: boolean) => Number(yes)

/** 7.6, of real numbers; also of integers where they have the function and it cannot wrap. */
function ofReals(fn: string, x: number, y: number, z: number, alpha: number, beta: number): number {
  switch (fn) {
    case 'move':
      return x
    case 'abs':
      return Math.abs(x)
    case 'neg':
      return -x
    case 'sign':
      return Math.sign(x)
    case 'ceil':
      return Math.ceil(x)
    case 'floor':
      return Math.floor(x)
    case 'roundEven':
      return roundEven(x)
    case 'trunc':
      return Math.trunc(x)
    case 'sqrt':
      return Math.sqrt(x)
    case 'reciprocal':
      return 1 / x
    case 'exp':
      return Math.exp(x)
    case 'log':
      return Math.log(x)
    case 'sin':
      return Math.sin(x)
    case 'cos':
      return Math.cos(x)
    case 'tan':
      return Math.tan(x)
    case 'erf':
      return erf(x)
    case 'tanh':
      return Math.tanh(x)
    case 'sigmoid':
      return 1 / (1 + Math.exp(-x))
    case 'softplus':
      return Math.log1p(Math.exp(x))
    case 'softsign':
      return x / (1 + Math.abs(x))
    case 'gelu':
      return (x * (1 + erf(x / Math.SQRT2))) / 2
    case 'elu':
      return x >= 0 ? x : alpha * Math.expm1(x)
    case 'hardSigmoid':
      return Math.min(Math.max(alpha * x + beta, 0), 1)
    case 'leakyRelu':
      return x >= 0 ? x : alpha * x
    case 'linear':
      return alpha * x + beta
    case 'clamp':
      return Math.min(Math.max(x, alpha), beta)
    case 'isNaN':
      return bit(Number.isNaN(x))
    case 'isInfinite':
      return bit(Math.abs(x) === Number.POSITIVE_INFINITY)
    case 'not':
      return bit(x === 0)
    case 'hardSwish':
      return (x * Math.min(Math.max(x + 3, 0), 6)) / 6
    case 'add':
      return x + y
    case 'sub':
      return x - y
    case 'mul':
      return x * y
    case 'div':
      return x / y
    case 'min':
      return either(x, y) ? Number.NaN : Math.min(x, y)
    case 'max':
      return either(x, y) ? Number.NaN : Math.max(x, y)
    case 'pow':
      return x ** y
    case 'equal':
      return bit(x === y)
    case 'notEqual':
      return bit(x !== y)
    case 'greater':
      return bit(x > y)
    case 'greaterOrEqual':
      return bit(x >= y)
    case 'lesser':
      return bit(x < y)
    case 'lesserOrEqual':
      return bit(x <= y)
    case 'and':
      return bit(x !== 0 && y !== 0)
    case 'or':
      return bit(x !== 0 || y !== 0)
    case 'xor':
      return bit((x !== 0) !== (y !== 0))
    case 'prelu':
      return x >= 0 ? x : y * x
    case 'select':
      return x !== 0 ? y : z
  }
  throw new Error(`no function ${fn}`)
}

/** Those of integers that may wrap, or divide. */
function ofIntegers(fn: string, x: bigint, y: bigint): bigint | undefined {
  switch (fn) {
    case 'abs':
      return x < 0n ? -x : x
    case 'neg':
      return -x
    case 'add':
      return x + y
    case 'sub':
      return x - y
    case 'mul':
      return x * y
    case 'div':
      return y === 0n ? 0n : x / y
    case 'prelu':
      return x >= 0n ? x : y * x
  }
  return undefined
}

export interface Operation {
  readonly dims: readonly number[]
  readonly compute: Compute
  readonly inner: number
  readonly a: Operand
  readonly b?: Operand
  readonly c?: Operand
  readonly d: Operand
  readonly stages: readonly Stage[]
}

export interface Window {
  readonly size: number
  readonly out: number
  readonly kernel: number
  readonly stride: number
  readonly dilation: number
  readonly pad: number
}

type Index = readonly number[]

/** All indices, the last dimension fastest. */
function* indices(dims: readonly number[]): Generator<number[]> {
  if (dims.length === 0) yield []
  else
    for (const head of indices(dims.slice(0, -1))) for (let i = 0; i < dims.at(-1)!; i++) yield [...head, i]
}

const dot = (index: Index, strides: readonly number[]) =>
  index.reduce((sum, i, r) => sum + i * strides[r]!, 0)

/** An element as the type `COMPUTE` has it, 8.4. */
function load(operand: Operand, index: Index, compute: Compute): number {
  const value = get(operand, dot(index, operand.strides))
  return compute === 'float32' ? Math.fround(Number(value)) : wrap(BigInt(value), compute)
}

/** Passes `result` through the stages and writes it at `index`. */
function finish(op: Operation, index: Index, result: number): void {
  const { compute, stages, d } = op
  let value = compute === 'float32' ? Math.fround(result) : result
  for (const { fn, x = 'result', y, z, alpha = 0, beta = 0 } of stages) {
    const constant = (number: number) => (compute === 'float32' ? Math.fround(number) : number)
    const take = (source: unknown): number => {
      if (source === undefined) return 0
      if (source === 'result') return value
      if (source === 'alpha') return constant(alpha)
      if (source === 'beta') return constant(beta)
      if (typeof source === 'object') return index[(source as { index: number }).index]!
      return load(op[source as 'a' | 'b' | 'c']!, index, compute)
    }
    const [ax, ay, az] = [take(x), take(y), take(z)]
    const whole = compute === 'float32' ? undefined : ofIntegers(fn, BigInt(ax), BigInt(ay))
    if (whole !== undefined) value = wrap(whole, compute)
    else {
      const real = ofReals(fn, ax, ay, az, constant(alpha), constant(beta))
      value = compute === 'float32' ? Math.fround(real) : real
    }
  }
  put(d, dot(index, d.strides), written(value, compute, d.type))
}

/** 9.10. */
export function elementwise(op: Operation): void {
  for (const index of indices(op.dims)) {
    if (op.compute === 'none') {
      put(op.d, dot(index, op.d.strides), get(op.a, dot(index, op.a.strides)))
    } else finish(op, index, load(op.a, index, op.compute))
  }
}

/** Where an index reads A: undefined where the element takes no part. */
function slide(index: Index, windows: readonly Window[], transposed: boolean): Index | undefined {
  const at = [...index]
  for (const { size, out, kernel, stride, dilation, pad } of windows) {
    const position = transposed
      ? (index[out]! + pad - index[kernel]! * dilation) / stride
      : index[out]! * stride + index[kernel]! * dilation - pad
    if (!Number.isInteger(position) || position < 0 || position >= size) return undefined
    at[out] = position
  }
  return at
}

export interface Sliding {
  readonly windows: readonly Window[]
  readonly transposed: boolean
}

function split({ dims, inner }: Operation): readonly [outer: number[], inner: number[]] {
  return [dims.slice(0, dims.length - inner), dims.slice(dims.length - inner)]
}

/** 9.11. */
export function contract(op: Operation, { windows, transposed }: Sliding): void {
  const [outer, inner] = split(op)
  for (const index of indices(outer)) {
    let sum = 0
    for (const rest of indices(inner)) {
      const full = [...index, ...rest]
      const at = slide(full, windows, transposed)
      if (at !== undefined) sum += load(op.a, at, op.compute) * load(op.b!, full, op.compute)
    }
    finish(op, [...index, ...inner.map(() => 0)], sum)
  }
}

/** 9.12. */
export function reduce(
  op: Operation,
  fn: string,
  { windows, transposed, countPadding }: Sliding & { readonly countPadding: boolean },
): void {
  const [outer, inner] = split(op)
  for (const index of indices(outer)) {
    const values: number[] = []
    for (const rest of indices(inner)) {
      const at = slide([...index, ...rest], windows, transposed)
      if (at !== undefined) values.push(load(op.a, at, op.compute))
    }
    const at = [...index, ...inner.map(() => 0)]
    if (fn === 'argMin' || fn === 'argMax') {
      put(op.d, dot(at, op.d.strides), firstExtreme(values, fn === 'argMax'))
      continue
    }
    const count = countPadding ? inner.reduce((product, dim) => product * dim, 1) : values.length
    finish(op, at, reduced(fn, values, count, op.compute))
  }
}

function firstExtreme(values: readonly number[], largest: boolean): number {
  const nan = values.findIndex(Number.isNaN)
  if (nan >= 0) return nan
  return values.indexOf(largest ? Math.max(...values) : Math.min(...values))
}

function reduced(fn: string, values: readonly number[], count: number, compute: Compute): number {
  const whole = (each: (value: bigint) => bigint, start = 0n, join = (a: bigint, b: bigint) => a + b) =>
    wrap(
      values.reduce((sum, value) => join(sum, each(BigInt(value))), start),
      compute,
    )
  const sum = (each: (value: number) => number) => values.reduce((sum, value) => sum + each(value), 0)
  const real = compute === 'float32'
  const ends = real ? [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY] : limits[compute as 'int32']
  switch (fn) {
    case 'sum':
      return real ? sum((v) => v) : whole((v) => v)
    case 'mean':
      return count === 0 ? 0 : sum((v) => v) / count
    case 'product':
      return real
        ? values.reduce((product, value) => product * value, 1)
        : whole(
            (v) => v,
            1n,
            (a, b) => a * b,
          )
    case 'min':
      return Math.min(ends[1]!, ...values)
    case 'max':
      return Math.max(ends[0]!, ...values)
    case 'sumSquare':
      return real ? sum((v) => v * v) : whole((v) => v * v)
    case 'l1':
      return real ? sum(Math.abs) : whole((v) => (v < 0n ? -v : v))
    case 'l2':
      return Math.sqrt(sum((v) => v * v))
    case 'logSum':
      return Math.log(sum((v) => v))
    case 'logSumExp': {
      const largest = Math.max(Number.NEGATIVE_INFINITY, ...values)
      return values.length === 0 ? largest : largest + Math.log(sum((v) => Math.exp(v - largest)))
    }
  }
  throw new Error(`no function ${fn}`)
}

/** 9.13. */
export function normalise(op: Operation, fn: string, epsilon: number): void {
  const [outer, inner] = split(op)
  for (const index of indices(outer)) {
    const all = [...indices(inner)].map((rest) => [...index, ...rest])
    const values = all.map((at) => load(op.a, at, op.compute))
    const largest = Math.max(...values)
    const total = values.reduce((sum, value) => sum + Math.exp(value - largest), 0)
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length
    for (const [i, at] of all.entries()) {
      const value = values[i]!
      const result =
        fn === 'softmax'
          ? Math.exp(value - largest) / total
          : (value - mean) / Math.sqrt(variance + Math.fround(epsilon))
      finish(op, at, result)
    }
  }
}

/** 9.14. */
export function scan(op: Operation, exclusive: boolean): void {
  const [outer, inner] = split(op)
  for (const index of indices(outer)) {
    let sum = 0
    for (const rest of indices(inner)) {
      const at = [...index, ...rest]
      const value = load(op.a, at, op.compute)
      const next = op.compute === 'float32' ? sum + value : wrap(BigInt(sum) + BigInt(value), op.compute)
      finish(op, at, exclusive ? sum : next)
      sum = next
    }
  }
}

export interface Indices {
  readonly stride: number
  readonly axes: readonly { readonly size: number; readonly stride: number }[]
}

/** The elements that indices of 9.15 add up to. */
function indexed({ b }: Operation, index: Index, { stride, axes }: Indices): number {
  return axes.reduce((sum, axis, k) => {
    const found = Number(get(b!, dot(index, b!.strides) + k * stride))
    const counted = found < 0 ? found + axis.size : found
    return sum + Math.min(Math.max(counted, 0), axis.size - 1) * axis.stride
  }, 0)
}

/** 9.15. */
export function gather(op: Operation, of: Indices): void {
  for (const index of indices(op.dims)) {
    put(op.d, dot(index, op.d.strides), get(op.a, dot(index, op.a.strides) + indexed(op, index, of)))
  }
}

/** 9.16. */
export function scatter(op: Operation, of: Indices): void {
  for (const index of indices(op.dims)) {
    put(op.d, dot(index, op.d.strides) + indexed(op, index, of), get(op.a, dot(index, op.a.strides)))
  }
}

/** 9.17. */
export function resample(
  op: Operation,
  fn: string,
  axes: readonly { readonly dimension: number; readonly size: number; readonly scale: number }[],
): void {
  for (const index of indices(op.dims)) {
    let corners: readonly (readonly [at: Index, weight: number])[] = [[index, 1]]
    for (const { dimension, size, scale } of axes) {
      const held = Math.min(Math.max((index[dimension]! + 0.5) / scale - 0.5, 0), size - 1)
      const low = Math.floor(held)
      const part = held - low
      const around =
        fn === 'nearest'
          ? [[Math.ceil(held - 0.5), 1] as const]
          : [[low, 1 - part] as const, [low + 1, part] as const]
      corners = corners.flatMap(([at, weight]) =>
        around
          .filter(([, share]) => share > 0)
          .map(([position, share]) => [at.with(dimension, position), weight * share] as const),
      )
    }
    const result = corners.reduce((sum, [at, weight]) => sum + weight * load(op.a, at, op.compute), 0)
    finish(op, index, result)
  }
}
