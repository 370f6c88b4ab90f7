import { closeSync, openSync, statSync, writeFileSync } from 'node:fs'
import { extname } from 'node:path'
import {
  PerfettoTrace,
  type Told,
  type Topic,
  type TraceBatch,
  TraceFile,
  TraceStory,
  TraceWriter,
  topics,
} from '@uaccel/trace'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { Command } from 'commander'
import { type CommonNode, type FolderFlag, nodeHelp, nodeOptions, openNode } from '../nodes/find.js'
import { type Colors, colorsOf, exitCodes, hex, noColor, note, printSchema, report } from '../output.js'
import { clean } from '../text.js'
import { interrupted, pause, positive } from './loop.js'

interface TraceFlags extends FolderFlag, Partial<Record<Topic, boolean>> {
  file?: string
  output?: string
  json?: boolean
  count?: number
}

/** How often a ring is looked at: it holds 65,536 records, which are more than come meanwhile. */
const LOOK_MS = 20

/** `uaccel trace`: what a device and its driver do, as it happens or as it happened. */
export function traceCommand(command: Command): void {
  nodeOptions(command.argument('[node]', nodeHelp))
    .option(
      '--file <path>',
      'read a trace from a file, such as one that a crash has left, in place of a node',
    )
    .option(
      '-o, --output <file>',
      'write it: FILE.json for Perfetto, FILE.uatrace to read it again with --file',
    )
    .option('--mmio', 'accesses of registers and device memory')
    .option('--irq', 'interrupts')
    .option('--dma', 'DMA mappings')
    .option('--commands', "commands of the driver's uAPI")
    .option('--queue', 'jobs: submitted, given to the device, completed')
    .option('-c, --count <n>', 'end after so many', positive)
    .option('--json', 'as JSON, an object in a line, schema uaccel.trace/1')
    .option(...noColor)
    .addHelpText(
      'after',
      `
Everything is shown unless some of it is chosen. The server of the node writes
a ring in memory while anybody traces, and no longer; root may trace, and the
user of the server. What clients do in queues of their own, and worker threads
of a driver, is not seen. Ends on SIGINT with 0, with ${exitCodes.gone.code} when the device or its
server went away: what was written before that is shown.

A program of its own is traced by UACCEL_TRACE=FILE, from its first access on:
the file stays, however the program ends.

Examples:
  uaccel trace accel0
  uaccel trace accel0 --queue --irq
  uaccel trace accel0 --output trace.json     then open it on ui.perfetto.dev
  UACCEL_TRACE=digits.uatrace npm start; uaccel trace --file digits.uatrace
  uaccel trace --file /run/uaccel/accel0.trace    after a crash of its server`,
    )
    .action(run)
}

async function run(named: string | undefined, flags: TraceFlags): Promise<void> {
  checkOutput(flags)
  if ((named === undefined) === (flags.file === undefined)) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      'A trace is that of a node, or of a file: name one of them, such as `uaccel trace accel0` or `uaccel trace --file PATH`',
    )
  }
  if (flags.file !== undefined) {
    using file = TraceFile.open(flags.file)
    const shown = new Shown(file, flags, sinksOf(flags, flags.file))
    while (shown.take(file.read()) > 0 && !shown.full);
    shown.end()
    return
  }
  const signal = interrupted()
  const node = await openNode(named!, flags)
  try {
    await follow(node, flags, signal)
  } finally {
    await node.close()
  }
}

/** Shows what a served device does until it ends. */
async function follow(node: CommonNode, flags: TraceFlags, signal: AbortSignal): Promise<void> {
  const { fd, path } = await node.common('trace', { flags: {} })
  if (fd === null) throw accelError('ERR_ACCEL_PROTOCOL', `${node.name} answered a trace without its file`)
  using file = new TraceFile(fd, path)
  const shown = new Shown(file, flags, sinksOf(flags, path))
  let gone: AccelError | undefined
  void node.lost.then((reason) => {
    gone = reason
  })
  if (!flags.json) note(`Tracing ${clean(node.name)}; ^C ends.`)
  while (!shown.full) {
    const ended = signal.aborted || gone !== undefined
    const count = shown.take(file.read())
    if (count > 0) continue
    if (ended) break
    await pause(LOOK_MS, signal)
  }
  shown.end()
  if (gone === undefined || signal.aborted || shown.full) return
  report(gone)
  process.exitCode = exitCodes.gone.code // whatever ended it, also a server that was stopped
}

/** Where a trace goes. */
interface Sink {
  /** Some of it, in order, with what it tells; `lost` records came before it. */
  take(batch: TraceBatch, told: readonly Told[], file: TraceFile): void
  end(file: TraceFile): void
}

function checkOutput({ output }: TraceFlags): void {
  if (output === undefined || ['.json', '.uatrace'].includes(extname(output))) return
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `A trace is written to FILE.json, for Perfetto, or FILE.uatrace, found ${output}`,
  )
}

/** Where the trace at `input` goes. Files are made at once: one that cannot be is not found out when the trace is over. */
function sinksOf({ output, json }: TraceFlags, input: string): Sink[] {
  const lines = json ? jsonLines() : undefined
  if (output === undefined) return [lines ?? textLines(colorsOf(process.stdout))]
  if (isSameFile(input, output)) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `${output} is the trace that is read, and would be overwritten: name another file`,
    )
  }
  return [extname(output) === '.json' ? perfetto(output) : binary(output), ...(lines ? [lines] : [])]
}

function isSameFile(one: string, other: string): boolean {
  const [a, b] = [one, other].map((path) => statSync(path, { throwIfNoEntry: false }))
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino
}

/** What is wanted of a trace, on its way to where it goes. */
class Shown {
  /** As many as were wanted. */
  full = false
  readonly #file: TraceFile
  readonly #sinks: readonly Sink[]
  readonly #story: TraceStory
  readonly #wanted: ReadonlySet<string> | undefined
  #left: number

  constructor(file: TraceFile, flags: TraceFlags, sinks: readonly Sink[]) {
    const chosen = topics.filter((topic) => flags[topic])
    this.#file = file
    this.#sinks = sinks
    this.#story = new TraceStory(file.names)
    this.#wanted = chosen.length > 0 ? new Set(chosen) : undefined
    this.#left = flags.count ?? Number.POSITIVE_INFINITY
  }

  /** Answers how many there were, whether or not they were wanted. */
  take({ events, lost }: TraceBatch): number {
    const told: Told[] = []
    const kept = events.filter((event) => {
      if (this.#left === 0) return false
      const each = this.#story.tell(event)
      if (this.#wanted !== undefined && !this.#wanted.has(each.topic)) return false
      this.#left--
      told.push(each)
      return true
    })
    this.full = this.#left === 0
    if (kept.length > 0 || lost > 0)
      for (const sink of this.#sinks) sink.take({ events: kept, lost }, told, this.#file)
    return events.length
  }

  end(): void {
    for (const sink of this.#sinks) sink.end(this.#file)
  }
}

function textLines(colors: Colors): Sink {
  let firstNs: bigint | undefined
  let sum = 0
  const paint = { mmio: colors.dim, irq: colors.yellow, dma: colors.magenta, commands: colors.cyan } as const
  return {
    take({ lost }, told) {
      if (lost > 0) note(`${lost} records were lost: they were overwritten before they were read.`)
      const lines = told.map(({ timeNs, lane, topic, text, details }) => {
        firstNs ??= timeNs
        const failed = 'error' in details
        const colour = failed ? colors.red : (paint[topic as keyof typeof paint] ?? ((line: string) => line))
        return colour(`${seconds(timeNs - firstNs)}  ${lane.padEnd(8)}  ${clean(text)}`)
      })
      if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`)
      sum += told.length
    },
    end({ names, namesLost }) {
      if (namesLost > 0)
        note(`${namesLost} lines of names had no room in the trace: it shows numbers in their place.`)
      if (names.unknown > 0) note(`${names.unknown} lines of its names are none that this program knows.`)
      if (sum === 0) note('Nothing of that is in the trace.')
    },
  }
}

/** 1234567 ns -> `     0.001234`. */
function seconds(ns: bigint): string {
  const us = ns / 1000n
  return `${us / 1_000_000n}.${`${us % 1_000_000n}`.padStart(6, '0')}`.padStart(13)
}

function jsonLines(): Sink {
  return {
    take({ lost }, told) {
      if (lost > 0) printSchema('uaccel.trace/1', { lost }, 0)
      for (const { timeNs, kind, topic, lane, details, latency } of told) {
        const shown = { timeNs: Number(timeNs), kind, topic, lane, ...details, ...latency }
        printSchema('uaccel.trace/1', plain(shown), 0)
      }
    },
    end() {},
  }
}

const plain = (value: object): object =>
  Object.fromEntries(
    Object.entries(value).map(([key, each]) => [key, typeof each === 'bigint' ? hex(each) : each]),
  )

function perfetto(output: string): Sink {
  const fd = writing(output, () => openSync(output, 'w'))
  let trace: PerfettoTrace | undefined
  let count = 0
  return {
    take({ events, lost }, _told, { names }) {
      trace ??= new PerfettoTrace(names)
      trace.add(events, lost)
      count += events.length
    },
    end({ names }) {
      writing(output, () => {
        for (const part of jsonParts((trace ?? new PerfettoTrace(names)).toJSON())) writeFileSync(fd, part)
      })
      closeSync(fd)
      note(`${output}: ${count} records, for ui.perfetto.dev or chrome://tracing`)
    },
  }
}

/** Events of one part of the JSON: all of a long trace are more than a string has room for. */
const PART_EVENTS = 10_000

function* jsonParts({ traceEvents, ...rest }: ReturnType<PerfettoTrace['toJSON']>): Generator<string> {
  yield `${JSON.stringify(rest).slice(0, -1)},"traceEvents":[`
  for (let from = 0; from < traceEvents.length; from += PART_EVENTS) {
    const part = JSON.stringify(traceEvents.slice(from, from + PART_EVENTS)).slice(1, -1)
    yield from === 0 ? part : `,${part}`
  }
  yield ']}'
}

function writing<T>(output: string, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    const kind = code === 'ENOENT' ? 'ERR_ACCEL_NOT_FOUND' : 'ERR_ACCEL_IO'
    throw accelError(kind, `${output} cannot be written: ${message}`, { cause })
  }
}

function binary(output: string): Sink {
  const writer = new TraceWriter(output)
  let count = 0
  return {
    take({ events, lost }, _told, { names, realtimeNs }) {
      writer.add(events, lost, names.lines, realtimeNs)
      count += events.length
    },
    end({ names, realtimeNs }) {
      if (count === 0) writer.add([], 0, names.lines, realtimeNs)
      writer.close()
      note(`${output}: ${count} records, for \`uaccel trace --file\``)
    },
  }
}
