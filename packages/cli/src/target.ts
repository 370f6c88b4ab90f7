import {
  interposed,
  type NoIommuOptions,
  openPlatform,
  openUio,
  openVfio,
  parseBdf,
  type Transport,
} from '@uaccel/core'
import { accelError, isAccelError } from '@uaccel/uapi'

/** How a device with configuration space is named on the command line, for help texts. */
export const pciTargetHelp =
  'PCI address (0000:00:05.0 or 00:05.0); or path of a vfio-user socket, with a slash (./edu.sock)'

/** How a device is named on the command line, for help texts. */
export const targetHelp = `${pciTargetHelp}; or uio: and what is behind UIO, by its name (uio:NAME or uio:uio0) or PCI address (uio:0000:00:05.0)`

/** The option of {@link openTarget}, for commands that open a device. */
export const allowNoIommu = [
  '--allow-no-iommu',
  'take a device that no IOMMU isolates: it can reach all memory',
] as const

/** A path has a slash in it, a PCI address has none. */
export const isSocket = (text: string): boolean => text.includes('/')

/** Opens what {@link targetHelp} says. */
export async function openTarget(text: string, options: NoIommuOptions = {}): Promise<Transport> {
  return interposed(await open(text, options))
}

async function open(text: string, options: NoIommuOptions): Promise<Transport> {
  if (isSocket(text)) return (await import('@uaccel/vfio-user')).connectVfioUser(text)
  if (!text.startsWith(uioPrefix)) return openVfio(parseAddress(text), options)
  const name = text.slice(uioPrefix.length)
  return isBdf(name) ? openUio(name, options) : openPlatform(name, options)
}

const uioPrefix = 'uio:'

function isBdf(text: string): boolean {
  try {
    return parseBdf(text) !== ''
  } catch {
    return false
  }
}

/**
 * A PCI address, with its domain.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT
 */
export function parseAddress(text: string): string {
  try {
    return parseBdf(text)
  } catch (cause) {
    if (!isAccelError(cause)) throw cause
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `"${text}" is neither a PCI address such as 0000:00:05.0 nor a path: a socket in this folder is ./${text}.`,
      { cause },
    )
  }
}
