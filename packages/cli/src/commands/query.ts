import { once } from 'node:events'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { ask, isGone, PATIENCE_MS, type Snapshot, settle } from '../nodes/ask.js'
import { type Field, fieldHelp, fieldOf, nearest, wantedBy } from '../nodes/fields.js'
import { chosenNodes, type FolderFlag, nodeHelp, nodeOptions, openNodes } from '../nodes/find.js'
import type { Cell } from '../nodes/section.js'
import { exitCodeOf, printSchema, report } from '../output.js'
import { COLUMNS, grid, wrap } from '../text.js'
import { human, machine } from '../units.js'
import { interrupted, pause, positive, seconds } from './loop.js'

interface QueryFlags extends FolderFlag {
  fields?: readonly Field[] | 'help'
  helpFields?: boolean
  format: 'csv' | 'json' | 'table'
  header: boolean
  units: boolean
  loop?: number
  count?: number
}

/** `uaccel query`: what a script wants to know. */
export function queryCommand(command: Command): void {
  nodeOptions(command.argument('[nodes...]', `${nodeHelp}; all, unless told`))
    .option('--fields <names>', 'what to tell, with commas between; help lists what there is', parseFields)
    .option('--help-fields', 'list the fields, their units and meaning')
    .addOption(new Option('--format <format>', 'how').choices(['csv', 'json', 'table']).default('csv'))
    .option('--no-header', 'without the line of names')
    .option('--no-units', 'numbers alone: units stand in the header')
    .option('-l, --loop <seconds>', 'again each so many seconds, until SIGINT', seconds)
    .option('-c, --count <n>', 'how often; with --loop, else each second', positive)
    .addHelpText(
      'after',
      `
What a device does not know is N/A in csv, - in a table and null in JSON.
JSON has schema uaccel.query/1; with --loop it is one object in a line.

Examples:
  uaccel query --fields node,name,utilisation,memory.used
  uaccel query --fields timestamp,engine.npu.utilisation --loop 5 accel0
  uaccel query --fields attr.queues/inUse --no-header --no-units`,
    )
    .action(async (nodes: string[], flags: QueryFlags) => {
      if (flags.helpFields || flags.fields === 'help') return tellFields()
      const { fields } = flags
      if (fields === undefined)
        command.error('error: no --fields: uaccel query --help-fields lists what there is', { exitCode: 2 })
      await run(nodes, fields, flags)
    })
}

function parseFields(text: string): readonly Field[] | 'help' {
  if (text === 'help') return 'help'
  return text.split(',').map((part) => {
    const name = part.trim()
    const found = fieldOf(name)
    if (found) return found
    const like = nearest(
      name,
      fieldHelp.map((each) => each.name),
    )
    const hint = like.length > 0 ? ` Did you mean ${like.join(', ')}?` : ''
    throw new InvalidArgumentError(
      `There is no field ${JSON.stringify(name)}.${hint} All: uaccel query --help-fields`,
    )
  })
}

function tellFields(): void {
  const names = Math.max(...fieldHelp.map(({ name }) => name.length))
  const units = Math.max(...fieldHelp.map(({ unit = '' }) => unit.length))
  const margin = 2 + names + 2 + units + 2
  const lines: string[] = []
  let last = ''
  for (const { name, unit = '', meaning, title } of fieldHelp) {
    if (title !== last) lines.push(...(last === '' ? [] : ['']), title)
    last = title
    const [first, ...more] = wrap(meaning, COLUMNS - margin)
    lines.push(
      `  ${name.padEnd(names)}  ${unit.padEnd(units)}  ${first}`,
      ...more.map((text) => ' '.repeat(margin) + text),
    )
  }
  lines.push('', 'NAME stands for the names that `uaccel info` shows: engine.npu.utilisation.')
  process.stdout.write(`${lines.join('\n')}\n`)
}

async function run(named: readonly string[], fields: readonly Field[], flags: QueryFlags): Promise<void> {
  const { loop, count = loop === undefined ? 1 : Number.POSITIVE_INFINITY } = flags
  const wanted = wantedBy(fields)
  const clients = await openNodes(chosenNodes(named, flags), flags)
  const signal = interrupted()
  let failed: AccelError | undefined
  try {
    await settle(clients, wanted)
    const everyMs = (loop ?? 1) * 1000
    const start = performance.now()
    for (let round = 0; round < count && clients.length > 0 && !signal.aborted; round++) {
      // A late round moves none of the later ones.
      if (round > 0) await pause(start + round * everyMs - performance.now(), signal)
      if (signal.aborted) break
      const snapshots: Snapshot[] = []
      for (const client of [...clients]) {
        try {
          snapshots.push(await ask(client, wanted, { signal, timeoutMs: PATIENCE_MS }))
        } catch (error) {
          if (signal.aborted) break
          if (!isAccelError(error)) throw error
          // The others are told as before; one that only did not answer is asked again.
          if (isGone(error)) clients.splice(clients.indexOf(client), 1)
          failed ??= error
          report(error)
        }
      }
      if (signal.aborted) break
      if (snapshots.length === 0) continue
      for (const { node, failures } of round === 0 ? snapshots : [])
        for (const { error } of failures) warn(node, error)
      await print(snapshots, fields, flags, round === 0)
    }
  } finally {
    await Promise.all(clients.map((client) => client.close()))
  }
  if (failed && !signal.aborted) process.exitCode ||= exitCodeOf(failed)
}

/** What a device cannot tell is no reason to end, and no secret. */
function warn(node: string, error: AccelError): void {
  report(accelError(error.code, `${node}: ${error.message}`, { cause: error }))
}

async function print(
  snapshots: readonly Snapshot[],
  fields: readonly Field[],
  flags: QueryFlags,
  first: boolean,
): Promise<void> {
  const rows = snapshots.map((snapshot) => fields.map((field) => field.read(snapshot)))
  if (flags.format === 'json') {
    const nodes = rows.map((cells, i) => ({
      node: snapshots[i]!.node,
      fields: Object.fromEntries(fields.map(({ name }, k) => [name, jsonCell(cells[k])])),
    }))
    const units = Object.fromEntries(
      fields.flatMap(({ name, unit }, k) => {
        const known = unit ?? rows.find((cells) => cells[k])?.[k]?.unit
        return known === undefined || known === 'time' ? [] : [[name, known]]
      }),
    )
    printSchema('uaccel.query/1', { units, nodes }, flags.loop === undefined ? 2 : 0)
  } else if (flags.format === 'csv') {
    const lines = rows.map((cells) => cells.map((cell) => quoted(csvCell(cell, flags.units))).join(','))
    if (first && flags.header)
      lines.unshift(fields.map((field) => quoted(headOf(field, rows, fields))).join(','))
    process.stdout.write(`${lines.join('\n')}\n`)
  } else {
    const columns = fields.map((field, k) => ({
      head: field.name,
      align: rows.every((cells) => field.unit === 'time' || typeof (cells[k]?.value ?? 0) === 'string')
        ? ('left' as const)
        : ('right' as const),
    }))
    const text = rows.map((cells) =>
      cells.map((cell) =>
        cell === undefined
          ? '-'
          : flags.units
            ? human(cell.value, cell.unit)
            : `${machine(cell.value, cell.unit)}`,
      ),
    )
    const lines = grid(columns, text, Number.POSITIVE_INFINITY)
    process.stdout.write(`${(first && flags.header ? lines : lines.slice(1)).join('\n')}\n`)
  }
  // Who reads slowly is waited for.
  if (process.stdout.writableNeedDrain) await once(process.stdout, 'drain')
}

const jsonCell = (cell: Cell | undefined) => (cell === undefined ? null : machine(cell.value, cell.unit))

function csvCell(cell: Cell | undefined, units: boolean): string {
  if (cell === undefined) return 'N/A'
  const value = `${machine(cell.value, cell.unit)}`
  return units && cell.unit !== undefined && cell.unit !== 'time' ? `${value} ${cell.unit}` : value
}

/** `memory.used [bytes]`. */
function headOf(
  { name, unit }: Field,
  rows: readonly (readonly (Cell | undefined)[])[],
  fields: readonly Field[],
): string {
  const k = fields.findIndex((field) => field.name === name)
  const known = unit ?? rows.find((cells) => cells[k])?.[k]?.unit
  return known === undefined || known === 'time' ? name : `${name} [${known}]`
}

/** As in RFC 4180. */
const quoted = (text: string) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)
