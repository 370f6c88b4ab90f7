import fc from 'fast-check'
import type { Place, QuantisedType, ResultType, Step } from '../src/driver.js'
import { channelTable } from '../src/operations.js'
import { Dice } from './dice.js'
import * as reference from './reference.js'

/** Where a case's tensors lie. */
export type Places = Readonly<Record<'a' | 'b' | 'c' | 'd', Place>>

/** One descriptor with random shapes and values, and what docs/devices/npu.md says that it gives. */
export interface Case {
  readonly inputs: { readonly a?: Uint8Array; readonly b?: Uint8Array; readonly c?: Uint8Array }
  readonly expected: Uint8Array
  /** Where results are `float32` and need not be exact: how far they may be away, absolutely and relative to what is expected. */
  readonly tolerance?: readonly [absolute: number, relative: number]
  step(at: Places): Step
}

const types: readonly QuantisedType[] = ['uint8', 'int8']
const type = fc.constantFrom(...types)
const resultType = fc.constantFrom<ResultType>('uint8', 'int8', 'int32')
const dim = (max: number) => fc.integer({ min: 1, max })
const seed = fc.integer({ min: 1, max: 0x7fffffff })
/** Powers of two hit the ties of rounding, the others everything else; 0 and huge ones are allowed, too. */
const multiplier = fc.oneof(
  { arbitrary: fc.constantFrom(0.5, 0.25, 0.125, 1, 0.0625), weight: 4 },
  { arbitrary: fc.double({ min: 2 ** -14, max: 1, noNaN: true }).map(Math.fround), weight: 4 },
  { arbitrary: fc.constantFrom(0, 3.4028234663852886e38, 1.401298464324817e-45), weight: 1 },
)
const scale = fc.oneof(
  fc.constantFrom(0.5, 0.25, 1, 2),
  fc.double({ min: 2 ** -12, max: 4, noNaN: true }).map((value) => Math.fround(Math.max(value, 2 ** -12))),
)

function bytesOf(values: ArrayLike<number>, kind: ResultType): Uint8Array {
  const typed =
    kind === 'int32'
      ? Int32Array.from(values)
      : kind === 'int8'
        ? Int8Array.from(values)
        : Uint8Array.from(values)
  return new Uint8Array(typed.buffer)
}
const raw = (typed: Int8Array | Uint8Array | Int32Array) => new Uint8Array(typed.buffer)

const pair = (max: number) => fc.tuple(dim(max), dim(max))
const sliding = fc
  .record({
    shape: fc.tuple(dim(2), dim(4), dim(9), dim(9)),
    kernel: pair(3),
    strides: pair(3),
    dilations: pair(2),
    pads: fc.tuple(...([0, 1, 2, 3] as const).map(() => fc.integer({ min: 0, max: 2 }))) as fc.Arbitrary<
      [number, number, number, number]
    >,
  })
  .filter((g) => reference.outputShape(windowOf(g)).every((size) => size >= 1))

interface Geometry {
  readonly shape: readonly [number, number, number, number]
  readonly kernel: readonly [number, number]
  readonly strides: readonly [number, number]
  readonly dilations: readonly [number, number]
  readonly pads: readonly [number, number, number, number]
}

function windowOf({ shape: [n, c, h, w], ...rest }: Geometry): reference.Window2d {
  return { n, c, h, w, ...rest }
}

const conv2d = fc
  .record({
    geometry: sliding,
    perGroup: dim(5),
    grouping: fc.nat(2),
    xType: type,
    wType: type,
    yType: resultType,
    multipliers: fc.array(multiplier, { minLength: 1, maxLength: 4 }),
    seed,
  })
  .map(({ geometry, perGroup, grouping, xType, wType, yType, multipliers, seed }): Case => {
    const dice = new Dice(seed)
    const [n, c, h, w] = geometry.shape
    // 1, what divides the channels between, and depthwise.
    const divisors = Array.from({ length: c }, (_, i) => i + 1).filter((divisor) => c % divisor === 0)
    const groups = divisors[grouping % divisors.length]
    const o = perGroup * groups
    const xZero = dice.zero(xType)
    const wZero = dice.zero(wType)
    const x = dice.tensor(xType, n * c * h * w, xZero)
    const weights = dice.tensor(wType, (o * c * geometry.kernel[0] * geometry.kernel[1]) / groups, wZero)
    const channels = dice.channels(o, yType, multipliers)
    const q = { zero: dice.zero(yType), type: yType, clamp: dice.clamp(yType) }
    const expected = reference.conv2d(
      x,
      weights,
      channels,
      { ...windowOf(geometry), o, groups, xZero, wZero },
      q,
    )
    return {
      inputs: { a: raw(x), b: raw(weights), c: channelTable(channels.bias, channels.multiplier) },
      expected: bytesOf(expected, yType),
      step: (at) => ({
        op: 'conv2d',
        ...geometry,
        o,
        groups,
        x: { at: at.a, type: xType, zero: xZero },
        w: { at: at.b, type: wType, zero: wZero },
        channels: at.c,
        y: { at: at.d, ...q },
      }),
    }
  })

const matmul = fc
  .record({
    batch: dim(3),
    m: dim(7),
    k: dim(20),
    n: dim(7),
    transposeB: fc.boolean(),
    batchB: fc.boolean(),
    aType: type,
    bType: type,
    yType: resultType,
    multipliers: fc.array(multiplier, { minLength: 1, maxLength: 4 }),
    seed,
  })
  .map(({ aType, bType, yType, multipliers, seed, ...shape }): Case => {
    const dice = new Dice(seed)
    const { batch, m, k, n, batchB } = shape
    const aZero = dice.zero(aType)
    const bZero = dice.zero(bType)
    const a = dice.tensor(aType, batch * m * k, aZero)
    const b = dice.tensor(bType, (batchB ? batch : 1) * k * n, bZero)
    const channels = dice.channels(n, yType, multipliers)
    const q = { zero: dice.zero(yType), type: yType, clamp: dice.clamp(yType) }
    return {
      inputs: { a: raw(a), b: raw(b), c: channelTable(channels.bias, channels.multiplier) },
      expected: bytesOf(reference.matmul(a, b, channels, { ...shape, aZero, bZero }, q), yType),
      step: (at) => ({
        op: 'matmul',
        ...shape,
        a: { at: at.a, type: aType, zero: aZero },
        b: { at: at.b, type: bType, zero: bZero },
        channels: at.c,
        y: { at: at.d, ...q },
      }),
    }
  })

const pool = fc
  .record({
    geometry: sliding,
    mode: fc.constantFrom<'max' | 'average'>('max', 'average'),
    countPadding: fc.boolean(),
    kind: type,
    multiplier: fc.oneof(fc.constant(1), multiplier),
    seed,
  })
  .map(({ geometry, mode, countPadding, kind, multiplier, seed }): Case => {
    const dice = new Dice(seed)
    const [n, c, h, w] = geometry.shape
    const average = mode === 'average'
    const xZero = average ? dice.zero(kind) : 0
    const x = dice.tensor(kind, n * c * h * w, xZero)
    const q = { zero: average ? dice.zero(kind) : 0, type: kind, clamp: dice.clamp(kind) }
    const counts = average && countPadding
    const expected = reference.pool(
      x,
      { ...windowOf(geometry), mode, countPadding: counts, xZero, multiplier },
      q,
    )
    return {
      inputs: { a: raw(x) },
      expected: bytesOf(expected, kind),
      step: (at) => ({
        op: 'pool',
        ...geometry,
        mode,
        countPadding: counts,
        multiplier,
        x: { at: at.a, type: kind, zero: xZero },
        y: { at: at.d, ...q, type: kind },
      }),
    }
  })

const add = fc
  .record({
    length: dim(300),
    aType: type,
    bType: type,
    yType: type,
    scales: fc.tuple(scale, scale, scale),
    seed,
  })
  .map(({ length, aType, bType, yType, scales: [aScale, bScale, yScale], seed }): Case => {
    const dice = new Dice(seed)
    const [aZero, bZero] = [dice.zero(aType), dice.zero(bType)]
    const a = dice.tensor(aType, length, aZero)
    const b = dice.tensor(bType, length, bZero)
    const q = { zero: dice.zero(yType), type: yType, clamp: dice.clamp(yType) }
    return {
      inputs: { a: raw(a), b: raw(b) },
      expected: bytesOf(reference.add(a, b, { aZero, bZero, aScale, bScale, yScale }, q), yType),
      step: (at) => ({
        op: 'add',
        length,
        a: { at: at.a, type: aType, zero: aZero, scale: aScale },
        b: { at: at.b, type: bType, zero: bZero, scale: bScale },
        y: { at: at.d, ...q, type: yType, scale: yScale },
      }),
    }
  })

const requantise = fc
  .record({
    shape: fc.tuple(dim(3), dim(4), dim(30)),
    xType: resultType,
    yType: type,
    multipliers: fc.array(multiplier, { minLength: 1, maxLength: 4 }),
    seed,
  })
  .map(({ shape, xType, yType, multipliers, seed }): Case => {
    const dice = new Dice(seed)
    const [outer, channelCount, inner] = shape
    const xZero = dice.zero(xType)
    const x = dice.tensor(xType, outer * channelCount * inner, xZero)
    const channels = dice.channels(channelCount, yType, multipliers)
    const q = { zero: dice.zero(yType), type: yType, clamp: dice.clamp(yType) }
    return {
      inputs: { a: raw(x), c: channelTable(channels.bias, channels.multiplier) },
      expected: bytesOf(
        reference.requantise(x, channels, { outer, channels: channelCount, inner, xZero }, q),
        yType,
      ),
      step: (at) => ({
        op: 'requantise',
        shape,
        x: { at: at.a, type: xType, zero: xZero },
        channels: at.c,
        y: { at: at.d, ...q, type: yType },
      }),
    }
  })

const lut = fc.record({ length: dim(400), seed }).map(({ length, seed }): Case => {
  const dice = new Dice(seed)
  const a = raw(dice.tensor('uint8', length))
  const table = raw(dice.tensor('uint8', 256, 128))
  return {
    inputs: { a, b: table },
    expected: bytesOf(reference.lut(a, table), 'uint8'),
    step: (at) => ({ op: 'lut', x: at.a, table: at.b, y: at.d, length }),
  }
})

const copy = fc.record({ length: dim(5000), seed }).map(({ length, seed }): Case => {
  const a = raw(new Dice(seed).tensor('uint8', length))
  return { inputs: { a }, expected: a, step: (at) => ({ op: 'copy', x: at.a, y: at.d, length }) }
})

const fill = fc.record({ length: dim(5000), pattern: fc.integer({ min: 0, max: 0xffffffff }) }).map(
  ({ length, pattern }): Case => ({
    inputs: {},
    expected: Uint8Array.from({ length }, (_, i) => Math.floor(pattern / 256 ** (i % 4)) % 256),
    step: (at) => ({ op: 'fill', y: at.d, length, pattern }),
  }),
)

/** Random cases of each operation that computes something. */
export const cases: Readonly<Record<string, fc.Arbitrary<Case>>> = {
  conv2d,
  matmul,
  pool,
  add,
  requantise,
  lut,
  copy,
  fill,
}
