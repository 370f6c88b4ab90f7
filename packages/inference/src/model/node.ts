import { accelError } from '@uaccel/uapi'
import type { MLGraphBuilder, MLOperand, MLOperandDataType } from '@uaccel/webnn'
import type { GraphNode } from '../onnx/graph.js'
import { type DataType, elementCount, type Tensor, tensor } from '../onnx/tensor.js'

/** What a name of an ONNX graph stands for: a constant whose elements are known, or an operand that is computed. */
export type Value = Tensor | MLOperand

export const isConstant = (value: Value): value is Tensor => 'dtype' in value

export const typeOf = (value: Value): DataType =>
  isConstant(value) ? value.dtype : (value.dataType as DataType)

/** A constant as an operand of a builder. WebNN has no tensors without elements. */
export function operandOf(builder: MLGraphBuilder, value: Value): MLOperand {
  if (!isConstant(value)) return value
  return builder.constant({ dataType: value.dtype, shape: value.shape }, value.data)
}

/** What a node of an ONNX graph becomes: its outputs, in order; one alone needs no list. */
export type Mapping = (node: Node) => Value | readonly (Value | undefined)[]
export type Mappings = Readonly<Record<string, Mapping>>

/** Elements that a file may have constants made of by naming a size alone. */
export const mostMade = 1 << 20

/** One node, as the functions that express it through a builder see it. Inputs are counted from 0. */
export class Node {
  readonly b: MLGraphBuilder
  readonly opset: number
  readonly where: string
  /** Inputs whose elements were asked for: the others the graph does not depend on. */
  readonly used = new Set<number>()
  readonly #node: GraphNode
  readonly #inputs: readonly (Value | undefined)[]

  constructor(
    builder: MLGraphBuilder,
    node: GraphNode,
    inputs: readonly (Value | undefined)[],
    opset: number,
  ) {
    this.b = builder
    this.#node = node
    this.#inputs = inputs
    this.opset = opset
    this.where = `node "${node.name}" (${node.op})`
  }

  get count(): number {
    return this.#inputs.length
  }
  get outputs(): readonly string[] {
    return this.#node.outputs
  }

  has(index: number): boolean {
    return this.#inputs[index] !== undefined
  }

  /** An input, of which its type and shape may be looked at. */
  value(index: number): Value {
    const found = this.#inputs[index]
    if (found === undefined) throw this.corrupt(`input ${index} is missing`)
    return found
  }

  shape(index: number): readonly number[] {
    return this.value(index).shape
  }
  type(index: number): DataType {
    return typeOf(this.value(index))
  }

  operand(index: number): MLOperand {
    this.used.add(index)
    return operandOf(this.b, this.value(index))
  }

  optional(index: number): MLOperand | undefined {
    return this.has(index) ? this.operand(index) : undefined
  }

  operands(): MLOperand[] {
    return this.#inputs.map((_, index) => this.operand(index))
  }

  /** An input whose elements have to be known when the graph is built. */
  constant(index: number): Tensor {
    const value = this.value(index)
    if (!isConstant(value)) throw this.unsupported(`input ${index} is computed; a constant is wanted`)
    return value
  }

  /** A constant input as numbers; `undefined` where it is left out. */
  numbers(index: number): number[] | undefined {
    return this.has(index) ? Array.from(this.constant(index).data as Float32Array, Number) : undefined
  }

  number(index: number, otherwise: number): number {
    const found = this.numbers(index)
    if (found !== undefined && found.length !== 1)
      throw this.corrupt(`input ${index} wants one element, found ${found.length}`)
    return found?.[0] ?? otherwise
  }

  attribute(name: string): unknown {
    return this.#node.attributes.get(name)
  }

  float(name: string, otherwise: number): number {
    const value = this.attribute(name) ?? otherwise
    if (typeof value !== 'number') throw this.corrupt(`attribute "${name}" wants a number`)
    return value
  }

  int(name: string, otherwise?: number): number {
    const value = this.attribute(name) ?? otherwise
    if (value === undefined) throw this.corrupt(`attribute "${name}" is missing`)
    if (!Number.isInteger(value)) throw this.corrupt(`attribute "${name}" wants an integer, found ${value}`)
    return value as number
  }

  ints(name: string): number[] | undefined {
    const value = this.attribute(name)
    if (value === undefined) return undefined
    if (!Array.isArray(value) || !value.every(Number.isInteger))
      throw this.corrupt(`attribute "${name}" wants integers`)
    return value
  }

  text(name: string, otherwise: string): string {
    const value = this.attribute(name) ?? otherwise
    if (typeof value !== 'string') throw this.corrupt(`attribute "${name}" wants a string`)
    return value
  }

  texts(name: string): string[] | undefined {
    const value = this.attribute(name)
    if (value === undefined) return undefined
    if (!Array.isArray(value) || !value.every((each) => typeof each === 'string'))
      throw this.corrupt(`attribute "${name}" wants strings`)
    return value
  }

  /** An axis that may count from the end, held to a rank. */
  axis(value: number, rank: number): number {
    const axis = value < 0 ? value + rank : value
    if (!Number.isInteger(axis) || axis < 0 || axis >= rank)
      throw this.corrupt(`axis ${value} is not within ${rank} dimensions`)
    return axis
  }

  /** The axes of an attribute, or from that operator set on of an input. */
  axes(rank: number, inputFrom: number, index = 1): number[] | undefined {
    const given = this.opset >= inputFrom ? this.numbers(index) : this.ints('axes')
    const axes = given?.map((axis) => this.axis(axis, rank))
    if (axes && new Set(axes).size !== axes.length) throw this.corrupt(`axes [${given}] name one twice`)
    return axes
  }

  /** A constant of one element that is like an operand. */
  scalar(like: { readonly dataType: MLOperandDataType }, value: number | bigint): MLOperand {
    return this.b.constant(like.dataType, value)
  }

  /** 0, 1, 2 and so on. */
  places(count: number): number[] {
    if (!(Number.isInteger(count) && count >= 0 && count <= mostMade))
      throw this.unsupported(`it wants ${count} places; at most ${mostMade} are made`)
    return Array.from({ length: count }, (_, at) => at)
  }

  floats(shape: readonly number[], values: Iterable<number>): MLOperand {
    return operandOf(this.b, tensor('float32', shape, Float32Array.from(values)))
  }

  corrupt(why: string): Error {
    return accelError('ERR_ACCEL_CORRUPT_MODEL', `${this.where}: ${why}`, {
      details: { node: this.#node.name, op: this.#node.op },
    })
  }

  unsupported(why: string, cause?: unknown): Error {
    return unsupportedNode(this.#node, why, cause)
  }
}

export function unsupportedNode(node: GraphNode, why: string, cause?: unknown): Error {
  return accelError('ERR_ACCEL_UNSUPPORTED_OPERATOR', `node "${node.name}" (${node.op}): ${why}`, {
    cause,
    details: { node: node.name, op: node.op },
  })
}

export const ints64 = (values: readonly number[], shape: readonly number[] = [values.length]): Tensor =>
  tensor('int64', shape, BigInt64Array.from(values, BigInt))

/** Options without those that are left out. */
export const given = <T extends object>(options: T) =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }

export const sum = (values: readonly number[]): number => values.reduce((all, value) => all + value, 0)
export { elementCount }
