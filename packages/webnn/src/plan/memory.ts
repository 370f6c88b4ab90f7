import { byteLength } from '../data-type.js'
import type { Graph, Value } from '../graph.js'
import type { Aliases } from './alias.js'
import { type Arena, type Lifetime, pack, peakBytes } from './arena.js'
import { trafficOf, type Unit } from './partition.js'

/** A list's memories: the arena, the constants, then the graph's inputs and outputs. */
export const ARENA = 0
export const CONSTANTS = 1
export const FIRST_TENSOR = 2

export const isConstant = ({ source }: Value): boolean =>
  source.kind === 'constant' || source.kind === 'tensor'

/** A copy between a tensor and its slot in the arena. */
interface Copy {
  /** Which input or output: inputs count from 0, then outputs. */
  readonly tensor: number
  readonly value: Value
}

/** Where values are, and what is copied before and behind each unit. */
export interface Layout {
  /** Offsets in the arena: of what is neither constant nor a tensor, and of tensors that the CPU is at. */
  readonly slots: ReadonlyMap<Value, number>
  /** Which tensor a value is. */
  readonly tensors: ReadonlyMap<Value, number>
  /** From tensors to slots, by unit. */
  readonly loads: ReadonlyMap<number, readonly Copy[]>
  /** From slots to tensors, by unit. */
  readonly stores: ReadonlyMap<number, readonly Copy[]>
  /** Outputs that are another output, too. */
  readonly echoes: readonly { readonly from: number; readonly to: number; readonly sizeBytes: number }[]
  readonly arena: Arena
  readonly peakBytes: number
  /** What one place computes and the other reads. */
  readonly sharedBytes: number
  readonly copiedBytes: number
}

const push = <K, V>(map: Map<K, V[]>, key: K, value: V) => {
  const list = map.get(key)
  if (list === undefined) map.set(key, [value])
  else list.push(value)
}

/**
 * Lays out the values of units that run in this order. The device is at the tensors of a dispatch themselves. Kernels of the CPU are bound to their
 * memory once: a tensor that one of them is at has a slot in the arena, into which it is copied before the first of them reads it, or from which it is
 * copied as soon as one has written it.
 */
export function layOut(graph: Graph, units: readonly Unit[], { rootOf }: Aliases): Layout {
  const tensors = new Map<Value, number>()
  const echoes: { from: number; to: number; sizeBytes: number }[] = []
  for (const value of graph.inputs.values()) tensors.set(value, tensors.size)
  for (const [at, value] of [...graph.outputs.values()].entries()) {
    const [root, to] = [rootOf(value), graph.inputs.size + at]
    const from = tensors.get(root)
    if (from === undefined) tensors.set(root, to)
    else echoes.push({ from, to, sizeBytes: byteLength(value.descriptor) })
  }

  const [writers, readers] = [new Map<Value, number>(), new Map<Value, number[]>()]
  for (const [at, unit] of units.entries()) {
    const { reads, writes } = trafficOf(unit, rootOf)
    for (const value of writes) writers.set(value, at)
    for (const value of reads) if (!isConstant(value)) push(readers, value, at)
  }

  const [loads, stores] = [new Map<number, Copy[]>(), new Map<number, Copy[]>()]
  const values: Value[] = []
  const lifetimes: Lifetime[] = []
  let [sharedBytes, copiedBytes] = [0, echoes.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)]
  for (const value of new Set([...tensors.keys(), ...writers.keys()])) {
    const sizeBytes = byteLength(value.descriptor)
    const [writer, reading] = [writers.get(value), readers.get(value) ?? []]
    const tensor = tensors.get(value)
    if (writer !== undefined && reading.some((at) => units[at].place !== units[writer].place))
      sharedBytes += sizeBytes
    let steps = writer === undefined ? reading : [writer, ...reading]
    if (tensor !== undefined) {
      steps = steps.filter((at) => units[at].place === 'cpu')
      if (steps.length === 0) continue
      push(steps[0] === writer ? stores : loads, steps[0], { tensor, value })
      copiedBytes += sizeBytes
    }
    values.push(value)
    lifetimes.push({ sizeBytes, first: steps[0], last: steps.at(-1)! })
  }
  const { arena, offsets } = pack(lifetimes)
  return {
    slots: new Map(values.map((value, at) => [value, offsets[at]])),
    tensors,
    loads,
    stores,
    echoes,
    arena,
    peakBytes: peakBytes(lifetimes),
    sharedBytes,
    copiedBytes,
  }
}
