import { resolve } from 'node:path'
import { type Command, InvalidArgumentError } from 'commander'
import { type Choices, frame, lineText } from '../dev/frame.js'
import type { Line } from '../dev/messages.js'
import { Session, type SessionOptions } from '../dev/session.js'
import { parseCommand } from '../dev/values.js'
import { colorsOf, exitCodes, noColor, note } from '../output.js'
import { Screen } from '../top/screen.js'

interface DevFlags {
  folder?: string
  number?: number
  once?: boolean
  plain?: boolean
  trapped?: boolean
  trace: boolean
  command?: ReturnType<typeof parseCommand>[]
}

/** `uaccel dev`: the driver that is being written, on its model, live. */
export function devCommand(command: Command): void {
  command
    .argument('[package]', "folder of the driver's package", '.')
    .option(
      '-f, --folder <folder>',
      'where its node is made (default: /run/uaccel as root, else $XDG_RUNTIME_DIR/uaccel)',
    )
    .option(
      '-n, --number <n>',
      'number of its node: 0 makes accel0 (default: the lowest that is free)',
      nodeNumber,
    )
    .option(
      '-c, --command <command>',
      `call this each time the driver is there, and print what it answers: 'factorial {"n":5}'; may be given several times`,
      (text: string, before: ReturnType<typeof parseCommand>[] = []) => [...before, parseCommand(text)],
    )
    .option('--once', 'no watching: build, start, call the commands, end; for scripts')
    .option('--plain', 'lines in place of a screen, as without a terminal')
    .option('--no-trace', 'begin without the lines of register accesses, DMA and commands')
    .option('--trapped', 'let the driver map no memory of the model: each access is a message')
    .option(...noColor)
    .addHelpText(
      'after',
      `
The package exports its driver ("exports": "."), as default, and its model
("./model"). With a tsconfig.json, its own TypeScript compiles it at each change.

Each runs in a process of its own. A change of the driver replaces the driver:
registers, memory and clock of the model stay as they are. Interrupts, DMA
mappings and bus mastering do not, as probe sets them up. A change of the model
starts both anew. Where it does not compile or load, the driver from before goes
on; where probe fails, the model stays, and the node says why nobody can open it.

Programs open the node as any other (uaccel info accel0; uaccel trace accel0 shows
the accesses of the driver with their fields). A reload ends their
calls with ERR_ACCEL_NO_DEVICE; who opens it meanwhile waits.

Keys: q quits, r reloads, R starts the model anew, t trace, f filter, ? helps.

A command of --command that does not answer within 30 s has failed.

--once ends with 0 where the driver came up, did all commands, broke no rule of
its device, and was removed cleanly; else with 1.

Examples:
  uaccel dev
  uaccel dev packages/my-npu --command 'factorial {"n":5}'
  uaccel dev --once`,
    )
    .action(run)
}

function nodeNumber(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('It is a number such as 0.')
  return Number(text)
}

async function run(path: string, flags: DevFlags): Promise<void> {
  const { folder, number, trapped = false } = flags
  const common = {
    path,
    folder: folder === undefined ? undefined : resolve(folder),
    number,
    trapped,
    runs: flags.command ?? [],
    tracing: flags.trace,
    watching: !flags.once,
  }
  if (flags.once) return once(common)
  const isScreen = process.stdout.isTTY === true && process.env.TERM !== 'dumb' && !flags.plain
  return isScreen ? live(common) : plain(common)
}

type Common = Pick<SessionOptions, 'path' | 'folder' | 'number' | 'trapped' | 'tracing' | 'watching' | 'runs'>

/** Lines that are kept for the screen. */
const KEPT = 2_000
/** A screen is drawn at most so often, and at least each second: its clocks run. */
const DRAW_MS = 40
const CLOCK_MS = 500

async function once(common: Common): Promise<void> {
  let wrong = 0
  let answers = 0
  const session = await Session.open({
    ...common,
    tell: (line) => {
      if (line.level === 'error') wrong++
      note(plainLine(line))
    },
    changed: () => {},
    answered: (_run, json) => {
      answers++
      process.stdout.write(`${json}\n`)
    },
  })
  const ends = ended(() => session.abandon())
  const work = session.start()
  await Promise.race([work, ends])
  const cameUp = session.state.driver.state === 'running'
  await session.close()
  if (cameUp && wrong === 0 && answers === common.runs.length) {
    note(
      `${session.package.name}: came up, ${answers} command${answers === 1 ? '' : 's'} answered, removed cleanly`,
    )
    return
  }
  process.exitCode = exitCodes.failed.code
}

async function plain(common: Common): Promise<void> {
  const session = await Session.open({
    ...common,
    tell: (line) => process.stdout.write(`${plainLine(line)}\n`),
    changed: () => {},
    answered: ({ name }, json) => process.stdout.write(`${plainLine(answerLine(name, json))}\n`),
  })
  await follow(
    session,
    ended(() => session.abandon()),
  )
}

/** Until somebody ends it. What is wrong at the beginning may be mended. */
async function follow(session: Session, ends: Promise<void>): Promise<void> {
  try {
    void session.start()
    await ends
  } finally {
    await session.close()
  }
}

async function live(common: Common): Promise<void> {
  const lines: Line[] = []
  let choices: Choices = { help: false, filter: '', typing: undefined, scroll: 0 }
  let drawing: NodeJS.Timeout | undefined
  const changed = () => {
    drawing ??= setTimeout(draw, DRAW_MS)
  }
  const session = await Session.open({
    ...common,
    tell: (line) => {
      lines.push(line)
      if (lines.length > KEPT) lines.splice(0, lines.length - KEPT)
      // Who reads further above is not moved.
      if (choices.scroll > 0) choices = { ...choices, scroll: choices.scroll + 1 }
      changed()
    },
    changed,
    answered: ({ name }, json) => {
      lines.push(answerLine(name, json))
      changed()
    },
  })
  const { name } = session.package
  const colors = colorsOf(process.stdout)
  const draw = () => {
    clearTimeout(drawing)
    drawing = undefined
    const place = { columns: screen.columns, rows: screen.rows, colors, nowMs: Date.now() }
    screen.draw(frame({ name, path: session.path }, session.state, lines, choices, place))
  }
  let quit!: () => void
  const ends = Promise.race([
    ended(() => session.abandon()),
    new Promise<void>((end) => {
      quit = end
    }),
  ])
  const screen = new Screen((key) => {
    if (key === 'interrupt') return quit()
    if (key === 'stop') return screen.suspend()
    if (choices.typing !== undefined) choices = typed(choices, key)
    else if (key === 'q') return quit()
    else if (key === 'r') void session.reload()
    else if (key === 'R') void session.resetModel()
    else if (key === 't') session.trace(!session.state.tracing)
    else if (key === 'c') lines.length = 0
    else choices = chosen(choices, key, screen.rows)
    draw()
  }, draw)
  const clockwork = setInterval(draw, CLOCK_MS)
  screen.enter()
  try {
    draw()
    await follow(session, ends)
  } finally {
    clearInterval(clockwork)
    clearTimeout(drawing)
    screen.leave()
  }
}

function typed(choices: Choices, key: string): Choices {
  const { typing = '' } = choices
  if (key === '\r' || key === '\n') return { ...choices, filter: typing, typing: undefined, scroll: 0 }
  if (key === '\x1b') return { ...choices, typing: undefined }
  if (key === '\x7f' || key === '\b') return { ...choices, typing: [...typing].slice(0, -1).join('') }
  if (key === 'space') return { ...choices, typing: `${typing} ` }
  return [...key].length === 1 && !/\p{Cc}/u.test(key) ? { ...choices, typing: typing + key } : choices
}

function chosen(choices: Choices, key: string, rows: number): Choices {
  const scrolled = (by: number) => ({ ...choices, scroll: Math.max(0, choices.scroll + by) })
  const page = Math.max(1, rows >> 1)
  switch (key) {
    case '?':
    case 'h':
      return { ...choices, help: !choices.help }
    case 'f':
    case '/':
      return { ...choices, typing: '', help: false }
    case 'up':
      return scrolled(1)
    case 'down':
      return scrolled(-1)
    case 'page up':
      return scrolled(page)
    case 'page down':
      return scrolled(-page)
    case 'G':
      return { ...choices, scroll: 0 }
    default:
      return choices
  }
}

const answerLine = (name: string, json: string): Line => ({
  atMs: Date.now(),
  source: 'command',
  text: `${name} answered ${json}`,
  count: 1,
  level: 'good',
  trace: false,
})

const plainLine = (line: Line) =>
  lineText(line, { columns: Number.POSITIVE_INFINITY, colors: colorsOf(process.stdout) })

/** Resolves with the first signal that asks for the end; the second one hurries. */
function ended(hurry: () => void): Promise<void> {
  return new Promise((resolve) => {
    let asked = false
    const end = () => {
      if (asked) {
        hurry()
        process.exit(exitCodes.failed.code)
      }
      asked = true
      resolve()
    }
    process.on('SIGINT', end).on('SIGTERM', end).on('SIGHUP', end)
  })
}
