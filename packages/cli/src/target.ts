import { openVfio, parseBdf, type Transport } from '@uaccel/core'
import { accelError, isAccelError } from '@uaccel/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'

/** How a device is named on the command line, for help texts. */
export const targetHelp =
  'PCI address (0000:00:05.0 or 00:05.0), or path of a vfio-user socket, with a slash (./edu.sock)'

/** A path has a slash in it, a PCI address has none. */
export const isSocket = (text: string): boolean => text.includes('/')

/** Opens what {@link targetHelp} says. */
export async function openTarget(text: string): Promise<Transport> {
  return isSocket(text) ? connectVfioUser(text) : openVfio(parseAddress(text))
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
