import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { abi } from '@uaccel/sys'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import * as vfio from './abi.js'
import { type VfioCalls, within } from './calls.js'
import type { SharedGroup } from './iommu.js'

/** How long to wait between two tries of a reset that the kernel could not begin. */
const RETRY_MS = 10
/** What one bus can hold is far below; the kernel's count is not trusted with more. */
const maxAffected = 4096

/** A device that is reset by a hot reset. */
export interface Affected {
  readonly bdf: string
  /** IOMMU group, where the device was opened through its group. */
  readonly group?: number
  /** Whether this process may reset it, where the device was opened by its own file. */
  readonly owned?: boolean
}

/** The devices that a hot reset of this one would reset, itself included; `undefined` where it cannot be reset that way. */
export function affectedByHotReset(calls: VfioCalls, fd: number): readonly Affected[] | undefined {
  let info = Buffer.alloc(vfio.hotResetInfoBytes)
  for (let tries = 0; ; tries++) {
    info.writeUInt32LE(info.length, 0)
    try {
      const what = 'VFIO_DEVICE_GET_PCI_HOT_RESET_INFO'
      calls.ioctl(fd, vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info, what)
      break
    } catch (error) {
      // ENOSPC: the count says how much room is needed. Anything else: no reset of the bus or slot, or a device on it that
      // stands behind no IOMMU (vfio_pci_ioctl_get_pci_hot_reset_info in drivers/vfio/pci/vfio_pci_core.c).
      const count = info.readUInt32LE(8)
      if (!isAccelError(error) || error.errno !== 'ENOSPC' || tries > 3 || count > maxAffected)
        return undefined
      info = Buffer.alloc(vfio.hotResetInfoBytes + count * vfio.dependentDeviceBytes)
    }
  }
  const byId = (info.readUInt32LE(4) & vfio.VFIO_PCI_HOT_RESET_FLAG_DEV_ID) !== 0
  const room = Math.floor((info.length - vfio.hotResetInfoBytes) / vfio.dependentDeviceBytes)
  return Array.from({ length: Math.min(info.readUInt32LE(8), room) }, (_, i) => {
    const at = vfio.hotResetInfoBytes + i * vfio.dependentDeviceBytes
    const id = info.readUInt32LE(at)
    const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0')
    const devfn = info.readUInt8(at + 7) // 5 bits of device, 3 of function (PCI_SLOT and PCI_FUNC in linux/pci.h)
    const bdf = `${hex(info.readUInt16LE(at + 4), 4)}:${hex(info.readUInt8(at + 6), 2)}:${hex(devfn >> 3, 2)}.${devfn & 7}`
    return byId ? { bdf, owned: id !== vfio.VFIO_PCI_DEVID_NOT_OWNED } : { bdf, group: id }
  })
}

/** The device that is reset, and how long that may take. */
export interface ResetTarget {
  readonly calls: VfioCalls
  readonly bdf: string
  readonly group: SharedGroup
  readonly fd: number
  readonly limitMs: number
  /** Throws once the device is closed: another may have its descriptor's number then. */
  checkAlive(): void
}

/** Resets the function, and nothing else. */
export function functionReset(target: ResetTarget): Promise<void> {
  return begin(target, 'VFIO_DEVICE_RESET', vfio.VFIO_DEVICE_RESET, 0)
}

/**
 * Resets the bus or slot. `ERR_ACCEL_BUSY`, with nothing done, where that would hit a device that this process has open, or that
 * is not its own. `groups` are those of this process.
 */
export async function hotReset(target: ResetTarget, groups: readonly SharedGroup[]): Promise<void> {
  const { calls, bdf, fd, group } = target
  const others = (affectedByHotReset(calls, fd) ?? []).filter((each) => each.bdf !== bdf)
  const open = others.filter((other) => groups.some(({ devices }) => devices.has(other.bdf)))
  if (open.length > 0) throw refusal(bdf, open, 'are open in this process: close them first')
  const proof =
    group.iommu.groupFd === undefined ? provenByKernel(bdf, others) : prove(target, groups, others)
  try {
    const request = Buffer.alloc(vfio.hotResetBytes + 4 * proof.fds.length)
    request.writeUInt32LE(request.length, 0)
    request.writeUInt32LE(proof.fds.length, 8)
    for (const [i, groupFd] of proof.fds.entries()) request.writeInt32LE(groupFd, vfio.hotResetBytes + 4 * i)
    await begin(target, 'VFIO_DEVICE_PCI_HOT_RESET', vfio.VFIO_DEVICE_PCI_HOT_RESET, request)
    for (const opened of proof.opened) calls.close(opened)
  } catch (cause) {
    // A call that has not ended still uses the files; one of another would have their numbers.
    if (!isAccelError(cause, 'ERR_ACCEL_TIMEOUT')) for (const opened of proof.opened) calls.close(opened)
    // The kernel looks before it resets (vfio_pci_dev_set_hot_reset there).
    if (!isAccelError(cause) || cause.errno !== 'EINVAL') throw cause
    throw refusal(bdf, others, 'are not all bound to vfio-pci, or in use by another process', cause)
  }
}

interface Proof {
  readonly fds: readonly number[]
  /** Those that were opened for this. */
  readonly opened: readonly number[]
}

/** With iommufd the kernel knows whose the devices are. */
function provenByKernel(bdf: string, others: readonly Affected[]): Proof {
  const foreign = others.filter(({ owned }) => !owned)
  if (foreign.length === 0) return { fds: [], opened: [] }
  throw refusal(
    bdf,
    foreign,
    "belong to others, as far as the kernel knows: groups of this user can be shown with `iommu: 'type1'` only",
  )
}

/** With groups the process shows files of all of them. */
function prove(
  { calls, bdf, group }: ResetTarget,
  groups: readonly SharedGroup[],
  others: readonly Affected[],
): Proof {
  const fds: number[] = []
  const opened: number[] = []
  try {
    for (const id of new Set([group.id, ...others.map((other) => other.group)])) {
      const known = groups.find((each) => each.id === id && each.paths.devfs === group.paths.devfs)
      let fd = known?.iommu.groupFd
      if (fd === undefined) {
        try {
          fd = calls.open(join(group.paths.devfs, 'vfio', String(id)), abi.O_RDWR)
        } catch (cause) {
          const theirs = others.filter((other) => other.group === id)
          throw refusal(bdf, theirs, `are in IOMMU group ${id}, which this process cannot open`, cause)
        }
        opened.push(fd)
      }
      fds.push(fd)
    }
    return { fds, opened }
  } catch (error) {
    for (const fd of opened) calls.close(fd)
    throw error
  }
}

function refusal(bdf: string, others: readonly Affected[], why: string, cause?: unknown): AccelError {
  const names = others.map((other) => other.bdf)
  return accelError(
    'ERR_ACCEL_BUSY',
    `a hot reset of ${bdf} resets its whole bus, and of the devices there ${names.join(', ') || '(none but itself)'} ${why}`,
    { ...(cause === undefined ? {} : { cause }), details: { devices: names } },
  )
}

/** EAGAIN: somebody else holds the device's lock for a moment, such as a write to its sysfs files (pci_try_reset_function). */
async function begin(
  { calls, bdf, fd, limitMs, checkAlive }: ResetTarget,
  name: string,
  request: number,
  arg: Uint8Array | number,
): Promise<void> {
  const what = `${name} of ${bdf}`
  const end = performance.now() + limitMs
  for (;;) {
    try {
      await within(Math.ceil(end - performance.now()), what, calls.ioctlAsync(fd, request, arg, what))
      return
    } catch (error) {
      if (!isAccelError(error) || error.errno !== 'EAGAIN' || performance.now() + RETRY_MS >= end) throw error
    }
    await sleep(RETRY_MS)
    checkAlive()
  }
}
