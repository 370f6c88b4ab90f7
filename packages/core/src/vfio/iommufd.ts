import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { DmaMapper } from '@uaccel/memory'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import type { IommuGroup } from '../pci/sysfs.js'
import * as vfio from './abi.js'
import type { VfioCalls } from './calls.js'
import { blockersOf, type DeviceNode, type GroupIommu, notViable, openNode, type VfioPaths } from './iommu.js'
import { closeAll, IommufdContext, IommufdObject } from './iommufd-context.js'
import { IommufdDevice } from './iommufd-device.js'
import { AddressSpace } from './iommufd-objects.js'

/**
 * Makes an iommufd context with one I/O address space, for the devices of a group. Errors: `ERR_ACCEL_PERMISSION`,
 * `ERR_ACCEL_UNSUPPORTED` where the kernel has no iommufd.
 */
export function openIommufd(calls: VfioCalls, group: IommuGroup, paths: VfioPaths): GroupIommu {
  const context = new IommufdContext(calls, openNode(calls, iommuNode(paths)))
  try {
    return new IommufdGroup(group, paths, context, context.allocSpace())
  } catch (error) {
    context.close()
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
  readonly #context: IommufdContext
  readonly #space: AddressSpace
  readonly #devices = new Map<number, IommufdDevice>()
  /** What devices made that are closed, and others still use. */
  readonly #left: { close(): void }[] = []

  constructor(group: IommuGroup, paths: VfioPaths, context: IommufdContext, ioas: number) {
    this.#calls = context.calls
    this.#group = group
    this.#paths = paths
    this.#context = context
    this.#space = new AddressSpace(
      new IommufdObject(context, ioas, "the device's own I/O address space", () => {}),
      true,
    )
    this.mapper = this.#space.dma
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
      const id = await this.#bind(bdf, fd, node.path)
      const device = new IommufdDevice(this.#context, fd, id, bdf, this.#space)
      device.attach()
      this.#devices.set(fd, device)
      return fd
    } catch (error) {
      await this.#calls.closeAsync(fd)
      throw error
    }
  }

  async closeDevice(fd: number): Promise<void> {
    const device = this.#devices.get(fd)
    this.#devices.delete(fd)
    device?.detach()
    await this.#calls.closeAsync(fd)
    this.#left.push(...(device?.closeObjects() ?? []))
  }

  iommufdOf(fd: number): IommufdDevice | undefined {
    return this.#devices.get(fd)
  }

  close(): void {
    closeAll(this.#left)
    this.#context.close()
  }

  /** Answers the number by which the context knows the device. */
  async #bind(bdf: string, fd: number, path: string): Promise<number> {
    const request = Buffer.alloc(vfio.bindIommufdBytes)
    request.writeUInt32LE(request.length, 0)
    request.writeInt32LE(this.#context.fd, 8)
    const what = `VFIO_DEVICE_BIND_IOMMUFD of ${bdf}`
    try {
      await this.#calls.ioctlAsync(fd, vfio.VFIO_DEVICE_BIND_IOMMUFD, request, what)
      return request.readUInt32LE(12)
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
      "Load it, as root: `modprobe iommufd`; where the kernel was built without CONFIG_IOMMUFD, open with `iommu: 'type1'` or 'auto'",
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
