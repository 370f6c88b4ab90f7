import { arrayOf, type MLOperandDataType, type MLOperandDescriptor } from '../data-type.js'
import type { Operator, Value } from '../graph.js'
import { sameShape } from '../shape.js'
import { isQuantized } from './arithmetic.js'
import { dequantizedUniformly, producerOf, quantizationsOf } from './constants.js'
import { constant, type Rewriter } from './rewriter.js'
import { covers, inNchw, slidingOf } from './sums.js'

/** Operators that choose among elements and compute nothing: by the names of the inputs that they choose from. */
const moving: Readonly<Record<string, RegExp>> = {
  identity: /^input$/,
  reshape: /^input$/,
  transpose: /^input$/,
  slice: /^input$/,
  split: /^input$/,
  expand: /^input$/,
  tile: /^input$/,
  reverse: /^input$/,
  gather: /^input$/,
  gatherElements: /^input$/,
  gatherND: /^input$/,
  concat: /^inputs/,
}

/** A maxPool2d of bytes; dequantising keeps their order. */
export function poolBytes(rewriter: Rewriter, operator: Operator, raw: Value): Value | undefined {
  const { dataType } = raw.descriptor
  const { windowDimensions, layout } = operator.attributes as {
    windowDimensions: [number, number]
    layout: string
  }
  if (!isQuantized(dataType)) return undefined
  return inNchw(rewriter, raw, operator, layout, (input, shape) => {
    const [size, out] = [input.descriptor.shape, shape].map((of) => [of[2], of[3]] as const)
    const sliding = slidingOf(operator, windowDimensions, size, out)
    if (!covers(sliding, size, out)) return undefined
    return rewriter.emit('quantizedMaxPool2d', { input }, sliding, { dataType, shape })
  })
}

/** One number in a shape of so many dimensions. */
function one(dataType: MLOperandDataType, rank: number, value: number): Value {
  const Elements = arrayOf[dataType] as unknown as new (data: number[]) => Float32Array
  return constant({ dataType, shape: new Array<number>(rank).fill(1) }, new Elements([value]))
}

/** Bytes are moved in place of what they stand for, which is dequantised afterwards: moving is less, and what follows finds them dequantised. */
export function moveBytes(rewriter: Rewriter, operator: Operator): readonly Value[] | undefined {
  const { name, inputs, attributes, outputs } = operator
  const special = name === 'transpose' ? transposeBytes : name === 'reshape' ? reshapeBytes : undefined
  const whole = special?.(rewriter, operator)
  if (whole) return [whole]
  const found = name === 'maxPool2d' ? /^input$/ : moving[name]
  if (!found) return undefined
  const chosen = Object.entries(inputs).map(([as, value]) => [as, value, found.test(as)] as const)
  const parts = chosen.flatMap(([, value, from]) => (from ? [dequantizedUniformly(value)] : []))
  const [first] = parts
  if (!first) return undefined
  const { raw, by } = first
  const { dataType } = raw.descriptor
  const alike = parts.every(
    (part) =>
      part?.raw.descriptor.dataType === dataType &&
      part.by.scale === by.scale &&
      part.by.zeroPoint === by.zeroPoint,
  )
  if (!alike) return undefined
  const given = Object.fromEntries(
    chosen.map(([as, value, from]) => [as, from ? producerOf(value)!.inputs.input : value]),
  )
  const bytes = outputs.map(({ descriptor: { shape } }): MLOperandDescriptor => ({ dataType, shape }))
  const pooled = name === 'maxPool2d' ? poolBytes(rewriter, operator, raw) : undefined
  if (name === 'maxPool2d' && !pooled) return undefined
  const moved = pooled ? [pooled] : rewriter.emitAll(name, given, attributes, bytes)
  return moved.map((input, at) => {
    const { descriptor } = outputs[at]
    const rank = descriptor.shape.length
    const [scale, zeroPoint] = [one('float32', rank, by.scale), one(dataType, rank, by.zeroPoint)]
    return rewriter.emit('dequantizeLinear', { input, scale, zeroPoint }, {}, descriptor)
  })
}

/** Dimensions of 1 come and go in weights of one-dimensional convolutions; scales of channels stay with their dimension. */
function reshapeBytes(rewriter: Rewriter, { inputs, outputs }: Operator): Value | undefined {
  const before = producerOf(inputs.input)
  const by = before?.name === 'dequantizeLinear' ? quantizationsOf(before) : undefined
  const [from, to] = [inputs.input, outputs[0]].map(({ descriptor }) => descriptor.shape)
  const long = (shape: readonly number[]) => shape.flatMap((size, at) => (size === 1 ? [] : [at]))
  const places = long(from)
  if (
    !by ||
    !sameShape(
      places.map((at) => from[at]),
      long(to).map((at) => to[at]),
    )
  )
    return undefined
  const shape = to.map((size) => (size === 1 ? 1 : by.shape[places.shift()!]))
  const given = Object.entries(before!.inputs).map(([as, value]) => {
    const newShape = as === 'input' ? to : shape
    const { dataType } = value.descriptor
    return [as, rewriter.emit('reshape', { input: value }, { newShape }, { dataType, shape: newShape })]
  })
  return rewriter.emit('dequantizeLinear', Object.fromEntries(given), {}, outputs[0].descriptor)
}

/** Scales and zero points are transposed along with the bytes: those of channels are, too. */
function transposeBytes(rewriter: Rewriter, { inputs, attributes, outputs }: Operator): Value | undefined {
  const before = producerOf(inputs.input)
  if (before?.name !== 'dequantizeLinear' || !quantizationsOf(before)) return undefined
  const by = attributes.permutation as number[]
  const turned = Object.fromEntries(
    Object.entries(before.inputs).map(([as, value]) => [as, rewriter.transpose(value, by)]),
  )
  return rewriter.emit('dequantizeLinear', turned, {}, outputs[0].descriptor)
}
