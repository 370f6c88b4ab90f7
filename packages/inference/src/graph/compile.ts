import { accelError } from '@uaccel/uapi'
import { execute } from '../reference/kernels.js'
import { fold } from './fold.js'
import type { Graph, GraphValue } from './graph.js'
import { lowerNode } from './lower.js'
import { NodeReader } from './node-reader.js'
import type { CompiledGraph, Operation, Value } from './operations.js'
import { allocate, describe, elementCount, tensor } from './tensor.js'

/** The operator set that brought the quantised operators (QLinearConv-10, QLinearMatMul-10, QuantizeLinear-10). */
const oldestOpset = 10

/** More elements than any tensor of a sound graph here: what lies above is a mistake or an attack. */
const maxElements = 2 ** 28

export interface CompileOptions {
  /** Values for the named dimensions of the inputs, such as `{ N: 1 }`. */
  readonly dimensions?: Readonly<Record<string, number>>
}

function inputValue({ name, dtype, shape }: GraphValue, { dimensions = {} }: CompileOptions): Value {
  if (!shape) {
    throw accelError(
      'ERR_ACCEL_INVALID_SHAPE',
      `input "${name}" has no shape in the file; export it with one`,
    )
  }
  const bound = shape.map((dimension) => {
    const size = typeof dimension === 'number' ? dimension : dimensions[dimension]
    if (!Number.isInteger(size) || size < 1 || size > maxElements) {
      throw accelError(
        'ERR_ACCEL_INVALID_SHAPE',
        `input "${name}" of shape [${shape.join(',')}]: dimension ${dimension} wants an integer of at least 1, ` +
          `found ${size}; named dimensions are given as { dimensions: { N: 1 } }`,
      )
    }
    return size
  })
  return { name, type: { dtype, shape: bound } }
}

function checkSize(where: string, { type }: Value): void {
  if (elementCount(type.shape) > maxElements) {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${where}: ${describe(type)} is larger than the ${maxElements} elements that a tensor may have`,
    )
  }
}

/** Checks that the declared type of an output is the inferred one, as far as it is declared. */
function checkOutput({ name, dtype, shape }: GraphValue, { type }: Value): void {
  const differs =
    type.dtype !== dtype ||
    (shape &&
      (shape.length !== type.shape.length ||
        shape.some((dimension, axis) => typeof dimension === 'number' && dimension !== type.shape[axis])))
  if (differs) {
    const wanted = `${dtype} [${shape?.join(',') ?? ''}]`
    throw accelError(
      'ERR_ACCEL_INVALID_SHAPE',
      `output "${name}" is declared as ${wanted}, its node computes ${describe(type)}`,
    )
  }
}

/**
 * Makes a loaded graph ready to run: named dimensions bound, types and shapes inferred, constants evaluated, Relu, Clip
 * and quantise/dequantise pairs folded where that is exact.
 * ERR_ACCEL_UNSUPPORTED_OPERATOR and ERR_ACCEL_INVALID_SHAPE name the node.
 */
export function compile(graph: Graph, options: CompileOptions = {}): CompiledGraph {
  const opset = graph.opsets.get('') ?? oldestOpset
  if (opset < oldestOpset) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `the graph uses operator set ${opset}; ${oldestOpset} and later are supported, convert it with onnx.version_converter`,
    )
  }
  const values = new Map<string, Value>()
  for (const [name, constant] of graph.constants) values.set(name, { name, type: constant, constant })
  const inputs = graph.inputs.map((input) => inputValue(input, options))
  for (const input of inputs) {
    checkSize(`input "${input.name}"`, input)
    values.set(input.name, input)
  }
  const operations: Operation[] = []
  for (const node of graph.nodes) {
    const reader = new NodeReader(node, values)
    const lowered = lowerNode(reader)
    const output: Value = { name: node.outputs[0], type: lowered.output }
    checkSize(reader.where, output)
    const operation = { ...lowered, name: node.name, op: node.op, output } as Operation
    if (operation.inputs.every(({ constant }) => constant)) {
      const data = allocate(output.type)
      execute(
        operation,
        operation.inputs.map(({ constant }) => constant!.data),
        data,
      )
      values.set(output.name, { ...output, constant: tensor(output.type.dtype, output.type.shape, data) })
    } else {
      operations.push(operation)
      values.set(output.name, output)
    }
  }
  const outputs = graph.outputs.map((declared) => {
    const value = values.get(declared.name)!
    checkOutput(declared, value)
    return value
  })
  return { name: graph.name, inputs, outputs, operations: fold(operations, outputs) }
}
