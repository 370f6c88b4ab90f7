import { join } from 'node:path'
import type { DmaMapper } from '@uaccel/memory'
import { abi } from '@uaccel/sys'
import { type AccelError, accelError, type ErrorCode, isAccelError } from '@uaccel/uapi'
import { unbindCommands } from '../pci/bind-plan.js'
import { type IommuGroup, type PciDeviceInfo, readPciDevice } from '../pci/sysfs.js'
import { chownCommand } from '../pci/user.js'
import type { IommuKind } from '../transport.js'
import type { VfioCalls } from './calls.js'
import type { IommufdDevice } from './iommufd-device.js'

/** Where the kernel's interfaces are. */
export interface VfioPaths {
  readonly sysfs: string
  readonly devfs: string
}

/** The devices of one IOMMU group and the memory that they reach: what the kernel's two interfaces do differently. */
export interface GroupIommu {
  readonly kind: IommuKind | 'none'
  readonly mapper: DmaMapper
  /** The group's own file, which proves whose it is. Absent where devices are opened by files of their own. */
  readonly groupFd?: number
  /** Why its devices are not isolated; absent where they are. */
  readonly tainted?: string
  /** A file of the device that answers, reaching the mapper's memory. Resets the device, on another thread. */
  openDevice(bdf: string): Promise<number>
  closeDevice(fd: number): Promise<void>
  /** What only iommufd offers for an open device. Absent with type 1. */
  iommufdOf?(fd: number): IommufdDevice | undefined
  /** When all devices are closed: undoes all mappings. */
  close(): void
}

/**
 * A group that this process has opened. Its devices share it, as the IOMMU cannot tell them apart: they see the same
 * addresses, and the kernel gives them all to one owner.
 */
export class SharedGroup {
  readonly id: number
  readonly iommu: GroupIommu
  readonly paths: VfioPaths
  readonly #forget: () => void
  readonly #devices = new Set<string>()

  private constructor(id: number, iommu: GroupIommu, paths: VfioPaths, forget: () => void) {
    this.id = id
    this.iommu = iommu
    this.paths = paths
    this.#forget = forget
  }

  static readonly #open = new WeakMap<VfioCalls, Map<string, SharedGroup>>()

  static #key(paths: VfioPaths, id: number): string {
    return join(paths.devfs, 'vfio', String(id))
  }

  /** The group, where this process has opened it. */
  static find(calls: VfioCalls, { id }: IommuGroup, paths: VfioPaths): SharedGroup | undefined {
    return SharedGroup.#open.get(calls)?.get(SharedGroup.#key(paths, id))
  }

  /**
   * Joins the other devices of this process in the group, or opens it. `ERR_ACCEL_BUSY` where that device is open, or
   * the group through the other interface; and what `create` throws.
   */
  static acquire(
    calls: VfioCalls,
    bdf: string,
    group: IommuGroup,
    paths: VfioPaths,
    kind: IommuKind | 'none',
    create: () => GroupIommu,
  ): SharedGroup {
    const groups = SharedGroup.#open.get(calls) ?? new Map<string, SharedGroup>()
    SharedGroup.#open.set(calls, groups)
    const key = SharedGroup.#key(paths, group.id)
    const shared = groups.get(key) ?? new SharedGroup(group.id, create(), paths, () => groups.delete(key))
    // The kernel would allow a second file, and the two users would undo each other's interrupts.
    if (shared.#devices.has(bdf)) throw accelError('ERR_ACCEL_BUSY', `${bdf} is open in this process already`)
    if (shared.iommu.kind !== kind) {
      throw accelError(
        'ERR_ACCEL_BUSY',
        `${bdf} was to be opened through ${kind}, and this process has its IOMMU group ${group.id} open through ` +
          `${shared.iommu.kind}: open all devices of a group the same way, or with \`iommu: 'auto'\``,
      )
    }
    shared.#devices.add(bdf)
    groups.set(key, shared)
    return shared
  }

  /** The groups of this process, this one included. */
  static all(calls: VfioCalls): readonly SharedGroup[] {
    return [...(SharedGroup.#open.get(calls)?.values() ?? [])]
  }

  /** Addresses of its devices that are open in this process. */
  get devices(): ReadonlySet<string> {
    return this.#devices
  }

  /** Gives one device's share back; the last one closes the group. */
  release(bdf: string): void {
    if (!this.#devices.delete(bdf) || this.#devices.size > 0) return
    this.#forget()
    this.iommu.close()
  }
}

/** A device node, and what to say where it does not open. */
export interface DeviceNode {
  readonly path: string
  readonly what: string
  /** What a udev rule matches it by. */
  readonly udev: string
  /** The error where it is not there, and the remedy. */
  readonly missing: readonly [code: ErrorCode, remedy: string]
}

/** Opens a device node. `ERR_ACCEL_PERMISSION`, `ERR_ACCEL_BUSY`, and the node's own error where it is missing. */
export function openNode(calls: Pick<VfioCalls, 'open'>, { path, what, udev, missing }: DeviceNode): number {
  try {
    return calls.open(path, abi.O_RDWR)
  } catch (cause) {
    if (isAccelError(cause, 'ERR_ACCEL_PERMISSION')) {
      throw accelError(
        'ERR_ACCEL_PERMISSION',
        `${what}: no right to open ${path}. Give it to this user, as root: \`${chownCommand(path)}\`, or for good with a udev rule ` +
          `${udev}, GROUP="vfio", MODE="0660" and membership in that group`,
        { cause, details: { path } },
      )
    }
    if (isAccelError(cause, 'ERR_ACCEL_BUSY')) {
      throw accelError(
        'ERR_ACCEL_BUSY',
        `${what} is open in another process, and can be opened once; \`fuser -v ${path}\` names it (QEMU, DPDK, SPDK, another ` +
          'uaccel), or another device of its group is in use through `/dev/vfio/devices`',
        { cause, details: { path } },
      )
    }
    if (isAccelError(cause, 'ERR_ACCEL_NOT_FOUND') || isAccelError(cause, 'ERR_ACCEL_NO_DEVICE')) {
      throw accelError(missing[0], `${what}: ${path} is not there. ${missing[1]}`, {
        cause,
        details: { path },
      })
    }
    throw cause
  }
}

/** The devices of a group that belong to kernel drivers, as far as sysfs tells. */
export function blockersOf({ members }: IommuGroup, { sysfs }: VfioPaths): PciDeviceInfo[] {
  return members.flatMap((bdf): PciDeviceInfo[] => {
    try {
      const device = readPciDevice(bdf, { sysfs })
      return device.driver === undefined || isHarmless(device.driver) ? [] : [device]
    } catch {
      return []
    }
  })
}

/** The error for a group that kernel drivers use, which names them. */
export function notViable(group: IommuGroup, paths: VfioPaths, cause?: unknown): AccelError {
  const blockers = blockersOf(group, paths).map(({ bdf, driver }) => ({ bdf, driver: driver! }))
  const named = blockers.map(({ bdf, driver }) => `${bdf} (driver ${driver})`).join(', ')
  const commands = blockers.flatMap(unbindCommands)
  return accelError(
    'ERR_ACCEL_GROUP_NOT_VIABLE',
    `IOMMU group ${group.id} cannot be given to a program while kernel drivers hold devices of it: ${named || 'sysfs does not say which'}. ` +
      `Bind all with \`uaccel bind --group ${group.members[0]}\`, which refuses devices in use, or unbind them as root:\n` +
      commands.map((command) => `  ${command}`).join('\n'),
    { ...(cause === undefined ? {} : { cause }), details: { group: group.id, blockers, commands } },
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
