import * as vfio from './abi.js'
import type { VfioCalls } from './calls.js'

/** Whether the kernel lets this device into a low-power state (6.1 and later). */
export function offersLowPower(calls: VfioCalls, fd: number): boolean {
  const probe = vfio.VFIO_DEVICE_FEATURE_PROBE | vfio.VFIO_DEVICE_FEATURE_SET
  try {
    for (const index of [vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, vfio.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT])
      calls.ioctl(
        fd,
        vfio.VFIO_DEVICE_FEATURE,
        feature(probe | index),
        'VFIO_DEVICE_FEATURE to probe low power',
      )
    return true
  } catch {
    return false // ENOTTY
  }
}

/** Allows the device to go into its low-power state, or brings it back. Waking can take as long as a reset. */
export async function setLowPower(calls: VfioCalls, fd: number, on: boolean): Promise<void> {
  const index = on ? vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY : vfio.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT
  const what = `VFIO_DEVICE_FEATURE_LOW_POWER_${on ? 'ENTRY' : 'EXIT'}`
  await calls.ioctlAsync(fd, vfio.VFIO_DEVICE_FEATURE, feature(vfio.VFIO_DEVICE_FEATURE_SET | index), what)
}

function feature(flags: number): Buffer {
  const request = Buffer.alloc(vfio.featureBytes)
  request.writeUInt32LE(request.length, 0)
  request.writeUInt32LE(flags, 4)
  return request
}
