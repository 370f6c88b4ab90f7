import type { Graph, GraphNode, GraphValue } from '@uaccel/inference'

/** What is compared on its own: nodes, of which the last computes the output. */
export interface Layer {
  readonly name: string
  /** ONNX's operators, such as `Conv, Clip`. */
  readonly operators: string
  readonly nodes: readonly string[]
  /** The tensor that is compared, and its type. */
  readonly output: string
  readonly dtype: 'float32' | 'uint8'
}

/** A network, and what of it is compared. */
export interface Layers {
  readonly graph: Graph
  readonly layers: readonly Layer[]
}

const layerOf = ({ name, op, outputs }: GraphNode): Layer => ({
  ...{ name, operators: op, nodes: [name], output: outputs[0]!, dtype: 'float32' },
})

/** Each node as a layer of its own. */
export const layersOf = (graph: Graph): Layers => ({ graph, layers: graph.nodes.map(layerOf) })

/** The network with the output of each layer as one of its own. */
export const withOutputs = ({ graph, layers }: Layers): Graph => ({
  ...graph,
  outputs: layers.map(({ output, dtype }) => ({ name: output, dtype, shape: undefined })),
})

/** What a tensor is called that a layer computes of what it is given. */
export const own = (output: string): string => `${output}.own`

/**
 * The network taken apart: each layer reads inputs of the graph, which have the names and shapes of what it read before, and computes `own` outputs. What
 * differs in one layer changes no other.
 */
export function apart({ graph, layers }: Layers, shapes: ReadonlyMap<string, readonly number[]>): Graph {
  const cut = new Set(layers.map(({ output }) => output))
  return {
    ...graph,
    inputs: [
      ...graph.inputs,
      ...layers.map(({ output, dtype }): GraphValue => ({ name: output, dtype, shape: shapes.get(output)! })),
    ],
    outputs: layers.map(({ output, dtype }) => ({ name: own(output), dtype, shape: undefined })),
    nodes: graph.nodes.map((node) => ({
      ...node,
      outputs: node.outputs.map((name) => (cut.has(name) ? own(name) : name)),
    })),
  }
}
