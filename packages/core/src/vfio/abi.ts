// Constants and layouts of include/uapi/linux/vfio.h. All structures are little-endian on x86-64.

/** _IO(VFIO_TYPE ';', VFIO_BASE 100 + n): no size and no direction in the number. */
const io = (n: number) => (0x3b << 8) | (100 + n)

export const VFIO_GET_API_VERSION = io(0)
export const VFIO_CHECK_EXTENSION = io(1)
export const VFIO_SET_IOMMU = io(2)
export const VFIO_GROUP_GET_STATUS = io(3)
export const VFIO_GROUP_SET_CONTAINER = io(4)
export const VFIO_GROUP_GET_DEVICE_FD = io(6)
export const VFIO_DEVICE_GET_INFO = io(7)
export const VFIO_DEVICE_GET_REGION_INFO = io(8)
export const VFIO_DEVICE_GET_IRQ_INFO = io(9)
export const VFIO_DEVICE_SET_IRQS = io(10)
export const VFIO_DEVICE_RESET = io(11)
export const VFIO_IOMMU_GET_INFO = io(12)
export const VFIO_IOMMU_MAP_DMA = io(13)
export const VFIO_IOMMU_UNMAP_DMA = io(14)
export const VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = io(12)
export const VFIO_DEVICE_PCI_HOT_RESET = io(13)
export const VFIO_DEVICE_FEATURE = io(17)
export const VFIO_DEVICE_BIND_IOMMUFD = io(18)
export const VFIO_DEVICE_ATTACH_IOMMUFD_PT = io(19)
export const VFIO_DEVICE_DETACH_IOMMUFD_PT = io(20)

export const VFIO_API_VERSION = 0
export const VFIO_TYPE1v2_IOMMU = 3
export const VFIO_NOIOMMU_IOMMU = 8

export const VFIO_GROUP_FLAGS_VIABLE = 1 << 0
export const VFIO_DEVICE_FLAGS_RESET = 1 << 0
export const VFIO_DEVICE_FLAGS_PCI = 1 << 1

export const VFIO_REGION_INFO_FLAG_READ = 1 << 0
export const VFIO_REGION_INFO_FLAG_WRITE = 1 << 1
export const VFIO_REGION_INFO_FLAG_MMAP = 1 << 2
export const VFIO_REGION_INFO_FLAG_CAPS = 1 << 3
export const VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1
export const VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3

export const VFIO_PCI_HOT_RESET_FLAG_DEV_ID = 1 << 0
export const VFIO_PCI_DEVID_NOT_OWNED = 0xffff_ffff

export const VFIO_DEVICE_FEATURE_GET = 1 << 16
export const VFIO_DEVICE_FEATURE_SET = 1 << 17
export const VFIO_DEVICE_FEATURE_PROBE = 1 << 18
export const VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3
export const VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5
export const VFIO_DEVICE_FEATURE_DMA_BUF = 11

export const VFIO_IRQ_INFO_EVENTFD = 1 << 0
export const VFIO_IRQ_INFO_MASKABLE = 1 << 1
export const VFIO_IRQ_INFO_AUTOMASKED = 1 << 2

export const VFIO_IRQ_SET_DATA_NONE = 1 << 0
export const VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2
export const VFIO_IRQ_SET_ACTION_MASK = 1 << 3
export const VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4
export const VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5

export const VFIO_IOMMU_INFO_PGSIZES = 1 << 0
export const VFIO_IOMMU_INFO_CAPS = 1 << 1
export const VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1
export const VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL = 3
export const VFIO_DMA_MAP_FLAG_READ = 1 << 0
export const VFIO_DMA_MAP_FLAG_WRITE = 1 << 1

/** sizeof(struct vfio_group_status): argsz, flags. */
export const groupStatusBytes = 8
/** struct vfio_device_info without its padding: argsz, flags, num_regions, num_irqs, cap_offset. */
export const deviceInfoBytes = 20
/** sizeof(struct vfio_region_info): argsz, flags, index, cap_offset, u64 size, u64 offset. */
export const regionInfoBytes = 32
/** sizeof(struct vfio_irq_info): argsz, flags, index, count. */
export const irqInfoBytes = 16
/** sizeof(struct vfio_irq_set) without data: argsz, flags, index, start, count. */
export const irqSetBytes = 20
/** sizeof(struct vfio_iommu_type1_info): argsz, flags, u64 iova_pgsizes, cap_offset, padding. */
export const iommuInfoBytes = 24
/** sizeof(struct vfio_iommu_type1_dma_map) and _unmap: argsz, flags, then three or two u64. */
export const dmaMapBytes = 32
export const dmaUnmapBytes = 24

/** sizeof(struct vfio_pci_hot_reset_info) without devices: argsz, flags, count. */
export const hotResetInfoBytes = 12
/** sizeof(struct vfio_pci_dependent_device): group_id or devid, u16 segment, u8 bus, u8 devfn. */
export const dependentDeviceBytes = 8
/** sizeof(struct vfio_pci_hot_reset) without group descriptors: argsz, flags, count. */
export const hotResetBytes = 12
/** sizeof(struct vfio_device_feature) without data: argsz, flags. */
export const featureBytes = 8
/** sizeof(struct vfio_device_feature_dma_buf) with one range: region_index, open_flags, flags, nr_ranges, u64 offset, u64 length. */
export const featureDmaBufBytes = 32
/** struct vfio_device_bind_iommufd without the token that later kernels take: argsz, flags, s32 iommufd, out_devid. */
export const bindIommufdBytes = 16
/** sizeof(struct vfio_device_attach_iommufd_pt): argsz, flags, pt_id, and from kernel 6.15 on u32 pasid. */
export const attachIommufdBytes = 12
export const attachPasidBytes = 16
/** sizeof(struct vfio_device_detach_iommufd_pt): argsz, flags, and from kernel 6.15 on u32 pasid. */
export const detachIommufdBytes = 8
export const detachPasidBytes = 12
/** The same bit of detach: VFIO_DEVICE_DETACH_PASID. */
export const VFIO_DEVICE_ATTACH_PASID = 1 << 0

/** What one answer with capabilities may take. The kernel's are some hundred bytes. */
const maxInfoBytes = 64 * 1024
const maxCapabilities = 64

/** Asks with `sizeBytes`, and again with the room that the first answer says it needs (argsz). */
export function askTwice(sizeBytes: number, ask: (info: Buffer) => void): Buffer {
  const request = (room: number) => {
    const info = Buffer.alloc(room)
    info.writeUInt32LE(room, 0)
    ask(info)
    return info
  }
  const first = request(sizeBytes)
  const needed = first.readUInt32LE(0)
  return needed > sizeBytes && needed <= maxInfoBytes ? request(needed) : first
}

/** A capability of an info structure (struct vfio_info_cap_header: u16 id, u16 version, u32 next). */
export interface InfoCapability {
  readonly id: number
  /** What follows the header, up to the end of the structure. */
  readonly data: Buffer
}

/** Follows a chain from `offset`, which is 0 where there is none. Ends where it leaves the structure or gets too long. */
export function infoCapabilities(info: Buffer, offset: number): InfoCapability[] {
  const found: InfoCapability[] = []
  for (
    let at = offset;
    at >= 8 && at + 8 <= info.length && found.length < maxCapabilities;
    at = info.readUInt32LE(at + 4)
  ) {
    found.push({ id: info.readUInt16LE(at), data: info.subarray(at + 8) })
  }
  return found
}

/** The pairs of u64 that a capability holds after a count and a reserved word: ranges or areas. */
export function u64Pairs(data: Buffer): (readonly [bigint, bigint])[] {
  const count = data.length < 8 ? 0 : Math.min(data.readUInt32LE(0), Math.floor((data.length - 8) / 16))
  return Array.from(
    { length: count },
    (_, i) => [data.readBigUInt64LE(8 + 16 * i), data.readBigUInt64LE(16 + 16 * i)] as const,
  )
}
