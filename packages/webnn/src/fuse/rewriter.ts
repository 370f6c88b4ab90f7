import type { Operand } from '../cpu/kernel.js'
import { layout } from '../cpu/layout.js'
import { arrayOf, byteLength, elementCount, type MLOperandDescriptor } from '../data-type.js'
import type { Graph, Operator, Value } from '../graph.js'
import { constantOf, producerOf } from './constants.js'

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength)

/** A value that is known. */
export const constant = (descriptor: MLOperandDescriptor, data: ArrayBufferView): Value => ({
  descriptor,
  source: { kind: 'constant', bytes: bytesOf(data) },
})

/** An operand of a kernel, zeroed unless there is data. */
export const operandOf = ({ dataType, shape }: MLOperandDescriptor, data?: Operand['data']): Operand => ({
  dataType,
  shape,
  data: data ?? new arrayOf[dataType](elementCount(shape)),
})

/** The permutation of `transpose` that brings one layout, a letter for each dimension, into another. */
export const permutation = (from: string, to: string): number[] =>
  Array.from(to, (letter) => from.indexOf(letter))

/** Constants that are made of others take no more than this, or than those do. */
const MAX_MADE_BYTES = 1 << 16

/** What an operator of `layout` makes of constants. */
export function known(
  name: string,
  inputs: Operator['inputs'],
  attributes: object,
  descriptors: readonly MLOperandDescriptor[],
): readonly Value[] | undefined {
  if (!Object.hasOwn(layout, name)) return undefined
  const given: Record<string, Operand> = {}
  let room = 0
  for (const [as, value] of Object.entries(inputs)) {
    const data = constantOf(value)
    if (data === undefined) return undefined
    given[as] = operandOf(value.descriptor, data)
    room += data.byteLength
  }
  const wanted = descriptors.reduce((sum, descriptor) => sum + byteLength(descriptor), 0)
  if (wanted > Math.max(room, MAX_MADE_BYTES)) return undefined
  const outputs = descriptors.map((descriptor) => operandOf(descriptor))
  layout[name]({ name, attributes: { ...attributes }, inputs: given, outputs })()
  return outputs.map(({ data }, at) => constant(descriptors[at], data))
}

/** A graph that is made from another: new values stand for old ones, and are read as often. */
export class Rewriter {
  readonly #made = new Map<Value, Value>()
  readonly #reads = new Map<Value, number>()
  #label = ''

  constructor(graph: Graph) {
    const count = (value: Value) => this.#reads.set(value, this.reads(value) + 1)
    for (const { inputs } of graph.operators) for (const value of Object.values(inputs)) count(value)
    for (const value of graph.outputs.values()) count(value)
  }

  /** How often a value is read, by operators and as an output of the graph; 0 of one that was made on the way. */
  reads(value: Value): number {
    return this.#reads.get(value) ?? 0
  }

  /** What stands for a value of the old graph. */
  now(value: Value): Value {
    return this.#made.get(value) ?? value
  }

  /** From now on `value` stands for `old`. */
  replace(old: Value, value: Value): void {
    this.#made.set(old, value)
    this.#reads.set(value, this.reads(value) + this.reads(old))
  }

  /** An operator of the old graph on what stands for its inputs. */
  renew({ name, label, inputs, attributes, outputs }: Operator): Operator {
    this.#label = label
    const now = Object.fromEntries(Object.entries(inputs).map(([as, value]) => [as, this.now(value)]))
    return this.#operator(
      name,
      now,
      attributes,
      outputs.map(({ descriptor }) => descriptor),
    )
  }

  /** The result of a new operator; one that `known` knows is a constant. */
  emit(name: string, inputs: Operator['inputs'], attributes: object, descriptor: MLOperandDescriptor): Value {
    return this.emitAll(name, inputs, attributes, [descriptor])[0]
  }

  /** As `emit`, of an operator with several. */
  emitAll(
    name: string,
    inputs: Operator['inputs'],
    attributes: object,
    descriptors: readonly MLOperandDescriptor[],
  ): readonly Value[] {
    return (
      known(name, inputs, attributes, descriptors) ??
      this.#operator(name, inputs, { ...attributes }, descriptors).outputs
    )
  }

  /** The operator that computes a value, where it has one of these names and nothing else reads the value. */
  solely(value: Value, names: Readonly<Record<string, unknown>>): Operator | undefined {
    const operator = producerOf(value)
    return operator && this.reads(value) === 1 && Object.hasOwn(names, operator.name) ? operator : undefined
  }

  /** Transposed; one that was transposed the other way before is that itself again. */
  transpose(value: Value, by: readonly number[]): Value {
    const before = producerOf(value)
    const from = before?.name === 'transpose' ? (before.attributes.permutation as number[]) : undefined
    const all = from ? by.map((at) => from[at]) : by
    const source = from ? before!.inputs.input : value
    if (all.every((axis, at) => axis === at)) return source
    const { dataType, shape } = source.descriptor
    return this.emit(
      'transpose',
      { input: source },
      { permutation: [...all] },
      { dataType, shape: all.map((axis) => shape[axis]) },
    )
  }

  #operator(
    name: string,
    inputs: Operator['inputs'],
    attributes: Operator['attributes'],
    descriptors: readonly MLOperandDescriptor[],
  ): Operator {
    const operator: Operator = { name, label: this.#label, inputs, attributes, outputs: [] }
    descriptors.forEach((descriptor, output) => {
      operator.outputs.push({ descriptor, source: { kind: 'operator', operator, output } })
    })
    return operator
  }
}
