import { createRequire } from 'node:module'
import type { Tensor } from '@uaccel/inference'

/** A tensor of onnxruntime-node. */
interface OrtTensor {
  readonly data: Tensor['data']
}

interface Ort {
  readonly InferenceSession: {
    create(
      model: Uint8Array,
      options: Readonly<Record<string, unknown>>,
    ): Promise<{
      run(feeds: Readonly<Record<string, OrtTensor>>): Promise<Record<string, OrtTensor>>
      release(): Promise<void>
    }>
  }
  readonly Tensor: new (type: string, data: Tensor['data'], dims: readonly number[]) => OrtTensor
}

/** onnxruntime-node as something to compare with: it is 288 MB, and no dependency. */
export interface OnnxRuntime {
  /** Runs a model on one thread of the CPU. `optimized`: quantised patterns become operators of integers. Answers its outputs, and how long the fastest run took. */
  run(
    model: Uint8Array,
    feeds: Readonly<Record<string, Tensor>>,
    options?: { readonly optimized?: boolean; readonly repeat?: number },
  ): Promise<{ readonly outputs: ReadonlyMap<string, Tensor['data']>; readonly millis: number }>
}

/** What installs it, in the root of the repository. */
export const installOnnxRuntime = 'npm ci --ignore-scripts --prefix test/onnxruntime'

/** Where onnxruntime-node may be: beside the example, and where the repository's tests install it. */
const places: readonly (string | URL)[] = [
  import.meta.url,
  new URL('../../../test/onnxruntime/', import.meta.url),
]

/** onnxruntime-node, where it is installed. */
export function findOnnxRuntime(from = places): OnnxRuntime | undefined {
  for (const place of from) {
    try {
      return runtime(createRequire(place)('onnxruntime-node') as Ort)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error
    }
  }
  return undefined
}

function runtime(ort: Ort): OnnxRuntime {
  return {
    async run(model, feeds, { optimized = false, repeat = 1 } = {}) {
      const session = await ort.InferenceSession.create(model, {
        graphOptimizationLevel: optimized ? 'extended' : 'disabled',
        intraOpNumThreads: 1,
        logSeverityLevel: 3,
      })
      try {
        const given = Object.fromEntries(
          Object.entries(feeds).map(([name, { dtype, shape, data }]) => [
            name,
            new ort.Tensor(dtype, data, shape),
          ]),
        )
        let [millis, outputs] = [Number.POSITIVE_INFINITY, {} as Record<string, OrtTensor>]
        for (let run = 0; run < repeat; run++) {
          const start = performance.now()
          outputs = await session.run(given)
          millis = Math.min(millis, performance.now() - start)
        }
        return { outputs: new Map(Object.entries(outputs).map(([name, { data }]) => [name, data])), millis }
      } finally {
        await session.release()
      }
    },
  }
}
