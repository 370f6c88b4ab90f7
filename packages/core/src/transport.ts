import type { DmaMapper } from '@uaccel/memory'
import type { Mapping } from '@uaccel/sys'
import type { AccelError } from '@uaccel/uapi'
import type { RegisterMap } from './registers.js'

/** Region indices of a PCI device (VFIO_PCI_*_REGION_INDEX in linux/vfio.h; vfio-user uses the same). */
export const PciRegion = {
  BAR0: 0,
  BAR1: 1,
  BAR2: 2,
  BAR3: 3,
  BAR4: 4,
  BAR5: 5,
  ROM: 6,
  CONFIG: 7,
  VGA: 8,
} as const

/** Interrupt kinds of a PCI device, in the order of VFIO_PCI_*_IRQ_INDEX in linux/vfio.h. */
export const irqTypes = ['intx', 'msi', 'msix', 'err', 'req'] as const
export type IrqType = (typeof irqTypes)[number]

/** A part of a region. */
export interface Area {
  readonly offset: number
  readonly sizeBytes: number
}

/** A region of the device: a BAR, the ROM or config space. A region that the device lacks has size 0. */
export interface RegionInfo {
  readonly index: number
  readonly sizeBytes: number
  readonly readable: boolean
  readonly writable: boolean
  /** The parts that may be mapped, in ascending order: none, all, or the areas of a sparse mmap capability. */
  readonly mappable: readonly Area[]
}

/** What the device and its transport offer of one interrupt kind. */
export interface IrqInfo {
  readonly type: IrqType
  /** Number of vectors; 0 where the device has none of this kind. */
  readonly count: number
  readonly maskable: boolean
  /** The kernel masks the line when it fires; it has to be unmasked after the device is acknowledged (INTx). */
  readonly autoMasked: boolean
}

/**
 * Ways to reset a device: `function` touches nothing but the function itself (FLR, power cycle, or what the kernel knows
 * for it); `hot` resets the bus that it is on, and with it every function there.
 */
export const resetKinds = ['function', 'hot'] as const
export type ResetKind = (typeof resetKinds)[number]

/** The kernel's two interfaces to an IOMMU: groups in a container (type 1), and iommufd. */
export const iommuKinds = ['type1', 'iommufd'] as const
export type IommuKind = (typeof iommuKinds)[number]

/** Where a transport comes from, for people and for INFO. */
export interface TransportIdentity {
  readonly kind: 'loopback' | 'vfio-user' | 'vfio' | 'uio'
  /** BDF, socket path or model name. */
  readonly address: string
  /** Which of the kernel's interfaces to the IOMMU it goes through; `none` without an IOMMU. Only with `vfio` and `uio`. */
  readonly iommu?: IommuKind | 'none'
  /** True where a model stands behind it. Absent where this cannot be known. */
  readonly emulated?: boolean
  /** Why this device is not isolated (no IOMMU). Absent where it is. */
  readonly tainted?: string
}

/** What a device on the platform bus is known by: it has no config space to say so itself. */
export interface PlatformName {
  /** As the kernel's driver names it (`/sys/class/uio/uioN/name`). */
  readonly name: string
  readonly version: string
}

/** Width of one bus access in bytes that fits a JavaScript number. */
export type AccessWidth = 1 | 2 | 4

/** A part of a region as another process can map it. */
export interface RegionFile {
  /** Stays the transport's. */
  readonly fd: number
  /** Of the part, in bytes from the start of the file. */
  readonly offset: number
}

/**
 * A way to a device. Drivers never see one: they get a `Device`, which an application made from a transport.
 *
 * All calls but `reset`, `setLowPower` and `close` are synchronous. After the device is lost or the transport closed, each throws
 * `ERR_ACCEL_NO_DEVICE` with the reason as `cause`. Offsets are checked against the region: `ERR_ACCEL_OUT_OF_RANGE`.
 */
export interface Transport {
  readonly identity: TransportIdentity
  /** Only for a device that is not PCI: its regions are its memory areas in BAR order, config space has size 0, and its interrupt is `intx`. */
  readonly platform?: PlatformName
  /** Indexed by {@link PciRegion}. */
  readonly regions: readonly RegionInfo[]
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
  /** The ways in which {@link reset} can work; none where the device has no reset. */
  readonly resets: readonly ResetKind[]
  readonly dma: DmaMapper

  /** Exactly one access of exactly that width, for BARs that are not mapped. */
  read(region: number, offset: number, width: AccessWidth): number
  write(region: number, offset: number, width: AccessWidth, value: number): void
  read64(region: number, offset: number): bigint
  write64(region: number, offset: number, value: bigint): void
  /** Any number of bytes, in accesses of the transport's choice: config space, ROM, on-card memory. */
  readBytes(region: number, offset: number, into: Uint8Array): void
  writeBytes(region: number, offset: number, from: Uint8Array): void

  /**
   * Maps a page-aligned part, or all, of one of `regions[region].mappable`. The caller revokes it before `close`.
   * `ERR_ACCEL_BUSY` while memory decoding is off, where an access would then end the process.
   */
  map(region: number, area: Area): Mapping

  /**
   * Allocates `fds.length` vectors of that kind at once and arms them; -1 leaves a vector without a trigger.
   * `ERR_ACCEL_OUT_OF_RANGE` with `details.available` where the kernel grants fewer.
   */
  setIrqs(type: IrqType, fds: readonly number[]): void
  /** Takes all vectors of that kind back. */
  disableIrqs(type: IrqType): void
  maskIrq(type: IrqType, vector: number): void
  unmaskIrq(type: IrqType, vector: number): void
  /**
   * Fires a vector that is armed, in the device's stead: proves the way from here on, without the device. `ERR_ACCEL_INVALID_ARGUMENT` for one
   * that is not armed. Absent where nothing offers that (UIO).
   */
  triggerIrq?(type: IrqType, vector: number): void

  /**
   * Resets the device; default `function`, where it has that, else `hot`. Mappings must have been revoked, interrupts are
   * disarmed by it. `ERR_ACCEL_UNSUPPORTED` for a kind that is not in {@link resets}; `ERR_ACCEL_BUSY` where it would hit others
   * than this device, which was then not reset. Whether the device answers afterwards is for the caller to see.
   */
  reset(kind?: ResetKind): Promise<void>

  /** Puts the device into its low-power state, or wakes it. Mappings must have been revoked, interrupts are disarmed by it. Absent where it has none. */
  setLowPower?(on: boolean): Promise<void>

  /** A dma-buf for a page-aligned part of a BAR, which another device's domain can map; the caller closes it. Absent where the kernel cannot. */
  exportDmaBuf?(region: number, area: Area): number

  /**
   * The file that holds a page-aligned part of one of `regions[region].mappable`, for another process to map. Who has it reaches that
   * region, and nothing else of the device. Absent where there is no such file: the kernel's descriptor of a device can also configure
   * and reset it. `ERR_ACCEL_UNSUPPORTED` where the file holds more than the region, or can shrink.
   */
  regionFile?(region: number, area: Area): RegionFile

  /**
   * Descriptors that become readable when something of the device wants the event loop of this thread, such as {@link onLost}: they end
   * the wait of a thread that blocks for an interrupt. The same until `close`. Absent where interrupts come by way of the event loop.
   */
  readonly attention?: readonly number[]

  /**
   * Learns what the driver calls the registers of a region, when it maps them: for a transport that tells or keeps what passes through it.
   * Absent where nothing comes of it.
   */
  describe?(region: number, map: RegisterMap): void

  /**
   * Calls back once, when the device vanishes, reports an error that it does not recover from (PCIe AER), or its peer
   * closes. Answers a function that takes the listener back.
   */
  onLost(listener: (reason: AccelError) => void): () => void
  /**
   * Calls back when the administrator wants the device back (unbind, orderly removal). It still works, and whoever waits is
   * blocked until it is closed: end the work and close soon. Without a listener it counts as lost. Answers a function that takes
   * the listener back.
   */
  onRequest(listener: (reason: AccelError) => void): () => void
  /** Gives everything back, in the order that the kernel wants. Idempotent. */
  close(): Promise<void>
}
