import { accelError, isAccelError } from '@uaccel/uapi'
import { type NoIommuOptions, requireConsent } from '../no-iommu.js'
import { wrongDriver } from '../pci/driver.js'
import { type IommuGroup, type PciDeviceInfo, readPciDevice } from '../pci/sysfs.js'
import { type IommuKind, iommuKinds } from '../transport.js'
import { kernelCalls, type VfioCalls, within } from './calls.js'
import { openType1 } from './group.js'
import { inquire } from './inquiry.js'
import { type GroupIommu, isVfioDriver, SharedGroup, type VfioPaths } from './iommu.js'
import { iommufdUsable, openIommufd } from './iommufd.js'
import { enableNoIommu, isMadeUp, openNoIommu } from './noiommu.js'
import { VfioTransport } from './transport.js'

/** How a device is opened. */
export interface VfioOptions extends NoIommuOptions {
  /**
   * Which of the kernel's interfaces to the IOMMU: `iommufd` with the device's own node, or `type1` with its group.
   * Default `auto`: iommufd where this process can open both nodes, else type1; the transport's identity tells which.
   */
  readonly iommu?: IommuKind | 'auto'
  /** Opening resets the device, which can take seconds; default 30,000. */
  readonly openTimeoutMs?: number
  /** Default 30,000. */
  readonly resetTimeoutMs?: number
  /** Where sysfs is mounted; default `/sys`. */
  readonly sysfs?: string
  /** Where device nodes are; default `/dev`. */
  readonly devfs?: string
  /** The kernel; for tests. */
  readonly calls?: VfioCalls
}

/** The ways to a group's devices. */
const ways: Readonly<
  Record<IommuKind | 'none', (calls: VfioCalls, group: IommuGroup, paths: VfioPaths) => GroupIommu>
> = { type1: openType1, iommufd: openIommufd, none: openNoIommu }

/**
 * Opens a PCI device that is bound to vfio-pci. Binds and unbinds nothing.
 * Errors, each with what to do: `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_NO_IOMMU`, `ERR_ACCEL_WRONG_DRIVER`, `ERR_ACCEL_PERMISSION`,
 * `ERR_ACCEL_GROUP_NOT_VIABLE`, `ERR_ACCEL_BUSY`, `ERR_ACCEL_UNSUPPORTED`, `ERR_ACCEL_TIMEOUT`.
 */
export async function openVfio(address: string, options: VfioOptions = {}): Promise<VfioTransport> {
  const {
    iommu = 'auto',
    openTimeoutMs = 30_000,
    resetTimeoutMs = 30_000,
    sysfs = '/sys',
    devfs = '/dev',
    calls = kernelCalls,
  } = options
  if (iommu !== 'auto' && !iommuKinds.includes(iommu)) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `iommu is "${iommu}", wanted auto, ${iommuKinds.join(' or ')}`,
    )
  }
  const paths = { sysfs, devfs }
  const device = readPciDevice(address, { sysfs })
  const { bdf, iommuGroup } = device
  const isolated = iommuGroup !== undefined && !isMadeUp(iommuGroup, paths)
  if (!isolated) {
    const remedy =
      'Switch VT-d or AMD-Vi on in the firmware and boot with `intel_iommu=on` (Intel; AMD needs no option); ' +
      `\`uaccel doctor ${bdf}\` tells what is missing here`
    // Who names an interface to the IOMMU wants one.
    requireConsent(`PCI device ${bdf}`, iommu === 'auto' ? options : {}, remedy)
  }
  if (iommuGroup === undefined) {
    throw accelError(
      'ERR_ACCEL_NO_IOMMU',
      `${bdf} stands behind no IOMMU, and vfio-pci was not allowed to take it so. ${enableNoIommu(bdf, paths)}`,
    )
  }
  if (device.driver === undefined || !isVfioDriver(device.driver))
    throw wrongDriver(device, 'vfio-pci', sysfs)
  const kind = !isolated ? 'none' : iommu === 'auto' ? choose(calls, bdf, iommuGroup, paths) : iommu
  const group = SharedGroup.acquire(calls, bdf, iommuGroup, paths, kind, () =>
    ways[kind](calls, iommuGroup, paths),
  )
  const opening = group.iommu.openDevice(bdf)
  try {
    const fd = await within(openTimeoutMs, `opening ${bdf} through ${kind}`, opening)
    return new VfioTransport(calls, bdf, group, fd, inquire(calls, fd), resetTimeoutMs)
  } catch (cause) {
    // The group stays until the call has ended, and the device is closed on another thread: its reset can take long.
    const undone = opening.then((fd) => group.iommu.closeDevice(fd)).finally(() => group.release(bdf))
    if (isAccelError(cause, 'ERR_ACCEL_TIMEOUT')) undone.catch(() => {})
    else await undone.catch(() => {})
    throw cause
  }
}

/**
 * Which interface to the IOMMU `auto` takes for a device. Opens and closes their nodes to see, which does nothing to the
 * device. `none` for one in VFIO's no-IOMMU mode, absent for one that is not bound to vfio-pci or has no group.
 */
export function vfioInterface(
  { bdf, driver, iommuGroup }: PciDeviceInfo,
  { sysfs = '/sys', devfs = '/dev', calls = kernelCalls }: VfioOptions = {},
): IommuKind | 'none' | undefined {
  if (driver === undefined || !isVfioDriver(driver) || iommuGroup === undefined) return undefined
  const paths = { sysfs, devfs }
  return isMadeUp(iommuGroup, paths) ? 'none' : choose(calls, bdf, iommuGroup, paths)
}

/** A group that is open already keeps its way: the kernel refuses to mix the two. */
function choose(calls: VfioCalls, bdf: string, group: IommuGroup, paths: VfioPaths): IommuKind | 'none' {
  const open = SharedGroup.find(calls, group, paths)
  return open?.iommu.kind ?? (iommufdUsable(calls, bdf, paths) ? 'iommufd' : 'type1')
}
