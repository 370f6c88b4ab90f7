import { listSession, readSession, replayFunction } from '@uaccel/replay'
import { accelError } from '@uaccel/uapi'
import { serveVfioUser } from '@uaccel/vfio-user'
import type { Command } from 'commander'
import { exitCodes, harmless, note } from '../output.js'
import { clean } from '../text.js'

interface ReplayFlags {
  socket?: string
  list?: boolean
  strict?: boolean
  once?: boolean
  recordedTiming?: boolean
}

/** Notes that are shown of one client. */
const SHOWN_NOTES = 10

/** `uaccel replay`: a recording as a device for programs, or in words. */
export function replayCommand(command: Command): void {
  command
    .argument('<file>', 'a recording, made by uaccel record')
    .option('-s, --socket <path>', 'serve it over vfio-user: the Unix socket to make')
    .option('-l, --list', 'print it, a line for each step')
    .option('--strict', 'each access in its very place, reads as often as recorded')
    .option('--recorded-timing', 'let the device be no faster than it was')
    .option(
      '--once',
      'end with the first client: with exit code 1 unless it did all that is in the recording',
    )
    .addHelpText(
      'after',
      `
Programs open the socket as they would the device. What a driver does that is not
in the recording ends its session: the register, what was expected and what came
is told here. Each client begins the session anew.

Examples:
  uaccel replay edu.rec --list
  uaccel replay edu.rec --socket ./edu.sock --once &
  node my-test.js ./edu.sock`,
    )
    .action(run)
}

async function run(file: string, flags: ReplayFlags): Promise<void> {
  if ((flags.list ?? false) === (flags.socket !== undefined))
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', 'Say either --list or --socket PATH.')
  if (flags.socket === undefined) {
    for (const line of listSession(readSession(file))) process.stdout.write(`${clean(line)}\n`)
    return
  }
  serve(file, flags.socket, flags)
}

function serve(
  file: string,
  path: string,
  { strict = false, once = false, recordedTiming = false }: ReplayFlags,
): void {
  const device = replayFunction(file, {
    strict,
    timing: recordedTiming ? 'recorded' : 'soon',
    onEnd: (problem, notes) => {
      for (const line of notes.slice(0, SHOWN_NOTES)) note(`lawful, and not as recorded: ${clean(line)}`)
      if (notes.length > SHOWN_NOTES) note(`and ${notes.length - SHOWN_NOTES} more`)
      note(problem === undefined ? 'replayed, all of it' : harmless(problem.message))
      if (!once) return
      process.exitCode = problem === undefined ? exitCodes.done.code : exitCodes.failed.code
      setImmediate(stop)
    },
  })
  const server = serveVfioUser({ path, device })
  note(`${file} on ${path}`)
  const stop = () => {
    server.close()
    if (process.connected) process.disconnect()
  }
  process.send?.('ready')
  process.once('SIGINT', stop).once('SIGTERM', stop).once('disconnect', stop)
}
