import { isAccelError } from '@uaccel/uapi'
import type { Command } from 'commander'
import { ask, type Snapshot, settle } from '../nodes/ask.js'
import { wantedBy } from '../nodes/fields.js'
import {
  type CommonNode,
  chosenNodes,
  type FolderFlag,
  nodeHelp,
  nodeOptions,
  openNode,
} from '../nodes/find.js'
import { infoJson, infoLines, told } from '../nodes/show.js'
import { colorsOf, noColor, printSchema, report } from '../output.js'
import { COLUMNS } from '../text.js'

interface InfoFlags extends FolderFlag {
  json?: boolean
}

/** `uaccel info`: all that a node tells of itself. */
export function infoCommand(command: Command): void {
  nodeOptions(command.argument('[nodes...]', `${nodeHelp}; all, unless told`))
    .option('--json', 'as JSON, schema uaccel.info/1')
    .option(...noColor)
    .addHelpText(
      'after',
      `
What a device or its driver does not tell is left out.

Examples:
  uaccel info accel0
  uaccel info --json | jq '.nodes[].engines[].utilisationPercent'`,
    )
    .action(run)
}

async function run(named: string[], flags: InfoFlags): Promise<void> {
  const wanted = wantedBy(told.flatMap(({ items }) => items))
  const nodes = chosenNodes(named, flags)
  const clients: CommonNode[] = []
  const snapshots: Snapshot[] = []
  // One that cannot be opened, or goes, is told, and the others are shown.
  const attempt = async <T>(work: () => Promise<T>, done: (result: T) => void) => {
    try {
      done(await work())
    } catch (error) {
      if (!isAccelError(error)) throw error
      process.exitCode ||= report(error)
    }
  }
  for (const node of nodes)
    await attempt(
      () => openNode(node, flags),
      (client) => clients.push(client),
    )
  await settle(clients, wanted)
  for (const client of clients)
    await attempt(
      () => ask(client, wanted),
      (snapshot) => snapshots.push(snapshot),
    )
  if (flags.json) {
    if (snapshots.length > 0 || nodes.length !== 1)
      printSchema('uaccel.info/1', { nodes: snapshots.map(infoJson) })
  } else {
    const colors = colorsOf(process.stdout)
    const pages = snapshots.map((snapshot) => infoLines(snapshot, process.stdout.columns ?? COLUMNS, colors))
    process.stdout.write(pages.map((lines) => `${lines.join('\n')}\n`).join('\n'))
  }
  await Promise.all(clients.map((client) => client.close()))
}
