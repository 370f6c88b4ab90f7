import { formatDifference, notCompared, plainTable } from '@uaccel/example-transformer'
import { allowed, type LayerReport, type Result, tolerance, type Whole } from './compare.js'
import type { NetworkOptions } from './network.js'

export type NetworkType = 'float32' | 'int8'

/** What `--json` prints. */
export interface Summary extends NetworkOptions, Whole {
  readonly device: string
  readonly transport: string
  readonly type: NetworkType
  readonly parameters: number
  readonly layers: readonly LayerReport[]
  /** Of float32. */
  readonly tolerance: number
  /** Whether onnxruntime-node was there. */
  readonly compared: boolean
  /** Layers that differ by more than they may. */
  readonly mismatches: number
}

export function summarise(
  { name, transport }: { readonly name: string; readonly transport: string },
  type: NetworkType,
  options: NetworkOptions,
  parameters: number,
  { layers, whole }: Result,
): Summary {
  return {
    ...{ device: name, transport, type, ...options, parameters, ...whole, layers, tolerance },
    compared: layers.every(({ difference }) => difference !== undefined),
    mismatches: layers.filter((layer) => !((layer.difference ?? 0) <= allowed(layer))).length,
  }
}

/** A difference of bytes is a number of steps. */
const differenceOf = ({ dtype, difference }: LayerReport) =>
  dtype === 'float32' || difference === undefined
    ? formatDifference(difference)
    : difference === 0
      ? 'equal'
      : `${difference} ${difference === 1 ? 'step' : 'steps'}`

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`

/** The summary for people. */
export function formatReport(summary: Summary): string {
  const table = plainTable(['layer', 'operator', 'shape', 'where', 'difference', 'ms'], 4)
  for (const layer of summary.layers)
    table.push([
      layer.name,
      layer.operators,
      layer.shape.slice(1).join(' x '),
      layer.place,
      differenceOf(layer),
      layer.millis?.toFixed(2) ?? '-',
    ])
  const { layers, compared, mismatches, doorbells } = summary
  const count = (where: LayerReport['place']) => layers.filter(({ place }) => place === where).length
  const reasons = [...new Set(layers.flatMap(({ reasons = [] }) => reasons))]
  const theirs =
    summary.onnxRuntimeMillis === undefined ? '' : ` (onnxruntime ${summary.onnxRuntimeMillis} ms)`
  const bytes = 'of bytes, convolutions and products are equal bit for bit, sums and averages within a step'
  const verdict = compared
    ? `${mismatches} of ${layers.length} layers differ by more than they may: of float32 ${tolerance} of the largest magnitude${
        summary.type === 'int8' ? `;\n${bytes}` : ''
      }`
    : notCompared
  return `device     ${summary.device}
transport  ${summary.transport}
network    MobileNetV2, ${summary.size} x ${summary.size}, width ${summary.width}, ${summary.type}, ${(summary.parameters / 1e6).toFixed(2)} million weights of seed ${summary.seed}
layers     ${count('device')} on the device, ${count('cpu')} on the CPU, ${count('free')} free${reasons.map((reason) => `\n           ${reason}`).join('')}
a run      ${summary.millis} ms${theirs}: ${summary.commands} commands, ${doorbells} ${doorbells === 1 ? 'doorbell' : 'doorbells'}
memory     ${megabytes(summary.constantBytes)} of constants, ${megabytes(summary.arenaBytes)} between layers

${table}
${verdict}
`
}
