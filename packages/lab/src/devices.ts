import { AccelError } from '@uaccel/uapi'

/** A device of QEMU's by a short name. */
interface DevicePreset {
  /** QEMU's -device argument without the address. */
  device: string
  /** Size of a blank disk that the device needs, in bytes; the argument refers to it as `drive=DRIVE`. */
  diskBytes?: number
}

/** Devices that can be named instead of spelt out. */
export const devicePresets: Readonly<Record<string, DevicePreset>> = {
  edu: { device: 'edu' },
  nvme: { device: 'nvme,serial=uaccel,drive=DRIVE', diskBytes: 64 << 20 },
  e1000e: { device: 'e1000e' },
}

/** A device that the guest finds bound to vfio-pci. */
export interface PlacedDevice {
  /** The preset's name, or the first word of a -device string. Not unique where one kind is asked for twice. */
  name: string
  /** PCI address in the guest. */
  bdf: string
  /** QEMU's -device argument, address included. */
  argument: string
  diskBytes?: number
}

/** Slots of the root bus below are the lab's own; 31 is the chipset. */
const firstSlot = 5
const lastSlot = 30

/**
 * Gives each device a slot of the guest's root bus, in order, so that the guest knows it by its address.
 * @param devices names of presets, or -device strings of QEMU (they hold a comma; without `bus` and `addr`)
 * @throws ERR_ACCEL_NOT_FOUND for a name that is no preset, ERR_ACCEL_INVALID_ARGUMENT for a bad -device string
 */
export function placeDevices(devices: readonly string[]): PlacedDevice[] {
  if (devices.length > lastSlot - firstSlot + 1) {
    throw new AccelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `the lab has slots for ${lastSlot - firstSlot + 1} devices, not for ${devices.length}`,
    )
  }
  return devices.map((text, index) => {
    const slot = (firstSlot + index).toString(16)
    const bdf = `0000:00:${slot.padStart(2, '0')}.0`
    if (text.includes(',')) {
      const { name, argument } = addressed(text, `0x${slot}`)
      return { name, bdf, argument }
    }
    const preset = Object.hasOwn(devicePresets, text) ? devicePresets[text]! : undefined
    if (preset === undefined) {
      const known = Object.keys(devicePresets).join(', ')
      throw new AccelError(
        'ERR_ACCEL_NOT_FOUND',
        `no lab device is named '${text}'; there are ${known}, or write a -device string of QEMU, with a comma in it`,
        { details: { device: text, known: Object.keys(devicePresets) } },
      )
    }
    const { device, diskBytes } = preset
    return { name: text, bdf, argument: `${device},addr=0x${slot}`, ...(diskBytes && { diskBytes }) }
  })
}

/** A -device string, in either of QEMU's notations, with the slot put in. */
function addressed(text: string, addr: string): { name: string; argument: string } {
  const invalid = (why: string, cause?: unknown) =>
    new AccelError('ERR_ACCEL_INVALID_ARGUMENT', `lab device '${text}': ${why}`, { cause })
  const elsewhere =
    'the lab chooses bus and addr; a device that stands elsewhere goes into the arguments for QEMU'
  if (!text.startsWith('{')) {
    if (!/^[\w.-]+,/.test(text)) throw invalid('it does not begin with the name of a device')
    if (/,(bus|addr)=/.test(text)) throw invalid(elsewhere)
    return { name: text.slice(0, text.indexOf(',')), argument: `${text},addr=${addr}` }
  }
  let device: Record<string, unknown>
  try {
    device = JSON.parse(text) as Record<string, unknown>
  } catch (cause) {
    throw invalid('not JSON', cause)
  }
  if (typeof device.driver !== 'string' || !/^[\w.-]+$/.test(device.driver))
    throw invalid("no 'driver' in it that names a device")
  if ('bus' in device || 'addr' in device) throw invalid(elsewhere)
  return { name: device.driver, argument: JSON.stringify({ ...device, addr }) }
}

/** The devices as COMMAND finds them in `UACCEL_LAB_DEVICES`: `edu=0000:00:05.0,nvme=0000:00:06.0`. */
export function formatDevices(devices: readonly Pick<PlacedDevice, 'name' | 'bdf'>[]): string {
  return devices.map(({ name, bdf }) => `${name}=${bdf}`).join(',')
}

/** Reads what {@link formatDevices} wrote: for programs that run in the lab. */
export function parseDevices(text: string): { name: string; bdf: string }[] {
  return text
    .split(',')
    .filter(Boolean)
    .map((pair) => {
      const [name, bdf] = pair.split('=')
      return { name: name!, bdf: bdf ?? '' }
    })
}
