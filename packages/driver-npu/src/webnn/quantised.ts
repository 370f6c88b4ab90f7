/**
 * What `fuse` of the WebNN package makes of quantised patterns, as steps with integer arithmetic: docs/devices/npu.md, 9.4 to 9.8. Functions that these
 * do not have go through steps on tensors, 9.10, whose stages round as the arithmetic of the operator says.
 */
import type { MLOperandDescriptor, Operator, Value } from '@uaccel/webnn'
import type { OperatorSupport, Placement } from '@uaccel/webnn/accelerator'
import type {
  Quantization,
  QuantizedAveragePool2d,
  QuantizedBinary,
  QuantizedConv2d,
  QuantizedMatmul,
  QuantizedTable,
  Requantization,
  Sliding as WebnnSliding,
} from '@uaccel/webnn/quantized'
import type { NpuCapabilities } from '../capabilities.js'
import { channelTable, type JobStep, type QuantisedType } from '../operations.js'
import type { Stage } from '../tensor-steps.js'

/** The limits of a device that bound a node. */
export type Limits = Pick<NpuCapabilities, 'maxDimension' | 'maxElements' | 'maxMacs' | 'opcodes'>

/** Of ELEMENTWISE (9), which a device of version 1.0 does not have. */
const ELEMENTWISE = 0x20n

const countOf = ({ shape }: MLOperandDescriptor): number => shape.reduce((count, size) => count * size, 1)
const typeOf = ({ descriptor }: Value): QuantisedType => descriptor.dataType as QuantisedType
const attributesOf = <T>({ attributes }: Operator): T => attributes as unknown as T

/** The first of `checks` that does not hold, as a reason. */
const unless = (...checks: readonly (readonly [holds: boolean, reason: string])[]): string | undefined =>
  checks.find(([holds]) => !holds)?.[1]

/** Why a node is too large for a device; `macs` are its multiply-accumulates as 9.4 to 9.6 count them. */
function fits(
  { maxDimension, maxElements, maxMacs }: Limits,
  { inputs, outputs }: Operator,
  dimensions: readonly number[] = [],
  macs = 0,
): string | undefined {
  const largest = Math.max(0, ...dimensions)
  const elements = Math.max(
    ...[...Object.values(inputs), ...outputs].map(({ descriptor }) => countOf(descriptor)),
  )
  return unless(
    [largest <= maxDimension, `a dimension of ${largest} is above the ${maxDimension} of the device`],
    [macs <= maxMacs, `${macs} multiplications are above the ${maxMacs} of the device`],
    [elements <= maxElements, `${elements} elements are above the ${maxElements} of the device`],
  )
}

/** There is one zero point of the weights for all channels. */
const oneZero = (zeroPoints: Int32Array): string | undefined =>
  zeroPoints.every((zero) => zero === zeroPoints[0])
    ? undefined
    : 'zero points of the weights differ by channel'

const slide = (
  { window, strides, dilations, pads }: WebnnSliding,
  { descriptor }: Value,
): Pick<Extract<JobStep, { op: 'conv2d' }>, 'shape' | 'kernel' | 'strides' | 'dilations' | 'pads'> => {
  const [n, c, h, w] = descriptor.shape
  return { shape: [n, c, h, w], kernel: window, strides, dilations, pads }
}

const dimensionsOf = (
  { window, strides, dilations, pads }: WebnnSliding,
  { descriptor }: Value,
): number[] => [...descriptor.shape, ...window, ...strides, ...dilations, ...pads]

const channels = ({ bias, multipliers }: Requantization, { keep }: Placement) =>
  keep(channelTable(bias, multipliers))

const result = (
  output: Value,
  { outputZeroPoint, limits }: Pick<Requantization, 'outputZeroPoint' | 'limits'>,
  { at }: Placement,
) => ({ at: at(output), type: typeOf(output), zero: outputZeroPoint, clamp: limits })

function lowerConv2d(operator: Operator, placement: Placement): JobStep {
  const { input, filter } = operator.inputs
  const of = attributesOf<QuantizedConv2d>(operator)
  return {
    op: 'conv2d',
    ...slide(of, input),
    groups: of.groups,
    o: filter.descriptor.shape[0],
    x: { at: placement.at(input), type: typeOf(input), zero: of.inputZeroPoint },
    w: { at: placement.at(filter), type: typeOf(filter), zero: of.filterZeroPoints[0] },
    channels: channels(of, placement),
    y: result(operator.outputs[0], of, placement),
  }
}

function lowerMatmul(operator: Operator, placement: Placement): JobStep {
  const { a, b } = operator.inputs
  const of = attributesOf<QuantizedMatmul>(operator)
  const { batch, m, k, n, transposeB, batchB } = of
  return {
    op: 'matmul',
    batch,
    m,
    k,
    n,
    transposeB,
    batchB,
    a: { at: placement.at(a), type: typeOf(a), zero: of.aZeroPoint },
    b: { at: placement.at(b), type: typeOf(b), zero: of.bZeroPoints[0] },
    channels: channels(of, placement),
    y: result(operator.outputs[0], of, placement),
  }
}

/** Strides of a dense tensor of a shape that is broadcast to another. */
function stridesTo({ shape }: MLOperandDescriptor, to: readonly number[]): number[] {
  const strides = new Array<number>(to.length).fill(0)
  const missing = to.length - shape.length
  for (let at = shape.length - 1, next = 1; at >= 0; next *= shape[at--])
    if (shape[at] !== 1) strides[missing + at] = next
  return strides
}

/** The stages of DequantizeLinear. */
const dequantise = ({ scale, zeroPoint }: Quantization): Stage[] => [
  { fn: 'sub', y: 'alpha', alpha: zeroPoint },
  { fn: 'mul', y: 'alpha', alpha: scale },
]

/** Both operands dequantised, the function, quantised: the second operand first, since a step has one running result. */
function lowerByStages(operator: Operator, { at, scratch }: Placement): readonly JobStep[] {
  const { a, b } = operator.inputs
  const [output] = operator.outputs
  const of = attributesOf<QuantizedBinary>(operator)
  const { shape } = output.descriptor
  const dims = shape.length === 0 ? [1] : shape
  const own = b.descriptor.shape.length === 0 ? [1] : b.descriptor.shape
  const second = { at: scratch(4 * countOf(b.descriptor)), type: 'float32' } as const
  const [least, greatest] = of.limits
  const view = (value: Value, to: readonly number[]) => ({
    at: at(value),
    type: typeOf(value),
    strides: stridesTo(value.descriptor, to),
  })
  return [
    {
      op: 'elementwise',
      compute: 'float32',
      dims: own,
      a: view(b, own),
      d: { ...second, strides: stridesTo({ dataType: 'float32', shape: own }, own) },
      stages: dequantise(of.b),
    },
    {
      op: 'elementwise',
      compute: 'float32',
      dims,
      a: view(a, dims),
      b: { ...second, strides: stridesTo(b.descriptor, dims) },
      d: view(output, dims),
      stages: [
        ...dequantise(of.a),
        { fn: of.function, y: 'b' },
        { fn: 'div', y: 'alpha', alpha: of.output.scale },
        { fn: 'roundEven' },
        { fn: 'add', y: 'alpha', alpha: of.output.zeroPoint },
        { fn: 'clamp', alpha: least, beta: greatest },
      ],
    },
  ]
}

/** ADD has no broadcasting. */
function isPlainAdd(operator: Operator): boolean {
  const { a, b } = operator.inputs
  const count = countOf(operator.outputs[0].descriptor)
  const whole = [a, b].every(({ descriptor }) => countOf(descriptor) === count)
  return whole && attributesOf<QuantizedBinary>(operator).function === 'add'
}

function lowerAdd(operator: Operator, { at }: Placement): JobStep {
  const { a, b } = operator.inputs
  const [output] = operator.outputs
  const of = attributesOf<QuantizedBinary>(operator)
  const operand = (value: Value, { scale, zeroPoint }: Quantization) => ({
    at: at(value),
    type: typeOf(value),
    zero: zeroPoint,
    scale,
  })
  return {
    op: 'add',
    length: countOf(output.descriptor),
    a: operand(a, of.a),
    b: operand(b, of.b),
    y: { ...operand(output, of.output), clamp: of.limits },
  }
}

const macsOf = ({ outputs: [output] }: Operator, { window }: WebnnSliding, perWindow = 1): number =>
  countOf(output.descriptor) * window[0] * window[1] * perWindow

/** The quantised operators of a device with these limits, by the names that `fuse` gives them. */
export const quantised = (limits: Limits): Readonly<Record<string, OperatorSupport<JobStep>>> => ({
  quantizedConv2d: {
    types: {},
    refuses(operator) {
      const of = attributesOf<QuantizedConv2d>(operator)
      const { input, filter } = operator.inputs
      const dimensions = [...dimensionsOf(of, input), ...filter.descriptor.shape]
      return (
        oneZero(of.filterZeroPoints) ??
        fits(limits, operator, dimensions, macsOf(operator, of, filter.descriptor.shape[1]))
      )
    },
    lower: (operator, _, placement) => [lowerConv2d(operator, placement)],
  },
  quantizedMatmul: {
    types: {},
    refuses(operator) {
      const { bZeroPoints, batch, m, k, n } = attributesOf<QuantizedMatmul>(operator)
      return oneZero(bZeroPoints) ?? fits(limits, operator, [batch, m, k, n], batch * m * k * n)
    },
    lower: (operator, _, placement) => [lowerMatmul(operator, placement)],
  },
  quantizedMaxPool2d: {
    types: {},
    refuses(operator) {
      const of = attributesOf<WebnnSliding>(operator)
      return fits(limits, operator, dimensionsOf(of, operator.inputs.input), macsOf(operator, of))
    },
    lower(operator, _, { at }) {
      const { input } = operator.inputs
      const [output] = operator.outputs
      return [
        {
          op: 'pool',
          mode: 'max',
          ...slide(attributesOf<WebnnSliding>(operator), input),
          x: { at: at(input), type: typeOf(input) },
          y: { at: at(output), type: typeOf(output) },
        },
      ]
    },
  },
  quantizedAveragePool2d: {
    types: {},
    refuses(operator) {
      const of = attributesOf<QuantizedAveragePool2d>(operator)
      return fits(limits, operator, dimensionsOf(of, operator.inputs.input), macsOf(operator, of))
    },
    lower(operator, _, placement) {
      const { input } = operator.inputs
      const of = attributesOf<QuantizedAveragePool2d>(operator)
      return [
        {
          op: 'pool',
          mode: 'average',
          ...slide(of, input),
          x: { at: placement.at(input), type: typeOf(input), zero: of.inputZeroPoint },
          y: result(operator.outputs[0], of, placement),
          multiplier: of.multiplier,
        },
      ]
    },
  },
  quantizedBinary: {
    types: {},
    refuses: (operator) =>
      unless([
        isPlainAdd(operator) || ((limits.opcodes >> ELEMENTWISE) & 1n) === 1n,
        'the device adds only, without broadcasting',
      ]) ?? fits(limits, operator),
    lower: (operator, _, placement) =>
      isPlainAdd(operator) ? [lowerAdd(operator, placement)] : lowerByStages(operator, placement),
  },
  quantizedTable: {
    types: {},
    refuses: (operator) => fits(limits, operator),
    lower(operator, _, { at, keep }) {
      const [output] = operator.outputs
      const { table } = attributesOf<QuantizedTable>(operator)
      return [
        {
          op: 'lut',
          x: at(operator.inputs.input),
          table: keep(table),
          y: at(output),
          length: countOf(output.descriptor),
        },
      ]
    },
  },
})
