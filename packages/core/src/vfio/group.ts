import { join } from 'node:path'
import type { DmaMapper, DmaMapRequest, Iova, IovaRange } from '@uaccel/memory'
import { accelError, isAccelError } from '@uaccel/uapi'
import type { IommuGroup } from '../pci/sysfs.js'
import * as vfio from './abi.js'
import type { VfioCalls } from './calls.js'
import { type GroupIommu, notViable, openNode, type VfioPaths } from './iommu.js'

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

/**
 * Opens a group and puts it into a container of its own. Errors: `ERR_ACCEL_PERMISSION`, `ERR_ACCEL_BUSY`,
 * `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_GROUP_NOT_VIABLE`, `ERR_ACCEL_UNSUPPORTED`.
 */
export function openType1(calls: VfioCalls, group: IommuGroup, paths: VfioPaths): GroupIommu {
  const node = (name: string, what: string) =>
    openNode(calls, {
      path: join(paths.devfs, 'vfio', name),
      what,
      udev: 'SUBSYSTEM=="vfio"',
      missing: ['ERR_ACCEL_NOT_FOUND', 'Load the driver, as root: `modprobe vfio-pci`'],
    })
  const fd = node(String(group.id), `IOMMU group ${group.id}`)
  let container: number | undefined
  try {
    checkViable(calls, fd, group, paths)
    container = node('vfio', 'the VFIO container')
    attach(calls, fd, container)
    return new Type1Group(calls, fd, container)
  } catch (error) {
    calls.close(fd)
    if (container !== undefined) calls.close(container)
    throw error
  }
}

class Type1Group implements GroupIommu {
  readonly kind = 'type1'
  readonly mapper: DmaMapper
  readonly #calls: VfioCalls
  readonly groupFd: number
  readonly #container: number

  constructor(calls: VfioCalls, fd: number, container: number) {
    this.#calls = calls
    this.groupFd = fd
    this.#container = container
    this.mapper = new Type1Mapper(calls, container)
  }

  async openDevice(bdf: string): Promise<number> {
    const what = `VFIO_GROUP_GET_DEVICE_FD of ${bdf}`
    try {
      const name = Buffer.from(`${bdf}\0`)
      return await this.#calls.ioctlAsync(this.groupFd, vfio.VFIO_GROUP_GET_DEVICE_FD, name, what)
    } catch (cause) {
      if (!isAccelError(cause, 'ERR_ACCEL_BUSY')) throw cause
      throw accelError('ERR_ACCEL_BUSY', `${bdf} is held by another user of its group`, { cause })
    }
  }

  closeDevice(fd: number): Promise<void> {
    return this.#calls.closeAsync(fd)
  }

  close(): void {
    this.#calls.close(this.groupFd)
    this.#calls.close(this.#container)
  }
}

function checkViable(calls: VfioCalls, fd: number, group: IommuGroup, paths: VfioPaths): void {
  const status = Buffer.alloc(vfio.groupStatusBytes)
  status.writeUInt32LE(status.length, 0)
  calls.ioctl(fd, vfio.VFIO_GROUP_GET_STATUS, status, `VFIO_GROUP_GET_STATUS of group ${group.id}`)
  if ((status.readUInt32LE(4) & vfio.VFIO_GROUP_FLAGS_VIABLE) === 0) throw notViable(group, paths)
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
      'the kernel has no type 1 IOMMU driver for VFIO; as root: `modprobe vfio_iommu_type1`',
    )
  }
  const argument = Buffer.alloc(4)
  argument.writeInt32LE(container, 0)
  calls.ioctl(group, vfio.VFIO_GROUP_SET_CONTAINER, argument, 'VFIO_GROUP_SET_CONTAINER')
  calls.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU, 'VFIO_SET_IOMMU')
}
