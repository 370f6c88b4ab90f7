import { type Binding, bindDevice, bindGroup, shellCommand } from '@uaccel/core'
import { type Command, InvalidArgumentError } from 'commander'
import { note, printJson } from '../output.js'
import { parseOwner } from '../owner.js'

interface BindFlags {
  driver: string
  group?: boolean
  owner?: string
  force?: boolean
  dryRun?: boolean
  limit: number
  json?: boolean
}

/** `uaccel bind`: gives a device to a driver that hands it to programs. */
export function bindCommand(command: Command): void {
  command
    .argument('<address>', 'PCI address: 0000:00:05.0 or 00:05.0')
    .option('--driver <name>', 'the kernel driver that gets it, such as uio_pci_generic', 'vfio-pci')
    .option('-g, --group', 'all devices of its IOMMU group')
    .option('-o, --owner <user:group>', 'whose its nodes in /dev become: USER, USER:GROUP or :GROUP')
    .option('-f, --force', 'also where it is in use: mounted, up, open')
    .option('-n, --dry-run', 'check, print the commands, do nothing')
    .option('--limit <seconds>', 'time for each step', seconds, 10)
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      `
Run as root. What the device was before is remembered until the next boot:
uaccel unbind restores it. A device that is bound already is left as it is.

Examples:
  uaccel bind 00:05.0
  uaccel bind 00:05.0 --group --owner alice     alice can open it then
  uaccel bind 00:05.0 --driver uio_pci_generic  on a machine without an IOMMU
  uaccel bind 00:05.0 --dry-run`,
    )
    .action(async (address: string, flags: BindFlags) => {
      const options = {
        driver: flags.driver,
        force: flags.force ?? false,
        dryRun: flags.dryRun ?? false,
        timeoutMs: flags.limit * 1000,
        ...(flags.owner === undefined ? {} : { owner: parseOwner(flags.owner) }),
      }
      const bindings = flags.group ? await bindGroup(address, options) : [await bindDevice(address, options)]
      if (flags.json) printJson(bindings)
      else for (const binding of bindings) show(binding, flags)
      const [{ bdf, blockers } = { bdf: address, blockers: [] }] = bindings
      if (blockers.length > 0 && !flags.dryRun) {
        note(
          `No program can open it yet: ${blockers.map(({ bdf, driver }) => `${bdf} (${driver})`).join(', ')}\n` +
            `of its IOMMU group ${blockers.length === 1 ? 'is' : 'are'} in the hands of the kernel. To bind all: uaccel bind --group ${bdf}`,
        )
      }
    })
}

function show(
  { bdf, driver, previousDriver, changed, writes, nodes }: Binding,
  { driver: wanted, dryRun, owner }: BindFlags,
): void {
  if (dryRun && writes.length > 0) {
    process.stdout.write(`${writes.map(shellCommand).join('\n')}\n`)
    return
  }
  const state = changed
    ? `${bdf}: ${previousDriver ?? 'no driver'} -> ${driver}`
    : `${bdf}: bound to ${wanted} already`
  const whose = owner === undefined ? '' : `, now ${owner}'s`
  process.stdout.write(`${state}${nodes.length === 0 ? '' : `\n  ${nodes.join(' ')}${whose}`}\n`)
}

/** A number of seconds on the command line. */
export function seconds(text: string): number {
  const value = Number(text)
  if (!(value > 0 && value <= 86_400)) throw new InvalidArgumentError('Seconds are wanted, more than 0.')
  return value
}
