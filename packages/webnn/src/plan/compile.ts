import type { Accelerator } from '../accelerator.js'
import { byteLength } from '../data-type.js'
import { fuse } from '../fuse/fuse.js'
import type { Graph, Operator, Value } from '../graph.js'
import { aliasesOf } from './alias.js'
import { ConstantPool } from './constants.js'
import { type Bound, Executor } from './executor.js'
import { type Layout, layOut } from './memory.js'
import { order, type Partition, partition, type Unit } from './partition.js'
import { type Lowered, type Piece, programOf, Taken } from './program.js'
import type { Report } from './report.js'
import { bindKernel, lower } from './units.js'

/**
 * Makes a graph ready: says what runs where, in which order, and in which memory; has the accelerator lower its groups and the kernels of the CPU bound
 * to theirs. Without an accelerator all is the CPU's.
 */
export function compile(written: Graph, accelerator?: Accelerator): Executor {
  const graph = fuse(written)
  const aliases = aliasesOf(graph)
  const { rootOf } = aliases
  const parts = partition(graph, aliases, accelerator)
  const stretches = order(parts.units, rootOf)
  const units = stretches.flat()
  const layout = layOut(graph, units, aliases)
  const pool = new ConstantPool()
  const lowered = new Map<Unit, Lowered>()
  for (const [step, unit] of units.entries())
    if (unit.place === 'device') lowered.set(unit, lower(unit, step, accelerator!, rootOf, layout, pool))

  const taken = new Taken()
  try {
    const allocate = (sizeBytes: number) =>
      accelerator !== undefined && sizeBytes > 0 ? taken.take(accelerator.allocate(sizeBytes)) : undefined
    const [arena, constants] = [allocate(layout.arena.sizeBytes), allocate(pool.sizeBytes)]
    if (constants !== undefined) pool.fill(constants.bytes)
    const arenaBytes = arena?.bytes ?? new Uint8Array(layout.arena.sizeBytes)

    const bound: Bound = []
    const steps = new Map(units.map((unit, step) => [unit, step]))
    const indices = new Map(graph.operators.map((operator, at) => [operator, at]))
    const pieceOf = (unit: Unit): Piece => ({
      operators: unit.operators.map((operator) => indices.get(operator)!),
      ...(lowered.get(unit) ?? {
        work: bindKernel(unit, steps.get(unit)!, rootOf, layout, arenaBytes, bound),
      }),
    })
    const program = programOf({
      accelerator,
      report: reportOf(graph, accelerator, parts, stretches, lowered, layout, indices, pool.sizeBytes),
      pieces: stretches.map((stretch) => stretch.map(pieceOf)),
      memories: [arena, constants],
      echoes: layout.echoes,
      tensorCount: graph.inputs.size + graph.outputs.size,
      taken,
    })
    return new Executor(program, bound)
  } catch (error) {
    taken.free()
    throw error
  }
}

function reportOf(
  graph: Graph,
  accelerator: Accelerator | undefined,
  { reasons }: Partition,
  stretches: readonly (readonly Unit[])[],
  lowered: ReadonlyMap<Unit, Lowered>,
  layout: Layout,
  indices: ReadonlyMap<Operator, number>,
  constantBytes: number,
): Report {
  const groups = new Map<Operator, number>()
  /** What passes from an operator of a group to the next of it. */
  const inside = new Set<Value>()
  const commandsOf = (unit: Unit) => lowered.get(unit)!.commands.length
  for (const [group, { operators }] of stretches
    .flat()
    .filter(({ place }) => place === 'device')
    .entries())
    for (const [at, operator] of operators.entries()) {
      groups.set(operator, group)
      if (at < operators.length - 1) for (const value of operator.outputs) inside.add(value)
    }
  /** An operand that is read twice is moved twice. */
  const movedBytes = ({ inputs, outputs }: Operator, group: number | undefined): number => {
    const within = ({ source }: Value) =>
      source.kind === 'operator' && group !== undefined && groups.get(source.operator) === group
    const last = group === undefined || !inside.has(outputs[0])
    return [...Object.values(inputs).filter((value) => !within(value)), ...(last ? outputs : [])].reduce(
      (sum, { descriptor }) => sum + byteLength(descriptor),
      0,
    )
  }
  const onDevice = stretches.filter(([{ place }]) => place === 'device')
  return {
    ...(accelerator === undefined ? {} : { device: accelerator.name }),
    operators: graph.operators.map((operator) => {
      const { name, label, outputs } = operator
      const [group, reason] = [groups.get(operator), reasons.get(operator)]
      const place = group !== undefined ? 'device' : reason !== undefined ? 'cpu' : 'free'
      return {
        name,
        label,
        place,
        ...(reason === undefined ? {} : { reason }),
        ...(group === undefined ? {} : { group }),
        outputs: outputs.map(({ descriptor: { dataType, shape } }) => ({ dataType, shape: [...shape] })),
        movedBytes: place === 'free' ? 0 : movedBytes(operator, group),
      }
    }),
    stretches: stretches.map((stretch) => {
      const { place } = stretch[0]
      const operators = stretch.flatMap(({ operators }) =>
        operators.map((operator) => indices.get(operator)!),
      )
      return place === 'cpu'
        ? { place, operators }
        : { place, operators, commands: stretch.reduce((sum, unit) => sum + commandsOf(unit), 0) }
    }),
    doorbells: onDevice.length,
    commands: onDevice.flat().reduce((sum, unit) => sum + commandsOf(unit), 0),
    copiedBytes: layout.copiedBytes,
    sharedBytes: layout.sharedBytes,
    arenaBytes: layout.arena.sizeBytes,
    peakBytes: layout.peakBytes,
    constantBytes,
  }
}
