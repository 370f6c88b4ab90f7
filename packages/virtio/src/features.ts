/** Feature bits that do not depend on the type of device (virtio 1.2, 6). */
export const FEATURE = {
  /** VIRTIO_F_INDIRECT_DESC: a descriptor may name a table of descriptors. */
  indirectDescriptors: 28,
  /** VIRTIO_F_EVENT_IDX: both sides say at which index they want to hear from the other. */
  eventIndex: 29,
  /** VIRTIO_F_VERSION_1: not the legacy interface. */
  version1: 32,
  /** VIRTIO_F_ACCESS_PLATFORM: the device's addresses are those that the IOMMU translates. */
  accessPlatform: 33,
  /** VIRTIO_F_ORDER_PLATFORM: memory is ordered as the platform orders it for other devices. */
  orderPlatform: 36,
} as const

/** Whether a set of features has that bit. */
export function hasFeature(features: bigint, bit: number): boolean {
  return ((features >> BigInt(bit)) & 1n) === 1n
}

/** The set of these bits. */
export function featureSet(bits: readonly number[]): bigint {
  return bits.reduce((set, bit) => set | (1n << BigInt(bit)), 0n)
}
