import { arrayOf, type TypedArray } from '../data-type.js'
import type { Operator, Value } from '../graph.js'
import { isQuantized } from './arithmetic.js'
import type { Quantization } from './operators.js'

export const producerOf = ({ source }: Value): Operator | undefined =>
  source.kind === 'operator' ? source.operator : undefined

/** The elements of a constant; `undefined` for what is computed or is a tensor. */
export function constantOf(value: Value): TypedArray | undefined {
  const { source, descriptor } = value
  if (source.kind !== 'constant') return undefined
  const Elements = arrayOf[descriptor.dataType]
  const width = Elements.BYTES_PER_ELEMENT
  // The bytes of a file may lie at an offset that the elements could not.
  const { buffer, byteOffset, byteLength } =
    source.bytes.byteOffset % width === 0 ? source.bytes : source.bytes.slice()
  return new Elements(buffer as never, byteOffset, byteLength / width)
}

/** Whether a value is a constant whose elements are all one number. */
export function isUniform(value: Value): boolean {
  const data = constantOf(value) as Float32Array | undefined
  return data?.every((each) => each === data[0]) ?? false
}

/** Scales and zero points along one axis, or of the whole tensor. */
export interface Quantizations {
  readonly shape: readonly number[]
  readonly scales: Float32Array
  readonly zeroPoints: ArrayLike<number>
}

/** Those of a quantizeLinear or dequantizeLinear, where they are constants of float32, finite and not negative. */
export function quantizationsOf({ inputs: { scale, zeroPoint } }: Operator): Quantizations | undefined {
  const [scales, zeroPoints] = [constantOf(scale), constantOf(zeroPoint)]
  if (!(scales instanceof Float32Array) || zeroPoints === undefined) return undefined
  if (!scales.every((each) => each >= 0 && each < Number.POSITIVE_INFINITY)) return undefined
  return { shape: scale.descriptor.shape, scales, zeroPoints: zeroPoints as ArrayLike<number> & TypedArray }
}

/** The one quantization of a whole tensor; its scale is above 0. */
export function uniform({ scales, zeroPoints }: Quantizations): Quantization | undefined {
  for (let at = 1; at < scales.length; at++)
    if (scales[at] !== scales[0] || zeroPoints[at] !== zeroPoints[0]) return undefined
  return scales[0] > 0 ? { scale: scales[0], zeroPoint: zeroPoints[0] } : undefined
}

/** One quantization for each of the `size` places along an axis; `undefined` where they differ along another. */
export function along(
  { shape, scales, zeroPoints }: Quantizations,
  axis: number,
  size: number,
): { readonly scales: Float32Array; readonly zeroPoints: Int32Array } | undefined {
  if (shape.some((each, at) => at !== axis && each !== 1)) return undefined
  const block = size / scales.length
  const pick = (at: number) => Math.floor(at / block)
  return {
    scales: Float32Array.from({ length: size }, (_, at) => scales[pick(at)]),
    zeroPoints: Int32Array.from({ length: size }, (_, at) => zeroPoints[pick(at)]),
  }
}

/** A value that is dequantised from 8 bits. */
export interface Dequantized {
  readonly raw: Value
  readonly by: Quantizations
}

export function dequantized(value: Value): Dequantized | undefined {
  const operator = producerOf(value)
  if (operator?.name !== 'dequantizeLinear') return undefined
  const raw = operator.inputs.input
  const by = quantizationsOf(operator)
  return by && isQuantized(raw.descriptor.dataType) ? { raw, by } : undefined
}

/** As `dequantized`, of one quantization. */
export function dequantizedUniformly(
  value: Value,
): { readonly raw: Value; readonly by: Quantization } | undefined {
  const found = dequantized(value)
  const by = found && uniform(found.by)
  return by && { raw: found.raw, by }
}
