import { type Graph, type Operator, reach, type Value } from '../graph.js'
import { moveBytes, poolBytes } from './moves.js'
import { known, Rewriter } from './rewriter.js'
import { asIntegers } from './sums.js'
import { asTable } from './table.js'

/** What does the same as an operator, or as it and those before it that it alone reads; `undefined` where that stays as it is. */
type Rule = (rewriter: Rewriter, operator: Operator) => readonly Value[] | undefined

const single =
  (...rules: readonly ((rewriter: Rewriter, operator: Operator) => Value | undefined)[]): Rule =>
  (rewriter, operator) => {
    for (const rule of rules) {
      const made = rule(rewriter, operator)
      if (made) return [made]
    }
    return undefined
  }

const byteTypes: readonly string[] = ['uint8', 'int8']
const isOfBytes = ({ inputs: { input } }: Operator) => byteTypes.includes(input.descriptor.dataType)

/** By the operator that a pattern ends with; all others are moved below a dequantizeLinear where they can be. */
const rules: Readonly<Record<string, Rule>> = {
  quantizeLinear: single(asTable, asIntegers),
  relu: (rewriter, operator) => (isOfBytes(operator) ? single(asTable)(rewriter, operator) : undefined),
  clamp: (rewriter, operator) => (isOfBytes(operator) ? single(asTable)(rewriter, operator) : undefined),
  maxPool2d: (rewriter, operator) => {
    if (!isOfBytes(operator)) return moveBytes(rewriter, operator)
    return single(() => poolBytes(rewriter, operator, operator.inputs.input))(rewriter, operator)
  },
}

/**
 * A graph that computes the same with integers where the graph computes with numbers that were dequantised and are quantised again: patterns of
 * dequantizeLinear, an operator and quantizeLinear become one of `operators.ts`. Results are those of onnxruntime's quantised operators, which
 * round once where the graph as it is written rounds several times. Inputs and outputs keep their names and descriptors.
 */
export function fuse(graph: Graph): Graph {
  const rewriter = new Rewriter(graph)
  const wanted = new Set(graph.outputs.values())
  let changed = false
  for (const operator of graph.operators) {
    const renewed = rewriter.renew(operator)
    const made = (rules[operator.name] ?? moveBytes)(rewriter, renewed)
    changed ||= made !== undefined
    const { name, inputs, attributes, outputs } = renewed
    // Scales and zero points are often written as one number that is expanded. An output stays the result of an operator.
    const constants =
      made || operator.outputs.some((output) => wanted.has(output))
        ? undefined
        : known(
            name,
            inputs,
            attributes,
            outputs.map(({ descriptor }) => descriptor),
          )
    const values = made ?? constants ?? renewed.outputs
    operator.outputs.forEach((old, at) => {
      rewriter.replace(old, values[at])
    })
  }
  if (!changed) return graph
  const outputs = new Map(Array.from(graph.outputs, ([name, value]) => [name, rewriter.now(value)]))
  return { ...reach(outputs), inputs: graph.inputs }
}
