import type { DataType, Graph, Tensor } from '@uaccel/inference'
import { elementwise } from './elementwise.js'
import { layout } from './layout.js'
import { count, type Live, Maker, tensorOf } from './maker.js'
import { images, matrices } from './matrix.js'
import { normalisations } from './normalisations.js'
import { reductionsAndScans } from './reductions.js'

const steps = [
  ...elementwise,
  ...layout,
  ...reductionsAndScans,
  ...normalisations,
  // What models are made of comes up more often.
  ...[...matrices, ...images].flatMap((step) => [step, step, step]),
]

/** Those of ONNX that onnxruntime-node 1.30 has. */
const opsets = { first: 13, last: 26 }

/** A graph, tensors for its inputs, and how far each output may be from onnxruntime's. */
export interface Random {
  readonly graph: Graph
  readonly feeds: Readonly<Record<string, Tensor>>
  readonly errors: ReadonlyMap<string, number>
}

/** Numbers for an input: floats, or integers. */
function feed(m: Maker, { type, shape, bound }: Live): Tensor {
  const number = type === 'float32' ? () => (2 * m.random() - 1) * bound : () => m.int(-bound, bound)
  return tensorOf(type as DataType, shape, Array.from({ length: count(shape) }, number))
}

/** The graph of what was made: each value that nothing reads is an output, and some more; those of bool as bytes. */
export function graphOf(m: Maker, name: string, more: ReadonlySet<string> = new Set()): Random {
  const isRead = new Set(m.nodes.flatMap(({ inputs }) => inputs))
  const ends = m.computed.filter((value) => !isRead.has(value.name) || more.has(value.name))
  const outputs = ends.map((value) =>
    value.type === 'bool' ? m.hidden('Cast', [value], { ...value, type: 'uint8' }, { to: 2 }) : value,
  )
  const used = new Set(m.nodes.flatMap(({ inputs }) => inputs))
  const described = ({ name, type, shape }: Live) => ({ name, dtype: type as DataType, shape })
  const graph: Graph = {
    name,
    opsets: new Map([
      ['', m.opset],
      ['com.microsoft', 1],
    ]),
    inputs: m.inputs.filter(({ name }) => used.has(name)).map(described),
    outputs: outputs.map(described),
    constants: new Map([...m.constants].filter(([name]) => used.has(name))),
    nodes: m.nodes,
  }
  return {
    graph,
    feeds: Object.fromEntries(
      m.inputs.filter(({ name }) => used.has(name)).map((each) => [each.name, feed(m, each)]),
    ),
    errors: new Map(outputs.map(({ name, error }) => [name, error])),
  }
}

/** An ONNX graph of so many nodes, some more where a step makes several, of operators that are supported. */
export function randomGraph(seed: number, length: number): Random {
  const opset = opsets.first + ((Math.imul(seed, 0x9e3779b1) >>> 0) % (opsets.last - opsets.first + 1))
  const m = new Maker(seed, opset)
  const sizes = (rank: number, most: number) => Array.from({ length: rank }, () => m.int(1, most))
  m.input('float32', [m.int(1, 2), m.int(1, 4), m.int(2, 7), m.int(2, 7)], 4)
  m.input('float32', sizes(m.pick([0, 1, 2, 3, 5]), 4), 4)
  m.input('float32', sizes(m.int(2, 3), 6), 4)
  m.input(m.pick(['int32', 'int64']), sizes(m.int(0, 3), 4), 9)
  for (let tries = 0; m.nodes.length < length && tries < 40 * length; tries++) m.attempt(m.pick(steps))
  return graphOf(m, `seed ${seed}`)
}
