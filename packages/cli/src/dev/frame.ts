import type { Colors } from '../output.js'
import { clean, clip, pad, width } from '../text.js'
import { clock, duration } from '../units.js'
import type { Line } from './messages.js'
import type { DevState, ShownValue } from './state.js'

/** What a person chose. */
export interface Choices {
  readonly help: boolean
  /** Lines that have this in them are shown. */
  readonly filter: string
  /** A filter that is being typed. */
  readonly typing: string | undefined
  /** Lines below the last that is shown. */
  readonly scroll: number
}

export interface Place {
  readonly columns: number
  readonly rows: number
  readonly colors: Colors
  readonly nowMs: number
}

/** What stands over the screen. */
export interface Title {
  readonly name: string
  readonly path: string
}

const KEYS = 'q quit  r reload  R reset model  t trace  f filter  c clear  up/down scroll  ? help'

const HELP = [
  'r            load the driver anew; the model keeps its state',
  'R            start the model anew, as after power-on, and the driver with it',
  't            trace on, off: what the device saw, and which commands clients called',
  'f            filter: show the lines that have a text in them; Enter takes it, Esc gives up',
  'c            clear the lines',
  'up, down     scroll the lines; page up, page down; G: the latest',
  'q            quit',
  '?            this help, and back',
  '',
  'device   what the model saw: register accesses, DMA, interrupts, violations of its rules',
  'command  what clients of the node called, and what was answered',
  'event    what the driver published',
  'driver   what it wrote with console.log',
  '',
  'After a reload, registers, memory and clock of the model are as before. Interrupts are not',
  'armed, bus mastering is off and no memory is mapped: probe does that anew.',
]

/** How long a value that changed is marked. */
const MARK_MS = 1_500

/** Folders of the attributes that every node has: they come behind the driver's own. */
const COMMON = /^(counters|irqs|dma|queues|jobs)\//
/** Those that never change, and what stands in the lines above. */
const TOLD = /^(identity|opens)\/|^state$|^counters\/opens$/

/** A screen of exactly so many rows, of at most so many columns each. */
export function frame(
  title: Title,
  state: DevState,
  lines: readonly Line[],
  choices: Choices,
  place: Place,
): string[] {
  const { columns, rows } = place
  const head = [titleLine(title, place), ...stateLines(state, place)]
  const half = Math.max(head.length, rows >> 1)
  if (choices.help) head.push('', ...HELP.map((line) => clip(line, columns)))
  else head.push(...attributeLines(state, Math.max(0, half - head.length), place))
  const top = head.slice(0, Math.max(0, rows - 2))
  const room = Math.max(0, rows - top.length - 2)
  const shown = choices.help ? [] : lines.filter((line) => matches(line, choices.filter))
  const end = Math.max(Math.min(room, shown.length), shown.length - choices.scroll)
  const visible = shown.slice(Math.max(0, end - room), end).map((line) => lineText(line, place))
  while (visible.length < room) visible.push('')
  const all = [...top, ruler(state, choices, shown.length - end, place), ...visible, footer(choices, place)]
  return all.slice(-rows)
}

/** Whether a line is one that the filter lets through. */
export const matches = ({ source, text }: Line, filter: string): boolean =>
  filter === '' || `${source} ${text}`.toLowerCase().includes(filter.toLowerCase())

/** A line of the journal for people, of at most so many columns. */
export function lineText(
  { atMs, source, text, count, level }: Line,
  { columns, colors }: Pick<Place, 'columns' | 'colors'>,
): string {
  const times = count > 1 ? `  x ${count}` : ''
  const body = clip(clean(text), Math.max(0, columns - HEAD_COLUMNS - times.length)) + times
  const head = clip(`${timeOf(atMs)}  ${source.padEnd(7)}  `, columns)
  const painted = {
    error: colors.red,
    warning: colors.yellow,
    good: colors.green,
    plain: (each: string) => each,
  }
  return columns <= HEAD_COLUMNS ? head : colors.dim(head) + painted[level](body)
}

const HEAD_COLUMNS = '00:00:00.000  command  '.length

function timeOf(ms: number): string {
  const at = new Date(ms)
  return `${at.toTimeString().slice(0, 8)}.${`${at.getMilliseconds()}`.padStart(3, '0')}`
}

function titleLine({ name, path }: Title, { columns, colors, nowMs }: Place): string {
  const left = clip(`uaccel dev  ${clean(name)}  ${path}`, columns)
  const right = timeOf(nowMs).slice(0, 8)
  const space = columns - width(left) - right.length
  return colors.bold(space < 2 ? left : `${left}${' '.repeat(space)}${right}`)
}

function stateLines({ driver, model, build, status }: DevState, place: Place): string[] {
  const { columns, colors, nowMs } = place
  const since = (ms: number) => (ms === 0 ? '' : ` for ${clock((nowMs - ms) * 1e6)}`)
  const word = (state: string) =>
    state === 'running' || state === 'ok'
      ? colors.green
      : state === 'failed' || state === 'errors'
        ? colors.red
        : colors.yellow
  const line = (label: string, state: string, parts: readonly string[]) => {
    const rest = clean(parts.filter((part) => part !== '').join('  '))
    const start = `${label.padEnd(7)}`
    const room = columns - start.length
    const plain = clip(`${state}${rest === '' ? '' : `  ${rest}`}`, Math.max(0, room))
    return clip(start, columns) + word(state)(plain.slice(0, state.length)) + plain.slice(state.length)
  }
  const silent = status !== undefined && nowMs - status.atMs > SILENT_MS
  const clients = status === undefined ? '' : `${status.opens} client${status.opens === 1 ? '' : 's'}`
  return [
    line('driver', driver.state, [
      silent
        ? 'does not answer: its event loop is blocked'
        : status && status.state !== 'operational'
          ? status.state
          : '',
      driver.name + (driver.state === 'running' ? since(driver.sinceMs) : ''),
      driver.pid === 0 ? '' : `process ${driver.pid}`,
      driver.sinceMs === 0 ? '' : `reloaded ${driver.reloads} x, last start ${duration(driver.tookMs * 1e6)}`,
      clients,
    ]),
    ...(driver.problem === '' ? [] : [colors.red(clip(`       ${clean(driver.problem)}`, columns))]),
    line('model', model.state, [
      model.name + (model.state === 'running' ? since(model.sinceMs) : ''),
      model.pid === 0 ? '' : `process ${model.pid}`,
      `started anew ${model.restarts} x`,
      model.resets === 0 ? '' : `reset ${model.resets} x`,
    ]),
    ...(build.state === 'none'
      ? []
      : [
          line('build', build.state, [
            build.state === 'building'
              ? ''
              : `${timeOf(build.atMs).slice(0, 8)}, took ${duration(build.ms * 1e6)}`,
          ]),
          ...build.errors
            .slice(0, MOST_ERRORS)
            .map((each) => colors.red(clip(`       ${clean(each)}`, columns))),
          ...(build.errors.length > MOST_ERRORS
            ? [clip(`       and ${build.errors.length - MOST_ERRORS} more`, columns)]
            : []),
        ]),
  ]
}

const MOST_ERRORS = 4
/** A driver tells its attributes several times a second. */
const SILENT_MS = 3_000

function attributeLines({ attributes }: DevState, room: number, { columns, colors, nowMs }: Place): string[] {
  // What says nothing yet, and what never changes, is for `uaccel attr`.
  const wanted = [...attributes]
    .filter(([path, { value }]) => !TOLD.test(path) && !(COMMON.test(path) && value === '0'))
    .sort(([a], [b]) => Number(COMMON.test(a)) - Number(COMMON.test(b)))
  if (room < 2 || wanted.length === 0) return []
  const cells = wanted.map(([path, shown]) => ({
    text: cell(path, shown),
    marked: nowMs - shown.changedMs < MARK_MS,
  }))
  const most = Math.min(columns, Math.max(...cells.map(({ text }) => width(text))))
  const across = Math.max(1, Math.floor((columns + GAP.length) / (most + GAP.length)))
  const down = Math.ceil(cells.length / across)
  const result = ['']
  for (let row = 0; row < Math.min(down, room - 1); row++) {
    const parts: string[] = []
    for (let i = row; i < cells.length; i += down) {
      const { text, marked } = cells[i]!
      const part = pad(clip(text, most), most)
      parts.push(marked ? colors.yellow(colors.bold(part)) : part)
    }
    result.push(parts.join(GAP))
  }
  return result
}

const GAP = '   '

const cell = (path: string, { value, unit }: ShownValue) => clean(`${path} = ${value} ${unit}`.trimEnd())

function ruler(
  { tracing }: DevState,
  { filter, scroll }: Choices,
  below: number,
  { columns, colors }: Place,
): string {
  const parts = [
    `trace ${tracing ? 'on' : 'off'}`,
    ...(filter === '' ? [] : [`filter "${clean(filter)}"`]),
    ...(scroll > 0 && below > 0 ? [`${below} more below`] : []),
  ]
  return colors.inverse(pad(clip(` ${parts.join('  ')}`, columns), columns))
}

const footer = ({ typing }: Choices, { columns, colors }: Place) =>
  typing === undefined ? colors.dim(clip(KEYS, columns)) : clip(`filter: ${clean(typing)}_`, columns)
