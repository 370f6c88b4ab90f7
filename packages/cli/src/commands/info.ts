import { isAccelError } from '@uaccel/uapi'
import type { Command } from 'commander'
import { ask, PATIENCE_MS, type Snapshot, settle } from '../nodes/ask.js'
import { wantedBy } from '../nodes/fields.js'
import { chosenNodes, type FolderFlag, nodeHelp, nodeOptions, openNodes } from '../nodes/find.js'
import { infoJson, infoLines, told } from '../nodes/show.js'
import { colorsOf, columnsOfStdout, noColor, printSchema, report } from '../output.js'

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
  const snapshots: Snapshot[] = []
  const clients = await openNodes(nodes, flags)
  await settle(clients, wanted)
  for (const client of clients) {
    try {
      snapshots.push(await ask(client, wanted, { timeoutMs: PATIENCE_MS }))
    } catch (error) {
      // One that goes is told, and the others are shown.
      if (!isAccelError(error)) throw error
      process.exitCode ||= report(error)
    }
  }
  if (flags.json) {
    if (snapshots.length > 0 || nodes.length !== 1)
      printSchema('uaccel.info/1', { nodes: snapshots.map(infoJson) })
  } else {
    const colors = colorsOf(process.stdout)
    const pages = snapshots.map((snapshot) => infoLines(snapshot, columnsOfStdout(), colors))
    process.stdout.write(pages.map((lines) => `${lines.join('\n')}\n`).join('\n'))
  }
  await Promise.all(clients.map((client) => client.close()))
}
