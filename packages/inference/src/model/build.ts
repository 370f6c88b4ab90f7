import { accelError } from '@uaccel/uapi'
import {
  type MLContext,
  type MLGraph,
  MLGraphBuilder,
  MLOperand,
  type MLOperandDataType,
  type MLOperandDescriptor,
  ml,
} from '@uaccel/webnn'
import type { Graph, GraphNode, GraphValue } from '../onnx/graph.js'
import { elementBytes, elementCount, viewAs } from '../onnx/tensor.js'
import { elementwise } from './elementwise.js'
import { layout } from './layout.js'
import { matrix } from './matrix.js'
import { isConstant, type Mappings, Node, operandOf, typeOf, unsupportedNode, type Value } from './node.js'
import { normalisations } from './normalisation.js'
import { quantisedOperators } from './quantised.js'
import { reductions } from './reduction.js'
import { spatial } from './spatial.js'

/** Each operator of ONNX that has a form in WebNN, by its name; those of other operator sets as `domain:name`. */
export const onnxOperators: Mappings = {
  ...elementwise,
  ...layout,
  ...reductions,
  ...normalisations,
  ...matrix,
  ...spatial,
  ...quantisedOperators,
}

/** Oldest version of ONNX's operator set that is built from: that in which Softmax got one axis and ReduceSum its axes as an input. */
const oldestOpset = 13

/** Elements up to which what depends on constants alone is computed when the graph is built. */
const foldedElements = 1 << 16

/** All values of a graph together. A file of some bytes can ask for any number. */
const defaultMemoryBytes = 2 ** 32

export interface OnnxOptions {
  /** Sizes of dimensions that have a name in the model, or of `input.index`: `{ batch: 4, 'x.0': 4 }`. */
  readonly dimensions?: Readonly<Record<string, number>>
  /** Whole shapes of inputs, by their names. */
  readonly shapes?: Readonly<Record<string, readonly number[]>>
  /** The most that all values of the graph may take together; default 4 GiB. */
  readonly memoryBytes?: number
}

/** A model that was built: what `dispatch` takes, and tensors for it are made of. */
export interface OnnxGraph {
  readonly graph: MLGraph
  readonly inputs: Readonly<Record<string, MLOperandDescriptor>>
  readonly outputs: Readonly<Record<string, MLOperandDescriptor>>
  /** Inputs of the model that no output depends on: `dispatch` does not take them. */
  readonly unused: readonly string[]
}

/** The size of each dimension of an input. ERR_ACCEL_INVALID_SHAPE where one is not known, is another than the model says, or all are 2 GiB or more. */
export function inputShape(value: GraphValue, { dimensions = {}, shapes = {} }: OnnxOptions): number[] {
  const given = Object.hasOwn(shapes, value.name) ? shapes[value.name] : undefined
  const wrong = (why: string) => accelError('ERR_ACCEL_INVALID_SHAPE', `input "${value.name}": ${why}`)
  if (value.shape === undefined && given === undefined)
    throw wrong(`the model gives it no shape; shapes: { ${value.name}: [...] } does`)
  if (given && value.shape && given.length !== value.shape.length)
    throw wrong(`[${value.shape}] is wanted, found [${given}]`)
  const shape = (value.shape ?? given!).map((dimension, at) => {
    const byPlace = `${value.name}.${at}`
    const found =
      given?.[at] ??
      (Object.hasOwn(dimensions, byPlace) ? dimensions[byPlace] : undefined) ??
      (typeof dimension === 'string' && Object.hasOwn(dimensions, dimension)
        ? dimensions[dimension]
        : undefined)
    if (typeof dimension === 'number') {
      if (found !== undefined && found !== dimension)
        throw wrong(`dimension ${at} is ${dimension}, found ${found}`)
      return dimension
    }
    if (found === undefined)
      throw wrong(
        `dimension ${at} wants a size: dimensions: { ${JSON.stringify(dimension)}: 1 } gives it one`,
      )
    return found
  })
  const bytes = elementCount(shape) * elementBytes(value.dtype)
  if (!shape.every((size) => Number.isInteger(size) && size > 0) || !(bytes < 2 ** 31))
    throw wrong(`a tensor of [${shape}] cannot be: each dimension wants at least 1, and all less than 2 GiB`)
  return shape
}

/** Methods of the builder that make no operator. */
const plain = new Set(['constant', 'input', 'build'])

/** The builder, whose operators get a node's name as their label. */
function labelled(builder: MLGraphBuilder, label: string): MLGraphBuilder {
  const isOptions = (value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof MLOperand)
  return new Proxy(builder, {
    get(target, name: string) {
      const method = (target as unknown as Record<string, (...given: unknown[]) => unknown>)[name]!
      if (plain.has(name)) return method.bind(target)
      return (...given: unknown[]) => {
        const options = isOptions(given.at(-1)) ? (given.pop() as object) : {}
        return method.call(target, ...given, { ...options, label })
      }
    },
  })
}

const list = (found: ReturnType<Mappings[string]>): readonly (Value | undefined)[] =>
  Array.isArray(found) ? found : [found as Value]

class Build {
  readonly #model: Graph
  readonly #options: OnnxOptions
  readonly #builder: MLGraphBuilder
  readonly #values = new Map<string, Value>()
  /** For each value that is computed: those that it is computed from. */
  readonly #from = new Map<string, readonly string[]>()
  readonly #given = new Set<MLOperand>()
  #folding: MLContext | undefined
  #bytes = 0

  constructor(model: Graph, context: MLContext, options: OnnxOptions) {
    this.#model = model
    this.#options = options
    this.#builder = new MLGraphBuilder(context)
  }

  async run(): Promise<OnnxGraph> {
    const { inputs, constants, nodes, outputs } = this.#model
    // Without a prototype: a file's names may be any, such as __proto__.
    const given: Record<string, MLOperandDescriptor> = Object.create(null)
    for (const [name, constant] of constants) this.#values.set(name, constant)
    for (const value of inputs) {
      const descriptor = {
        dataType: value.dtype as MLOperandDataType,
        shape: inputShape(value, this.#options),
      }
      given[value.name] = descriptor
      const operand = this.#builder.input(value.name, descriptor)
      this.#given.add(operand)
      this.#values.set(value.name, operand)
    }
    this.#checkNames()
    try {
      for (const node of nodes) await this.#add(node)
    } finally {
      this.#folding?.destroy()
    }
    const operands: Record<string, MLOperand> = Object.create(null)
    for (const output of outputs) operands[output.name] = this.#output(output)
    const reached = this.#reached(outputs.map(({ name }) => name))
    const described = Object.fromEntries(
      Object.entries(operands).map(([name, { dataType, shape }]) => [name, { dataType, shape: [...shape] }]),
    )
    const graph = await this.#builder.build(operands)
    const used = Object.entries(given).filter(([name]) => reached.has(name))
    const unused = Object.keys(given).filter((name) => !reached.has(name))
    return { graph, inputs: Object.fromEntries(used), outputs: described, unused }
  }

  /** A dimension or an input that the model does not have is a mistake of whoever names it. */
  #checkNames(): void {
    const { inputs } = this.#model
    const known = new Set(
      inputs.flatMap(({ name, shape }) => (shape ?? []).flatMap((size, at) => [size, `${name}.${at}`])),
    )
    const dimension = Object.keys(this.#options.dimensions ?? {}).find((name) => !known.has(name))
    const input = Object.keys(this.#options.shapes ?? {}).find(
      (name) => !inputs.some((each) => each.name === name),
    )
    if (dimension === undefined && input === undefined) return
    const what = dimension === undefined ? `input "${input}"` : `dimension "${dimension}"`
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `the model has no ${what}`)
  }

  async #add(node: GraphNode): Promise<void> {
    const mapping = this.#mapping(node)
    const values = node.inputs.map((name) => (name === '' ? undefined : this.#values.get(name)!))
    const express = (builder: MLGraphBuilder) => {
      const opset = this.#model.opsets.get(node.domain) ?? 1
      const view = new Node(labelled(builder, node.name), node, values, opset)
      try {
        return { view, found: list(mapping(view)) }
      } catch (error) {
        // What the builder refuses: TypeError, and a RangeError of sizes that no array has.
        if (error instanceof TypeError || error instanceof RangeError)
          throw unsupportedNode(node, error.message, error)
        throw error
      }
    }
    const folded = await this.#fold(node, values, express)
    const { view, found } = folded ?? express(this.#builder)
    const from = Array.from(view.used, (index) => node.inputs[index]!)
    node.outputs.forEach((name, at) => {
      if (name === '') return
      const value = found[at]
      if (value === undefined) throw view.unsupported(`its output ${at}, "${name}", is not computed`)
      this.#count(view, value)
      this.#values.set(name, value)
      this.#from.set(name, from)
    })
  }

  /** What depends on constants alone is computed now, on the CPU; scales and quantised weights stay as they are, for whoever fuses them. */
  async #fold(
    node: GraphNode,
    values: readonly (Value | undefined)[],
    express: (builder: MLGraphBuilder) => { view: Node; found: readonly (Value | undefined)[] },
  ) {
    if (/quantize|QLinear|Integer/i.test(node.op)) return undefined
    const size = values.reduce((all, value) => all + (value ? elementCount(value.shape) : 0), 0)
    if (size > foldedElements || !values.every((value) => value === undefined || isConstant(value)))
      return undefined
    this.#folding ??= await ml.createContext({ accelerated: false })
    const builder = new MLGraphBuilder(this.#folding)
    const { view, found } = express(builder)
    const open = found
      .map((value, at) => ({ value, name: `y${at}` }))
      .filter(({ value }) => value && !isConstant(value))
    if (open.length === 0) return { view, found }
    if (open.some(({ value }) => elementCount(value!.shape) > foldedElements)) return undefined
    const context = this.#folding
    const graph = await builder.build(
      Object.fromEntries(open.map(({ name, value }) => [name, builder.identity(value as MLOperand)])),
    )
    const tensors = await Promise.all(
      open.map(async ({ name, value }) => {
        const { dataType, shape } = value as MLOperand
        return [name, await context.createTensor({ dataType, shape, readable: true })] as const
      }),
    )
    context.dispatch(graph, {}, Object.fromEntries(tensors))
    const read = new Map<string, Value>()
    for (const [name, held] of tensors) {
      const type = { dtype: typeOf(open.find((each) => each.name === name)!.value!), shape: [...held.shape] }
      read.set(name, { ...type, data: viewAs(type, await context.readTensor(held), 0) })
      held.destroy()
    }
    graph.destroy()
    return { view, found: found.map((value, at) => read.get(`y${at}`) ?? value) }
  }

  #mapping(node: GraphNode): Mappings[string] {
    const { opsets } = this.#model
    const key = node.domain === '' ? node.op : `${node.domain}:${node.op}`
    if (!Object.hasOwn(onnxOperators, key))
      throw unsupportedNode(node, `operator ${key} has no form in WebNN here`)
    if (!opsets.has(node.domain))
      throw accelError(
        'ERR_ACCEL_CORRUPT_MODEL',
        `node "${node.name}" (${node.op}) is of the operator set "${node.domain}", of which the model names no version`,
      )
    return onnxOperators[key]!
  }

  #count(node: Node, value: Value): void {
    this.#bytes += elementCount(value.shape) * elementBytes(typeOf(value))
    const most = this.#options.memoryBytes ?? defaultMemoryBytes
    if (this.#bytes > most)
      throw accelError(
        'ERR_ACCEL_NO_MEMORY',
        `${node.where}: the values up to here take ${this.#bytes} bytes, memoryBytes allows ${most}`,
      )
  }

  #output({ name, dtype, shape }: GraphValue): MLOperand {
    const value = this.#values.get(name)!
    const [type, found] = [typeOf(value), value.shape]
    const { dimensions = {} } = this.#options
    const fits =
      shape === undefined ||
      (shape.length === found.length &&
        shape.every((size, at) => {
          const wanted =
            typeof size === 'number' ? size : Object.hasOwn(dimensions, size) ? dimensions[size] : undefined
          return wanted === undefined || wanted === found[at]
        }))
    if (type !== dtype || !fits)
      throw accelError(
        'ERR_ACCEL_INVALID_SHAPE',
        `output "${name}" is declared as ${dtype} [${shape ?? ''}], and the graph computes ${type} [${found}]`,
      )
    if (elementCount(found) === 0)
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `output "${name}" has the shape [${found}]: WebNN has no empty tensors`,
      )
    // Outputs of WebNN are what operators compute.
    return isConstant(value) || this.#given.has(value)
      ? this.#builder.identity(operandOf(this.#builder, value), { label: name })
      : value
  }

  /** All that these values depend on. */
  #reached(names: readonly string[]): Set<string> {
    const reached = new Set<string>()
    const left = [...names]
    for (let name = left.pop(); name !== undefined; name = left.pop()) {
      if (reached.has(name)) continue
      reached.add(name)
      left.push(...(this.#from.get(name) ?? []))
    }
    return reached
  }
}

/**
 * Expresses an ONNX model through WebNN's builder, and builds it. `ERR_ACCEL_UNSUPPORTED_OPERATOR` names the node, its operator, and why;
 * `ERR_ACCEL_INVALID_SHAPE` an input whose shape is not known or cannot be, or an output that is not as the model declares it;
 * `ERR_ACCEL_CORRUPT_MODEL` what no model can have; `ERR_ACCEL_NO_MEMORY` more than `memoryBytes`.
 */
export async function buildOnnx(
  model: Graph,
  context: MLContext,
  options: OnnxOptions = {},
): Promise<OnnxGraph> {
  const version = model.opsets.get('') ?? oldestOpset
  if (version < oldestOpset)
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `the model is of operator set ${version}; from ${oldestOpset} on they are built: convert it to a newer one`,
    )
  return new Build(model, context, options).run()
}
