import { arrayOf, byteLength, type MLOperandDescriptor, type TypedArray } from '../data-type.js'
import { halfValue } from '../half.js'
import {
  explain,
  type MLContext,
  MLGraphBuilder,
  type MLOperand,
  type MLTensor,
  type Report,
} from '../index.js'
import { type Case, elementsOf, ulpDistance } from './case.test.helper.js'
import { toleranceOf, type Use } from './tolerance.test.helper.js'

type Methods = Record<string, (...given: unknown[]) => MLOperand | MLOperand[]>

/** What came of a case: what is wrong, where something is, and where its operators ran, where its graph was built. */
export interface Result {
  readonly wrong?: string
  readonly report?: Report
}

/** Builds and runs a case, and compares what it answers. */
export async function runCase(context: MLContext, { graph }: Case): Promise<Result> {
  let report: Report | undefined
  const ended = (wrong?: string): Result => ({
    ...(wrong === undefined ? {} : { wrong }),
    ...(report === undefined ? {} : { report }),
  })
  const builder = new MLGraphBuilder(context)
  const operands = new Map<string, MLOperand>()
  const inputs: Record<string, MLTensor> = {}
  const outputs: Record<string, MLTensor> = {}
  try {
    for (const [name, tensor] of Object.entries(graph.inputs)) {
      const { descriptor } = tensor
      if (tensor.constant) {
        operands.set(name, builder.constant(descriptor, elementsOf(tensor)))
        continue
      }
      operands.set(name, builder.input(name, descriptor))
      inputs[name] = await context.createTensor({ ...descriptor, writable: true })
      context.writeTensor(inputs[name], elementsOf(tensor))
    }
    const given = (value: unknown): unknown => {
      if (typeof value === 'string' && operands.has(value)) return operands.get(value)
      if (Array.isArray(value)) return value.map(given)
      if (typeof value === 'object' && value !== null)
        return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, given(each)]))
      if (typeof value === 'string' && /^-?\d+n$/.test(value)) return BigInt(value.slice(0, -1))
      return typeof value === 'string' && /^(-?Infinity|NaN)$/.test(value) ? Number(value) : value
    }
    const uses: Use[] = []
    for (const operator of graph.operators) {
      const { name, arguments: list, outputs } = operator
      const shapes = list.flatMap((argument) => {
        const read = operands.get(Object.values(argument)[0] as string)
        return read ? [read.shape] : []
      })
      uses.push({ operator, shapes })
      const results = [
        (builder as unknown as Methods)[name]!(...list.map((argument) => given(Object.values(argument)[0]))),
      ].flat()
      const names = [outputs].flat()
      for (const [at, result] of results.entries()) operands.set(names[at]!, result)
    }
    const wanted = Object.entries(graph.expectedOutputs)
    const built = await builder.build(Object.fromEntries(wanted.map(([name]) => [name, operands.get(name)!])))
    report = explain(built)
    for (const [name, { descriptor }] of wanted)
      outputs[name] = await context.createTensor({ ...descriptor, readable: true })
    context.dispatch(built, inputs, outputs)
    const tolerance = toleranceOf(uses)
    for (const [name, tensor] of wanted) {
      const found = viewOf(await context.readTensor(outputs[name]!), tensor.descriptor)
      const expected = elementsOf(tensor)
      const numberOf = tensor.descriptor.dataType === 'float16' ? halfValue : Number
      for (let i = 0; i < expected.length; i++) {
        if (typeof expected[i] === 'bigint' && found[i] === expected[i]) continue
        const [a, b] = [Number(found[i]), Number(expected[i])]
        const far =
          typeof expected[i] === 'bigint' ||
          ('ulp' in tolerance
            ? ulpDistance(a, b, tensor.descriptor.dataType) > tolerance.ulp
            : !(Math.abs(numberOf(a) - numberOf(b)) <= tolerance.absolute || Object.is(a, b)))
        if (far) return ended(`${name}[${i}] is ${a}, expected ${b} within ${JSON.stringify(tolerance)}`)
      }
    }
    built.destroy()
    return ended()
  } catch (error) {
    return ended(`${(error as Error).name}: ${(error as Error).message}`)
  } finally {
    for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.destroy()
  }
}

function viewOf(buffer: ArrayBuffer, descriptor: MLOperandDescriptor): TypedArray {
  if (buffer.byteLength !== byteLength(descriptor)) throw new Error(`${buffer.byteLength} bytes`)
  return new (arrayOf[descriptor.dataType] as unknown as new (buffer: ArrayBuffer) => TypedArray)(buffer)
}
