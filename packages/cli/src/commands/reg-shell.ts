import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Transport } from '@uaccel/core'
import { accelError, isAccelError } from '@uaccel/uapi'
import type { Command } from 'commander'
import { fileError } from '../file-error.js'
import { exitCodes, note, report } from '../output.js'
import { type DeviceOptions, type Maps, withDevice } from '../register-access.js'
import { RegisterSession } from '../register-session.js'
import { targetHelp } from '../target.js'

/** Lines that are kept from one session to the next. */
const HISTORY_LINES = 1000

/** `uaccel reg shell` and `reg run`: many accesses while the device stays open. */
export function regShellCommand(reg: Command): void {
  reg
    .command('shell')
    .argument('<device>', targetHelp)
    .description('read and write registers line by line, while the device stays open')
    .addHelpText(
      'after',
      `
What is written lasts until the shell ends. Names and fields complete with TAB;
lines are kept for the next session. From a pipe, it ends at the first error.

  read NAME...       write NAME VALUE | FIELD=VALUE,...    sleep MS
  list [PART]        fields NAME          history          save FILE

Examples:
  uaccel reg shell 00:05.0
  uaccel> write STATUS irqOnDone=true
  uaccel> read STATUS
  uaccel> save bringup.reg`,
    )
    .action((target: string, how: DeviceOptions) =>
      withDevice(target, how, (transport, maps) => shell(target, transport, maps)),
    )
  reg
    .command('run')
    .argument('<device>', targetHelp)
    .argument('<file>', 'a script: lines as reg shell takes them, such as its save writes')
    .description('run a script of reads and writes on a device')
    .addHelpText(
      'after',
      `
A line that begins with # does nothing. The first error ends it.

Examples:
  uaccel reg run ./edu.sock bringup.reg`,
    )
    .action((target: string, file: string, how: DeviceOptions) => {
      const lines = readScript(file) // before the device is opened, and reset
      return withDevice(target, how, async (transport, maps) => {
        const session = new RegisterSession(target, transport, maps)
        for (const [i, line] of lines.entries()) {
          try {
            print(await session.execute(line))
          } catch (cause) {
            if (!isAccelError(cause)) throw cause
            throw accelError(cause.code, `${file}, line ${i + 1}: ${cause.message}`, { cause })
          }
        }
      })
    })
}

const print = (text: string) => text !== '' && process.stdout.write(`${text}\n`)

function readScript(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n')
  } catch (cause) {
    throw fileError(file, 'read', cause)
  }
}

async function shell(target: string, transport: Transport, maps: Maps): Promise<void> {
  const session = new RegisterSession(target, transport, maps)
  const interactive = process.stdin.isTTY === true
  const words = [...Object.keys(session.verbs), 'save', 'help', 'exit']
  const input = createInterface({
    input: process.stdin,
    ...(interactive && {
      output: process.stdout,
      completer(line: string) {
        const [found, last] = /\s/.test(line)
          ? session.complete(line)
          : [words.filter((word) => word.startsWith(line)), line]
        // What is whole is followed by the next word; a field is by its value.
        return [found.length === 1 && !found[0]!.endsWith('=') ? [`${found[0]} `] : found, last]
      },
      history: readHistory(),
      historySize: HISTORY_LINES,
      removeHistoryDuplicates: true,
    }),
    terminal: interactive,
    prompt: 'uaccel> ',
  })
  let kept: readonly string[] | undefined
  let closed = false // a prompt after that would have stdin read again, and for ever
  input.once('close', () => {
    closed = true
  })
  input.on('history', (lines: string[]) => {
    kept = [...lines]
  })
  if (interactive) {
    note(`${target}: ${session.names.length} registers; help tells the commands, ^D ends.`)
    input.on('SIGINT', () => {
      session.wake()
      input.write(null, { ctrl: true, name: 'e' })
      input.write(null, { ctrl: true, name: 'u' }) // as a shell: an empty line
    })
    input.prompt()
  }
  let lost = false
  const forgetLost = transport.onLost((reason) => {
    lost = true
    report(reason)
    process.exitCode = exitCodes.gone.code
    input.close()
  })
  try {
    for await (const line of input) {
      if (/^(exit|quit)\s*$/.test(line.trim())) break
      try {
        print(await obey(session, line))
      } catch (error) {
        if (lost) break // it was told
        if (!isAccelError(error) || !interactive || error.code === 'ERR_ACCEL_NO_DEVICE') throw error
        report(error)
      }
      if (interactive && !closed) input.prompt()
    }
  } finally {
    forgetLost()
    input.close()
    if (kept !== undefined) writeHistory(kept)
  }
}

async function obey(session: RegisterSession, line: string): Promise<string> {
  const [word, file, ...more] = line.trim().split(/\s+/)
  if (word === 'help') {
    const verbs = Object.values(session.verbs).map(({ usage, meaning }) => [usage, meaning])
    verbs.push(['save FILE', 'the history as a script, for reg run'], ['exit', 'end'])
    return verbs.map(([usage, meaning]) => `${usage!.padEnd(18)} ${meaning}`).join('\n')
  }
  if (word !== 'save') return session.execute(line)
  if (file === undefined || more.length > 0)
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', 'Wanted: save FILE.')
  try {
    writeFileSync(file, session.script())
  } catch (cause) {
    throw fileError(file, 'written', cause)
  }
  return ''
}

/** XDG Base Directory Specification: what is to last, and is no configuration. */
function historyFile(): string {
  return join(process.env.XDG_STATE_HOME || join(homedir(), '.local/state'), 'uaccel', 'reg-history')
}

function readHistory(): string[] {
  try {
    return readFileSync(historyFile(), 'utf8').split('\n').filter(Boolean).slice(0, HISTORY_LINES)
  } catch {
    return [] // the first session
  }
}

/** Newest first, as readline has it. */
function writeHistory(lines: readonly string[]): void {
  const file = historyFile()
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 })
  } catch (error) {
    note(`The lines of this session are not kept: ${(error as Error).message}`)
  }
}
