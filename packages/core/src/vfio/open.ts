import { accelError, isAccelError } from '@uaccel/uapi'
import { type PciDeviceInfo, readPciDevice } from '../pci/sysfs.js'
import type { Transport } from '../transport.js'
import { VFIO_GROUP_GET_DEVICE_FD } from './abi.js'
import { kernelCalls, type VfioCalls, within } from './calls.js'
import { isVfioDriver, VfioGroup } from './group.js'
import { inquire } from './inquiry.js'
import { VfioTransport } from './transport.js'

/** How a device is opened. */
export interface VfioOptions {
  /** Opening resets the device, which can take seconds; default 30,000. */
  readonly openTimeoutMs?: number
  /** Default 30,000. */
  readonly resetTimeoutMs?: number
  /** Where sysfs is mounted; default `/sys`. */
  readonly sysfs?: string
  /** Where device nodes are; default `/dev`. */
  readonly devfs?: string
  /** The kernel; for tests. */
  readonly calls?: VfioCalls
}

/**
 * Opens a PCI device that is bound to vfio-pci, through its IOMMU group. Binds and unbinds nothing.
 * Errors, each with what to do: `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_NO_IOMMU`, `ERR_ACCEL_WRONG_DRIVER`, `ERR_ACCEL_PERMISSION`,
 * `ERR_ACCEL_GROUP_NOT_VIABLE`, `ERR_ACCEL_BUSY`, `ERR_ACCEL_UNSUPPORTED`, `ERR_ACCEL_TIMEOUT`.
 */
export async function openVfio(address: string, options: VfioOptions = {}): Promise<Transport> {
  const {
    openTimeoutMs = 30_000,
    resetTimeoutMs = 30_000,
    sysfs = '/sys',
    devfs = '/dev',
    calls = kernelCalls,
  } = options
  const device = readPciDevice(address, { sysfs })
  const { bdf, iommuGroup } = device
  if (iommuGroup === undefined) {
    throw accelError(
      'ERR_ACCEL_NO_IOMMU',
      `${bdf} stands behind no IOMMU, and without one a device can reach all memory. Switch VT-d or AMD-Vi on in the firmware ` +
        'and boot with `intel_iommu=on` (Intel; AMD needs no option)',
    )
  }
  checkDriver(device)
  const group = VfioGroup.acquire(calls, bdf, iommuGroup, { sysfs, devfs })
  const what = `VFIO_GROUP_GET_DEVICE_FD of ${bdf}`
  const opening = calls.ioctlAsync(group.fd, VFIO_GROUP_GET_DEVICE_FD, Buffer.from(`${bdf}\0`), what)
  try {
    const fd = await within(openTimeoutMs, what, opening)
    return new VfioTransport(calls, bdf, group, fd, inquire(calls, fd), resetTimeoutMs)
  } catch (cause) {
    // The group stays until the call has ended, and the device is closed on another thread: its reset can take long.
    const undone = opening.then((fd) => calls.closeAsync(fd)).finally(() => group.release(bdf))
    if (isAccelError(cause, 'ERR_ACCEL_TIMEOUT')) undone.catch(() => {})
    else await undone.catch(() => {})
    if (!isAccelError(cause, 'ERR_ACCEL_BUSY')) throw cause
    throw accelError('ERR_ACCEL_BUSY', `${bdf} is held by another user of its group`, { cause })
  }
}

function checkDriver({ bdf, driver }: PciDeviceInfo): void {
  if (driver !== undefined && isVfioDriver(driver)) return
  const commands = [
    'sudo modprobe vfio-pci',
    `echo vfio-pci | sudo tee /sys/bus/pci/devices/${bdf}/driver_override`,
    ...(driver === undefined ? [] : [`echo ${bdf} | sudo tee /sys/bus/pci/devices/${bdf}/driver/unbind`]),
    `echo ${bdf} | sudo tee /sys/bus/pci/drivers_probe`,
  ]
  throw accelError(
    'ERR_ACCEL_WRONG_DRIVER',
    `${bdf} is bound to ${driver === undefined ? 'no driver' : `the kernel's ${driver}`}, wanted vfio-pci. Bind it, and whatever needs the device stops:\n` +
      commands.map((command) => `  ${command}`).join('\n'),
    { details: { bdf, ...(driver === undefined ? {} : { driver }), commands } },
  )
}
