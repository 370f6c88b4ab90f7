import { type NoIommuOptions, openDevice } from '@uaccel/core'
import { accelError, isAccelError } from '@uaccel/uapi'
import { type Command, Option } from 'commander'
import { type FolderFlag, isNode, nodeHelp, nodeOptions, withNode } from '../nodes/find.js'
import { note } from '../output.js'
import { allowNoIommu, openTarget, targetHelp } from '../target.js'

interface ResetFlags extends NoIommuOptions, FolderFlag {
  kind: 'default' | 'function' | 'hot'
  hot?: boolean
  reason?: string
}

/** `uaccel reset`: what to do about a device that does not work any more. */
export function resetCommand(command: Command): void {
  nodeOptions(command.argument('<device>', `${nodeHelp}; or, where nobody serves it, ${targetHelp}`))
    .addOption(
      new Option(
        '--kind <kind>',
        'function: it alone; hot: its bus or slot, where no device of others is on it',
      )
        .choices(['default', 'function', 'hot'])
        .default('default'),
    )
    .option('--hot', 'short for --kind hot')
    .option('--reason <text>', 'told to the other clients of a node')
    .option(...allowNoIommu)
    .action((target: string, flags: ResetFlags) => {
      const kind = flags.hot ? 'hot' : flags.kind
      return isNode(target) ? resetNode(target, kind, flags) : resetDevice(target, kind, flags)
    })
    .addHelpText(
      'after',
      `
The reset of a node is done by its server: calls that are under way end with an
error, opens stay. Root and the user of the server may do that.

A device that does not come back (ERR_ACCEL_WEDGED) may do so when its bus is
reset (--hot). If not, take it off the bus and look for it again, as root; it is
bound to no driver then:
  echo 1 > /sys/bus/pci/devices/ADDRESS/remove
  echo 1 > /sys/bus/pci/rescan`,
    )
}

async function resetNode(target: string, kind: ResetFlags['kind'], flags: ResetFlags): Promise<void> {
  await withNode(target, flags, async (client) => {
    try {
      await client.common('reset', { kind, reason: flags.reason ?? '' })
    } catch (cause) {
      if (!isAccelError(cause, 'ERR_ACCEL_PERMISSION')) throw cause
      throw accelError(
        'ERR_ACCEL_PERMISSION',
        `This user may not reset ${client.name}: root and the user of its server may. Try: sudo uaccel reset ${target}`,
        { cause },
      )
    }
    note(`${client.name} answers after a ${kind === 'default' ? '' : `${kind} `}reset.`)
  })
}

async function resetDevice(target: string, wanted: ResetFlags['kind'], how: NoIommuOptions): Promise<void> {
  const transport = await openTarget(target, how)
  const device = openDevice(transport)
  try {
    const kind = wanted === 'default' ? device.resets[0] : wanted
    await device.reset({ ...(kind === undefined ? {} : { kind }) })
    note(`${target} answers after a ${kind} reset.`)
  } finally {
    await device.release()
    await transport.close()
  }
}
