import { openVfio, parseBdf, type Transport } from '@uaccel/core'
import { connectVfioUser } from '@uaccel/vfio-user'

/** How a device is named on the command line, for help texts. */
export const targetHelp = 'PCI address (0000:00:05.0 or 00:05.0), or path of a vfio-user socket'

/** A path has a slash in it, a PCI address has none. */
export const isSocket = (text: string): boolean => text.includes('/')

/** Opens what {@link targetHelp} says. */
export async function openTarget(text: string): Promise<Transport> {
  return isSocket(text) ? connectVfioUser(text) : openVfio(parseBdf(text))
}
