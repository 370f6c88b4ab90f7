// Constants and layouts of include/uapi/linux/iommufd.h. Every structure starts with its size.

/** _IO(IOMMUFD_TYPE ';', n). */
const iommuIo = (n: number) => (0x3b << 8) | n

export const IOMMU_DESTROY = iommuIo(0x80)
export const IOMMU_IOAS_ALLOC = iommuIo(0x81)
export const IOMMU_IOAS_COPY = iommuIo(0x83)
export const IOMMU_IOAS_IOVA_RANGES = iommuIo(0x84)
export const IOMMU_IOAS_MAP = iommuIo(0x85)
export const IOMMU_IOAS_UNMAP = iommuIo(0x86)
export const IOMMU_HWPT_ALLOC = iommuIo(0x89)
export const IOMMU_GET_HW_INFO = iommuIo(0x8a)
export const IOMMU_HWPT_SET_DIRTY_TRACKING = iommuIo(0x8b)
export const IOMMU_HWPT_GET_DIRTY_BITMAP = iommuIo(0x8c)
export const IOMMU_FAULT_QUEUE_ALLOC = iommuIo(0x8e)
export const IOMMU_IOAS_MAP_FILE = iommuIo(0x8f)

export const IOMMU_IOAS_MAP_FIXED_IOVA = 1 << 0
export const IOMMU_IOAS_MAP_WRITEABLE = 1 << 1
export const IOMMU_IOAS_MAP_READABLE = 1 << 2

export const IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 1 << 1
export const IOMMU_HWPT_FAULT_ID_VALID = 1 << 2
export const IOMMU_HWPT_ALLOC_PASID = 1 << 3
export const IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1 << 0

/** enum iommu_hw_info_type, by its number. */
export const hardwareTypes = ['none', 'intel-vtd', 'arm-smmuv3', 'tegra241-cmdqv', 'amd'] as const
export const IOMMU_HW_CAP_DIRTY_TRACKING = 1 << 0

export const IOMMU_PGFAULT_FLAGS_PASID_VALID = 1 << 0
export const IOMMU_PGFAULT_FLAGS_LAST_PAGE = 1 << 1
export const IOMMU_PGFAULT_PERM_READ = 1 << 0
export const IOMMU_PGFAULT_PERM_WRITE = 1 << 1
export const IOMMU_PGFAULT_PERM_EXEC = 1 << 2
export const IOMMU_PGFAULT_PERM_PRIV = 1 << 3
export const IOMMUFD_PAGE_RESP_SUCCESS = 0
export const IOMMUFD_PAGE_RESP_INVALID = 1

/** sizeof(struct iommu_destroy): size, id. */
export const destroyBytes = 8
/** sizeof(struct iommu_ioas_alloc): size, flags, out_ioas_id. */
export const ioasAllocBytes = 12
/** sizeof(struct iommu_ioas_copy): size, flags, dst_ioas_id, src_ioas_id, u64 length, u64 dst_iova, u64 src_iova. */
export const ioasCopyBytes = 40
/** sizeof(struct iommu_ioas_iova_ranges): size, ioas_id, num_iovas, reserved, u64 allowed_iovas, u64 out_iova_alignment. */
export const iovaRangesBytes = 32
/** sizeof(struct iommu_ioas_map) and _map_file: size, flags, ioas_id, reserved or s32 fd, u64 user_va or start, u64 length, u64 iova. */
export const ioasMapBytes = 40
/** sizeof(struct iommu_ioas_unmap): size, ioas_id, u64 iova, u64 length. */
export const ioasUnmapBytes = 24
/** sizeof(struct iommu_hwpt_alloc): size, flags, dev_id, pt_id, out_hwpt_id, reserved, data_type, data_len, u64 data_uptr, fault_id, reserved. */
export const hwptAllocBytes = 48
/** sizeof(struct iommu_hw_info): size, flags, dev_id, data_len, u64 data_uptr, out_data_type, u8 out_max_pasid_log2, 3 reserved, u64 out_capabilities. */
export const hwInfoBytes = 40
/** sizeof(struct iommu_hwpt_set_dirty_tracking): size, flags, hwpt_id, reserved. */
export const setDirtyTrackingBytes = 16
/** sizeof(struct iommu_hwpt_get_dirty_bitmap): size, hwpt_id, flags, reserved, u64 iova, u64 length, u64 page_size, u64 data. */
export const getDirtyBitmapBytes = 48
/** sizeof(struct iommu_fault_alloc): size, flags, out_fault_id, out_fault_fd. */
export const faultAllocBytes = 16
/** sizeof(struct iommu_hwpt_pgfault): flags, dev_id, pasid, grpid, perm, reserved, u64 addr, length, cookie. */
export const pageFaultBytes = 40
/** sizeof(struct iommu_hwpt_page_response): cookie, code. */
export const pageResponseBytes = 8
