import { pciCapability, pciCommand, pciConfig, pciStatus } from './constants.js'

/** A BAR as config space shows it. Its size is not there: only probing would tell, which is the kernel's to do. */
export interface ConfigBar {
  readonly index: number
  readonly kind: 'memory' | 'io'
  readonly address: bigint
  readonly is64Bit: boolean
  readonly prefetchable: boolean
}

/** A place in a BAR. */
export interface BarPlace {
  readonly bar: number
  readonly offset: number
}

/** A capability: what all have, and what some decode to. */
export interface ConfigCapability {
  readonly id: number
  readonly name: string
  readonly offset: number
  /** Decoded members, for the kinds that are known and lie within the bytes that were read. */
  readonly fields?: Readonly<Record<string, number | boolean | string | BarPlace>>
}

/** An extended capability (PCI Express Base 3.0, 7.9.1). */
export interface ExtendedCapability {
  readonly id: number
  readonly name: string
  readonly version: number
  readonly offset: number
}

/** Config space, decoded. */
export interface ConfigSpaceInfo {
  readonly vendor: number
  readonly device: number
  readonly subsystemVendor?: number
  readonly subsystem?: number
  readonly revision: number
  readonly classCode: number
  readonly headerType: number
  readonly multiFunction: boolean
  readonly command: {
    readonly raw: number
    readonly io: boolean
    readonly memory: boolean
    readonly busMaster: boolean
    readonly intxDisable: boolean
  }
  readonly status: { readonly raw: number; readonly intxPending: boolean; readonly capabilities: boolean }
  readonly bars: readonly ConfigBar[]
  /** INTA to INTD. Absent where the function uses no pin. */
  readonly interruptPin?: 'A' | 'B' | 'C' | 'D'
  readonly capabilities: readonly ConfigCapability[]
  readonly extendedCapabilities: readonly ExtendedCapability[]
  /** What is wrong with these bytes, or missing from them: chains that loop or leave the space, bytes that were not readable. */
  readonly problems: readonly string[]
}

/** Names of capabilities (include/uapi/linux/pci_regs.h, PCI_CAP_ID_*). */
const capabilityNames: Readonly<Record<number, string>> = {
  1: 'Power Management',
  2: 'AGP',
  3: 'Vital Product Data',
  4: 'Slot Identification',
  5: 'MSI',
  6: 'CompactPCI Hot Swap',
  7: 'PCI-X',
  8: 'HyperTransport',
  9: 'Vendor Specific',
  10: 'Debug Port',
  12: 'Hot-Plug Controller',
  13: 'Bridge Subsystem',
  15: 'Secure Device',
  16: 'PCI Express',
  17: 'MSI-X',
  18: 'SATA',
  19: 'Advanced Features',
  20: 'Enhanced Allocation',
}

/** Names of extended capabilities (PCI_EXT_CAP_ID_*). */
const extendedNames: Readonly<Record<number, string>> = {
  1: 'Advanced Error Reporting',
  2: 'Virtual Channel',
  3: 'Device Serial Number',
  4: 'Power Budgeting',
  11: 'Vendor Specific',
  13: 'Access Control Services',
  14: 'Alternative Routing-ID',
  15: 'Address Translation Services',
  16: 'Single Root I/O Virtualization',
  18: 'Multicast',
  19: 'Page Request Interface',
  21: 'Resizable BAR',
  22: 'Dynamic Power Allocation',
  23: 'TPH Requester',
  24: 'Latency Tolerance Reporting',
  25: 'Secondary PCI Express',
  27: 'Process Address Space ID',
  29: 'Downstream Port Containment',
  30: 'L1 PM Substates',
  31: 'Precision Time Measurement',
  35: 'Designated Vendor Specific',
  37: 'Data Link Feature',
  38: 'Physical Layer 16.0 GT/s',
  39: 'Lane Margining',
  42: 'Physical Layer 32.0 GT/s',
  46: 'Data Object Exchange',
}

/** The standard header, without which nothing can be decoded. */
const headerBytes = 64
const extendedStart = 0x100

/**
 * Decodes config space: 64 bytes (all that sysfs shows to users who are not root), 256, or 4096. The bytes may come from
 * a hostile or broken device: chains are followed within the bytes only and never twice through one place.
 */
export function decodeConfigSpace(bytes: Uint8Array): ConfigSpaceInfo {
  const problems: string[] = []
  const header = new Uint8Array(Math.max(headerBytes, bytes.length))
  header.set(bytes)
  if (bytes.length < headerBytes)
    problems.push(`only ${bytes.length} bytes of config space are there, missing ones count as zero`)
  const view = new DataView(header.buffer)
  const command = view.getUint16(pciConfig.command, true)
  const status = view.getUint16(pciConfig.status, true)
  const headerType = view.getUint8(pciConfig.headerType) & 0x7f
  const pin = view.getUint8(pciConfig.interruptPin)
  const hasList = (status & pciStatus.capabilities) !== 0
  if (hasList && bytes.length <= headerBytes)
    problems.push('capabilities are not readable: read config space as root')
  const pinName = (['A', 'B', 'C', 'D'] as const)[pin - 1]
  return {
    vendor: view.getUint16(pciConfig.vendor, true),
    device: view.getUint16(pciConfig.device, true),
    // Bridges have other registers in this place (PCI-to-PCI Bridge 1.2, 3.2).
    ...(headerType === 0
      ? {
          subsystemVendor: view.getUint16(pciConfig.subsystemVendor, true),
          subsystem: view.getUint16(pciConfig.subsystem, true),
        }
      : {}),
    revision: view.getUint8(pciConfig.classRevision),
    classCode: view.getUint32(pciConfig.classRevision, true) >>> 8,
    headerType,
    multiFunction: (view.getUint8(pciConfig.headerType) & 0x80) !== 0,
    command: {
      raw: command,
      io: (command & pciCommand.io) !== 0,
      memory: (command & pciCommand.memory) !== 0,
      busMaster: (command & pciCommand.busMaster) !== 0,
      intxDisable: (command & pciCommand.intxDisable) !== 0,
    },
    status: { raw: status, intxPending: (status & pciStatus.intxPending) !== 0, capabilities: hasList },
    bars: decodeBars(view, headerType === 0 ? 6 : headerType === 1 ? 2 : 0),
    ...(pinName === undefined ? {} : { interruptPin: pinName }),
    capabilities: hasList && bytes.length > headerBytes ? walk(view, problems) : [],
    extendedCapabilities: bytes.length > extendedStart ? walkExtended(view, problems) : [],
    problems,
  }
}

/** PCI Local Bus 3.0, 6.2.5.1. */
function decodeBars(view: DataView, count: number): ConfigBar[] {
  const bars: ConfigBar[] = []
  for (let index = 0; index < count; index++) {
    const low = view.getUint32(pciConfig.bar0 + 4 * index, true)
    if (low === 0) continue
    if ((low & 1) !== 0) {
      bars.push({ index, kind: 'io', address: BigInt((low & ~3) >>> 0), is64Bit: false, prefetchable: false })
      continue
    }
    const is64Bit = ((low >> 1) & 3) === 2 && index + 1 < count
    const high = is64Bit ? view.getUint32(pciConfig.bar0 + 4 * (index + 1), true) : 0
    const address = (BigInt(high) << 32n) | BigInt((low & ~15) >>> 0)
    bars.push({ index, kind: 'memory', address, is64Bit, prefetchable: (low & 8) !== 0 })
    if (is64Bit) index++
  }
  return bars
}

/** PCI Local Bus 3.0, 6.7: the low two bits of each pointer are reserved. */
function walk(view: DataView, problems: string[]): ConfigCapability[] {
  const found: ConfigCapability[] = []
  const seen = new Set<number>()
  let offset = view.getUint8(pciConfig.capabilities) & ~3
  while (offset !== 0) {
    if (offset < headerBytes || offset + 2 > Math.min(view.byteLength, extendedStart)) {
      problems.push(`the capability chain points to offset 0x${offset.toString(16)}`)
      break
    }
    if (seen.has(offset)) {
      problems.push(`the capability chain loops at offset 0x${offset.toString(16)}`)
      break
    }
    seen.add(offset)
    const id = view.getUint8(offset)
    const fields = decodeCapability(view, id, offset)
    found.push({
      id,
      name: capabilityNames[id] ?? `0x${id.toString(16)}`,
      offset,
      ...(fields === undefined ? {} : { fields }),
    })
    offset = view.getUint8(offset + 1) & ~3
  }
  return found
}

/** Bytes that a capability's decoder looks at. */
const decodedBytes: Readonly<Record<number, number>> = {
  [pciCapability.powerManagement]: 6,
  [pciCapability.msi]: 4,
  [pciCapability.vendor]: 3,
  [pciCapability.pcie]: 0x14,
  [pciCapability.msix]: 12,
}

/** PCIe device/port types (PCI_EXP_TYPE_*). */
const pcieTypes: Readonly<Record<number, string>> = {
  0: 'endpoint',
  1: 'legacy endpoint',
  4: 'root port',
  5: 'upstream port',
  6: 'downstream port',
  7: 'PCIe to PCI bridge',
  8: 'PCI to PCIe bridge',
  9: 'root complex endpoint',
  10: 'root complex event collector',
}

function decodeCapability(view: DataView, id: number, at: number): ConfigCapability['fields'] {
  if (!(id in decodedBytes) || at + decodedBytes[id] > view.byteLength) return undefined
  const u16 = (offset: number) => view.getUint16(at + offset, true)
  const u32 = (offset: number) => view.getUint32(at + offset, true)
  const place = (raw: number): BarPlace => ({ bar: raw & 7, offset: (raw & ~7) >>> 0 })
  if (id === pciCapability.msi) {
    const control = u16(2)
    return {
      enabled: (control & 1) !== 0,
      vectors: 1 << ((control >> 1) & 7),
      enabledVectors: 1 << ((control >> 4) & 7),
      is64Bit: (control & 0x80) !== 0,
      maskable: (control & 0x100) !== 0,
    }
  }
  if (id === pciCapability.msix) {
    const control = u16(2)
    return {
      enabled: (control & 0x8000) !== 0,
      masked: (control & 0x4000) !== 0,
      vectors: (control & 0x7ff) + 1,
      table: place(u32(4)),
      pendingBits: place(u32(8)),
    }
  }
  if (id === pciCapability.powerManagement) {
    return { version: u16(2) & 7, state: `D${u16(4) & 3}`, noSoftReset: (u16(4) & 8) !== 0 }
  }
  if (id === pciCapability.vendor) return { lengthBytes: view.getUint8(at + 2) }
  // PCI Express Base 3.0, 7.8: capabilities at 2, device capabilities at 4, device control at 8, link status at 0x12.
  const type = (u16(2) >> 4) & 15
  const link = u16(0x12)
  return {
    version: u16(2) & 15,
    type: pcieTypes[type] ?? `type ${type}`,
    maxPayloadBytes: 128 << ((u16(8) >> 5) & 7),
    maxPayloadSupportedBytes: 128 << (u32(4) & 7),
    functionLevelReset: (u32(4) & (1 << 28)) !== 0,
    linkSpeed: link & 15,
    linkWidth: (link >> 4) & 63,
  }
}

/** PCI Express Base 3.0, 7.9: id, version and next in one word; a chain of all ones or zeros is none. */
function walkExtended(view: DataView, problems: string[]): ExtendedCapability[] {
  const found: ExtendedCapability[] = []
  const seen = new Set<number>()
  let offset = extendedStart
  while (offset !== 0) {
    if (offset < extendedStart || offset + 4 > view.byteLength) {
      problems.push(`the extended capability chain points to offset 0x${offset.toString(16)}`)
      break
    }
    if (seen.has(offset)) {
      problems.push(`the extended capability chain loops at offset 0x${offset.toString(16)}`)
      break
    }
    seen.add(offset)
    const header = view.getUint32(offset, true)
    if (header === 0 || header === 0xffff_ffff) break
    const id = header & 0xffff
    found.push({
      id,
      name: extendedNames[id] ?? `0x${id.toString(16)}`,
      version: (header >>> 16) & 15,
      offset,
    })
    offset = (header >>> 20) & ~3
  }
  return found
}
