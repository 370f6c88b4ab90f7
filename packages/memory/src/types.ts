declare const iovaBrand: unique symbol

/** An I/O virtual address: what a device puts on the bus. Branded, so that no other bigint passes for one. */
export type Iova = bigint & { readonly [iovaBrand]: true }

/** An address range with both ends in it, as VFIO's IOVA range capability gives them. */
export interface IovaRange {
  readonly first: bigint
  readonly last: bigint
}

/** What a device may do with a mapping, seen from the device. */
export type DmaAccess = 'read' | 'write' | 'readwrite'

/** Memory of this process that has a file behind it. */
export interface DmaMemory {
  readonly sizeBytes: number
  /** Where this process sees the memory (what VFIO type1 and IOMMU_IOAS_MAP take). */
  readonly address: bigint
  /** The file behind the memory (what vfio-user and IOMMU_IOAS_MAP_FILE take), from `fdOffset` on. */
  readonly fd: number
}

/** One contiguous piece of memory to make reachable for a device. All sizes and addresses are multiples of the mapper's page size. */
export interface DmaMapRequest extends DmaMemory {
  readonly iova: Iova
  readonly access: DmaAccess
  readonly fdOffset: number
}

/** What another mapper has mapped, to be reachable at `iova` too. */
export type DmaCopy = Pick<DmaMapRequest, 'iova' | 'sizeBytes' | 'access'>

/** A dma-buf to make reachable for a device, from its start on. */
export interface DmaBufMapRequest extends DmaCopy {
  readonly fd: number
}

/** What every transport offers to map memory for its device. {@link DmaDomain} is the only caller. */
export interface DmaMapper {
  /** Smallest unit of a mapping, in bytes. */
  readonly pageSizeBytes: number
  /** How many mappings may exist at once; `Infinity` where the transport has no limit. */
  readonly maxMappings: number
  /** True where mapped memory is locked and counts against RLIMIT_MEMLOCK. */
  readonly locksMemory: boolean
  /** The apertures that the IOMMU can translate, reserved ranges cut out; read anew at each call because an attach narrows them. */
  ranges(): readonly IovaRange[]
  /** Counts the times that {@link ranges} may have changed. Absent where it never does. */
  readonly rangesVersion?: number
  /**
   * Only where nothing translates (no IOMMU): the I/O address that memory has by its place, at which alone it can be mapped.
   * Memory stays in its place only where it is made of huge pages; other memory is refused. Absent where the
   * domain chooses the addresses, and memory may be of any kind.
   */
  locate?(memory: DmaMemory): Iova
  map(request: DmaMapRequest): void
  /** Absent where the transport cannot map what it has no address for. */
  mapDmaBuf?(request: DmaBufMapRequest): void
  /** Makes what `source` has mapped at `sourceIova` reachable through this mapper too. Absent where memory has to be mapped anew. */
  copy?(request: DmaCopy, source: DmaMapper, sourceIova: Iova): void
  /** Takes back exactly one earlier mapping. */
  unmap(iova: Iova, sizeBytes: number): void
}
