import { accelError } from '@uaccel/uapi'
import { bindCommands } from './bind-plan.js'
import type { PciDeviceInfo } from './sysfs.js'

/** The error for a device that another kernel driver holds than the wanted one, with the commands that bind it. */
export function wrongDriver(
  { bdf, driver }: PciDeviceInfo,
  wanted: 'vfio-pci' | 'uio_pci_generic',
  sysfs: string,
) {
  const commands = bindCommands({ bdf, ...(driver === undefined ? {} : { driver }) }, wanted, sysfs)
  const how =
    wanted === 'vfio-pci'
      ? `Bind it with \`uaccel bind ${bdf}\`, which refuses a device in use, or as root, and whatever needs the device stops:`
      : 'Bind it, as root, and whatever needs the device stops:'
  return accelError(
    'ERR_ACCEL_WRONG_DRIVER',
    `${bdf} is bound to ${driver === undefined ? 'no driver' : `the kernel's ${driver}`}, wanted ${wanted}. ${how}\n` +
      commands.map((command) => `  ${command}`).join('\n'),
    { details: { bdf, ...(driver === undefined ? {} : { driver }), commands } },
  )
}
