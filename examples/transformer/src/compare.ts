import { tensor } from '@uaccel/inference'
import { explain, type MLContext, MLGraphBuilder, type MLOperand } from '@uaccel/webnn'
import { type BlockSizes, encoderBlock, type Weights } from './block.js'
import { type Device, openDevice } from './device.js'
import { blockAsOnnx } from './onnx.js'
import type { OnnxRuntime } from './onnxruntime.js'
import { difference, prepare } from './running.js'
import { seededWeights } from './weights.js'

/** What results may differ by, in parts of the largest magnitude of a step: float32 has 24 bits, and sums are in other orders. */
export const tolerance = 1e-5

/** How often each is run for its time. */
const repeat = 10

/** One step of the block, and by how much it differs from what others compute; absent where those are not there. */
export interface Step {
  readonly name: string
  readonly shape: readonly number[]
  readonly fromCpu: number
  readonly fromOnnxRuntime?: number
}

/** What `--json` prints. */
export interface Summary extends BlockSizes {
  readonly device: string
  readonly transport: string
  readonly seed: number
  readonly operators: { readonly device: number; readonly cpu: number; readonly free: number }
  readonly commands: number
  readonly doorbells: number
  readonly steps: readonly Step[]
  readonly tolerance: number
  /** Whether onnxruntime-node was there. */
  readonly compared: boolean
  /** Steps that differ by more than the tolerance. */
  readonly mismatches: number
  /** Milliseconds of a run with its result read, the fastest of some. */
  readonly millis: { readonly device: number; readonly cpu: number; readonly onnxRuntime?: number }
}

/** The numbers of the tokens that are read. */
const idsOf = ({ tokens, vocabulary }: BlockSizes) =>
  tensor(
    'int32',
    [tokens],
    Int32Array.from({ length: tokens }, (_, at) => (at * 7919) % vocabulary),
  )

/** The block on a context, with each step as an output, or with its result alone, as a program would have it. */
async function build(context: MLContext, weights: Weights, sizes: BlockSizes, what: 'steps' | 'result') {
  const builder = new MLGraphBuilder(context)
  const ids = builder.input('ids', { dataType: 'int32', shape: [sizes.tokens] })
  const { output, ...steps } = encoderBlock(builder, ids, weights, sizes)
  const outputs: Record<string, MLOperand> = what === 'steps' ? { ...steps, output } : { output }
  const graph = await builder.build(outputs)
  return { graph, outputs, running: await prepare(context, graph, { ids: idsOf(sizes) }, outputs) }
}

/** Runs the block on the device, on the CPU, and by onnxruntime where it is there, and compares each step. */
export async function compare(
  device: Device,
  sizes: BlockSizes,
  seed: number,
  ort: OnnxRuntime | undefined,
): Promise<Summary> {
  const weights = seededWeights(sizes, seed)
  const cpu = await openDevice('cpu')
  try {
    const side = async ({ context }: Device) => ({
      steps: await build(context, weights, sizes, 'steps'),
      result: await build(context, weights, sizes, 'result'),
    })
    const [ours, reference] = [await side(device), await side(cpu)]
    const [found, wanted] = [await ours.steps.running.run(), await reference.steps.running.run()]
    const feeds = { ids: idsOf(sizes) }
    const theirs = await ort?.run(blockAsOnnx(weights, sizes, [...found.keys()]), feeds)
    const timed = await ort?.run(blockAsOnnx(weights, sizes, ['output']), feeds, { optimized: true, repeat })
    const steps = Array.from(
      found,
      ([name, values]): Step => ({
        name,
        shape: ours.steps.outputs[name]!.shape,
        fromCpu: difference(values, wanted.get(name)),
        ...(theirs && { fromOnnxRuntime: difference(values, theirs.outputs.get(name)) }),
      }),
    )
    const { operators, commands, doorbells } = explain(ours.result.graph)
    const count = (where: string) => operators.filter(({ place }) => place === where).length
    const millis = async ({ result }: typeof ours) => Number((await result.running.time(repeat)).toFixed(3))
    return {
      device: device.name,
      transport: device.transport,
      ...sizes,
      seed,
      operators: { device: count('device'), cpu: count('cpu'), free: count('free') },
      commands,
      doorbells,
      steps,
      tolerance,
      compared: theirs !== undefined,
      mismatches: steps.filter(
        ({ fromCpu, fromOnnxRuntime = 0 }) => !(Math.max(fromCpu, fromOnnxRuntime) <= tolerance),
      ).length,
      millis: {
        device: await millis(ours),
        cpu: await millis(reference),
        ...(timed && { onnxRuntime: Number(timed.millis.toFixed(3)) }),
      },
    }
  } finally {
    await cpu.close()
  }
}
