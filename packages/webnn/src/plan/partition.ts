import type { Accelerator } from '../accelerator.js'
import type { Graph, Operator, Value } from '../graph.js'
import type { Aliases } from './alias.js'

/** Operators that run as one: a group of the device, or one operator on the CPU. */
export interface Unit {
  readonly place: 'device' | 'cpu'
  /** Each but the first alone reads the result of the one before. */
  readonly operators: readonly Operator[]
}

/** What a unit reads and writes that others see, by roots. */
export interface Traffic {
  readonly reads: ReadonlySet<Value>
  readonly writes: ReadonlySet<Value>
}

/** Why an accelerator does not do an operator; `undefined` where it does. */
export function refusal({ operators, name: device }: Accelerator, operator: Operator): string | undefined {
  const { name, inputs, outputs } = operator
  const support = Object.hasOwn(operators, name) ? operators[name] : undefined
  if (support === undefined) return `${device} has no ${name}`
  const wrong = (as: string, { descriptor: { dataType } }: Value) => {
    const types = Object.hasOwn(support.types, as) ? support.types[as] : undefined
    return types === undefined || types.includes(dataType)
      ? undefined
      : `${as} is ${dataType}: ${device} takes ${types.join(', ')}`
  }
  for (const [as, value] of Object.entries(inputs)) {
    const reason = wrong(as.replace(/\[\d+\]$/, ''), value)
    if (reason !== undefined) return reason
  }
  for (const value of outputs) {
    const reason = wrong('output', value) ?? wrong('outputs', value)
    if (reason !== undefined) return reason
  }
  return support.refuses?.(operator)
}

/** Operators by place, in groups. */
export interface Partition {
  /** In an order in which they can run. */
  readonly units: readonly Unit[]
  /** Why operators are on the CPU. */
  readonly reasons: ReadonlyMap<Operator, string>
}

/** Says for each operator where it runs, and forms the groups of the device. */
export function partition(graph: Graph, { rootOf, free }: Aliases, accelerator?: Accelerator): Partition {
  const reasons = new Map<Operator, string>()
  const readers = new Map<Value, Operator[]>()
  for (const operator of graph.operators) {
    if (free.has(operator)) continue
    const reason =
      accelerator === undefined ? 'the context has no accelerator' : refusal(accelerator, operator)
    if (reason !== undefined) reasons.set(operator, reason)
    for (const root of new Set(Object.values(operator.inputs).map(rootOf))) {
      const list = readers.get(root)
      if (list === undefined) readers.set(root, [operator])
      else list.push(operator)
    }
  }
  const kept = new Set(Array.from(graph.outputs.values(), rootOf))
  /** What alone reads a value, and as it is: not with another shape. */
  const onlyReader = (value: Value): Operator | undefined => {
    const [next, ...others] = readers.get(value) ?? []
    if (next === undefined || others.length > 0 || kept.has(value)) return undefined
    return Object.values(next.inputs).some((input) => input !== value && rootOf(input) === value)
      ? undefined
      : next
  }
  const grouped = new Set<Operator>()
  const byLast = new Map<Operator, Unit>()
  for (const operator of graph.operators) {
    if (free.has(operator) || grouped.has(operator)) continue
    const operators = [operator]
    const place = reasons.has(operator) ? 'cpu' : 'device'
    for (let last = operator; place === 'device' && last.outputs.length === 1; ) {
      const next = onlyReader(last.outputs[0])
      if (next === undefined || grouped.has(next) || reasons.has(next)) break
      if (!accelerator?.follows?.(operators, next)) break
      operators.push(next)
      grouped.add(next)
      last = next
    }
    byLast.set(operators.at(-1)!, { place, operators })
  }
  // A group runs when the last of its operators may: its other operands are there then, and nobody has waited for those before.
  const units = graph.operators.flatMap((operator) => byLast.get(operator) ?? [])
  return { units, reasons }
}

/** What passes between units: what is inside of a group has no memory. */
export function trafficOf({ operators }: Unit, rootOf: Aliases['rootOf']): Traffic {
  const inside = new Set(operators.slice(0, -1).flatMap(({ outputs }) => outputs))
  const reads = new Set<Value>()
  for (const { inputs } of operators)
    for (const value of Object.values(inputs)) if (!inside.has(value)) reads.add(rootOf(value))
  return { reads, writes: new Set(operators.at(-1)!.outputs) }
}

/**
 * Orders units so that the place changes as seldom as it can: all that may run at one place runs there before the other's turn comes, which no order
 * betters once the first place is chosen; both are tried. Within a stretch the order is that of the graph.
 */
export function order(units: readonly Unit[], rootOf: Aliases['rootOf']): Unit[][] {
  const traffic = units.map((unit) => trafficOf(unit, rootOf))
  const writer = new Map<Value, number>()
  for (const [at, { writes }] of traffic.entries()) for (const value of writes) writer.set(value, at)
  const needs = traffic.map(({ reads }) =>
    Array.from(reads, (value) => writer.get(value)).filter((at) => at !== undefined),
  )
  const from = (place: Unit['place']): Unit[][] => {
    const stretches: Unit[][] = []
    const done = new Array<boolean>(units.length).fill(false)
    let left = units.map((_, at) => at)
    for (let turn = place; left.length > 0; turn = turn === 'cpu' ? 'device' : 'cpu') {
      const stretch: Unit[] = []
      left = left.filter((at) => {
        if (units[at].place !== turn || !needs[at].every((need) => done[need])) return true
        done[at] = true
        stretch.push(units[at])
        return false
      })
      if (stretch.length > 0) stretches.push(stretch)
    }
    return stretches
  }
  const doorbells = (stretches: Unit[][]) => stretches.filter(([{ place }]) => place === 'device').length
  const [a, b] = [from('device'), from('cpu')]
  return (doorbells(a) - doorbells(b) || a.length - b.length) <= 0 ? a : b
}
