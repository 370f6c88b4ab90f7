import { elementCount } from '../data-type.js'
import type { Graph, Operator, Value } from '../graph.js'

const sameCount = ({ inputs, outputs }: Operator): boolean =>
  elementCount(Object.values(inputs)[0].descriptor.shape) === elementCount(outputs[0].descriptor.shape)

const always = () => true

/** Operators whose output may be their first operand as it is in memory, and when. */
const keeps: Readonly<Record<string, (operator: Operator) => boolean>> = {
  identity: always,
  reshape: always,
  cast: ({ inputs, outputs }) => inputs.input.descriptor.dataType === outputs[0].descriptor.dataType,
  // With as many elements as before nothing was cut off, repeated or put beside.
  concat: sameCount,
  expand: sameCount,
  pad: sameCount,
  slice: sameCount,
  split: sameCount,
  tile: sameCount,
  reverse: ({ inputs, attributes }) =>
    (attributes.axes as number[]).every((axis) => inputs.input.descriptor.shape[axis] === 1),
  // Dimensions of 1 may go anywhere.
  transpose({ inputs, attributes }) {
    const moved = (attributes.permutation as number[]).filter(
      (axis) => inputs.input.descriptor.shape[axis] !== 1,
    )
    return moved.every((axis, at) => at === 0 || axis > moved[at - 1])
  },
}

/** Which values are one in memory. */
export interface Aliases {
  /** The value whose memory it is. */
  rootOf(value: Value): Value
  /** Operators that need not be run. */
  readonly free: ReadonlySet<Operator>
}

/**
 * Finds the operators whose result is their operand seen with another shape. Only a graph output can ask for a copy: it is memory of its own, of
 * whoever dispatches, and one value fills one of them. A value that is computed is computed right there; an input, a constant, or what is another output
 * already, is copied by the operator.
 */
export function aliasesOf(graph: Graph): Aliases {
  const roots = new Map<Value, Value>()
  const free = new Set<Operator>()
  const outputs = new Set(graph.outputs.values())
  const filled = new Set<Value>(outputs)
  const rootOf = (value: Value) => roots.get(value) ?? value
  for (const operator of graph.operators) {
    if (!Object.hasOwn(keeps, operator.name) || !keeps[operator.name](operator)) continue
    const root = rootOf(Object.values(operator.inputs)[0])
    const [output] = operator.outputs
    if (outputs.has(output)) {
      if (root.source.kind !== 'operator' || filled.has(root)) continue
      filled.add(root)
    }
    roots.set(output, root)
    free.add(operator)
  }
  return { rootOf, free }
}
