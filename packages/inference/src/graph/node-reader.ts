import { type AccelError, accelError } from '@uaccel/uapi'
import type { GraphNode } from './graph.js'
import type { Quantisation, Value } from './operations.js'
import {
  type DataType,
  describe,
  elementCount,
  isQuantised,
  type QuantisedType,
  type Tensor,
} from './tensor.js'

/** Inputs and attributes of one node, read with checks whose errors name the node. */
export class NodeReader {
  readonly node: GraphNode
  readonly #values: ReadonlyMap<string, Value>

  constructor(node: GraphNode, values: ReadonlyMap<string, Value>) {
    this.node = node
    this.#values = values
  }

  get where(): string {
    return `node "${this.node.name}" (${this.node.op})`
  }

  /** The error for a form of an operator that is not implemented. */
  unsupported(found: string): AccelError {
    return accelError('ERR_ACCEL_UNSUPPORTED_OPERATOR', `${this.where}: ${found}`, {
      details: { node: this.node.name, op: this.node.op },
    })
  }

  badShape(message: string): AccelError {
    return accelError('ERR_ACCEL_INVALID_SHAPE', `${this.where}: ${message}`)
  }

  corrupt(message: string): AccelError {
    return accelError('ERR_ACCEL_CORRUPT_MODEL', `${this.where}: ${message}`)
  }

  has(index: number): boolean {
    return (this.node.inputs[index] ?? '') !== ''
  }

  input(index: number): Value {
    const value = this.#values.get(this.node.inputs[index] ?? '')
    if (!value) throw this.corrupt(`input ${index} is missing`)
    return value
  }

  /** Input of one of these types. */
  typed<T extends DataType>(
    index: number,
    ...dtypes: T[]
  ): Value & { type: { dtype: T; shape: readonly number[] } } {
    const value = this.input(index)
    if (!dtypes.includes(value.type.dtype as T)) {
      throw this.unsupported(`input ${index} is ${describe(value.type)}; supported are ${dtypes.join(', ')}`)
    }
    return value as Value & { type: { dtype: T; shape: readonly number[] } }
  }

  constant(index: number): Tensor {
    const { constant, name } = this.input(index)
    if (!constant) {
      throw this.unsupported(
        `input ${index} ("${name}") is computed in the graph; it has to be an initialiser`,
      )
    }
    return constant
  }

  /** A constant of one element, as a number. */
  scalar(index: number): number {
    const { data, shape } = this.constant(index)
    if (data.length !== 1)
      throw this.unsupported(`input ${index} has shape [${shape.join(',')}], a scalar is supported`)
    return Number(data[0])
  }

  /** Scales at `index`, float32, each finite and above 0: one, or one for each of `channels`. */
  scales(index: number, channels: number): Float32Array {
    const { dtype, data } = this.constant(index)
    if (dtype !== 'float32') throw this.corrupt(`the scale, input ${index}, is ${dtype} and not float32`)
    const scales = this.#perChannel(index, Float32Array.from(data as Float32Array), channels)
    const wrong = scales.find((scale) => !(scale > 0 && scale < Number.POSITIVE_INFINITY))
    if (wrong !== undefined) throw this.corrupt(`input ${index} has a scale of ${wrong}`)
    return scales
  }

  /** Zero points at `index` (0 where left out), of the type that they apply to: one, or one for each of `channels`. */
  zeroPoints(index: number, dtype: DataType, channels: number): Int32Array {
    if (!this.has(index)) return new Int32Array(channels)
    const constant = this.constant(index)
    if (constant.dtype !== dtype) {
      throw this.corrupt(`the zero point, input ${index}, is ${constant.dtype} where the tensor is ${dtype}`)
    }
    return this.#perChannel(index, Int32Array.from(constant.data as Int32Array), channels)
  }

  #perChannel<T extends Int32Array | Float32Array>(index: number, values: T, channels: number): T {
    if (values.length === channels) return values
    if (values.length !== 1) {
      throw this.badShape(`input ${index} has ${values.length} elements, wanted 1 or ${channels}`)
    }
    const spread = values instanceof Float32Array ? new Float32Array(channels) : new Int32Array(channels)
    return spread.fill(values[0]) as T
  }

  /** Scale and zero point of a whole tensor of that type. */
  quantisation(scaleIndex: number, zeroIndex: number, dtype: DataType): Quantisation {
    if (elementCount(this.constant(scaleIndex).shape) !== 1) {
      throw this.unsupported(
        `input ${scaleIndex} has a scale for each channel; one for the tensor is supported here`,
      )
    }
    return { scale: this.scales(scaleIndex, 1)[0], zeroPoint: this.zeroPoints(zeroIndex, dtype, 1)[0] }
  }

  /** The type of an output that is given by its zero point. */
  quantisedType(zeroIndex: number, otherwise?: QuantisedType): QuantisedType {
    const dtype = this.has(zeroIndex) ? this.constant(zeroIndex).dtype : otherwise
    if (!dtype || !isQuantised(dtype)) {
      throw this.unsupported(
        `the output's zero point, input ${zeroIndex}, is ${dtype ?? 'left out'}; supported are uint8, int8`,
      )
    }
    return dtype
  }

  integer(name: string, otherwise: number): number {
    const value = this.node.attributes.get(name) ?? otherwise
    if (typeof value !== 'number' || !Number.isInteger(value)) {
      throw this.corrupt(`attribute "${name}" is ${JSON.stringify(value)}, wanted an integer`)
    }
    return value
  }

  /** A list of integers, each at least `min`. */
  integers(name: string, otherwise: readonly number[], min: number): readonly number[] {
    const value = this.node.attributes.get(name) ?? otherwise
    const valid =
      Array.isArray(value) &&
      value.length === otherwise.length &&
      value.every((item) => Number.isInteger(item) && item >= min && item < 2 ** 31)
    if (!valid) {
      throw this.corrupt(
        `attribute "${name}" is ${JSON.stringify(value)}, wanted ${otherwise.length} integers of at least ${min}`,
      )
    }
    return value
  }

  text(name: string, otherwise: string): string {
    const value = this.node.attributes.get(name) ?? otherwise
    if (typeof value !== 'string')
      throw this.corrupt(`attribute "${name}" is ${JSON.stringify(value)}, wanted a string`)
    return value
  }

  /** Refuses attributes that the operator does not know: ignoring one would change the result. */
  onlyAttributes(...known: string[]): void {
    for (const name of this.node.attributes.keys()) {
      if (!known.includes(name)) throw this.unsupported(`attribute "${name}" is not supported`)
    }
  }
}
