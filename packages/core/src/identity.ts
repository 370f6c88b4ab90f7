import type { ConfigSpace } from './config-access.js'
import { pciConfig } from './pci/constants.js'
import type { TransportIdentity } from './transport.js'

/** What a device says of itself, and how it is reached. */
export interface DeviceIdentity {
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

/** Reads it from config space. */
export function identify(config: ConfigSpace, transport: TransportIdentity): DeviceIdentity {
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
