import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants as access, accessSync, closeSync, existsSync, openSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, resolve } from 'node:path'
import { readSession } from '@uaccel/replay'
import { accelError } from '@uaccel/uapi'
import type { Command } from 'commander'
import { note } from '../output.js'

const forwarded = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** `uaccel record`: what passes between the devices of a program and their drivers, into files. */
export function recordCommand(command: Command): void {
  command
    .usage('--output FILE -- PROGRAM...')
    .argument('<program...>', 'a program of Node that opens devices, and its arguments')
    .requiredOption('-o, --output <file>', 'the recording; further devices get a number: edu.rec, edu-2.rec')
    .addHelpText(
      'after',
      `
The program is not changed: register accesses, interrupts, DMA mappings and what
the device leaves in memory are written as they happen, and a crash leaves all
that came before it. Each access is a call, so the program runs slower; queues
that other processes or worker threads drive cannot be recorded. It ends with the
exit code of the program.

Examples:
  uaccel record --output edu.rec -- node my-test.js
  uaccel record -o edu.rec -- npx uaccel reg read 00:05.0 ID STATUS
  uaccel replay edu.rec --list`,
    )
    .passThroughOptions()
    .action(run)
}

async function run([program, ...args]: [string, ...string[]], { output }: { output: string }): Promise<void> {
  const file = resolve(output)
  if (existsSync(file))
    throw accelError('ERR_ACCEL_BUSY', `${file} exists: remove it, or record into another file.`)
  checkFolder(dirname(file))
  const preload = `--import="${import.meta.resolve('@uaccel/replay/record')}"`
  const NODE_OPTIONS = [process.env.NODE_OPTIONS, preload].filter(Boolean).join(' ')
  const child = spawn(program, args, {
    stdio: 'inherit',
    env: { ...process.env, NODE_OPTIONS, UACCEL_RECORD: file },
  })
  // The program ends, and then this. A terminal sends its SIGINT to both, and a program may take a second one for haste.
  for (const signal of forwarded)
    process.on(signal, () => {
      if (signal !== 'SIGINT' || !hasTerminal()) child.kill(signal)
    })
  const [code, signal] = await ended(child, program)
  if (existsSync(file)) {
    const { steps, end } = readSession(file)
    note(`${file}: ${steps.length} steps${end === 'cut' ? ', cut off' : ''}`)
  } else
    note(`${program} opened no device, so there is no recording: is it a program of Node that uses uaccel?`)
  process.exitCode =
    signal === null ? (code ?? 1) || (existsSync(file) ? 0 : 1) : 128 + constants.signals[signal]
}

/** Before the program begins: what it does is not to be for nothing. */
function checkFolder(folder: string): void {
  try {
    accessSync(folder, access.W_OK | access.X_OK)
  } catch (cause) {
    const there = existsSync(folder)
    throw accelError(
      there ? 'ERR_ACCEL_PERMISSION' : 'ERR_ACCEL_NOT_FOUND',
      there
        ? `No file can be made in ${folder}: record into another folder.`
        : `There is no folder ${folder} for the recording: make it, or record into another.`,
      { cause },
    )
  }
}

/** True where a terminal controls this process (tty(4)). */
function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'))
    return true
  } catch {
    return false
  }
}

async function ended(
  child: ReturnType<typeof spawn>,
  program: string,
): Promise<[number | null, NodeJS.Signals | null]> {
  try {
    return (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
  } catch (cause) {
    throw accelError('ERR_ACCEL_NOT_FOUND', `${program} cannot be run: ${(cause as Error).message}`, {
      cause,
    })
  }
}
