// A network of float32 as one of bytes: QuantizeLinear and DequantizeLinear around each operator (QDQ), which is how exporters write int8 networks.
import { type Graph, type GraphNode, type Tensor, tensor } from '@uaccel/inference'
import type { Layer, Layers } from './layer.js'

/** The least and the greatest element of a tensor. */
export type Range = readonly [least: number, greatest: number]

export const rangeOf = (data: Tensor['data']): Range => {
  let [least, greatest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (let at = 0; at < data.length; at++) {
    least = Math.min(least, Number(data[at]))
    greatest = Math.max(greatest, Number(data[at]))
  }
  return [least, greatest]
}

interface Scale {
  readonly scale: number
  readonly zeroPoint: number
}

/** Weights have 7 bits: on processors without VNNI onnxruntime's kernels of u8 x s8 add pairs of products in 16 bits, which 8 would overflow. */
const weightLimit = 63

/** The whole range of uint8, with 0 as one of its values. */
function scaleOf([least, greatest]: Range): Scale {
  const [low, high] = [Math.min(0, least), Math.max(0, greatest)]
  const scale = Math.fround((high - low) / 255 || 1)
  return { scale, zeroPoint: Math.round(-low / scale) }
}

/** Operators that only move elements: what comes out has the scale of what went in. */
const moves = new Set(['Flatten'])

/** Operators that stay in float32. */
const kept = new Set(['Softmax'])

class Quantiser {
  readonly constants = new Map<string, Tensor>()
  readonly nodes: GraphNode[] = []
  readonly layers: Layer[] = []
  readonly #scales = new Map<string, Scale>()
  readonly #graph: Graph
  readonly #ranges: ReadonlyMap<string, Range>

  constructor(graph: Graph, ranges: ReadonlyMap<string, Range>) {
    this.#graph = graph
    this.#ranges = ranges
  }

  run(): Layers {
    for (const { name } of this.#graph.inputs) {
      const quantise = this.#quantised(name, scaleOf(this.#ranges.get(name)!))
      this.layers.push({
        name,
        operators: 'QuantizeLinear',
        nodes: [quantise],
        output: `${name}.u8`,
        dtype: 'uint8',
      })
    }
    let open: GraphNode[] = []
    for (const node of this.#graph.nodes) {
      open.push(this.#rewritten(node, open.length > 0))
      const [output] = node.outputs as [string]
      // ReLU6 is part of what it follows: there is nothing between them.
      const readers = this.#graph.nodes.filter(({ inputs }) => inputs.includes(output))
      if (readers.length === 1 && readers[0]!.op === 'Clip') continue
      this.nodes.push(...open)
      const names = open.map(({ name }) => name)
      const operators = open.map(({ op }) => op).join(', ')
      open = []
      if (kept.has(node.op)) {
        this.layers.push({ name: node.name, operators, nodes: names, output, dtype: 'float32' })
        continue
      }
      const scale = moves.has(node.op)
        ? this.#scales.get(node.inputs[0]!)!
        : scaleOf(this.#ranges.get(output)!)
      const quantise = this.#quantised(output, scale)
      this.layers.push({
        name: node.name,
        operators,
        nodes: [...names, quantise],
        output: `${output}.u8`,
        dtype: 'uint8',
      })
    }
    const { name, opsets, inputs, outputs } = this.#graph
    return {
      graph: { name: `${name}, int8`, opsets, inputs, outputs, constants: this.constants, nodes: this.nodes },
      layers: this.layers,
    }
  }

  #node(name: string, op: string, inputs: readonly string[], output: string, axis?: number): string {
    const attributes = new Map(axis === undefined ? [] : [['axis', axis]])
    this.nodes.push({ name, op, domain: '', inputs, outputs: [output], attributes })
    return name
  }

  #constant(name: string, value: Tensor): string {
    this.constants.set(name, value)
    return name
  }

  /** Brings a tensor to bytes; answers the name of the node. */
  #quantised(name: string, { scale, zeroPoint }: Scale): string {
    this.#scales.set(name, { scale, zeroPoint })
    const by = [
      this.#constant(`${name}.scale`, tensor('float32', [], Float32Array.of(scale))),
      this.#constant(`${name}.zero`, tensor('uint8', [], Uint8Array.of(zeroPoint))),
    ]
    return this.#node(`${name}.quantise`, 'QuantizeLinear', [name, ...by], `${name}.u8`)
  }

  /** What a node reads instead of a tensor: its bytes, as float32 again. Each reader has a node of its own, as fusion wants it. */
  #dequantised(name: string, reader: string): string {
    const output = `${name}.for.${reader}`
    this.#node(output, 'DequantizeLinear', [`${name}.u8`, `${name}.scale`, `${name}.zero`], output)
    return output
  }

  /** A node whose inputs are dequantised bytes. One that is inside of a layer reads what is before it as it is. */
  #rewritten(node: GraphNode, inside: boolean): GraphNode {
    const weighted = node.op === 'Conv' || node.op === 'Gemm'
    const inputs = node.inputs.map((name, at) => {
      const constant = this.#graph.constants.get(name)
      if (constant === undefined) return inside && at === 0 ? name : this.#dequantised(name, node.name)
      if (!weighted) return this.#constant(name, constant)
      return at === 1 ? this.#weights(name, constant) : this.#bias(name, constant, node)
    })
    return { ...node, inputs }
  }

  /** Symmetric weights with a scale for each filter, which is dimension 0. */
  #weights(name: string, { shape, data }: Tensor): string {
    const filters = shape[0]!
    const each = data.length / filters
    const scales = Float32Array.from({ length: filters }, (_, filter) => {
      const elements = (data as Float32Array).subarray(filter * each, (filter + 1) * each)
      return elements.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / weightLimit || 1
    })
    const bytes = Int8Array.from(data as Float32Array, (value, at) =>
      Math.round(value / scales[Math.floor(at / each)]!),
    )
    return this.#split(name, tensor('int8', shape, bytes), scales)
  }

  /** A bias in units of the sums that it is added to: the scale of the input times that of the filter. */
  #bias(name: string, { data }: Tensor, node: GraphNode): string {
    const { scale } = this.#scales.get(node.inputs[0]!)!
    const filters = this.constants.get(`${node.inputs[1]}.scale`)!.data as Float32Array
    const scales = filters.map((filter) => filter * scale)
    const sums = Int32Array.from(data as Float32Array, (value, at) => Math.round(value / scales[at]!))
    return this.#split(name, tensor('int32', [sums.length], sums), scales)
  }

  /** Integers with a scale for each index of dimension 0, and the node that makes float32 of them. */
  #split(name: string, value: Tensor, scales: Float32Array): string {
    const zeros = value.dtype === 'int8' ? new Int8Array(scales.length) : new Int32Array(scales.length)
    const inputs = [
      this.#constant(`${name}.int`, value),
      this.#constant(`${name}.scale`, tensor('float32', [scales.length], scales)),
      this.#constant(`${name}.zero`, tensor(value.dtype, [scales.length], zeros as Int32Array)),
    ]
    this.#node(`${name}.dequantise`, 'DequantizeLinear', inputs, name, 0)
    return name
  }
}

/** The network with bytes between its layers; `ranges` are those of its tensors in float32. The sums of convolutions are of 32 bits. */
export const quantise = (graph: Graph, ranges: ReadonlyMap<string, Range>): Layers =>
  new Quantiser(graph, ranges).run()
