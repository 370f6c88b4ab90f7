import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { DmaMapper, DmaMapRequest, Iova, IovaRange } from '@uaccel/memory'
import { abi, sys } from '@uaccel/sys'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import type { IommuGroup } from '../pci/sysfs.js'
import * as vfio from './abi.js'
import type { VfioCalls } from './calls.js'
import { blockersOf, type DeviceNode, type GroupIommu, notViable, openNode, type VfioPaths } from './iommu.js'

/** Ranges that fit the first question and any: the kernel has one more than there are reserved windows. */
const usualRanges = 32
const maxRanges = 4096

/** Memory of an I/O address space of iommufd. */
class IoasMapper implements DmaMapper {
  /** The kernel has no limit but its memory. */
  readonly maxMappings = Number.POSITIVE_INFINITY
  readonly locksMemory = true
  readonly #calls: VfioCalls
  readonly #fd: number
  readonly #ioas: number
  #mapsFiles = true

  constructor(calls: VfioCalls, fd: number, ioas: number) {
    this.#calls = calls
    this.#fd = fd
    this.#ioas = ioas
  }

  /** Known only when a device is attached, and more may follow: asked anew each time. */
  get pageSizeBytes(): number {
    return Math.max(abi.PAGE_SIZE_BYTES, this.#aperture().alignBytes)
  }

  ranges(): readonly IovaRange[] {
    return this.#aperture().ranges
  }

  map(wanted: DmaMapRequest): void {
    if (this.#mapsFiles) {
      try {
        this.#map(vfio.IOMMU_IOAS_MAP_FILE, wanted, wanted.fd, BigInt(wanted.fdOffset))
        return
      } catch (error) {
        if (!isAccelError(error) || error.errno !== 'ENOTTY') throw error
        this.#mapsFiles = false // kernels before 6.13 map by address only
      }
    }
    this.#map(vfio.IOMMU_IOAS_MAP, wanted, 0, wanted.address)
  }

  #map(ioctl: number, { iova, sizeBytes, access }: DmaMapRequest, fd: number, start: bigint): void {
    const request = Buffer.alloc(vfio.ioasMapBytes)
    request.writeUInt32LE(request.length, 0)
    // READABLE and WRITEABLE are the device's.
    const readable = access === 'write' ? 0 : vfio.IOMMU_IOAS_MAP_READABLE
    const writeable = access === 'read' ? 0 : vfio.IOMMU_IOAS_MAP_WRITEABLE
    request.writeUInt32LE(vfio.IOMMU_IOAS_MAP_FIXED_IOVA | readable | writeable, 4)
    request.writeUInt32LE(this.#ioas, 8)
    request.writeInt32LE(fd, 12)
    request.writeBigUInt64LE(start, 16)
    request.writeBigUInt64LE(BigInt(sizeBytes), 24)
    request.writeBigUInt64LE(iova, 32)
    const name = ioctl === vfio.IOMMU_IOAS_MAP ? 'IOMMU_IOAS_MAP' : 'IOMMU_IOAS_MAP_FILE'
    this.#calls.ioctl(this.#fd, ioctl, request, `${name} of ${sizeBytes} bytes at 0x${iova.toString(16)}`)
  }

  unmap(iova: Iova, sizeBytes: number): void {
    const request = Buffer.alloc(vfio.ioasUnmapBytes)
    request.writeUInt32LE(request.length, 0)
    request.writeUInt32LE(this.#ioas, 4)
    request.writeBigUInt64LE(iova, 8)
    request.writeBigUInt64LE(BigInt(sizeBytes), 16)
    const what = `IOMMU_IOAS_UNMAP of ${sizeBytes} bytes at 0x${iova.toString(16)}`
    this.#calls.ioctl(this.#fd, vfio.IOMMU_IOAS_UNMAP, request, what)
    const unmapped = request.readBigUInt64LE(16)
    if (unmapped !== BigInt(sizeBytes)) {
      throw accelError(
        'ERR_ACCEL_SYSTEM',
        `${sizeBytes} bytes at I/O address 0x${iova.toString(16)} were to be unmapped, the kernel unmapped ${unmapped}`,
      )
    }
  }

  #aperture(room = usualRanges): { readonly ranges: readonly IovaRange[]; readonly alignBytes: number } {
    const list = Buffer.alloc(16 * room)
    const request = Buffer.alloc(vfio.iovaRangesBytes)
    request.writeUInt32LE(request.length, 0)
    request.writeUInt32LE(this.#ioas, 4)
    request.writeUInt32LE(room, 8)
    request.writeBigUInt64LE(sys.addressOf(list), 16)
    try {
      this.#calls.ioctl(this.#fd, vfio.IOMMU_IOAS_IOVA_RANGES, request, 'IOMMU_IOAS_IOVA_RANGES')
    } catch (error) {
      // EMSGSIZE: the kernel has written how many there are.
      const needed = request.readUInt32LE(8)
      if (!isAccelError(error) || error.errno !== 'EMSGSIZE' || needed <= room || needed > maxRanges)
        throw error
      return this.#aperture(needed)
    }
    const count = Math.min(request.readUInt32LE(8), room)
    return {
      ranges: Array.from({ length: count }, (_, i) => ({
        first: list.readBigUInt64LE(16 * i),
        last: list.readBigUInt64LE(16 * i + 8),
      })),
      alignBytes: Number(request.readBigUInt64LE(24)),
    }
  }
}

/**
 * Makes an iommufd context with one I/O address space, for the devices of a group. Errors: `ERR_ACCEL_PERMISSION`,
 * `ERR_ACCEL_UNSUPPORTED` where the kernel has no iommufd.
 */
export function openIommufd(calls: VfioCalls, group: IommuGroup, paths: VfioPaths): GroupIommu {
  const fd = openNode(calls, iommuNode(paths))
  try {
    const request = Buffer.alloc(vfio.ioasAllocBytes)
    request.writeUInt32LE(request.length, 0)
    calls.ioctl(fd, vfio.IOMMU_IOAS_ALLOC, request, 'IOMMU_IOAS_ALLOC')
    return new IommufdGroup(calls, group, paths, fd, request.readUInt32LE(8))
  } catch (error) {
    calls.close(fd)
    throw error
  }
}

/** True where this process can open both nodes. Opening a device's node does nothing to it before it is bound. */
export function iommufdUsable(calls: VfioCalls, bdf: string, paths: VfioPaths): boolean {
  const name = cdevName(bdf, paths)
  if (name === undefined) return false
  try {
    for (const node of [iommuNode(paths), cdevNode(bdf, name, paths)]) calls.close(openNode(calls, node))
    return true
  } catch {
    return false
  }
}

class IommufdGroup implements GroupIommu {
  readonly kind = 'iommufd'
  readonly mapper: DmaMapper
  readonly #calls: VfioCalls
  readonly #group: IommuGroup
  readonly #paths: VfioPaths
  readonly #fd: number
  readonly #ioas: number

  constructor(calls: VfioCalls, group: IommuGroup, paths: VfioPaths, fd: number, ioas: number) {
    this.#calls = calls
    this.#group = group
    this.#paths = paths
    this.#fd = fd
    this.#ioas = ioas
    this.mapper = new IoasMapper(calls, fd, ioas)
  }

  async openDevice(bdf: string): Promise<number> {
    const name = cdevName(bdf, this.#paths)
    if (name === undefined) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${bdf} has no node below /dev/vfio/devices: this kernel was built without CONFIG_VFIO_DEVICE_CDEV (6.6 and later ` +
          "offer it). Open it with `iommu: 'type1'`, or 'auto'",
      )
    }
    const node = cdevNode(bdf, name, this.#paths)
    const fd = openNode(this.#calls, node)
    try {
      await this.#bind(bdf, fd, node.path)
      const request = Buffer.alloc(vfio.attachIommufdBytes)
      request.writeUInt32LE(request.length, 0)
      request.writeUInt32LE(this.#ioas, 8)
      const what = `VFIO_DEVICE_ATTACH_IOMMUFD_PT of ${bdf}`
      this.#calls.ioctl(fd, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, request, what)
      return fd
    } catch (error) {
      await this.#calls.closeAsync(fd)
      throw error
    }
  }

  async closeDevice(fd: number): Promise<void> {
    const request = Buffer.alloc(vfio.detachIommufdBytes)
    request.writeUInt32LE(request.length, 0)
    try {
      this.#calls.ioctl(fd, vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, request, 'VFIO_DEVICE_DETACH_IOMMUFD_PT')
    } catch {
      // closing the device detaches it
    }
    await this.#calls.closeAsync(fd)
  }

  close(): void {
    this.#calls.close(this.#fd)
  }

  async #bind(bdf: string, fd: number, path: string): Promise<void> {
    const request = Buffer.alloc(vfio.bindIommufdBytes)
    request.writeUInt32LE(request.length, 0)
    request.writeInt32LE(this.#fd, 8)
    const what = `VFIO_DEVICE_BIND_IOMMUFD of ${bdf}`
    try {
      await this.#calls.ioctlAsync(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, request, what)
    } catch (cause) {
      throw isAccelError(cause) ? this.#bindError(bdf, path, cause) : cause
    }
  }

  /**
   * EPERM: the group has another owner, a kernel driver or another program (iommu_device_claim_dma_owner in
   * drivers/iommu/iommu.c). EINVAL: the device is open through its node, EBUSY: through its group
   * (vfio_df_open and vfio_device_block_group in drivers/vfio).
   */
  #bindError(bdf: string, path: string, cause: AccelError): AccelError {
    const owned = cause.errno === 'EPERM'
    if (owned && blockersOf(this.#group, this.#paths).length > 0)
      return notViable(this.#group, this.#paths, cause)
    if (!owned && cause.errno !== 'EINVAL' && cause.errno !== 'EBUSY') return cause
    const group = join(this.#paths.devfs, 'vfio', String(this.#group.id))
    return accelError(
      'ERR_ACCEL_BUSY',
      `${bdf}, or another device of its IOMMU group ${this.#group.id}, is open in another process; \`fuser -v ${path} ${group}\` ` +
        'names it (QEMU, DPDK, SPDK, another uaccel)',
      { cause, details: { path } },
    )
  }
}

function iommuNode({ devfs }: VfioPaths): DeviceNode {
  return {
    path: join(devfs, 'iommu'),
    what: 'iommufd',
    udev: 'KERNEL=="iommu", SUBSYSTEM=="misc"',
    missing: [
      'ERR_ACCEL_UNSUPPORTED',
      "Load it: `sudo modprobe iommufd`; where the kernel was built without CONFIG_IOMMUFD, open with `iommu: 'type1'` or 'auto'",
    ],
  }
}

function cdevNode(bdf: string, name: string, { devfs }: VfioPaths): DeviceNode {
  return {
    path: join(devfs, 'vfio/devices', name),
    what: `the VFIO device ${bdf}`,
    udev: 'SUBSYSTEM=="vfio-dev"',
    missing: ['ERR_ACCEL_NOT_FOUND', 'Is devtmpfs mounted there, or udev running?'],
  }
}

/** Name of the device's own node. Absent where the kernel makes none. */
function cdevName(bdf: string, { sysfs }: VfioPaths): string | undefined {
  try {
    return readdirSync(join(sysfs, 'bus/pci/devices', bdf, 'vfio-dev')).find((name) => /^vfio\d+$/.test(name))
  } catch {
    return undefined
  }
}
