import { hardwareTypes, IOMMU_HW_CAP_DIRTY_TRACKING } from './iommufd-abi.js'

/** What an Intel IOMMU says of itself in its capability registers (VT-d specification 4.1, 11.4.2 and 11.4.3). */
export interface VtdInfo {
  /** CAP_REG and ECAP_REG as they are. */
  readonly capability: bigint
  readonly extendedCapability: bigint
  /** Widest I/O address, in bits (MGAW). */
  readonly addressBits: number
  /** Sizes of second-stage pages besides 4 KiB (SSLPS). */
  readonly largePageBytes: readonly number[]
  /** Scalable mode, which PASIDs and nesting need (SMTS). */
  readonly scalableMode: boolean
  /** Page tables of the processor's format (FSTS), of its own (SSTS), one on the other (NEST). */
  readonly firstStage: boolean
  readonly secondStage: boolean
  readonly nested: boolean
  /** Takes transfers tagged with a PASID, of that many bits (PASID, PSS). Absent where it does not. */
  readonly pasidBits?: number
  /** Takes page requests (PRS). */
  readonly pageRequests: boolean
  /** Takes translated requests of devices with a cache of their own, ATS (DT). */
  readonly deviceTlb: boolean
  /** Snoops processor caches: DMA is coherent (C). */
  readonly coherent: boolean
  /** Records accessed and dirty pages of the second stage (SSADS). */
  readonly dirtyTracking: boolean
}

/** The IOMMU in front of a device. */
export interface IommuHardwareInfo {
  /** enum iommu_hw_info_type of linux/iommufd.h; `name` is undefined for a number that is not known here. */
  readonly type: number
  readonly name: (typeof hardwareTypes)[number] | undefined
  /** What the IOMMU's driver tells, undecoded (struct iommu_hw_info_* of that type). */
  readonly data: Uint8Array
  /** PASID bits that are in use for this device: it, the IOMMU and the kernel have them. */
  readonly pasidBits?: number
  readonly dirtyTracking: boolean
  readonly vtd?: VtdInfo
}

/** sizeof(struct iommu_hw_info_vtd): flags, reserved, u64 cap_reg, u64 ecap_reg. */
const vtdBytes = 24

/** Decodes struct iommu_hw_info and what it points to. */
export function decodeHardwareInfo(answer: Buffer, data: Buffer): IommuHardwareInfo {
  const type = answer.readUInt32LE(24)
  const pasidBits = answer.readUInt8(28)
  const name = hardwareTypes[type]
  return {
    type,
    name,
    data: Uint8Array.from(data),
    ...(pasidBits === 0 ? {} : { pasidBits }),
    dirtyTracking: (answer.readUInt32LE(32) & IOMMU_HW_CAP_DIRTY_TRACKING) !== 0,
    ...(name === 'intel-vtd' && data.length >= vtdBytes
      ? { vtd: decodeVtd(data.readBigUInt64LE(8), data.readBigUInt64LE(16)) }
      : {}),
  }
}

function decodeVtd(capability: bigint, extendedCapability: bigint): VtdInfo {
  const field = (register: bigint, high: number, low: number) =>
    Number((register >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n))
  const extended = (bit: number) => field(extendedCapability, bit, bit) === 1
  const largePages = field(capability, 37, 34)
  return {
    capability,
    extendedCapability,
    addressBits: field(capability, 21, 16) + 1,
    largePageBytes: [2 ** 21, 2 ** 30].filter((_, i) => (largePages & (1 << i)) !== 0),
    scalableMode: extended(43),
    firstStage: extended(47),
    secondStage: extended(46),
    nested: extended(26),
    ...(extended(40) ? { pasidBits: field(extendedCapability, 39, 35) + 1 } : {}),
    pageRequests: extended(29),
    deviceTlb: extended(2),
    coherent: extended(0),
    dirtyTracking: extended(45),
  }
}
