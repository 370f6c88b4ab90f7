import type { ClientEvent } from '@uaccel/uapi'
import { type AccelError, accelError, errorCode, isAccelError } from '@uaccel/uapi'
import type { Command } from 'commander'
import { chosenNodes, type FolderFlag, nodeHelp, nodeOptions, openNodes } from '../nodes/find.js'
import {
  type Colors,
  colorsOf,
  exitCodeOf,
  exitCodes,
  noColor,
  note,
  printSchema,
  report,
} from '../output.js'
import { clean } from '../text.js'
import { localTime, moment } from '../units.js'
import { interrupted, positive } from './loop.js'

interface EventsFlags extends FolderFlag {
  json?: boolean
  count?: number
}

/** `uaccel events`: follows what happens. */
export function eventsCommand(command: Command): void {
  nodeOptions(command.argument('[nodes...]', `${nodeHelp}; all, unless told`))
    .option('-c, --count <n>', 'end after so many', positive)
    .option('--json', 'as JSON, an object in a line, schema uaccel.events/1')
    .option(...noColor)
    .addHelpText(
      'after',
      `
Tells what happens from now on: reset, timeout, pageFault, error, removal,
request. Ends on SIGINT with 0; with ${exitCodes.gone.code} when all of the devices went away, or
their servers did.

Examples:
  uaccel events accel0
  uaccel events --json | jq -r .reason`,
    )
    .action(run)
}

async function run(named: string[], flags: EventsFlags): Promise<void> {
  const clients = await openNodes(chosenNodes(named, flags), flags)
  if (clients.length === 0) return
  const controller = new AbortController()
  interrupted().addEventListener('abort', () => controller.abort())
  if (!flags.json) note(`Waiting for events of ${clients.map(({ name }) => name).join(', ')}; ^C ends.`)
  const colors = colorsOf(process.stdout)
  let left = flags.count ?? Number.POSITIVE_INFINITY
  const ends = await Promise.all(
    clients.map(async (client) => {
      let removed: AccelError | undefined
      try {
        for await (const event of client.events({ signal: controller.signal })) {
          // Another node may have had the last one meanwhile.
          if (controller.signal.aborted) return undefined
          if (flags.json) printSchema('uaccel.events/1', jsonOf(client.name, event), 0)
          else process.stdout.write(`${lineOf(clean(client.name), event, colors)}\n`)
          if (event.kind === 'removal')
            removed = accelError('ERR_ACCEL_NO_DEVICE', `${client.name} is gone: ${event.reason}`)
          if (--left <= 0) controller.abort()
          if (controller.signal.aborted) return undefined
        }
      } catch (error) {
        if (!isAccelError(error)) throw error
        removed = error
      }
      return controller.signal.aborted ? undefined : removed
    }),
  )
  const gone = ends.filter((end) => end !== undefined)
  for (const end of gone) report(end)
  if (gone.length > 0) process.exitCode = exitCodeOf(gone[0]!)
  await Promise.all(clients.map((client) => client.close()))
}

const paint: Partial<Record<ClientEvent['kind'], 'red' | 'yellow' | 'green'>> = {
  error: 'red',
  pageFault: 'red',
  removal: 'red',
  timeout: 'yellow',
  reset: 'green',
}

function lineOf(
  node: string,
  { atNs, kind, error, open, reason, lost }: ClientEvent,
  colors: Colors,
): string {
  const name = kind.padEnd(9)
  const colour = paint[kind]
  const notes = [
    ...(open === 0 ? [] : [`open ${open}`]),
    // Of a reset it is what calls that were under way ended with: nothing is wrong any more.
    ...(error === 0 || kind === 'reset' ? [] : [errorCode(error) ?? `error ${error}`]),
    ...(lost === 0n ? [] : [`${lost} before it were lost`]),
  ]
  const behind = notes.length > 0 ? colors.dim(` (${notes.join(', ')})`) : ''
  const ms = `${(atNs / 1_000_000n) % 1000n}`.padStart(3, '0')
  return `${localTime(atNs)}.${ms}  ${node}  ${colour ? colors[colour](name) : name}  ${clean(reason)}${behind}`
}

function jsonOf(node: string, { sequence, atNs, kind, error, open, reason, lost }: ClientEvent) {
  return {
    node,
    sequence: Number(sequence),
    at: moment(atNs),
    kind,
    reason,
    ...(error === 0 ? {} : { code: errorCode(error) ?? `${error}` }),
    ...(open === 0 ? {} : { open }),
    ...(lost === 0n ? {} : { lost: Number(lost) }),
  }
}
