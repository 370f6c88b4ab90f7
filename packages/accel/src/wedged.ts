import type { DeviceIdentity } from '@uaccel/core'
import { type AccelError, accelError } from '@uaccel/uapi'

/** The error of a device that did not come back, with the way out of it. */
export function wedged(name: string, identity: DeviceIdentity, cause: unknown): AccelError {
  const message = `${name} did not come back from its reset, and was let go. ${wayOut(identity)}, then add it again`
  return accelError('ERR_ACCEL_WEDGED', message, { cause })
}

function wayOut({ bus, transport: { kind, address } }: DeviceIdentity): string {
  if (kind !== 'vfio' && kind !== 'uio') return 'Restart what emulates it'
  if (bus !== 'pci') return 'Have its kernel driver unbind it and bind it anew'
  const sysfs = `/sys/bus/pci/devices/${address}`
  const commands = `\`echo 1 > ${sysfs}/remove && echo 1 > /sys/bus/pci/rescan\` (as root; then bind it)`
  return kind === 'vfio'
    ? `Reset its bus with \`uaccel reset ${address} --hot\`, or where that fails take it off the bus and look for it again: ${commands}`
    : `Take it off the bus and look for it again: ${commands}`
}
