import { type NoIommuOptions, openDevice } from '@uaccel/core'
import type { Command } from 'commander'
import { note } from '../output.js'
import { allowNoIommu, openTarget, targetHelp } from '../target.js'

/** `uaccel reset`: what to do about a device that does not work any more. */
export function resetCommand(command: Command): void {
  command
    .argument('<device>', targetHelp)
    .option(
      '--hot',
      'reset its bus or slot instead of the function: where devices of others are on it, nothing is done',
    )
    .option(...allowNoIommu)
    .action(async (target: string, { hot, ...how }: { hot?: boolean } & NoIommuOptions) => {
      const transport = await openTarget(target, how)
      const device = openDevice(transport)
      try {
        const kind = hot ? 'hot' : device.resets[0]
        await device.reset({ ...(kind === undefined ? {} : { kind }) })
        note(`${target} answers after a ${kind} reset.`)
      } finally {
        await device.release()
        await transport.close()
      }
    })
    .addHelpText(
      'after',
      `
A device that does not come back (ERR_ACCEL_WEDGED) may do so when its bus is
reset (--hot). If not, take it off the bus and look for it again, as root; it is
bound to no driver then:
  echo 1 > /sys/bus/pci/devices/ADDRESS/remove
  echo 1 > /sys/bus/pci/rescan`,
    )
}
