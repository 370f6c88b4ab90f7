import { accelError } from '@uaccel/uapi'
import type { DataType, Tensor } from './tensor.js'

/** Of an attribute: FLOAT, INT, STRING, FLOATS, INTS, STRINGS or TENSOR. */
export type AttributeValue = number | string | readonly number[] | readonly string[] | Tensor

/** One operator of a graph as the file states it. */
export interface GraphNode {
  /** Its own name, or `Op#index` where it has none. */
  readonly name: string
  readonly op: string
  /** '' is ONNX's own operator set. */
  readonly domain: string
  /** Names of tensors; '' for an optional input that is left out. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes: ReadonlyMap<string, AttributeValue>
}

/** An input or output; a dimension is a number, or a name that is bound when the graph is compiled. */
export interface GraphValue {
  readonly name: string
  readonly dtype: DataType
  /** Absent where the file does not say. */
  readonly shape: readonly (number | string)[] | undefined
}

/** A graph as loaded: named tensors, initialisers, nodes in the order of the file. */
export interface Graph {
  readonly name: string
  /** Version of the operator set by domain. */
  readonly opsets: ReadonlyMap<string, number>
  /** What whoever made the file wrote beside the graph, where there is anything. */
  readonly metadata?: ReadonlyMap<string, string>
  /** What the caller gives: inputs that are not initialisers. */
  readonly inputs: readonly GraphValue[]
  readonly outputs: readonly GraphValue[]
  readonly constants: ReadonlyMap<string, Tensor>
  readonly nodes: readonly GraphNode[]
}

/**
 * The nodes in an order in which every tensor is computed before it is used.
 * ERR_ACCEL_CORRUPT_MODEL for a tensor that nothing computes, that two nodes compute, or a cycle (its nodes are named).
 */
export function topologicalOrder(graph: Graph): GraphNode[] {
  const given = new Set(graph.constants.keys())
  for (const [kind, values] of [
    ['input', graph.inputs],
    ['output', graph.outputs],
  ] as const) {
    const names = new Set<string>()
    for (const { name } of values) {
      if (names.has(name)) {
        throw accelError('ERR_ACCEL_CORRUPT_MODEL', `${kind} "${name}" of the graph is there twice`)
      }
      names.add(name)
      if (kind === 'input') given.add(name)
    }
  }
  const producers = new Map<string, GraphNode>()
  for (const node of graph.nodes) {
    for (const output of node.outputs) {
      if (output === '') continue
      if (given.has(output) || producers.has(output)) {
        throw accelError(
          'ERR_ACCEL_CORRUPT_MODEL',
          `tensor "${output}" is defined twice, the second time by node "${node.name}" (${node.op})`,
        )
      }
      producers.set(output, node)
    }
  }
  const waitingFor = new Map<GraphNode, number>()
  const consumers = new Map<GraphNode, GraphNode[]>()
  for (const node of graph.nodes) {
    const before = new Set<GraphNode>()
    for (const input of node.inputs) {
      if (input === '' || given.has(input)) continue
      const producer = producers.get(input)
      if (!producer) {
        throw accelError(
          'ERR_ACCEL_CORRUPT_MODEL',
          `node "${node.name}" (${node.op}) wants tensor "${input}", which no node, input or initialiser provides`,
        )
      }
      before.add(producer)
    }
    waitingFor.set(node, before.size)
    for (const producer of before) {
      const known = consumers.get(producer)
      if (known) known.push(node)
      else consumers.set(producer, [node])
    }
  }
  const order = graph.nodes.filter((node) => waitingFor.get(node) === 0)
  for (let i = 0; i < order.length; i++) {
    for (const consumer of consumers.get(order[i]) ?? []) {
      const left = waitingFor.get(consumer)! - 1
      waitingFor.set(consumer, left)
      if (left === 0) order.push(consumer)
    }
  }
  if (order.length < graph.nodes.length) {
    const stuck = graph.nodes.filter((node) => waitingFor.get(node)! > 0).map((node) => `"${node.name}"`)
    throw accelError(
      'ERR_ACCEL_CORRUPT_MODEL',
      `these nodes wait for each other in a cycle: ${stuck.join(', ')}`,
    )
  }
  for (const { name } of graph.outputs) {
    if (!given.has(name) && !producers.has(name)) {
      throw accelError('ERR_ACCEL_CORRUPT_MODEL', `output "${name}" of the graph is computed by no node`)
    }
  }
  return order
}
