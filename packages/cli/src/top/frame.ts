import { whyNot } from '../nodes/roll.js'
import type { Colors } from '../output.js'
import { clean, clip, type GridColumn, grid, pad, width } from '../text.js'
import { clock, human, short } from '../units.js'
import { type ClientRow, clientRows, type DeviceRow, deviceRow, engineRows } from './rates.js'
import type { NodeView } from './watch.js'

/** What clients can be sorted by. */
export const orders = ['busy', 'done', 'memory', 'node', 'pid', 'user', 'time'] as const
export type Order = (typeof orders)[number]

/** What a person chose. */
export interface Choices {
  readonly order: Order
  readonly reversed: boolean
  readonly paused: boolean
  readonly help: boolean
  /** Clients above the first that is shown. */
  readonly scroll: number
  readonly intervalS: number
}

/** Where it is shown: a batch has rows without end, and no keys. */
export interface Place {
  readonly columns: number
  readonly rows: number
  readonly colors: Colors
}

const keys = 'q quit  space pause  left/right sort  r reverse  up/down scroll  ? help'

const help = [
  'q              quit',
  'space          pause, go on',
  'left, right    sort clients by another column',
  'b d m n p u t  sort by busy, done, memory, node, PID, user, time',
  'r              reverse',
  'up, down       scroll clients; page up, page down',
  '?              this help, and back',
  '',
  'BUSY    how busy the busiest engine was, in all and for a client',
  'DONE/S  commands and jobs that ended in a second',
  'IRQ/S   interrupts that the device fired in a second',
  'TIME    since the client opened the node',
  '',
  'What a device or its driver does not tell is -, or left out.',
]

/** A screen, as lines of at most so many columns, and no more of them than there are rows. */
export function frame(views: readonly NodeView[], choices: Choices, place: Place): string[] {
  const { columns, rows, colors } = place
  const devices = views.map((view) => deviceRow(view, stateOf(view)))
  const clients = sorted(views.flatMap(clientRows), choices)
  const lines = [title(devices.length, clients.length, choices, place), '']
  if (choices.help) lines.push(...help.map((line) => clip(line, columns)))
  else {
    lines.push(...headed(deviceTable(devices, place), place), '')
    // Half of what is left at most: clients want the rest.
    const room = Math.max(1, Math.floor((rows - lines.length - FOOT) / 2) - 2)
    const engines = views.flatMap(engineRows)
    lines.push(...headed(engineTable(engines.slice(0, room), place), place))
    lines.push(
      engines.length > room ? colors.dim(clip(`and ${engines.length - room} more engines`, columns)) : '',
    )
    const left = rows - lines.length - FOOT - 1
    const from = Math.min(choices.scroll, Math.max(0, clients.length - 1))
    lines.push(...headed(clientTable(clients.slice(from, from + Math.max(0, left)), place), place))
    if (clients.length === 0) lines.push(colors.dim(clip('no client but this one', columns)))
  }
  if (rows === Number.POSITIVE_INFINITY) return lines
  const shown = lines.slice(0, Math.max(0, rows - 1))
  while (shown.length < rows - 1) shown.push('')
  return [...shown, colors.dim(clip(keys, columns))]
}

/** Lines below the clients. */
const FOOT = 1

function title(
  devices: number,
  clients: number,
  { order, paused, intervalS }: Choices,
  { columns, colors }: Place,
): string {
  const count = (n: number, what: string) => `${n} ${what}${n === 1 ? '' : 's'}`
  const left = `uaccel top  ${new Date().toTimeString().slice(0, 8)}  ${count(devices, 'device')}, ${count(clients, 'client')}`
  const right = `${paused ? 'PAUSED' : `each ${intervalS} s`}, by ${order}`
  const space = columns - width(left) - width(right)
  if (space < 2) return colors.bold(clip(left, columns))
  return `${colors.bold(left)}${' '.repeat(space)}${paused ? colors.yellow(right) : right}`
}

function headed([head, ...rows]: readonly string[], { columns, colors }: Place): string[] {
  return [colors.isColorSupported ? colors.inverse(pad(head ?? '', columns)) : (head ?? ''), ...rows]
}

const stateOf = ({ now, error }: NodeView) => (error ? whyNot(error) : (now?.answers.status?.state ?? '-'))

const percent = (part: number | undefined) => (part === undefined ? '-' : `${(part * 100).toFixed(1)}%`)
const perSecond = (value: number | undefined) =>
  value === undefined ? '-' : value < 10_000 ? `${Math.round(value)}` : `${short(value / 1000)}k`
const bytes = (value: number | undefined) => (value === undefined ? '-' : human(value, 'bytes'))

/** A share, green to red. */
const heat = (colors: Colors, part: number | undefined) =>
  part === undefined ? colors.dim : part >= 0.9 ? colors.red : part >= 0.5 ? colors.yellow : colors.green

interface TopColumn<R> extends Omit<GridColumn, 'paint'> {
  readonly text: (row: R) => string
  readonly color?: (row: R) => (text: string) => string
  /** Left out where no row has it. */
  readonly optional?: boolean
}

function tableOf<R>(columns: readonly TopColumn<R>[], rows: readonly R[], maxColumns: number): string[] {
  const present = columns.filter(({ optional, text }) => !optional || rows.some((row) => text(row) !== '-'))
  return grid(
    present.map(({ color, ...column }) => ({
      ...column,
      ...(color ? { paint: (cell: string, row: number) => color(rows[row]!)(cell) } : {}),
    })),
    rows.map((row) => present.map(({ text }) => clean(text(row)))),
    maxColumns,
  )
}

function deviceTable(rows: readonly DeviceRow[], { columns, colors }: Place): string[] {
  const good = (state: string) => (state === 'operational' ? colors.green : colors.yellow)
  return tableOf(
    [
      { head: 'NODE', text: ({ target }) => target },
      { head: 'DEVICE', flexible: true, text: ({ name }) => name },
      {
        head: 'BUSY',
        align: 'right',
        text: ({ busy }) => percent(busy),
        color: ({ busy }) => heat(colors, busy),
      },
      {
        head: 'MEMORY',
        align: 'right',
        optional: true,
        text: ({ usedBytes, totalBytes }) =>
          totalBytes === undefined
            ? '-'
            : usedBytes === undefined
              ? bytes(totalBytes)
              : `${bytes(usedBytes)} of ${bytes(totalBytes)}`,
      },
      { head: 'QUEUES', align: 'right', optional: true, text: ({ queues }) => queues ?? '-' },
      {
        head: 'TEMP',
        align: 'right',
        optional: true,
        text: ({ temperature }) => (temperature === undefined ? '-' : `${short(temperature)}C`),
      },
      {
        head: 'POWER',
        align: 'right',
        optional: true,
        text: ({ watts }) => (watts === undefined ? '-' : human(watts, 'W')),
      },
      { head: 'DONE/S', align: 'right', text: ({ commands }) => perSecond(commands) },
      { head: 'IRQ/S', align: 'right', optional: true, text: ({ interrupts }) => perSecond(interrupts) },
      { head: 'STATE', flexible: true, text: ({ state }) => state, color: ({ state }) => good(state) },
    ],
    rows,
    columns,
  )
}

const BAR = 30

function engineTable(rows: ReturnType<typeof engineRows>, { columns, colors }: Place): string[] {
  const bar = (busy = 0) => `[${'|'.repeat(Math.round(busy * BAR)).padEnd(BAR)}]`
  return tableOf(
    [
      { head: 'NODE', text: ({ target }) => target },
      {
        head: 'ENGINE',
        flexible: true,
        text: ({ name, instances }) => (instances > 1 ? `${name} x ${instances}` : name),
      },
      {
        head: ' BUSY',
        align: 'right',
        text: ({ busy }) => percent(busy),
        color: ({ busy }) => heat(colors, busy),
      },
      { head: '', text: ({ busy }) => bar(busy), color: ({ busy }) => heat(colors, busy) },
    ],
    rows,
    columns,
  )
}

function clientTable(rows: readonly ClientRow[], { columns, colors }: Place): string[] {
  const nowNs = BigInt(Date.now()) * 1_000_000n
  return tableOf(
    [
      { head: 'NODE', text: ({ target }) => target },
      { head: 'PID', align: 'right', text: ({ pid }) => `${pid ?? '-'}` },
      { head: 'USER', text: ({ user }) => clip(user, 10) },
      {
        head: ' BUSY',
        align: 'right',
        text: ({ busy }) => percent(busy),
        color: ({ busy }) => heat(colors, busy),
      },
      { head: 'DONE/S', align: 'right', text: ({ commands }) => perSecond(commands) },
      { head: 'MEMORY', align: 'right', optional: true, text: ({ memoryBytes }) => bytes(memoryBytes) },
      { head: 'TIME', align: 'right', text: ({ openedNs }) => clock(Number(nowNs - openedNs)) },
      { head: 'COMMAND', flexible: true, text: ({ command }) => command },
    ],
    rows,
    columns,
  )
}

/** Large numbers first, names and numbers of processes upwards. */
const keyOf: { readonly [O in Order]: (row: ClientRow) => number | string } = {
  busy: ({ busy = -1 }) => -busy,
  done: ({ commands = -1 }) => -commands,
  memory: ({ memoryBytes = -1 }) => -memoryBytes,
  node: ({ target }) => target,
  pid: ({ pid = -1 }) => pid,
  user: ({ user }) => user,
  time: ({ openedNs }) => Number(openedNs),
}

function sorted(rows: readonly ClientRow[], { order, reversed }: Choices): ClientRow[] {
  const key = keyOf[order]
  const sign = reversed ? -1 : 1
  // Equal ones keep their order, so that lines do not jump.
  return [...rows].sort((a, b) => (key(a) < key(b) ? -sign : key(a) > key(b) ? sign : 0))
}
