import type { ConfigSpace } from './config-access.js'
import { pciConfig } from './pci/constants.js'
import type { PlatformName, Transport, TransportIdentity } from './transport.js'

/** What a device says of itself, and how it is reached. */
export type DeviceIdentity = PciIdentity | PlatformIdentity

/** A device that is not PCI: it says nothing, its kernel driver does. */
export interface PlatformIdentity extends PlatformName {
  readonly bus: 'platform'
  readonly transport: TransportIdentity
}

/** What a PCI device says in its config space. */
export interface PciIdentity {
  readonly bus: 'pci'
  readonly vendor: number
  readonly device: number
  readonly subsystemVendor: number
  readonly subsystem: number
  readonly revision: number
  /** Base class, subclass and programming interface: 0xBBSSPP. */
  readonly classCode: number
  readonly transport: TransportIdentity
}

/** Reads it from config space, where there is one. */
export function identify(
  config: ConfigSpace,
  { identity: transport, platform }: Pick<Transport, 'identity' | 'platform'>,
): DeviceIdentity {
  if (platform !== undefined) return { bus: 'platform', ...platform, transport }
  const classAndRevision = config.read32(pciConfig.classRevision)
  return {
    bus: 'pci',
    vendor: config.read16(pciConfig.vendor),
    device: config.read16(pciConfig.device),
    subsystemVendor: config.read16(pciConfig.subsystemVendor),
    subsystem: config.read16(pciConfig.subsystem),
    revision: classAndRevision & 0xff,
    classCode: classAndRevision >>> 8,
    transport,
  }
}
