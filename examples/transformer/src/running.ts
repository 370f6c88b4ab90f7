import type { Tensor } from '@uaccel/inference'
import type { MLContext, MLGraph, MLOperandDataType, MLTensor } from '@uaccel/webnn'

/** Elements of a tensor; each is a number, but for those of 64 bits. */
export type Elements = Tensor['data']

const arrays = {
  float32: Float32Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
}

/** What is asked of an operand, or of its descriptor. */
interface Described {
  readonly dataType: MLOperandDataType
  readonly shape: readonly number[]
}

/** A graph with tensors of its own, to be run any number of times. */
export interface Running {
  readonly inputs: Record<string, MLTensor>
  readonly outputs: Record<string, MLTensor>
  /** Dispatches the graph and reads all outputs. */
  run(): Promise<ReadonlyMap<string, Elements>>
  /** How long that takes, in milliseconds: the fastest of so many times. */
  time(repeat: number): Promise<number>
}

/** Makes the tensors of a graph, and writes its inputs. They live as long as the context. */
export async function prepare(
  context: MLContext,
  graph: MLGraph,
  feeds: Readonly<Record<string, Tensor>>,
  wanted: Readonly<Record<string, Described>>,
): Promise<Running> {
  const inputs: Record<string, MLTensor> = {}
  for (const [name, { dtype, shape, data }] of Object.entries(feeds)) {
    inputs[name] = await context.createTensor({ dataType: dtype, shape: [...shape], writable: true })
    context.writeTensor(inputs[name], data)
  }
  const outputs: Record<string, MLTensor> = {}
  for (const [name, { dataType, shape }] of Object.entries(wanted))
    outputs[name] = await context.createTensor({ dataType, shape: [...shape], readable: true })
  const run = async () => {
    context.dispatch(graph, inputs, outputs)
    const read = Object.entries(outputs).map(async ([name, tensor]): Promise<[string, Elements]> => {
      const bytes = await context.readTensor(tensor)
      return [name, new arrays[tensor.dataType as keyof typeof arrays](bytes)]
    })
    return new Map(await Promise.all(read))
  }
  return {
    inputs,
    outputs,
    run,
    async time(repeat) {
      let fastest = Number.POSITIVE_INFINITY
      for (let at = 0; at < repeat; at++) {
        const start = performance.now()
        await run()
        fastest = Math.min(fastest, performance.now() - start)
      }
      return fastest
    },
  }
}

/** The largest difference between two tensors, in parts of the largest magnitude in `wanted`: infinite where one is not a number, or shapes differ. */
export function difference(found: Elements | undefined, wanted: Elements | undefined): number {
  if (found === undefined || wanted === undefined || found.length !== wanted.length)
    return Number.POSITIVE_INFINITY
  let [largest, magnitude] = [0, 0]
  for (let at = 0; at < wanted.length; at++) {
    const [a, b] = [Number(found[at]), Number(wanted[at])]
    const apart = Math.abs(a - b)
    if (!(apart <= Number.MAX_VALUE)) return Number.POSITIVE_INFINITY
    largest = Math.max(largest, apart)
    magnitude = Math.max(magnitude, Math.abs(b))
  }
  return largest === 0 ? 0 : largest / magnitude
}
