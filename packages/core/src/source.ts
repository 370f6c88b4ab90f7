import type { DeviceIdentity } from './identity.js'
import type { Uevent } from './pci/uevents.js'
import type { Transport } from './transport.js'

/** A way by which devices are found and opened: one kernel driver, as a rule. */
export interface DeviceSource {
  /** For messages: `vfio`. */
  readonly name: string
  /** The kernel's subsystems whose uevents may be about its devices. */
  readonly subsystems: readonly string[]
  /**
   * The devices that are there and wait to be opened, as sysfs tells them: none is touched for it. `transport.address`
   * tells them apart, over all sources.
   */
  scan(): DeviceIdentity[]
  /** The address of the device that a message of {@link subsystems} is about; `undefined` where it is about none. */
  addressOf(event: Uevent): string | undefined
  /** Opens a device that {@link scan} found. Its errors are the opener's, such as those of `openVfio`. */
  open(device: DeviceIdentity): Promise<Transport>
}
