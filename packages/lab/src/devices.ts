import { resolve } from 'node:path'
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

/** A device of the guest, at a place that is known before it boots. */
export interface PlacedDevice {
  /** The given one, or that of the preset or QEMU's device. Not unique where one kind is asked for twice. */
  name: string
  /** PCI address in the guest. */
  bdf: string
  /** QEMU's name of it: `device0`, `device1` and so on, or the one that a -device string gave it. */
  id: string
  /** QEMU's -device argument, id and address included. */
  argument: string
  /** The same of the root port above it. Its id is `port0` for `device0`, and so on. */
  portArgument?: string
  /** A vfio-user server is the device: QEMU reaches it by this socket. */
  socketPath?: string
  diskBytes?: number
  /** File that is the device's disk, which the guest cannot change. */
  diskPath?: string
}

/** Slots of the root bus below are the lab's own; 31 is the chipset. */
const firstSlot = 5
const lastSlot = 30

/** A device as a user writes it: `[NAME=][port/]DEVICE`. In a -device string a comma comes before the first `=`. */
const notation = /^(?:([A-Za-z][\w-]*)=)?(port\/)?(.*)$/s
const socketPrefix = 'vfio-user:'
const diskPrefix = 'nvme:'

/**
 * Gives each device a slot of the guest's root bus, in order, so that the guest knows it by its address. One behind
 * a root port is the only device of a bus; firmware numbers these in the order of their ports' slots.
 * @param devices `[NAME=][port/]DEVICE` each: NAME for `UACCEL_LAB_DEVICES`; `port/` where it is to stand behind a PCI
 * Express root port, from which it can be unplugged; DEVICE the name of a preset, a -device string of QEMU (it is JSON
 * or holds a comma; without `bus` and `addr`), `nvme:FILE` for a controller whose disk is that image, read-only, or
 * `vfio-user:SOCKET` for the device that a vfio-user server is
 * @throws ERR_ACCEL_NOT_FOUND for a name that is no preset, ERR_ACCEL_INVALID_ARGUMENT for a bad -device string,
 * ERR_ACCEL_OUT_OF_RANGE for more devices than slots
 */
export function placeDevices(devices: readonly string[]): PlacedDevice[] {
  if (devices.length > lastSlot - firstSlot + 1) {
    throw new AccelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `the lab has slots for ${lastSlot - firstSlot + 1} devices, not for ${devices.length}`,
    )
  }
  let ports = 0
  return devices.map((text, index) => {
    const slot = firstSlot + index
    const [, name, port, device] = notation.exec(text)!
    const place = { id: `device${index}`, addr: `0x${hex(slot)}` }
    const named = name === undefined ? {} : { name }
    if (port === undefined) return { ...addressed(device!, place), ...named, bdf: bdf(0, slot) }
    // PCI Express Base Specification, "Slot Capabilities": chassis and physical slot number are unique together.
    const number = ++ports
    const bus = `port${index}`
    return {
      ...addressed(device!, { id: place.id, bus, addr: '0x0' }),
      ...named,
      bdf: bdf(number, 0),
      portArgument: `pcie-root-port,id=${bus},chassis=${number},slot=${number},addr=${place.addr}`,
    }
  })
}

const hex = (value: number) => value.toString(16)
const bdf = (bus: number, slot: number) => `0000:${hex(bus).padStart(2, '0')}:${hex(slot).padStart(2, '0')}.0`

/** What QEMU is told beyond the device's kind. */
interface Place {
  id: string
  bus?: string
  addr: string
}

/** A preset or a -device string, in either of QEMU's notations, with id and place put in. */
function addressed(text: string, place: Place): Omit<PlacedDevice, 'bdf' | 'portArgument'> {
  if (text.startsWith(socketPrefix)) {
    const path = resolve(text.slice(socketPrefix.length))
    return { ...json({ driver: 'vfio-user-pci', socket: { type: 'unix', path } }, place), name: 'vfio-user' }
  }
  if (text.startsWith(diskPrefix)) {
    const { diskBytes: _, ...nvme } = addressed('nvme', place)
    return { ...nvme, diskPath: resolve(text.slice(diskPrefix.length)) }
  }
  if (!/^\{|,/.test(text)) {
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
    return {
      name: text,
      id: place.id,
      argument: `${device},${options(place)}`,
      ...(diskBytes && { diskBytes }),
    }
  }
  const invalid = (why: string, cause?: unknown) =>
    new AccelError('ERR_ACCEL_INVALID_ARGUMENT', `lab device '${text}': ${why}`, { cause })
  const elsewhere =
    'the lab chooses bus and addr; a device that stands elsewhere goes into the arguments for QEMU'
  if (!text.startsWith('{')) {
    if (!/^[\w.-]+,/.test(text)) throw invalid('it does not begin with the name of a device')
    if (/,(bus|addr)=/.test(text)) throw invalid(elsewhere)
    const id = /,id=([^,]+)/.exec(text)?.[1]
    const { id: given, ...where } = place
    return {
      name: text.slice(0, text.indexOf(',')),
      id: id ?? given,
      argument: `${text},${options(id === undefined ? place : where)}`,
    }
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
  if (device.id !== undefined && typeof device.id !== 'string') throw invalid("its 'id' is no string")
  return json(device as { driver: string; id?: string }, place)
}

function json(device: { driver: string; id?: string; socket?: unknown }, place: Place) {
  const id = device.id ?? place.id
  const socketPath =
    device.driver === 'vfio-user-pci' && (device.socket as { path?: unknown } | undefined)?.path
  return {
    name: device.driver,
    id,
    argument: JSON.stringify({ ...device, ...place, id }),
    ...(typeof socketPath === 'string' && { socketPath }),
  }
}

const options = (values: object) =>
  Object.entries(values)
    .map(([key, value]) => `${key}=${value}`)
    .join(',')

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
