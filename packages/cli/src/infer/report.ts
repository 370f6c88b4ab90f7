import type { Tensor } from '@uaccel/inference'
import type { OperatorReport, Profile, Report } from '@uaccel/webnn'
import { COLUMNS, clean, grid } from '../text.js'
import { duration, human, short } from '../units.js'
import type { InferResult, Latency } from './run.js'

/** One class and its score. */
export interface Guess {
  readonly index: number
  readonly label?: string
  readonly score: number
}

/** Batches whose results are told; the file has the rest. */
const TOLD_ROWS = 4

/** The largest values of an output that is scores of classes: float32 [n, classes], with or without dimensions of 1. */
export function topOf({ dtype, shape, data }: Tensor, top: number, labels: readonly string[]): Guess[][] {
  const sizes = shape.filter((size) => size > 1)
  const classes = sizes.at(-1) ?? 1
  const isScores =
    dtype === 'float32' &&
    shape.length > 0 &&
    classes > 1 &&
    (sizes.length === 1 || (sizes.length === 2 && shape[0] === sizes[0]))
  if (!isScores || top === 0) return []
  return Array.from({ length: data.length / classes }, (_, row) => {
    const scores = (data as Float32Array).subarray(row * classes, (row + 1) * classes)
    const order = Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]! || a - b)
    return order.slice(0, top).map((index) => ({
      index,
      ...(labels[index] === undefined ? {} : { label: labels[index] }),
      score: scores[index]!,
    }))
  })
}

/** How many operators are at each place. */
export function places({ operators }: Report): Record<OperatorReport['place'], number> {
  const count = (place: OperatorReport['place']) => operators.filter((each) => each.place === place).length
  return { device: count('device'), cpu: count('cpu'), free: count('free') }
}

/** What a place is called: the device by its own name, in capitals. */
const nameOf = ({ device = '' }: Report, place: OperatorReport['place']) =>
  place === 'cpu' ? 'CPU' : place === 'free' ? '-' : device.toUpperCase()

/** One row of `--explain`. */
export interface Explained {
  readonly operator: string
  readonly name: string
  readonly place: OperatorReport['place']
  readonly reason?: string
  readonly group?: number
  readonly movedBytes: number
  /** Of it, or of all of its group where it is the first of them; absent in the others. */
  readonly micros?: number
  readonly deviceMicros?: number
}

/** What `--explain` tells, in the order of running. */
export function explained({ operators }: Report, { parts }: Profile): Explained[] {
  const timed = new Map(parts.map((part) => [part.operators[0], part]))
  return operators.map(({ name, label, place, reason, group, movedBytes }, at) => {
    const part = timed.get(at)
    return {
      operator: name,
      name: label,
      place,
      ...(reason === undefined ? {} : { reason }),
      ...(group === undefined ? {} : { group }),
      movedBytes,
      ...(part === undefined ? {} : { micros: part.micros }),
      ...(part?.deviceMicros === undefined ? {} : { deviceMicros: part.deviceMicros }),
    }
  })
}

const time = (micros: number) => duration(micros * 1000)

/** `--explain` for a person. */
export function explainText(report: Report, profile: Profile, columns: number): string {
  const rows = explained(report, profile).map((each) => [
    each.operator,
    clean(each.name),
    nameOf(report, each.place),
    each.place === 'free' ? '-' : human(each.movedBytes, 'bytes'),
    each.micros === undefined ? (each.group === undefined ? '-' : 'with it') : time(each.micros),
    each.deviceMicros === undefined ? '' : time(each.deviceMicros),
    report.device === undefined ? '' : clean(each.reason ?? ''),
  ])
  const heads = ['operator', 'name', 'where', 'moved', 'time', 'in device', 'why']
  const used = heads.map((_, at) => at < 5 || rows.some((row) => row[at] !== ''))
  return grid(
    heads
      .map((head, at) => ({
        head,
        ...(at === 1 || at === 6 ? { flexible: true } : {}),
        ...(at >= 3 && at <= 5 ? { align: 'right' as const } : {}),
      }))
      .filter((_, at) => used[at]),
    rows.map((row) => row.filter((_, at) => used[at])),
    Math.max(columns, COLUMNS),
  ).join('\n')
}

const plural = (count: number, what: string) => `${count} ${what}${count === 1 ? '' : 's'}`

function latencyText({ firstMicros, p50Micros, p99Micros, perSecond }: Latency, repeat: number): string {
  if (repeat === 1) return `the run took ${time(firstMicros)}`
  return `${repeat} runs: p50 ${time(p50Micros)}, p99 ${time(p99Micros)}, ${short(perSecond)} inferences/s; the first took ${time(firstMicros)}`
}

/** What is told of a run, a line each. */
export function summaryLines(
  { report, latency }: InferResult,
  nodes: number,
  repeat: number,
  tops: Readonly<Record<string, readonly Guess[][]>>,
): string[] {
  const { device, cpu, free } = places(report)
  const where =
    report.device === undefined
      ? 'all on the CPU'
      : `${device} on the ${nameOf(report, 'device')}, ${cpu} on the CPU${free > 0 ? `, ${free} that cost nothing` : ''}`
  const moved =
    report.device === undefined
      ? ''
      : `; ${plural(report.doorbells, 'doorbell')}, ${plural(report.commands, 'command')}, ${human(report.copiedBytes, 'bytes')} copied by the host`
  const lines = [
    `${plural(nodes, 'node')} of the model ${nodes === 1 ? 'is' : 'are'} ${plural(report.operators.length, 'operator')}: ${where}${moved}`,
    latencyText(latency, repeat),
  ]
  for (const [name, rows] of Object.entries(tops)) {
    for (const [row, guesses] of rows.slice(0, TOLD_ROWS).entries()) {
      const said = guesses.map(
        ({ index, label, score }) => `${label === undefined ? index : clean(label)} (${short(score)})`,
      )
      lines.push(`${clean(name)}${rows.length > 1 ? `[${row}]` : ''}: ${said.join(', ')}`)
    }
    if (rows.length > TOLD_ROWS) lines.push(`${clean(name)}: and ${rows.length - TOLD_ROWS} more`)
  }
  return lines
}
