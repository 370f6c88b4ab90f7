import type { Backend, Executable } from '../backend.js'
import type { Operand } from '../cpu/kernel.js'
import { kernels } from '../cpu/kernels.js'
import { arrayOf, type MLOperandDataType, type TypedArray } from '../data-type.js'
import type { Graph, Value } from '../graph.js'
import { MLContext, MLGraphBuilder, type MLOperand } from '../index.js'
import { constantOf } from './constants.js'
import { fuse } from './fuse.js'
import { operandOf } from './rewriter.js'

/** A tensor of a recorded case: its bytes in base64. */
interface Recorded {
  readonly dtype: MLOperandDataType
  readonly shape: readonly number[]
  readonly data: string
}

/** A quantised operator of onnxruntime with constants and attributes by the names of `record.mjs`, its input `x`, and what it computed. */
export interface Case {
  readonly op: string
  readonly attributes: Readonly<Record<string, number | readonly number[]>>
  readonly tensors: Readonly<Record<string, Recorded>>
  readonly y: Recorded
}

export const elementsOf = ({ dtype, data }: Recorded): TypedArray => {
  const bytes = Uint8Array.from(Buffer.from(data, 'base64'))
  return new arrayOf[dtype](bytes.buffer as never)
}

interface Input {
  readonly dataType: MLOperandDataType
  readonly shape: readonly number[]
  readonly data: TypedArray
}
type Operands = Readonly<Record<string, MLOperand>>

/** The graph that `build` makes, as a backend gets it. */
async function graphOf(
  inputs: Readonly<Record<string, Input>>,
  build: (builder: MLGraphBuilder, inputs: Operands) => MLOperand | Operands,
): Promise<Graph> {
  let built: Graph | undefined
  const backend: Backend = {
    accelerated: false,
    allocate: (sizeBytes) => ({ bytes: new Uint8Array(sizeBytes), free() {} }),
    free() {},
    compile(graph) {
      built = graph
      return {} as Executable
    },
    close() {},
  }
  const builder = new MLGraphBuilder(new MLContext(backend))
  const operands = Object.entries(inputs).map(([name, { dataType, shape }]) => [
    name,
    builder.input(name, { dataType, shape }),
  ])
  const made = build(builder, Object.fromEntries(operands))
  await builder.build('dataType' in made ? { y: made as MLOperand } : { ...made })
  return built!
}

/** Runs a graph that `build` makes, fused, kernel by kernel: the results' elements, and what ran. */
export async function compute(
  inputs: Readonly<Record<string, Input>>,
  build: (builder: MLGraphBuilder, inputs: Operands) => MLOperand | Operands,
  by: (graph: Graph) => Graph = fuse,
): Promise<{ readonly results: Readonly<Record<string, TypedArray>>; readonly ran: readonly string[] }> {
  const graph = by(await graphOf(inputs, build))
  const known = new Map<Value, Operand>()
  const operand = (value: Value): Operand => {
    let found = known.get(value)
    if (found === undefined) {
      const { source, descriptor } = value
      const data = source.kind === 'input' ? inputs[source.name]!.data : constantOf(value)
      found = operandOf(descriptor, data)
      known.set(value, found)
    }
    return found
  }
  for (const { name, inputs: given, attributes, outputs } of graph.operators) {
    const operands = Object.entries(given).map(([as, value]) => [as, operand(value)])
    kernels[name]!({
      name,
      attributes,
      inputs: Object.fromEntries(operands),
      outputs: outputs.map((output) => {
        known.set(output, operandOf(output.descriptor))
        return operand(output)
      }),
    })()
  }
  return {
    results: Object.fromEntries(Array.from(graph.outputs, ([name, value]) => [name, operand(value).data])),
    ran: graph.operators.map(({ name }) => name),
  }
}

/** A recorded operator as dequantizeLinear, what it does, and quantizeLinear. */
export function patternOf({ op, attributes, tensors, y }: Case) {
  return (builder: MLGraphBuilder, { x, x2 }: Readonly<Record<string, MLOperand>>): MLOperand => {
    const shaped = (name: string, shape: readonly number[]) =>
      builder.constant({ dataType: tensors[name].dtype, shape }, elementsOf(tensors[name]))
    /** Scale or zero point for a tensor of that rank, along an axis where there are several. */
    const spread = (name: string, rank: number, axis: number) => {
      const count = elementsOf(tensors[name]).length
      return shaped(name, count === 1 ? new Array(rank).fill(1) : new Array(rank).fill(1).with(axis, count))
    }
    const dequantize = (operand: MLOperand, name: string, axis = 0) => {
      const rank = operand.shape.length
      return builder.dequantizeLinear(operand, spread(`${name}s`, rank, axis), spread(`${name}z`, rank, axis))
    }
    const quantize = (operand: MLOperand) => {
      const rank = operand.shape.length
      return builder.quantizeLinear(operand, spread('ys', rank, 0), spread('yz', rank, 0))
    }
    const weights = (axis: number) => dequantize(shaped('w', tensors.w.shape), 'w', axis)
    /** The bias as a file has it: integers in units of both scales. */
    const bias = () => {
      if (!tensors.b) return undefined
      const [xs] = elementsOf(tensors.xs) as Float32Array
      const b = elementsOf(tensors.b)
      const scales = (elementsOf(tensors.ws) as Float32Array).map((scale) => scale * xs)
      const scale = builder.constant({ dataType: 'float32', shape: [scales.length] }, scales)
      const zero = builder.constant(
        { dataType: 'int32', shape: [scales.length] },
        new Int32Array(scales.length),
      )
      return builder.dequantizeLinear(shaped('b', [b.length]), scale, zero)
    }
    const a = attributes as Record<string, number[]>
    const window = {
      strides: a.strides,
      dilations: a.dilations,
      padding: a.pads && [a.pads[0], a.pads[2], a.pads[1], a.pads[3]],
    }
    const pool = { ...window, windowDimensions: a.kernel_shape }
    const given = op === 'MaxPool' ? x : dequantize(x, 'x')
    const c = bias()
    const more = c ? { bias: c } : {}
    switch (op) {
      case 'QLinearConv':
        return quantize(
          builder.conv2d(given, weights(0), { ...window, ...more, groups: attributes.group as number }),
        )
      case 'QLinearMatMul':
        return quantize(builder.matmul(given, weights(tensors.w.shape.length - 1)))
      case 'QGemm': {
        const bTranspose = attributes.transB === 1
        const options = { aTranspose: attributes.transA === 1, bTranspose, ...(c && { c }) }
        return quantize(builder.gemm(given, weights(bTranspose ? 0 : 1), options))
      }
      case 'MaxPool':
        return builder.maxPool2d(given, pool)
      case 'QLinearAveragePool':
      case 'AveragePool':
        return quantize(builder.averagePool2d(given, pool))
      case 'QLinearGlobalAveragePool':
        return quantize(builder.averagePool2d(given))
      case 'Add':
      case 'QLinearAdd':
        return quantize(builder.add(given, dequantize(x2, 'w')))
      case 'Mul':
      case 'QLinearMul':
        return quantize(builder.mul(given, dequantize(x2, 'w')))
      case 'QLinearConcat':
        return quantize(builder.concat([given, dequantize(x2, 'w')], 1))
      case 'Sigmoid':
      case 'QLinearSigmoid':
        return quantize(builder.sigmoid(given))
      case 'QLinearLeakyRelu':
        return quantize(builder.leakyRelu(given, { alpha: 0.125 }))
      default:
        throw new Error(`${op} of ${y.dtype} has no pattern`)
    }
  }
}

/** What the pattern of a recorded case gives, fused. */
export function run(recorded: Case) {
  const { x, x2 } = recorded.tensors
  const input = (of: Recorded) => ({ dataType: of.dtype, shape: of.shape, data: elementsOf(of) })
  return compute({ x: input(x), ...(x2 && { x2: input(x2) }) }, patternOf(recorded))
}
