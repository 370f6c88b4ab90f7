import type { Accelerator, Place, Placement } from '../accelerator.js'
import { withHalves } from '../cpu/halves.js'
import { kernels, operandOver } from '../cpu/kernels.js'
import { arrayOf, byteLength } from '../data-type.js'
import type { Value } from '../graph.js'
import { tensorState } from '../tensor.js'
import type { ConstantPool } from './constants.js'
import type { Bound } from './executor.js'
import { ARENA, CONSTANTS, FIRST_TENSOR, isConstant, type Layout } from './memory.js'
import type { Unit } from './partition.js'
import type { Lowered } from './program.js'

/** The bytes of a constant; of a tensor's, those that it has now. */
function constantBytes({ source }: Value): Uint8Array | undefined {
  if (source.kind === 'constant') return source.bytes
  return source.kind === 'tensor' ? tensorState(source.tensor, 'constant').memory!.bytes : undefined
}

/** Has the accelerator lower a group. What it wants beside values is placed where they leave room while the group runs. */
export function lower(
  { operators: [first, ...followers] }: Unit,
  step: number,
  accelerator: Accelerator,
  rootOf: (value: Value) => Value,
  { slots, tensors, arena }: Layout,
  pool: ConstantPool,
): Lowered {
  const touched = new Set<number>()
  const at = (value: Value): Place => {
    const root = rootOf(value)
    const bytes = constantBytes(root)
    if (bytes !== undefined) return { buffer: CONSTANTS, offset: pool.keep(bytes) }
    const tensor = tensors.get(root)
    if (tensor !== undefined) {
      touched.add(tensor)
      return { buffer: FIRST_TENSOR + tensor, offset: 0 }
    }
    const offset = slots.get(root)
    if (offset === undefined)
      throw new Error(`${accelerator.name} asks for a value of ${first.name} that has no memory`)
    return { buffer: ARENA, offset }
  }
  const placement: Placement = {
    at,
    keep: (bytes) => ({ buffer: CONSTANTS, offset: pool.keep(bytes) }),
    scratch: (sizeBytes) => ({ buffer: ARENA, offset: arena.place({ sizeBytes, first: step, last: step }) }),
    constant: (value) => constantBytes(rootOf(value)),
  }
  const commands = accelerator.operators[first.name].lower(first, followers, placement)
  return { commands, tensors: touched }
}

// Apart from what binds kernels, whose variables they would keep, and with them the graph.
const loading = (to: Uint8Array, bound: Bound, tensor: number) => () => to.set(bound[tensor]!.bytes)
const storing = (from: Uint8Array, bound: Bound, tensor: number) => () => bound[tensor]!.bytes.set(from)

/** What the CPU does for an operator: its kernel, bound to the arena, and the copies around it. */
export function bindKernel(
  { operators: [operator] }: Unit,
  step: number,
  rootOf: (value: Value) => Value,
  { slots, loads, stores }: Layout,
  arena: Uint8Array,
  bound: Bound,
): (() => void)[] {
  const slot = (value: Value) => {
    const offset = slots.get(rootOf(value))!
    return arena.subarray(offset, offset + byteLength(value.descriptor))
  }
  const bytesFor = (value: Value): Uint8Array => {
    const root = rootOf(value)
    if (!isConstant(root)) return slot(value)
    const bytes = constantBytes(root)!
    const apart = bytes.byteOffset % arrayOf[value.descriptor.dataType].BYTES_PER_ELEMENT !== 0
    return apart || root.source.kind === 'tensor' ? bytes.slice() : bytes
  }
  const operand = (value: Value) => operandOver(value.descriptor, bytesFor(value))
  const kernel = withHalves(kernels[operator.name])({
    name: operator.name,
    attributes: operator.attributes,
    inputs: Object.fromEntries(Object.entries(operator.inputs).map(([as, value]) => [as, operand(value)])),
    outputs: operator.outputs.map(operand),
  })
  return [
    ...(loads.get(step) ?? []).map(({ tensor, value }) => loading(slot(value), bound, tensor)),
    kernel,
    ...(stores.get(step) ?? []).map(({ tensor, value }) => storing(slot(value), bound, tensor)),
  ]
}
