import { join } from 'node:path'
import { buildOnnx, loadOnnx, type OnnxGraph, type Tensor } from '@uaccel/inference'
import { explain, type MLContext, ml, type OperatorReport } from '@uaccel/webnn'
import type { Test } from 'tap'
import { ended, forked } from './faults/bench.js'
import { nodeFolder, startProcess } from './nodes.js'

/** Elements of any type. */
export type Elements = ArrayLike<number | bigint>

/** A tensor as it was computed. */
export interface Computed {
  readonly shape: readonly number[]
  readonly data: Elements
}

const arrays = {
  float32: Float32Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
} as const

/** A context on the node of an NPU that another process drives, over vfio-user, whose model has a process of its own, too. */
export async function npuContext(t: Test) {
  const folder = nodeFolder(t)
  const socket = join(folder, 'npu.sock')
  const model = await forked('model', 'npu', socket)
  t.teardown(() => ended(model))
  const { process: server } = await startProcess(t, './queues.server.js', [socket, folder])
  const context = await ml.createContext({ device: join(folder, 'accel0') })
  t.teardown(() => context.destroy())
  return { context, model, server }
}

/** Builds a file, and computes it once with these inputs. */
export async function compute(
  context: MLContext,
  file: Uint8Array,
  feeds: Readonly<Record<string, Tensor>>,
): Promise<{
  readonly results: ReadonlyMap<string, Computed>
  readonly operators: readonly OperatorReport[]
}> {
  const built = await buildOnnx(loadOnnx(file), context)
  try {
    return { results: await dispatched(context, built, feeds), operators: explain(built.graph).operators }
  } finally {
    built.graph.destroy()
  }
}

async function dispatched(
  context: MLContext,
  { graph, inputs, outputs }: OnnxGraph,
  feeds: Readonly<Record<string, Tensor>>,
): Promise<ReadonlyMap<string, Computed>> {
  const given = await Promise.all(
    Object.entries(inputs).map(async ([name, descriptor]) => {
      const made = await context.createTensor({ ...descriptor, writable: true })
      context.writeTensor(made, feeds[name]!.data)
      return [name, made] as const
    }),
  )
  const made = await Promise.all(
    Object.entries(outputs).map(
      async ([name, descriptor]) =>
        [name, await context.createTensor({ ...descriptor, readable: true })] as const,
    ),
  )
  try {
    context.dispatch(graph, Object.fromEntries(given), Object.fromEntries(made))
    const read = await Promise.all(
      made.map(async ([name, held]) => {
        const Type = arrays[held.dataType as keyof typeof arrays]
        return [name, { data: new Type(await context.readTensor(held)), shape: held.shape }] as const
      }),
    )
    return new Map(read)
  } finally {
    for (const [, held] of [...given, ...made]) held.destroy()
  }
}
