import { accelError } from '@uaccel/uapi'
import type { CompiledGraph, Value } from '../graph/operations.js'
import { allocate, describe, type Tensor, type TensorData } from '../graph/tensor.js'
import { execute } from './kernels.js'

/** Tensors by name. */
export type Tensors = Readonly<Record<string, Tensor>>

/** The elements given for an input; ERR_ACCEL_INVALID_SHAPE says what was wanted and found. */
export function inputData(value: Value, tensors: Tensors): TensorData {
  const given = Object.hasOwn(tensors, value.name) ? tensors[value.name] : undefined
  const wanted = describe(value.type)
  if (!given) {
    const names = Object.keys(tensors).join(', ') || 'none'
    throw accelError(
      'ERR_ACCEL_INVALID_SHAPE',
      `input "${value.name}" wants ${wanted}, found inputs: ${names}`,
    )
  }
  if (!Array.isArray(given.shape)) {
    throw accelError(
      'ERR_ACCEL_INVALID_SHAPE',
      `input "${value.name}" wants ${wanted}, found no tensor; tensor('${value.type.dtype}', [${value.type.shape.join(', ')}], data) makes one`,
    )
  }
  if (describe(given) !== wanted) {
    throw accelError(
      'ERR_ACCEL_INVALID_SHAPE',
      `input "${value.name}" wants ${wanted}, found ${describe(given)}`,
      {
        details: { input: value.name, wanted: value.type, found: { dtype: given.dtype, shape: given.shape } },
      },
    )
  }
  return given.data
}

/** Runs a compiled graph on the CPU, every tensor in memory of its own: what devices are compared with. */
export class Reference {
  readonly graph: CompiledGraph
  readonly #memory = new Map<Value, TensorData>()

  constructor(graph: CompiledGraph) {
    this.graph = graph
    for (const { inputs, output } of graph.operations) {
      for (const value of inputs) if (value.constant) this.#memory.set(value, value.constant.data)
      this.#memory.set(output, allocate(output.type))
    }
    for (const value of graph.outputs) if (value.constant) this.#memory.set(value, value.constant.data)
  }

  /** The graph's outputs for these inputs, in arrays of the caller's own. */
  run(tensors: Tensors): Record<string, Tensor> {
    for (const value of this.graph.inputs) this.#memory.set(value, inputData(value, tensors))
    for (const operation of this.graph.operations) {
      const inputs = operation.inputs.map((value) => this.#memory.get(value)!)
      execute(operation, inputs, this.#memory.get(operation.output)!)
    }
    return Object.fromEntries(
      this.graph.outputs.map((value) => [
        value.name,
        { ...value.type, data: this.#memory.get(value)!.slice() } as Tensor,
      ]),
    )
  }
}
