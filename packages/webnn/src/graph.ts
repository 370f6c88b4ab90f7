import type { MLOperandDescriptor } from './data-type.js'
import type { MLTensor } from './tensor.js'

/** Where a value comes from. */
export type Source =
  | { readonly kind: 'input'; readonly name: string }
  | { readonly kind: 'constant'; readonly bytes: Uint8Array }
  | { readonly kind: 'tensor'; readonly tensor: MLTensor }
  | { readonly kind: 'operator'; readonly operator: Operator; readonly output: number }

/** A value of a graph: what an `MLOperand` stands for. */
export interface Value {
  readonly descriptor: MLOperandDescriptor
  readonly source: Source
}

/** A node of a graph. */
export interface Operator {
  readonly name: string
  readonly label: string
  /** By the names of the specification; those of a list are `inputs[0]`, ... Those left out are absent. */
  readonly inputs: Readonly<Record<string, Value>>
  /** Arguments and options that are no operands, with their defaults. */
  readonly attributes: Readonly<Record<string, unknown>>
  readonly outputs: Value[]
}

/** A graph that was built: what is there to be run. */
export interface Graph {
  readonly inputs: ReadonlyMap<string, Value>
  readonly outputs: ReadonlyMap<string, Value>
  /** In an order in which each can be run. */
  readonly operators: readonly Operator[]
}

/** The part of a graph that its outputs need, in order. Deep graphs need no deep stack. */
export function reach(outputs: ReadonlyMap<string, Value>): Graph {
  const inputs = new Map<string, Value>()
  const operators: Operator[] = []
  const done = new Set<Operator>()
  const stack: { readonly operator: Operator; readonly left: Value[] }[] = []
  const visit = ({ source }: Value, value: Value): void => {
    if (source.kind === 'input') inputs.set(source.name, value)
    if (source.kind !== 'operator' || done.has(source.operator)) return
    done.add(source.operator)
    stack.push({ operator: source.operator, left: Object.values(source.operator.inputs) })
  }
  for (const output of outputs.values()) {
    visit(output, output)
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const next = top.left.shift()
      if (next !== undefined) visit(next, next)
      else operators.push(stack.pop()!.operator)
    }
  }
  return { inputs, outputs, operators }
}
