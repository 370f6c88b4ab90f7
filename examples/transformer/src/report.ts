import Table from 'cli-table3'
import type { Summary } from './compare.js'
import { installOnnxRuntime } from './onnxruntime.js'

/** A table without lines between its rows. */
export const plainTable = (head: string[], left: number) =>
  new Table({
    head,
    colAligns: head.map((_, at) => (at < left ? 'left' : 'right')),
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    style: { head: [], border: [] },
  })

/** A difference as it stands in tables. */
export const formatDifference = (value: number | undefined): string =>
  value === undefined ? '-' : value === 0 ? '0' : value.toExponential(1)

/** What to do where there was nothing to compare with. */
export const notCompared = `not compared with onnxruntime-node, which is not installed here: ${installOnnxRuntime}`

/** The summary for people, at most 80 columns wide. */
export function formatReport(summary: Summary): string {
  const { device, transport, tokens, width, heads, hidden, seed, operators, doorbells, commands } = summary
  const table = plainTable(['step', 'shape', 'from the CPU', 'from onnxruntime'], 2)
  for (const { name, shape, fromCpu, fromOnnxRuntime } of summary.steps)
    table.push([name, shape.join(' x '), formatDifference(fromCpu), formatDifference(fromOnnxRuntime)])
  const { millis } = summary
  const others = `CPU ${millis.cpu} ms${millis.onnxRuntime === undefined ? '' : `, onnxruntime ${millis.onnxRuntime} ms`}`
  const bells = `${doorbells} ${doorbells === 1 ? 'doorbell' : 'doorbells'}`
  const verdict = `${summary.mismatches} of ${summary.steps.length} steps beyond the tolerance, ${summary.tolerance} of the largest magnitude`
  return `device     ${device}
transport  ${transport}
block      ${tokens} tokens, width ${width}, ${heads} heads, feed-forward ${hidden}, seed ${seed}
operators  ${operators.device} on the device, ${operators.cpu} on the CPU, ${operators.free} free; ${commands} commands, ${bells}
a run      ${millis.device} ms (${others})

${table}
${verdict}
${summary.compared ? '' : `${notCompared}\n`}`
}
