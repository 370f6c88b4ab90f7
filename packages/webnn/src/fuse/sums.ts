import { elementCount, type MLOperandDescriptor } from '../data-type.js'
import type { Operator, Value } from '../graph.js'
import { placesOf } from '../operators/spatial.js'
import { narrow, type QuantizedType, quantize, rangeOf } from './arithmetic.js'
import {
  along,
  constantOf,
  dequantized,
  dequantizedUniformly,
  producerOf,
  quantizationsOf,
  uniform,
} from './constants.js'
import type {
  BinaryFunction,
  Limits,
  Quantization,
  QuantizedAveragePool2d,
  QuantizedBinary,
  QuantizedConv2d,
  QuantizedMatmul,
  Requantization,
  Sliding,
} from './operators.js'
import { permutation, type Rewriter } from './rewriter.js'
import { lookUp } from './table.js'

/** What a result is quantised to. */
interface Target {
  readonly type: QuantizedType
  readonly by: Quantization
  readonly limits: Limits
}

/** An operator between dequantizeLinear and quantizeLinear, and what does the same with integers. */
type Pattern = (rewriter: Rewriter, operator: Operator, target: Target) => Value | undefined

/** Scales that were multiplied in another precision may differ by two units in the last place of float32. */
const SAME_SCALE = 2 ** -22

/** The bias of `size` sums that count in `scales`; `undefined` where it is no whole number of them. */
function biasOf(value: Value | undefined, scales: Float32Array): Int32Array | undefined {
  const size = scales.length
  if (value === undefined) return new Int32Array(size)
  const { shape } = value.descriptor
  const count = elementCount(shape)
  if (count !== 1 && (count !== size || shape.at(-1) !== size)) return undefined
  const pick = (at: number) => (count === 1 ? 0 : at)
  const operator = producerOf(value)
  if (operator?.name === 'dequantizeLinear') {
    const data = constantOf(operator.inputs.input)
    const found = quantizationsOf(operator)
    const by = found && along(found, shape.length - 1, count)
    const fits = scales.every(
      (scale, at) => by && Math.abs(by.scales[pick(at)] - scale) <= SAME_SCALE * scale,
    )
    if (!(data instanceof Int32Array) || !by || !fits) return undefined
    return Int32Array.from(scales, (_, at) => data[pick(at)] - by.zeroPoints[pick(at)])
  }
  const data = constantOf(value)
  if (!(data instanceof Float32Array)) return undefined
  const bias = Int32Array.from(scales, (scale, at) => Math.round(data[pick(at)] / scale))
  return bias.every((steps, at) => Math.fround(steps * scales[at]) === data[pick(at)]) ? bias : undefined
}

/** How sums of products of two quantised values become results; `undefined` where integers cannot do it. */
function requantization(
  input: number,
  filters: Float32Array,
  bias: Value | undefined,
  { by, limits }: Target,
): Requantization | undefined {
  const scales = filters.map((scale) => input * scale)
  const multipliers = scales.map((scale) => scale / by.scale)
  const found = biasOf(bias, scales)
  if (!found || !multipliers.every(Number.isFinite)) return undefined
  return { bias: found, multipliers, outputZeroPoint: by.zeroPoint, limits }
}

/** The window of an operator over `height` and `width` that gives `out` of them. */
export function slidingOf(
  { attributes }: Operator,
  window: readonly [number, number],
  size: readonly [number, number],
  out: readonly [number, number],
): Sliding {
  const { padding, strides, dilations } = attributes as Record<string, number[]>
  const pads = [padding[0], padding[2]]
  const end = (axis: 0 | 1) =>
    Math.max(
      0,
      (out[axis] - 1) * strides[axis] + dilations[axis] * (window[axis] - 1) + 1 - size[axis] - pads[axis],
    )
  return {
    window,
    strides: [strides[0], strides[1]],
    dilations: [dilations[0], dilations[1]],
    pads: [pads[0], pads[1], end(0), end(1)],
  }
}

/** Whether each window of a size has something inside along both axes. */
export function covers(
  { window, strides, dilations, pads }: Sliding,
  size: readonly number[],
  out: readonly number[],
) {
  return [0, 1].every((axis) =>
    Array.from({ length: out[axis] }, (_, at) => at * strides[axis] - pads[axis]).every((start) =>
      Array.from({ length: window[axis] }, (_, tap) => start + tap * dilations[axis]).some(
        (at) => at >= 0 && at < size[axis],
      ),
    ),
  )
}

/** Height and width of an image. */
const area = ({ descriptor }: Value): [number, number] => [descriptor.shape[2], descriptor.shape[3]]

/** An operator on images of any layout as one on `nchw`: `make` gets the input, and the shape of the output. */
export function inNchw(
  rewriter: Rewriter,
  raw: Value,
  { outputs: [output] }: Operator,
  layout: string,
  make: (input: Value, shape: readonly number[]) => Value | undefined,
): Value | undefined {
  const to = permutation(layout, 'nchw')
  const { shape } = output.descriptor
  const made = make(
    rewriter.transpose(raw, to),
    to.map((axis) => shape[axis]),
  )
  return made && rewriter.transpose(made, permutation('nchw', layout))
}

const conv2d: Pattern = (rewriter, operator, target) => {
  const { inputs, attributes } = operator
  const x = dequantizedUniformly(inputs.input)
  const w = dequantized(inputs.filter)
  if (!x || !w) return undefined
  const layout = attributes.filterLayout as string
  const axis = placesOf(layout).o
  const by = along(w.by, axis, w.raw.descriptor.shape[axis])
  const sums = by && requantization(x.by.scale, by.scales, inputs.bias, target)
  if (!sums) return undefined
  const filter = rewriter.transpose(w.raw, permutation(layout, 'oihw'))
  return inNchw(rewriter, x.raw, operator, attributes.inputLayout as string, (input, shape) => {
    const of: QuantizedConv2d = {
      ...slidingOf(operator, area(filter), area(input), [shape[2], shape[3]]),
      ...sums,
      groups: attributes.groups as number,
      inputZeroPoint: x.by.zeroPoint,
      filterZeroPoints: by.zeroPoints,
    }
    return rewriter.emit('quantizedConv2d', { input, filter }, of, { dataType: target.type, shape })
  })
}

/** Matrices of a batch, given for each of `batches`. */
function spread(rewriter: Rewriter, raw: Value, batches: readonly number[]): Value {
  const { dataType, shape } = raw.descriptor
  const newShape = [...batches, ...shape.slice(-2)]
  if (elementCount(newShape) === elementCount(shape)) return raw
  return rewriter.emit('expand', { input: raw }, { newShape }, { dataType, shape: newShape })
}

const matmul: Pattern = (rewriter, { inputs, attributes, outputs: [output] }, target) => {
  const [a, b] = [dequantizedUniformly(inputs.a), dequantized(inputs.b)]
  // Those that gemm alone has.
  const {
    alpha = 1,
    beta = 1,
    aTranspose = false,
    bTranspose = false,
  } = attributes as Record<string, unknown>
  if (!a || !b || alpha !== 1 || (inputs.c && beta !== 1)) return undefined
  const { shape } = output.descriptor
  const [m, n] = shape.slice(-2)
  const rank = b.raw.descriptor.shape.length
  const k = b.raw.descriptor.shape.at(bTranspose ? -1 : -2)!
  const by = along(b.by, rank - (bTranspose ? 2 : 1), n)
  const sums = by && requantization(a.by.scale, by.scales, inputs.c, target)
  if (!sums) return undefined
  const batches = shape.slice(0, -2)
  const batchB = elementCount(b.raw.descriptor.shape) !== k * n
  const count = elementCount(batches)
  const of: QuantizedMatmul = {
    ...sums,
    batch: batchB ? count : 1,
    m: batchB ? m : count * m,
    k,
    n,
    transposeB: bTranspose as boolean,
    batchB,
    aZeroPoint: a.by.zeroPoint,
    bZeroPoints: by.zeroPoints,
  }
  const operands = {
    a: spread(rewriter, aTranspose ? rewriter.transpose(a.raw, [1, 0]) : a.raw, batches),
    b: batchB ? spread(rewriter, b.raw, batches) : b.raw,
  }
  return rewriter.emit('quantizedMatmul', operands, of, { dataType: target.type, shape })
}

const averagePool2d: Pattern = (rewriter, operator, target) => {
  const x = dequantizedUniformly(operator.inputs.input)
  // There is one type for both, since the device has one.
  if (!x || x.raw.descriptor.dataType !== target.type) return undefined
  const multiplier = Math.fround(x.by.scale / target.by.scale)
  const { windowDimensions, layout } = operator.attributes as {
    windowDimensions: [number, number]
    layout: string
  }
  if (!Number.isFinite(multiplier)) return undefined
  return inNchw(rewriter, x.raw, operator, layout, (input, shape) => {
    const out = [shape[2], shape[3]] as const
    const sliding = slidingOf(operator, windowDimensions, area(input), out)
    if (!covers(sliding, area(input), out)) return undefined
    const of: QuantizedAveragePool2d = {
      ...sliding,
      inputZeroPoint: x.by.zeroPoint,
      multiplier,
      outputZeroPoint: target.by.zeroPoint,
      limits: target.limits,
    }
    return rewriter.emit('quantizedAveragePool2d', { input }, of, { dataType: target.type, shape })
  })
}

const binary: Pattern = (rewriter, { name, inputs, outputs: [output] }, { type, by, limits }) => {
  const [a, b] = [dequantizedUniformly(inputs.a), dequantizedUniformly(inputs.b)]
  if (!a || !b) return undefined
  const of: QuantizedBinary = { function: name as BinaryFunction, a: a.by, b: b.by, output: by, limits }
  const { shape } = output.descriptor
  return rewriter.emit('quantizedBinary', { a: a.raw, b: b.raw }, of, { dataType: type, shape })
}

/** Parts of other quantizations are brought to that of the result, which is the same before as after. */
const concat: Pattern = (rewriter, { inputs, attributes, outputs: [output] }, { type, by, limits }) => {
  const parts: Record<string, Value> = {}
  for (const [as, value] of Object.entries(inputs)) {
    const part = dequantizedUniformly(value)
    if (!part) return undefined
    const from = part.raw.descriptor
    const data = from.dataType === 'int8' ? new Int8Array(256) : new Uint8Array(256)
    const table = new Uint8Array(256)
    for (let at = 0; at < 256; at++) {
      data[at] = at
      table[at] = quantize(Math.fround((data[at] - part.by.zeroPoint) * part.by.scale), by, limits)
    }
    const sole = rewriter.reads(value) === 1 && rewriter.reads(part.raw) === 1
    const wanted: MLOperandDescriptor = { dataType: type, shape: from.shape }
    parts[as] = lookUp(rewriter, part.raw, table, { descriptor: wanted, source: part.raw.source }, sole)
  }
  return rewriter.emit('concat', parts, attributes, { dataType: type, shape: output.descriptor.shape })
}

const patterns: Readonly<Record<string, Pattern>> = {
  conv2d,
  matmul,
  gemm: matmul,
  averagePool2d,
  add: binary,
  sub: binary,
  mul: binary,
  concat,
}

const bounds: Readonly<Record<string, (attributes: Operator['attributes']) => Limits>> = {
  relu: () => [0, Number.POSITIVE_INFINITY],
  // A NaN bounds nothing.
  clamp: ({ minValue, maxValue }) => [
    Number.isNaN(minValue) ? Number.NEGATIVE_INFINITY : (minValue as number),
    Number.isNaN(maxValue) ? Number.POSITIVE_INFINITY : (maxValue as number),
  ],
}

/** What may stand before a quantizeLinear, and as well after it: on quantised values. */
const shaping: Readonly<Record<string, (rewriter: Rewriter, value: Value, operator: Operator) => Value>> = {
  reshape: (rewriter, value, { attributes, outputs: [{ descriptor }] }) =>
    rewriter.emit('reshape', { input: value }, attributes, {
      dataType: value.descriptor.dataType,
      shape: descriptor.shape,
    }),
  transpose: (rewriter, value, { attributes }) =>
    rewriter.transpose(value, attributes.permutation as number[]),
}

/** What ends with a quantizeLinear, in integers. Quantising is monotone: limiting before it is limiting after it, to the quantised limits. */
export function asIntegers(rewriter: Rewriter, { inputs, outputs: [output] }: Operator): Value | undefined {
  const found = quantizationsOf({ inputs } as Operator)
  const by = found && uniform(found)
  const type = output.descriptor.dataType as QuantizedType
  if (!by || !Object.hasOwn(rangeOf, type)) return undefined
  let value = inputs.input
  const passed: Limits[] = []
  const shapers: Operator[] = []
  const between = { ...bounds, ...shaping }
  for (let next = rewriter.solely(value, between); next; next = rewriter.solely(value, between)) {
    if (Object.hasOwn(bounds, next.name)) passed.unshift(bounds[next.name](next.attributes))
    else shapers.unshift(next)
    value = next.inputs.input
  }
  const operator = rewriter.solely(value, patterns)
  if (!operator) return undefined
  const range = rangeOf[type]
  const limit = (x: number) => quantize(Math.fround(x), by, range)
  const [first, ...rest] = passed
  const held = first && rest.reduce(narrow, first)
  const limits: Limits = held ? [limit(held[0]), limit(held[1])] : range
  const made = patterns[operator.name](rewriter, operator, { type, by, limits })
  return made && shapers.reduce((value, shaper) => shaping[shaper.name](rewriter, value, shaper), made)
}
