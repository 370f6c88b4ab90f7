import type { Colors } from '../output.js'
import { clean, clip, grid, pad, width, wrap } from '../text.js'
import { human, jsonName, machine, recentTime } from '../units.js'
import type { Snapshot } from './ask.js'
import type { Cell, Entry, Item, Section } from './section.js'
import { sections } from './sections.js'

/** What `info` tells: the summary repeats it. */
export const told = sections.filter(({ name }) => name !== 'summary')

const INDENT = '  '
/** In a terminal that has less, lines are broken by the terminal: labels alone would fill it. */
const LEAST_COLUMNS = 40
/** Values that are longer take a line for themselves. */
const SHORT = 18

/** All that is known of a node, in lines of at most so many columns. */
export function infoLines(snapshot: Snapshot, maxColumns: number, colors: Colors): string[] {
  const columns = Math.max(LEAST_COLUMNS, maxColumns)
  const { name = '' } = snapshot.answers.identity ?? {}
  const lines = [
    `${colors.bold(snapshot.node)}  ${clip(clean(name), columns - width(snapshot.node) - INDENT.length)}`.trimEnd(),
  ]
  for (const section of told) {
    const entries = section.entries(snapshot).filter(({ cells }) => cells.size > 0)
    if (entries.length === 0) continue
    const room = columns - 2 * INDENT.length
    const body = section.list
      ? tableOf(section, entries, room, colors)
      : pairsOf(section, entries[0]!, room, colors)
    lines.push(INDENT + colors.cyan(section.title), ...body.map((line) => INDENT + INDENT + line))
  }
  if (snapshot.failures.length > 0) {
    lines.push(INDENT + colors.yellow('Not known'))
    for (const { what, error } of snapshot.failures) {
      const text = wrap(`${what}: ${clean(error.message)} (${error.code})`, columns - 3 * INDENT.length)
      lines.push(...text.map((line, i) => INDENT + INDENT + (i === 0 ? '' : INDENT) + line))
    }
  }
  return lines
}

const shown = ({ value, unit }: Cell) => (unit === 'time' ? recentTime(BigInt(value)) : human(value, unit))

/** `label  value`, short ones two in a line, long ones on lines of their own. */
function pairsOf({ items }: Section, { cells }: Entry, columns: number, colors: Colors): string[] {
  const present = items.filter(({ key }) => cells.has(key))
  const labels = Math.max(...present.map(({ label }) => width(label))) + 2
  const half = labels + SHORT + 2
  const lines: string[] = []
  let open = false
  for (const { key, label } of present) {
    const text = shown(cells.get(key)!)
    const head = colors.dim(pad(label, labels))
    if (width(text) > SHORT || 2 * half > columns) {
      const [first, ...more] = wrap(text, columns - labels)
      lines.push(head + first, ...more.map((line) => ' '.repeat(labels) + line))
      open = false
    } else if (open) {
      lines[lines.length - 1] += head + text
      open = false
    } else {
      lines.push(head + pad(text, half - labels))
      open = true
    }
  }
  return lines.map((line) => line.trimEnd())
}

/** Rows that a person reads of a list: histories and interrupt vectors have more. */
const MOST = 16

/** A column for each item that is known of any entry; those whose texts are long are the ones that are cut. */
function tableOf({ items }: Section, entries: readonly Entry[], columns: number, colors: Colors): string[] {
  const present = items.filter(({ key, terse }) => !terse && entries.some(({ cells }) => cells.has(key)))
  const numeric = ({ key }: Item) =>
    entries.every(({ cells }) => ['number', 'bigint', 'undefined'].includes(typeof cells.get(key)?.value))
  const [head, ...rows] = grid(
    present.map((item) => ({
      head: item.label,
      align: numeric(item) && item.unit !== 'time' ? 'right' : 'left',
      flexible: ['name', 'command', 'reason', 'user'].includes(item.key),
    })),
    entries.slice(0, MOST).map(({ cells }) =>
      present.map(({ key }) => {
        const cell = cells.get(key)
        return cell === undefined ? '-' : shown(cell)
      }),
    ),
    columns,
  )
  const left = entries.length - MOST
  return [colors.dim(head!), ...rows, ...(left > 0 ? [colors.dim(`and ${left} more: --json tells all`)] : [])]
}

type Json = Readonly<Record<string, unknown>>

/** The same for programs: an object for each section, or a list of them; what is not known is absent. */
export function infoJson(snapshot: Snapshot): Json {
  const json: Record<string, unknown> = {}
  for (const section of told) {
    const entries = section.entries(snapshot).map((entry) => jsonOf(section, entry))
    if (section.list) {
      if (entries.length > 0) json[section.name] = entries
    } else if (entries[0] && Object.keys(entries[0]).length > 0) json[section.name] = entries[0]
  }
  if (snapshot.failures.length > 0) {
    json.failures = snapshot.failures.map(({ what, error }) => ({
      what,
      code: error.code,
      message: error.message,
    }))
  }
  return json
}

function jsonOf({ items }: Section, { cells }: Entry): Json {
  const json: Record<string, unknown> = {}
  for (const { key, unit } of items) {
    const cell = cells.get(key)
    if (cell === undefined) continue
    json[jsonName(key, unit)] = machine(cell.value, cell.unit)
    if (unit === 'own' && cell.unit !== undefined) json.unit = cell.unit
  }
  return json
}
