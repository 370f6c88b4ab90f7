import { accelError } from '@uaccel/uapi'
import { type Command, Option } from 'commander'
import { chosenNodes, type FolderFlag, nodeHelp, nodeOptions } from '../nodes/find.js'
import { colorsOf, columnsOfStdout, noColor } from '../output.js'
import { type Choices, frame, type Order, orders } from '../top/frame.js'
import { Screen } from '../top/screen.js'
import { Watcher } from '../top/watch.js'
import { interrupted, pause, positive, seconds } from './loop.js'

interface TopFlags extends FolderFlag {
  interval: number
  batch?: boolean
  count?: number
  sort: Order
}

/** `uaccel top`: who does what with the devices, now. */
export function topCommand(command: Command): void {
  nodeOptions(command.argument('[nodes...]', `${nodeHelp}; all, unless told, and those that come later`))
    .option('-i, --interval <seconds>', 'time between two screens', seconds, 1)
    .addOption(new Option('-s, --sort <column>', 'sort clients by').choices(orders).default('busy'))
    .option('-b, --batch', 'plain text for files and pipes, without keys')
    .option('-c, --count <n>', 'end after so many screens', positive)
    .option(...noColor)
    .addHelpText(
      'after',
      `
Keys: q quits, space pauses, left and right sort, up and down scroll, ? helps.

Examples:
  uaccel top
  uaccel top --batch --count 1 accel0`,
    )
    .action(async (named: string[], flags: TopFlags) => {
      const nodes = chosenNodes(named, flags)
      const watcher = new Watcher(named.length > 0 ? nodes : [], flags)
      const signal = interrupted()
      if (!flags.batch && (!process.stdout.isTTY || process.env.TERM === 'dumb'))
        command.error('error: this is no terminal that a screen can be drawn on: use --batch', {
          exitCode: 2,
        })
      // Rates want two moments.
      await watcher.sample(signal)
      const { views } = watcher
      if (named.length > 0 && views.every(({ error }) => error)) throw views[0]!.error ?? nothing()
      await pause(Math.min(FIRST_MS, flags.interval * 1000), signal)
      if (flags.batch) await batch(watcher, flags, signal)
      else await live(watcher, flags, signal)
    })
}

/** What the first screen is of. */
const FIRST_MS = 250

const nothing = () => accelError('ERR_ACCEL_NOT_FOUND', 'No node answers')

const choicesOf = ({ sort, interval }: TopFlags): Choices => ({
  order: sort,
  reversed: false,
  paused: false,
  help: false,
  scroll: 0,
  intervalS: interval,
})

async function batch(watcher: Watcher, flags: TopFlags, signal: AbortSignal): Promise<void> {
  const place = {
    columns: columnsOfStdout(),
    rows: Number.POSITIVE_INFINITY,
    colors: colorsOf(process.stdout),
  }
  const { count = Number.POSITIVE_INFINITY, interval } = flags
  for (let round = 0; round < count && !signal.aborted; round++) {
    if (round > 0) await pause(interval * 1000, signal)
    if (signal.aborted) break
    await watcher.sample(signal)
    const lines = frame(watcher.views, choicesOf(flags), place)
    process.stdout.write(`${round > 0 ? '\n' : ''}${lines.join('\n')}\n`)
  }
  await watcher.close()
}

async function live(watcher: Watcher, flags: TopFlags, signal: AbortSignal): Promise<void> {
  let choices = choicesOf(flags)
  const ended = new AbortController()
  signal.addEventListener('abort', () => ended.abort())
  if (signal.aborted) ended.abort()
  process.once('SIGHUP', () => ended.abort())
  const colors = colorsOf(process.stdout)
  const draw = () =>
    screen.draw(frame(watcher.views, choices, { columns: screen.columns, rows: screen.rows, colors }))
  const screen = new Screen((key) => {
    if (key === 'q' || key === 'interrupt') ended.abort()
    else if (key === 'stop') screen.suspend()
    else {
      choices = chosen(choices, key, screen.rows)
      draw()
    }
  }, draw)
  screen.enter()
  try {
    for (let round = 0; round < (flags.count ?? Number.POSITIVE_INFINITY) && !ended.signal.aborted; round++) {
      if (!choices.paused) await watcher.sample(ended.signal)
      if (ended.signal.aborted) break
      draw()
      await pause(flags.interval * 1000, ended.signal)
    }
  } finally {
    // The connections end with the process: nobody waits at a prompt for a server that hangs.
    screen.leave()
  }
}

const orderKeys: Readonly<Record<string, Order>> = {
  b: 'busy',
  d: 'done',
  m: 'memory',
  n: 'node',
  p: 'pid',
  u: 'user',
  t: 'time',
}

function chosen(choices: Choices, key: string, rows: number): Choices {
  const { order, reversed, paused, help, scroll } = choices
  const step = (by: number) => orders[(orders.indexOf(order) + by + orders.length) % orders.length]!
  const scrolled = (by: number) => ({ ...choices, scroll: Math.max(0, scroll + by) })
  const page = Math.max(1, rows >> 1)
  switch (key) {
    case 'space':
      return { ...choices, paused: !paused }
    case '?':
    case 'h':
      return { ...choices, help: !help }
    case 'r':
      return { ...choices, reversed: !reversed }
    case 'left':
      return { ...choices, order: step(-1) }
    case 'right':
      return { ...choices, order: step(1) }
    case 'up':
      return scrolled(-1)
    case 'down':
      return scrolled(1)
    case 'page up':
      return scrolled(-page)
    case 'page down':
      return scrolled(page)
    default:
      return Object.hasOwn(orderKeys, key) ? { ...choices, order: orderKeys[key]! } : choices
  }
}
