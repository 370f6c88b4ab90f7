import { type Binding, shellCommand, unbindDevice } from '@uaccel/core'
import type { Command } from 'commander'
import { printJson } from '../output.js'
import { seconds } from './bind.js'

interface UnbindFlags {
  force?: boolean
  dryRun?: boolean
  limit: number
  json?: boolean
}

/** `uaccel unbind`: gives a device back to the driver that it had. */
export function unbindCommand(command: Command): void {
  command
    .argument('<address>', 'PCI address: 0000:00:05.0 or 00:05.0')
    .option('-f, --force', 'also where a program has it open: it is asked to give it up')
    .option('-n, --dry-run', 'check, print the commands, do nothing')
    .option('--limit <seconds>', 'time for each step', seconds, 10)
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      `
Run as root. Where it is not known what the device was before (after a boot, or
bound by other means), the kernel chooses its driver. A device that a driver of
the kernel has is left as it is.

Examples:
  uaccel unbind 00:05.0
  uaccel unbind 00:05.0 --dry-run`,
    )
    .action(async (address: string, flags: UnbindFlags) => {
      const binding = await unbindDevice(address, {
        force: flags.force ?? false,
        dryRun: flags.dryRun ?? false,
        timeoutMs: flags.limit * 1000,
      })
      if (flags.json) printJson(binding)
      else show(binding, flags)
    })
}

function show({ bdf, driver, previousDriver, changed, writes }: Binding, { dryRun }: UnbindFlags): void {
  const lines =
    dryRun && writes.length > 0
      ? writes.map(shellCommand)
      : changed
        ? [`${bdf}: ${previousDriver ?? 'no driver'} -> ${driver ?? 'no driver'}`]
        : [`${bdf}: has ${driver ?? 'no driver'}, nothing to give back`]
  process.stdout.write(`${lines.join('\n')}\n`)
}
