import type { NpuCapabilities, Step as NpuStep, Place } from '@uaccel/driver-npu'
import { channelTable } from '@uaccel/driver-npu/uapi'
import type { Operation, Value } from './graph/operations.js'
import { describe, elementCount, isQuantised, limits, type QuantisedType } from './graph/tensor.js'

type Kind = Operation['kind']
type OfKind<K extends Kind> = Extract<Operation, { kind: K }>

/** Where the tensors of one step lie, and constants of its own that were brought into the device's reach. */
export interface Places {
  at(value: Value): Place
  /** Takes memory for `bytes`, or gives what was taken for the same bytes before. */
  keep(bytes: Uint8Array): Place
}

/** One kind of operation on the NPU: what it cannot do of it, and the step that does it. */
interface Lowering<K extends Kind> {
  refuses(operation: OfKind<K>, device: NpuCapabilities): string | undefined
  lower(operation: OfKind<K>, places: Places): NpuStep
}

const quantised = ({ type }: Value) => type.dtype as QuantisedType
const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) =>
  new Uint8Array(buffer, byteOffset, byteLength)

/** The first of `checks` that does not hold, as a reason. */
function unless(...checks: readonly (readonly [holds: boolean, reason: string])[]): string | undefined {
  return checks.find(([holds]) => !holds)?.[1]
}

function fits(
  device: NpuCapabilities,
  dimensions: readonly number[],
  macs = 0,
  ...tensors: Pick<Value, 'type'>[]
) {
  const largest = Math.max(...dimensions)
  const oversized = tensors.find(({ type }) => elementCount(type.shape) > device.maxElements)
  return unless(
    [largest <= device.maxDimension, `a dimension of ${largest} is above its ${device.maxDimension}`],
    [macs <= device.maxMacs, `${macs} multiplications are above its ${device.maxMacs}`],
    [!oversized, `${oversized && describe(oversized.type)} is above its ${device.maxElements} elements`],
  )
}

function requantises({ weightZeroPoints, multipliers }: OfKind<'conv' | 'matmul'>) {
  return unless(
    [weightZeroPoints.every((zero) => zero === weightZeroPoints[0]), 'weight zero points differ by channel'],
    [multipliers.every(Number.isFinite), 'a scale is above what float32 holds'],
  )
}

const byteTypesOnly = 'it works on uint8 and int8 only'

/** How each kind is done (docs/devices/npu.md, section 9); kinds that are not here are not done. */
const lowerings: { readonly [K in Kind]?: Lowering<K> } = {
  conv: {
    refuses(operation, device) {
      const { inputs, output, weights, kernel, strides, dilations, pads } = operation
      const [, perGroup] = weights.shape
      const macs = elementCount(output.type.shape) * perGroup * kernel[0] * kernel[1]
      const dimensions = [...inputs[0].type.shape, ...weights.shape, ...strides, ...dilations, ...pads]
      return requantises(operation) ?? fits(device, dimensions, macs, inputs[0], { type: weights }, output)
    },
    lower(operation, { at, keep }) {
      const { inputs, output, weights, kernel, strides, dilations, pads, group, range } = operation
      const [n, c, h, w] = inputs[0].type.shape
      return {
        op: 'conv2d',
        shape: [n, c, h, w],
        kernel,
        strides,
        dilations,
        pads,
        groups: group,
        o: weights.shape[0],
        x: { at: at(inputs[0]), type: quantised(inputs[0]), zero: operation.inputZeroPoint },
        w: { at: keep(bytesOf(weights.data)), type: weights.dtype, zero: operation.weightZeroPoints[0] },
        channels: keep(channelTable(operation.bias, operation.multipliers)),
        y: {
          at: at(output),
          type: quantised(output),
          zero: operation.outputZeroPoint,
          clamp: [range.min, range.max],
        },
      }
    },
  },
  matmul: {
    refuses(operation, device) {
      const { inputs, output, weights } = operation
      const [k, n] = weights.shape
      const m = elementCount(output.type.shape) / n
      return (
        requantises(operation) ?? fits(device, [m, k, n], m * k * n, inputs[0], { type: weights }, output)
      )
    },
    lower(operation, { at, keep }) {
      const { inputs, output, weights, range } = operation
      const [k, n] = weights.shape
      return {
        op: 'matmul',
        m: elementCount(output.type.shape) / n,
        k,
        n,
        a: { at: at(inputs[0]), type: quantised(inputs[0]), zero: operation.inputZeroPoint },
        b: { at: keep(bytesOf(weights.data)), type: weights.dtype, zero: operation.weightZeroPoints[0] },
        channels: keep(channelTable(operation.bias, operation.multipliers)),
        y: {
          at: at(output),
          type: quantised(output),
          zero: operation.outputZeroPoint,
          clamp: [range.min, range.max],
        },
      }
    },
  },
  maxPool: {
    refuses({ inputs, output, kernel, strides, dilations, pads }, device) {
      if (!isQuantised(inputs[0].type.dtype)) return byteTypesOnly
      const macs = elementCount(output.type.shape) * kernel[0] * kernel[1]
      const dimensions = [...inputs[0].type.shape, ...kernel, ...strides, ...dilations, ...pads]
      return fits(device, dimensions, macs, inputs[0], output)
    },
    lower({ inputs, output, kernel, strides, dilations, pads }, { at }) {
      const [n, c, h, w] = inputs[0].type.shape
      return {
        op: 'pool',
        mode: 'max',
        shape: [n, c, h, w],
        kernel,
        strides,
        dilations,
        pads,
        x: { at: at(inputs[0]), type: quantised(inputs[0]) },
        y: { at: at(output), type: quantised(output) },
      }
    },
  },
  quantisedAdd: {
    refuses({ inputs: [a, b], output }, device) {
      const count = elementCount(output.type.shape)
      const same = [a, b].every(({ type }) => elementCount(type.shape) === count)
      return unless([same, 'it does not broadcast']) ?? fits(device, [1], 0, output)
    },
    lower({ inputs, quantisations, output, outputQuantisation, range }, { at }) {
      const operand = (index: 0 | 1) => ({
        at: at(inputs[index]),
        type: quantised(inputs[index]),
        zero: quantisations[index].zeroPoint,
        scale: quantisations[index].scale,
      })
      return {
        op: 'add',
        length: elementCount(output.type.shape),
        a: operand(0),
        b: operand(1),
        y: {
          at: at(output),
          type: quantised(output),
          zero: outputQuantisation.zeroPoint,
          scale: outputQuantisation.scale,
          clamp: [range.min, range.max],
        },
      }
    },
  },
  clamp: {
    refuses({ output }, device) {
      return isQuantised(output.type.dtype) ? fits(device, [1], 0, output) : byteTypesOnly
    },
    lower({ inputs, output, range }, { at, keep }) {
      const { min, max } = limits[quantised(output)]
      const table = new Uint8Array(256)
      for (let q = min; q <= max; q++) table[q & 0xff] = Math.max(range.min, Math.min(range.max, q))
      return {
        op: 'lut',
        x: at(inputs[0]),
        table: keep(table),
        y: at(output),
        length: elementCount(output.type.shape),
      }
    },
  },
}

/** The NPU's name in plans. */
export const npuName = 'npu'

/** Why a device with these capabilities cannot do an operation; undefined where it can. */
export function npuRefuses(operation: Operation, capabilities: NpuCapabilities): string | undefined {
  const lowering = loweringOf(operation)
  return lowering ? lowering.refuses(operation, capabilities) : byteTypesOnly
}

/** The step that does an operation which {@link npuRefuses} does not refuse. */
export function lowerForNpu(operation: Operation, places: Places): NpuStep {
  return loweringOf(operation)!.lower(operation, places)
}

/** The lowering of an operation's kind. The types of a table's entry and of its key are one, which TypeScript cannot see. */
function loweringOf({ kind }: Operation): Lowering<Kind> | undefined {
  return lowerings[kind] as Lowering<Kind> | undefined
}
