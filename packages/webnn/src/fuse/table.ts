import { elementwise } from '../cpu/elementwise.js'
import type { Operand } from '../cpu/kernel.js'
import { elementCount } from '../data-type.js'
import type { Operator, Value } from '../graph.js'
import { isQuantized, narrow, type QuantizedType, rangeOf } from './arithmetic.js'
import { constantOf, isUniform, producerOf } from './constants.js'
import type { Limits, QuantizedTable } from './operators.js'
import { operandOf, type Rewriter } from './rewriter.js'

/** More operators than anything that is written as a function of one number has; regions are found by recursion. */
const MAX_OPERATORS = 64

/** Element-wise operators that are a function of one value of 8 bits alone. */
interface Region {
  readonly raw: Value
  /** In an order in which each can be run. */
  readonly operators: readonly Operator[]
  /** Nothing outside of the region reads the value. */
  readonly sole: boolean
}

/** The region that ends with an operator. */
function regionOf(rewriter: Rewriter, last: Operator): Region | undefined {
  const operators = new Set<Operator>()
  const reads = new Map<Value, number>()
  let raw: Value | undefined
  const enter = (operator: Operator): boolean =>
    operators.has(operator) ||
    (Object.hasOwn(elementwise, operator.name) &&
      operators.size < MAX_OPERATORS &&
      // Kernels compute with halves by way of float32: here they run as they are.
      operator.outputs.every(({ descriptor: { dataType } }) => dataType !== 'float16') &&
      Object.values(operator.inputs).every(visit) &&
      operators.add(operator) !== undefined)
  const visit = (value: Value): boolean => {
    if (isUniform(value)) return true
    const operator = producerOf(value)
    reads.set(value, (reads.get(value) ?? 0) + 1)
    if (operator && !isQuantized(value.descriptor.dataType)) return enter(operator)
    if (raw !== undefined && raw !== value) return false
    raw = value
    return isQuantized(value.descriptor.dataType)
  }
  if (!enter(last) || raw === undefined) return undefined
  const size = elementCount(raw.descriptor.shape)
  // A byte that is spread over more elements, as a zero point may be, is looked up fewer times than there are results.
  if (elementCount(last.outputs[0].descriptor.shape) !== size) return undefined
  let sole = true
  for (const [value, count] of reads) {
    if (elementCount(value.descriptor.shape) !== size) return undefined
    if (count === rewriter.reads(value)) continue
    // A dequantised value that is read elsewhere, too, is there anyway; what is computed from it would be computed twice.
    if (value !== raw && producerOf(value)?.name !== 'dequantizeLinear') return undefined
    sole = false
  }
  return { raw, operators: [...operators], sole }
}

/** A constant of one number for each byte: kernels of one operand, and of blocks, do not stretch what they read. */
function spread(value: Value): Operand {
  const operand = operandOf({ ...value.descriptor, shape: [256] })
  const data = operand.data as Float32Array
  data.fill((constantOf(value) as Float32Array)[0])
  return operand
}

/** What the region makes of each byte: its operators' own kernels say so. */
function evaluate({ raw, operators }: Region, last: Operator): Uint8Array {
  const values = new Map<Value, Operand>()
  const descriptor = ({ descriptor: { dataType } }: Value) => ({ dataType, shape: [256] })
  const bytes = Uint8Array.from({ length: 256 }, (_, at) => at)
  values.set(
    raw,
    operandOf(descriptor(raw), raw.descriptor.dataType === 'int8' ? new Int8Array(bytes.buffer) : bytes),
  )
  const operand = (value: Value): Operand => values.get(value) ?? spread(value)
  for (const { name, attributes, inputs, outputs } of operators) {
    const [output] = outputs
    values.set(output, operandOf(descriptor(output)))
    const given = Object.fromEntries(Object.entries(inputs).map(([as, value]) => [as, operand(value)]))
    elementwise[name]({ name, attributes, inputs: given, outputs: [operand(output)] })()
  }
  const { buffer } = operand(last.outputs[0]).data
  return new Uint8Array(buffer as ArrayBuffer)
}

/** The limits that a table holds values to, where it does nothing else. */
function limitsOf(table: Uint8Array, type: QuantizedType): Limits | undefined {
  const [least, greatest] = rangeOf[type]
  const result = (q: number) => (type === 'int8' ? (table[q & 0xff] << 24) >> 24 : table[q])
  const limits: Limits = [result(least), result(greatest)]
  for (let q = least; q <= greatest; q++) if (result(q) !== narrow([q, q], limits)[0]) return undefined
  return limits
}

/** Looks values up, or has what makes them do so: `sole` says that nothing else reads them. */
export function lookUp(
  rewriter: Rewriter,
  raw: Value,
  table: Uint8Array,
  { descriptor }: Value,
  sole = false,
): Value {
  const before = producerOf(raw)
  const limits =
    raw.descriptor.dataType === descriptor.dataType
      ? limitsOf(table, descriptor.dataType as QuantizedType)
      : undefined
  const all =
    limits && rangeOf[descriptor.dataType as QuantizedType].every((limit, at) => limit === limits[at])
  const { dataType, shape } = raw.descriptor
  /** The same elements under the shape that is wanted. */
  const shaped = (value: Value): Value =>
    shape.length === descriptor.shape.length
      ? value
      : rewriter.emit('reshape', { input: value }, { newShape: descriptor.shape }, descriptor)
  if (all && before) return shaped(raw)
  if (sole && limits && before?.attributes.limits) {
    const narrowed = narrow(before.attributes.limits as Limits, limits)
    const attributes = { ...before.attributes, limits: narrowed }
    return shaped(rewriter.emit(before.name, before.inputs, attributes, { dataType, shape }))
  }
  if (sole && before?.name === 'quantizedTable') {
    const { table: first } = before.attributes as unknown as QuantizedTable
    return rewriter.emit(
      'quantizedTable',
      before.inputs,
      { table: first.map((byte) => table[byte]) },
      descriptor,
    )
  }
  return rewriter.emit('quantizedTable', { input: raw }, { table }, descriptor)
}

/** An operator whose result is of 8 bits and a function of one value of 8 bits alone: a look into a table. */
export function asTable(rewriter: Rewriter, last: Operator): Value | undefined {
  const region = regionOf(rewriter, last)
  return region && lookUp(rewriter, region.raw, evaluate(region, last), last.outputs[0], region.sole)
}
