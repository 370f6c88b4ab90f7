import {
  type Device,
  difference,
  type Elements,
  type OnnxRuntime,
  prepare,
} from '@uaccel/example-transformer'
import { buildOnnx, type Graph, loadOnnx, saveOnnx, type Tensor, tensor } from '@uaccel/inference'
import { explain, type Profile, profile, type Report } from '@uaccel/webnn'
import { apart, type Layer, type Layers, own, withOutputs } from './layer.js'

/** Of float32, what may differ, in parts of the largest magnitude of a layer: sums are in other orders, and layers pass on what differs. */
export const tolerance = 1e-4

/**
 * Operators whose bytes may be one step beside. ONNX defines each bit of quantised convolutions and products of matrices. onnxruntime's sums of bytes
 * round in another order than DequantizeLinear, Add and QuantizeLinear do, and no order is defined for averages.
 */
const mayRound: readonly string[] = ['Add', 'GlobalAveragePool']

/** By how much a layer may differ. */
export const allowed = ({ dtype, operators }: Pick<LayerReport, 'dtype' | 'operators'>): number =>
  dtype === 'float32' ? tolerance : mayRound.includes(operators) ? 1 : 0

export interface LayerReport {
  readonly name: string
  readonly operators: string
  readonly dtype: Layer['dtype']
  readonly shape: readonly number[]
  /** `free`: the value is its operand, seen with another shape. */
  readonly place: 'device' | 'cpu' | 'free'
  /** Why it is not on the device; absent where it is. */
  readonly reasons?: readonly string[]
  /** From its doorbell to its end, the fastest of some; absent where there was nothing to do. */
  readonly millis?: number
  /** The largest difference from onnxruntime's, of float32 in parts of the largest magnitude, of uint8 in steps; absent where it is not installed. */
  readonly difference?: number
}

/** The network with its last output alone, as a program has it. */
export interface Whole extends Pick<Report, 'commands' | 'doorbells' | 'arenaBytes' | 'constantBytes'> {
  /** Of a run with its result read, the fastest of some. */
  readonly millis: number
  readonly onnxRuntimeMillis?: number
}

/** What a network did. */
export interface Result {
  readonly layers: readonly LayerReport[]
  readonly whole: Whole
  /** What each layer computed, by the names of tensors. */
  readonly outputs: ReadonlyMap<string, Tensor>
}

/** The bytes of an ONNX file. */
export const fileOf = (graph: Graph): Uint8Array => saveOnnx(graph, { name: 'uaccel', version: '0.1.0' })

/**
 * Runs a network on a device from the bytes of its file, each layer with an output of its own, and compares them with onnxruntime's: those of float32 from
 * the image on, those of bytes each from what it read here, since one that is a step beside changes all that follow.
 */
export async function run(
  { context }: Device,
  network: Layers,
  image: Tensor,
  ort: OnnxRuntime | undefined,
  repeat: number,
): Promise<Result> {
  const file = fileOf(withOutputs(network))
  const { graph, outputs } = await buildOnnx(loadOnnx(file), context)
  const running = await prepare(context, graph, { image }, outputs)
  const computed = await running.run()
  const found = new Map(
    Array.from(computed, ([name, data]) => {
      const { dataType, shape } = outputs[name]!
      return [name, tensor(dataType as Layer['dtype'], shape, data as Float32Array)] as const
    }),
  )
  const report = explain(graph)
  const times = await fastest(repeat, () => profile(graph, running.inputs, running.outputs))
  graph.destroy()
  for (const each of Object.values({ ...running.inputs, ...running.outputs })) each.destroy()

  const wanted = await reference(network, file, image, found, ort)
  const layers = network.layers.map(
    (layer): LayerReport => ({
      ...{ name: layer.name, operators: layer.operators, dtype: layer.dtype },
      shape: outputs[layer.output]!.shape,
      ...placeOf(layer, report, times),
      ...(wanted && {
        difference: differenceOf(layer, found.get(layer.output)?.data, wanted.get(layer.output)),
      }),
    }),
  )
  return { layers, outputs: found, whole: await runWhole(network.graph, image, context, ort, repeat) }
}

/** What onnxruntime computes of each layer. */
async function reference(
  network: Layers,
  file: Uint8Array,
  image: Tensor,
  found: ReadonlyMap<string, Tensor>,
  ort: OnnxRuntime | undefined,
): Promise<ReadonlyMap<string, Elements> | undefined> {
  if (ort === undefined) return undefined
  if (!network.layers.some(({ dtype }) => dtype === 'uint8')) return (await ort.run(file, { image })).outputs
  const shapes = new Map(Array.from(found, ([name, { shape }]) => [name, shape]))
  // Only when it optimises are quantised patterns operators of integers.
  const { outputs } = await ort.run(
    fileOf(apart(network, shapes)),
    { image, ...Object.fromEntries(found) },
    { optimized: true },
  )
  return new Map(network.layers.map(({ output }) => [output, outputs.get(own(output))!]))
}

/** What each part takes when nothing else is in its way. */
async function fastest(repeat: number, run: () => Promise<Profile>): Promise<Profile['parts']> {
  let { parts } = await run()
  for (let at = 1; at < repeat; at++) {
    const again = await run()
    parts = parts.map((part, at) => (again.parts[at]!.micros < part.micros ? again.parts[at]! : part))
  }
  return parts
}

/** Where the operators of a layer ran, and how long that took. */
function placeOf({ nodes }: Layer, { operators }: Report, parts: Profile['parts']) {
  const mine = operators.flatMap(({ label }, at) => (nodes.includes(label) ? [at] : []))
  const places = new Set(mine.map((at) => operators[at]!.place))
  const reasons = [...new Set(mine.flatMap((at) => operators[at]!.reason ?? []))]
  const times = parts.filter(({ operators }) => operators.some((at) => mine.includes(at)))
  const micros = times.reduce((sum, part) => sum + part.micros, 0)
  return {
    place: places.has('cpu')
      ? ('cpu' as const)
      : places.has('device')
        ? ('device' as const)
        : ('free' as const),
    ...(reasons.length > 0 && { reasons }),
    ...(times.length > 0 && { millis: Number((micros / 1000).toFixed(3)) }),
  }
}

function differenceOf({ dtype }: Layer, found: Elements | undefined, wanted: Elements | undefined): number {
  if (dtype === 'float32') return difference(found, wanted)
  if (found === undefined || found.length !== wanted?.length) return Number.POSITIVE_INFINITY
  let most = 0
  for (let at = 0; at < found.length; at++)
    most = Math.max(most, Math.abs(Number(found[at]) - Number(wanted[at])))
  return most
}

async function runWhole(
  network: Graph,
  image: Tensor,
  context: Device['context'],
  ort: OnnxRuntime | undefined,
  repeat: number,
): Promise<Whole> {
  const file = fileOf(network)
  const { graph, outputs } = await buildOnnx(loadOnnx(file), context)
  const running = await prepare(context, graph, { image }, outputs)
  const { commands, doorbells, arenaBytes, constantBytes } = explain(graph)
  const millis = await running.time(repeat)
  const theirs = await ort?.run(file, { image }, { optimized: true, repeat })
  graph.destroy()
  return {
    ...{ commands, doorbells, arenaBytes, constantBytes },
    millis: Number(millis.toFixed(3)),
    ...(theirs && { onnxRuntimeMillis: Number(theirs.millis.toFixed(3)) }),
  }
}
