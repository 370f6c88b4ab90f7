import { join } from 'node:path'
import type { DmaMapper, DmaMapRequest, Iova, IovaRange } from '@uaccel/memory'
import { abi } from '@uaccel/sys'
import { accelError, isAccelError } from '@uaccel/uapi'
import { type IommuGroup, type PciDeviceInfo, readPciDevice } from '../pci/sysfs.js'
import * as vfio from './abi.js'
import type { VfioCalls } from './calls.js'

/** How many mappings a container holds where it does not say (dma_entry_limit of vfio_iommu_type1). */
const defaultMaxMappings = 65_535

/** Memory of an IOMMU container of type 1, version 2. */
class Type1Mapper implements DmaMapper {
  readonly pageSizeBytes: number
  readonly maxMappings: number
  readonly locksMemory = true
  readonly #calls: VfioCalls
  readonly #fd: number

  constructor(calls: VfioCalls, fd: number) {
    this.#calls = calls
    this.#fd = fd
    const info = this.#info()
    const pageSizes =
      (info.readUInt32LE(4) & vfio.VFIO_IOMMU_INFO_PGSIZES) !== 0 ? info.readBigUInt64LE(8) : 4096n
    this.pageSizeBytes = Number(pageSizes & -pageSizes) || 4096
    const available = this.#capability(info, vfio.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)
    this.maxMappings =
      available !== undefined && available.length >= 4 ? available.readUInt32LE(0) : defaultMaxMappings
  }

  ranges(): readonly IovaRange[] {
    const ranges = this.#capability(this.#info(), vfio.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
    // Kernels before 5.4 do not tell: what every x86 IOMMU translates, without the window that MSI writes go to
    // (arch/x86/include/asm/msi.h; Intel SDM 3A, 11.11.1).
    if (ranges === undefined) {
      return [
        { first: 0n, last: 0xfedf_ffffn },
        { first: 0xfef0_0000n, last: 0x7f_ffff_ffffn },
      ]
    }
    return vfio.u64Pairs(ranges).map(([first, last]) => ({ first, last }))
  }

  map({ iova, sizeBytes, access, address }: DmaMapRequest): void {
    const request = Buffer.alloc(vfio.dmaMapBytes)
    request.writeUInt32LE(request.length, 0)
    // READ and WRITE are the device's.
    const read = access === 'write' ? 0 : vfio.VFIO_DMA_MAP_FLAG_READ
    const write = access === 'read' ? 0 : vfio.VFIO_DMA_MAP_FLAG_WRITE
    request.writeUInt32LE(read | write, 4)
    request.writeBigUInt64LE(address, 8)
    request.writeBigUInt64LE(iova, 16)
    request.writeBigUInt64LE(BigInt(sizeBytes), 24)
    try {
      this.#calls.ioctl(
        this.#fd,
        vfio.VFIO_IOMMU_MAP_DMA,
        request,
        `VFIO_IOMMU_MAP_DMA of ${sizeBytes} bytes at 0x${iova.toString(16)}`,
      )
    } catch (cause) {
      if (!isAccelError(cause) || cause.errno !== 'ENOSPC') throw cause
      throw accelError(
        'ERR_ACCEL_MAPPING_LIMIT',
        `the IOMMU container takes no more DMA mappings (${this.maxMappings} when it was opened): use domain.alloc() for small memory`,
        { cause, details: { maxMappings: this.maxMappings } },
      )
    }
  }

  unmap(iova: Iova, sizeBytes: number): void {
    const request = Buffer.alloc(vfio.dmaUnmapBytes)
    request.writeUInt32LE(request.length, 0)
    request.writeBigUInt64LE(iova, 8)
    request.writeBigUInt64LE(BigInt(sizeBytes), 16)
    this.#calls.ioctl(
      this.#fd,
      vfio.VFIO_IOMMU_UNMAP_DMA,
      request,
      `VFIO_IOMMU_UNMAP_DMA of ${sizeBytes} bytes at 0x${iova.toString(16)}`,
    )
    const unmapped = request.readBigUInt64LE(16)
    if (unmapped !== BigInt(sizeBytes)) {
      throw accelError(
        'ERR_ACCEL_SYSTEM',
        `${sizeBytes} bytes at I/O address 0x${iova.toString(16)} were to be unmapped, the kernel unmapped ${unmapped}`,
      )
    }
  }

  #info(): Buffer {
    return vfio.askTwice(vfio.iommuInfoBytes, (info) =>
      this.#calls.ioctl(this.#fd, vfio.VFIO_IOMMU_GET_INFO, info, 'VFIO_IOMMU_GET_INFO'),
    )
  }

  #capability(info: Buffer, id: number): Buffer | undefined {
    if ((info.readUInt32LE(4) & vfio.VFIO_IOMMU_INFO_CAPS) === 0) return undefined
    return vfio.infoCapabilities(info, info.readUInt32LE(16)).find((capability) => capability.id === id)?.data
  }
}

/** Where the kernel's interfaces are. */
export interface VfioPaths {
  readonly sysfs: string
  readonly devfs: string
}

/** An IOMMU group in a container of its own. The devices of a group share it, as the kernel opens a group only once. */
export class VfioGroup {
  readonly id: number
  readonly fd: number
  readonly mapper: DmaMapper
  readonly #calls: VfioCalls
  readonly #container: number
  readonly #key: string
  readonly #devices = new Set<string>()

  private constructor(calls: VfioCalls, key: string, id: number, fd: number, container: number) {
    this.#calls = calls
    this.#key = key
    this.id = id
    this.fd = fd
    this.#container = container
    this.mapper = new Type1Mapper(calls, container)
  }

  static readonly #open = new WeakMap<VfioCalls, Map<string, VfioGroup>>()

  /**
   * Opens the group of a device, or joins the other devices of this process in it. Errors: `ERR_ACCEL_PERMISSION`,
   * `ERR_ACCEL_BUSY`, `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_GROUP_NOT_VIABLE`, `ERR_ACCEL_UNSUPPORTED`.
   */
  static acquire(calls: VfioCalls, bdf: string, { id, members }: IommuGroup, paths: VfioPaths): VfioGroup {
    const groups = VfioGroup.#open.get(calls) ?? new Map<string, VfioGroup>()
    VfioGroup.#open.set(calls, groups)
    const key = join(paths.devfs, 'vfio', String(id))
    const group = groups.get(key) ?? VfioGroup.#create(calls, key, id, members, paths)
    // The kernel would allow a second file, and the two users would undo each other's interrupts.
    if (group.#devices.has(bdf)) throw accelError('ERR_ACCEL_BUSY', `${bdf} is open in this process already`)
    group.#devices.add(bdf)
    groups.set(key, group)
    return group
  }

  static #create(
    calls: VfioCalls,
    key: string,
    id: number,
    members: readonly string[],
    paths: VfioPaths,
  ): VfioGroup {
    const fd = openNode(calls, key, `IOMMU group ${id}`)
    let container: number | undefined
    try {
      checkViable(calls, fd, id, members, paths)
      container = openNode(calls, join(paths.devfs, 'vfio/vfio'), 'the VFIO container')
      attach(calls, fd, container)
      return new VfioGroup(calls, key, id, fd, container)
    } catch (error) {
      calls.close(fd)
      if (container !== undefined) calls.close(container)
      throw error
    }
  }

  /** Gives one device's share back; the last one closes group and container, which undoes all mappings. */
  release(bdf: string): void {
    if (!this.#devices.delete(bdf) || this.#devices.size > 0) return
    VfioGroup.#open.get(this.#calls)?.delete(this.#key)
    this.#calls.close(this.fd)
    this.#calls.close(this.#container)
  }
}

function openNode(calls: VfioCalls, path: string, what: string): number {
  try {
    return calls.open(path, abi.O_RDWR)
  } catch (cause) {
    if (isAccelError(cause, 'ERR_ACCEL_PERMISSION')) {
      throw accelError(
        'ERR_ACCEL_PERMISSION',
        `${what}: no right to open ${path}. Give it to this user: \`sudo chown $USER ${path}\`, or for good with a udev rule ` +
          `SUBSYSTEM=="vfio", GROUP="vfio", MODE="0660" and membership in that group`,
        { cause, details: { path } },
      )
    }
    if (isAccelError(cause, 'ERR_ACCEL_BUSY')) {
      throw accelError(
        'ERR_ACCEL_BUSY',
        `${what} is open in another process, and a group can be opened once; \`fuser -v ${path}\` names it (QEMU, DPDK, SPDK, another uaccel)`,
        { cause, details: { path } },
      )
    }
    if (isAccelError(cause, 'ERR_ACCEL_NOT_FOUND') || isAccelError(cause, 'ERR_ACCEL_NO_DEVICE')) {
      throw accelError(
        'ERR_ACCEL_NOT_FOUND',
        `${what}: ${path} is not there. Load the driver: \`sudo modprobe vfio-pci\``,
        { cause, details: { path } },
      )
    }
    throw cause
  }
}

function checkViable(
  calls: VfioCalls,
  fd: number,
  id: number,
  members: readonly string[],
  paths: VfioPaths,
): void {
  const status = Buffer.alloc(vfio.groupStatusBytes)
  status.writeUInt32LE(status.length, 0)
  calls.ioctl(fd, vfio.VFIO_GROUP_GET_STATUS, status, `VFIO_GROUP_GET_STATUS of group ${id}`)
  if ((status.readUInt32LE(4) & vfio.VFIO_GROUP_FLAGS_VIABLE) !== 0) return
  const blockers = members.flatMap((bdf): PciDeviceInfo[] => {
    try {
      const device = readPciDevice(bdf, { sysfs: paths.sysfs })
      return device.driver === undefined || isHarmless(device.driver) ? [] : [device]
    } catch {
      return []
    }
  })
  const named = blockers.map(({ bdf, driver }) => `${bdf} (driver ${driver})`).join(', ')
  throw accelError(
    'ERR_ACCEL_GROUP_NOT_VIABLE',
    `IOMMU group ${id} cannot be given to a program while kernel drivers hold devices of it: ${named || 'sysfs does not say which'}. ` +
      'Bind each to vfio-pci, or unbind it: `echo BDF | sudo tee /sys/bus/pci/devices/BDF/driver/unbind`',
    { details: { group: id, blockers: blockers.map(({ bdf, driver }) => ({ bdf, driver })) } },
  )
}

/** True for drivers that keep no group from being viable: vfio-pci and its variants, and the kernel's list (drivers/vfio/group.c, pci-stub and pcieport). */
function isHarmless(driver: string): boolean {
  return isVfioDriver(driver) || driver === 'pci-stub' || driver === 'pcieport'
}

/** vfio-pci, or a variant such as mlx5_vfio_pci. */
export function isVfioDriver(driver: string): boolean {
  return /(^|[-_])vfio[-_]pci$/.test(driver)
}

function attach(calls: VfioCalls, group: number, container: number): void {
  const version = calls.ioctl(container, vfio.VFIO_GET_API_VERSION, 0, 'VFIO_GET_API_VERSION')
  if (version !== vfio.VFIO_API_VERSION) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `the kernel speaks version ${version} of the VFIO interface, ${vfio.VFIO_API_VERSION} was wanted`,
    )
  }
  if (
    calls.ioctl(container, vfio.VFIO_CHECK_EXTENSION, vfio.VFIO_TYPE1v2_IOMMU, 'VFIO_CHECK_EXTENSION') === 0
  ) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      'the kernel has no type 1 IOMMU driver for VFIO: `sudo modprobe vfio_iommu_type1`',
    )
  }
  const argument = Buffer.alloc(4)
  argument.writeInt32LE(container, 0)
  calls.ioctl(group, vfio.VFIO_GROUP_SET_CONTAINER, argument, 'VFIO_GROUP_SET_CONTAINER')
  calls.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU, 'VFIO_SET_IOMMU')
}
