import { SingleBar } from 'cli-progress'
import Table from 'cli-table3'
import type { Result } from './classify.js'
import { drawDigits, type Picture } from './draw.js'
import type { Engine } from './engine.js'
import type { Digits } from './idx.js'

/** What `--json` prints. */
export interface Summary {
  readonly device: string
  readonly transport: string
  readonly images: number
  /** 0..1 */
  readonly accuracy: number
  readonly mismatches: number
  readonly imagesPerSecond: number
  readonly hostMicrosPerImage: number
}

/** Does `work` with a bar on stderr, where that is a terminal; `work` calls its argument after each of `total` items, or after so many. */
export async function withProgress<T>(
  label: string,
  total: number,
  work: (step: (count?: number) => void) => T | Promise<T>,
): Promise<T> {
  if (!process.stderr.isTTY) return await work(() => {})
  const bar = new SingleBar({
    format: `${label} {bar} {value}/{total}, {duration_formatted}`,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  })
  bar.start(total, 0)
  try {
    return await work((count) => bar.increment(count))
  } finally {
    bar.stop()
  }
}

export function summarise(engine: Engine, digits: Digits, result: Result, mismatches: number): Summary {
  const { answers, seconds, hostMicros } = result
  const right = answers.reduce((count, answer, i) => count + (answer === digits.labels[i] ? 1 : 0), 0)
  const rounded = (value: number, places: number) => Number(value.toFixed(places))
  return {
    device: engine.device,
    transport: engine.transport,
    images: digits.count,
    accuracy: rounded(right / digits.count, 6),
    mismatches,
    imagesPerSecond: rounded(digits.count / seconds, 1),
    hostMicrosPerImage: rounded(hostMicros / digits.count, 1),
  }
}

/** The first digits with the answers, and the first that was read wrongly, if any was. */
export function picturesOf({ labels }: Digits, { answers }: Result, count: number): Picture[] {
  const caption = (index: number) =>
    answers[index] === labels[index]
      ? `read as ${answers[index]}`
      : `${labels[index]} read as ${answers[index]}!`
  const wrong = answers.findIndex((answer, i) => answer !== labels[i])
  const indices = Array.from({ length: Math.min(count, answers.length) }, (_, i) => i)
  if (wrong >= indices.length) indices[indices.length - 1] = wrong
  return indices.map((index) => ({ index, caption: caption(index) }))
}

export function printReport(digits: Digits, result: Result, summary: Summary): void {
  const terminal = process.stdout.isTTY === true
  const colour = terminal && !process.env.NO_COLOR
  const width = process.stdout.columns ?? 80
  const pictures = picturesOf(digits, result, Math.max(1, Math.floor((width + 2) / 24)))
  const table = new Table({
    // No lines between the rows.
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    style: { head: [], border: colour ? ['grey'] : [] },
  })
  const { deviceMicros } = result
  const device =
    deviceMicros === undefined ? [] : [['in the device', `${micros(deviceMicros / digits.count)} per image`]]
  table.push(
    ['device', summary.device],
    ['transport', summary.transport],
    ['images', `${summary.images}, held out from training`],
    ['accuracy', `${(summary.accuracy * 100).toFixed(2)} %`],
    ['images/s', summary.imagesPerSecond.toFixed(0)],
    ...device,
    ['in the host', `${micros(summary.hostMicrosPerImage)} per image`],
    ['mismatches', `${summary.mismatches} against the CPU reference`],
  )
  process.stdout.write(`${drawDigits(digits, pictures, { width, colour })}\n\n${table}\n`)
}

function micros(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} us`
}
