import type { DeviceIdentity } from '@uaccel/core'
import { type AccelError, accelError } from '@uaccel/uapi'

/** The error of a device that did not come back, with the way out of it. */
export function wedged(name: string, { transport }: DeviceIdentity, cause: unknown): AccelError {
  const { kind, address } = transport
  const sysfs = `/sys/bus/pci/devices/${address}`
  const way =
    kind === 'vfio' || kind === 'uio'
      ? `Reset its bus with \`uaccel reset ${address} --hot\`, or where that fails take it off the bus and look for it again: ` +
        `\`echo 1 | sudo tee ${sysfs}/remove && echo 1 | sudo tee /sys/bus/pci/rescan\` (and bind it); then add it again`
      : 'Restart what emulates it, then add it again'
  return accelError('ERR_ACCEL_WEDGED', `${name} did not come back from its reset, and was let go. ${way}`, {
    cause,
  })
}
