import { join } from 'node:path'
import { sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { openNode } from '../vfio/iommu.js'

/** Opens a UIO device's node for this process alone. `ERR_ACCEL_PERMISSION`, `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_BUSY`. */
export function openUioNode(devfs: string, uio: string, what: string): number {
  const path = join(devfs, uio)
  const fd = openNode(sys, {
    path,
    what,
    udev: 'SUBSYSTEM=="uio"',
    missing: ['ERR_ACCEL_NOT_FOUND', 'Is devtmpfs mounted there, or udev running?'],
  })
  // The kernel lets anybody open it again, and the two would take each other's interrupts.
  if (sys.lockFile(fd)) return fd
  sys.close(fd)
  throw accelError(
    'ERR_ACCEL_BUSY',
    `${what} is open already, in this process or another; \`fuser -v ${path}\` names it`,
    { details: { path } },
  )
}
