import type { CompiledGraph, Operation, Value } from './operations.js'
import { sizeBytes } from './tensor.js'

/** What the planner has to know of a device. */
export interface Capabilities {
  /** As it is reported, such as `npu`. */
  readonly name: string
  /** Why the device cannot do this operation; undefined when it can. */
  refuses(operation: Operation): string | undefined
}

/** One operation and where it runs. */
export interface Step {
  readonly operation: Operation
  /** `cpu` or the accelerator's name. */
  readonly device: string
  /** Why it runs on the CPU; undefined on the accelerator. */
  readonly reason: string | undefined
}

/** Consecutive steps of one device: on an accelerator, what is submitted with one doorbell. */
export interface Batch {
  readonly device: string
  readonly steps: readonly Step[]
}

/** Where one run of a graph takes place: an arena for all tensors that change, with an offset for each. */
export interface Plan {
  readonly graph: CompiledGraph
  readonly batches: readonly Batch[]
  /** Size of the arena of one run, in bytes. Runs in flight at the same time have an arena each. */
  readonly arenaBytes: number
  /** Offset in the arena, in bytes, of every tensor but constants. Tensors that live at different times share memory. */
  readonly offsets: ReadonlyMap<Value, number>
  /** Constants that steps read as inputs (weights are part of their operation), by offset in a region of their own. */
  readonly constants: ReadonlyMap<Value, number>
  readonly constantBytes: number
}

/** Tensors start at multiples of this: a cache line, and enough for every element type and device. */
export const alignmentBytes = 64

function align(bytes: number): number {
  return Math.ceil(bytes / alignmentBytes) * alignmentBytes
}

/** Follows reshapes back: the value whose memory `value` shares. */
function storageOf(operations: readonly Operation[]): (value: Value) => Value {
  const sources = new Map<Value, Value>()
  for (const { kind, inputs, output } of operations) {
    if (kind === 'reshape') sources.set(output, sources.get(inputs[0]) ?? inputs[0])
  }
  return (value) => sources.get(value) ?? value
}

interface Lifetime {
  readonly value: Value
  readonly bytes: number
  readonly first: number
  last: number
  offset: number
}

/** Places by first fit: each tensor at the lowest offset that is free while it lives. Returns the size of the arena. */
function place(lifetimes: readonly Lifetime[]): number {
  let arenaBytes = 0
  const placed: Lifetime[] = []
  for (const lifetime of lifetimes) {
    const neighbours = placed
      .filter(({ first, last }) => first <= lifetime.last && lifetime.first <= last)
      .sort((a, b) => a.offset - b.offset)
    for (const { offset, bytes } of neighbours) {
      if (offset < lifetime.offset + lifetime.bytes && lifetime.offset < offset + bytes) {
        lifetime.offset = offset + bytes
      }
    }
    placed.push(lifetime)
    arenaBytes = Math.max(arenaBytes, lifetime.offset + lifetime.bytes)
  }
  return arenaBytes
}

/**
 * Decides for each operation of a graph where it runs and where its tensors lie. A reshape is no step: its output is
 * the same memory under another shape. Without an accelerator everything runs on the CPU.
 */
export function makePlan(graph: CompiledGraph, accelerator?: Capabilities): Plan {
  const storage = storageOf(graph.operations)
  const steps: Step[] = graph.operations
    .filter(({ kind }) => kind !== 'reshape')
    .map((operation) => {
      const reason = accelerator ? accelerator.refuses(operation) : 'no accelerator is given'
      return { operation, device: reason === undefined ? accelerator!.name : 'cpu', reason }
    })

  const lifetimes = new Map<Value, Lifetime>()
  const begin = (value: Value, first: number) =>
    lifetimes.set(value, { value, bytes: align(sizeBytes(value.type)), first, last: first, offset: 0 })
  const constants = new Map<Value, number>()
  let constantBytes = 0
  for (const input of graph.inputs) begin(input, -1)
  steps.forEach(({ operation }, index) => {
    for (const input of operation.inputs) {
      const value = storage(input)
      if (!value.constant) lifetimes.get(value)!.last = index
      else if (!constants.has(value)) {
        constants.set(value, constantBytes)
        constantBytes += align(sizeBytes(value.type))
      }
    }
    begin(operation.output, index)
  })
  for (const output of graph.outputs) {
    const lifetime = lifetimes.get(storage(output))
    if (lifetime) lifetime.last = steps.length
  }
  const arenaBytes = place([...lifetimes.values()])

  const offsets = new Map<Value, number>()
  for (const value of [...graph.inputs, ...graph.operations.map(({ output }) => output)]) {
    offsets.set(value, lifetimes.get(storage(value))!.offset)
  }
  const batches: { device: string; steps: Step[] }[] = []
  for (const step of steps) {
    const last = batches.at(-1)
    if (last?.device === step.device) last.steps.push(step)
    else batches.push({ device: step.device, steps: [step] })
  }
  return { graph, batches, arenaBytes, offsets, constants, constantBytes }
}
