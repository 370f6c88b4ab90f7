import { closeSync, constants, existsSync, openSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { isVfioDriver } from '../vfio/iommu.js'
import { describeHolder, holdersOf } from './holders.js'
import { linkName, type MachinePaths, namesIn, readText, shellWord } from './machine.js'
import { vfioGroupNode } from './nodes.js'
import { blockFolder, type DevicePart, partsOf, readPart } from './parts.js'
import type { PciDeviceInfo } from './sysfs.js'

/** What would break if a device were taken from its driver. */
export interface DeviceUse {
  readonly kind: 'mount' | 'swap' | 'holder' | 'network' | 'display' | 'functions' | 'chipset' | 'process'
  /** `/dev/nvme0n1p1 is mounted on /srv`. */
  readonly what: string
  /** The command, for root, that ends it. Absent where there is none that fits all. */
  readonly command?: string
}

/** Who uses a device, as far as this user can see: the kernel's file systems, networks and displays, and processes. */
export function usesOf(device: PciDeviceInfo, paths: MachinePaths): DeviceUse[] {
  const parts = partsOf(device.bdf, paths)
  const disks = parts.filter(({ subsystem }) => subsystem === 'block')
  return [
    ...chipset(device),
    ...virtualFunctions(device, paths),
    ...diskUses(disks, paths),
    ...parts.filter(({ subsystem }) => subsystem === 'net').flatMap(networkUses),
    ...strayNetworks(device, parts, paths),
    ...display(device, paths),
    ...processes(device, parts, paths),
  ]
}

/**
 * Commands for root's shell that take a device from its uses and then do more: one list, which stops where a use does not end,
 * since a disk that is still mounted must not be taken away. None where a use has no command that ends it.
 */
export function afterUses(uses: readonly DeviceUse[], commands: readonly string[]): string[] {
  if (uses.length === 0) return [...commands]
  const ends = uses.flatMap(({ command }) => command ?? [])
  return ends.length < uses.length ? [] : [[...ends, ...commands].join(' &&\n')]
}

/** Base classes of host bridges and the like, and of base system peripherals (PCI Code and ID Assignment, 1.). */
function chipset({ classCode, bdf, driver }: PciDeviceInfo): DeviceUse[] {
  const base = classCode >>> 16
  if (driver === undefined || (base !== 0x06 && base !== 0x08)) return []
  return [{ kind: 'chipset', what: `${bdf} is a part of the chipset, which ${driver} drives` }]
}

function virtualFunctions({ bdf }: PciDeviceInfo, { sysfs }: MachinePaths): DeviceUse[] {
  const path = join(sysfs, 'bus/pci/devices', bdf, 'sriov_numvfs')
  const count = Number(readText(path) ?? 0)
  if (!(count > 0)) return []
  return [{ kind: 'functions', what: `${bdf} has ${count} virtual functions`, command: `echo 0 > ${path}` }]
}

function diskUses(disks: readonly DevicePart[], paths: MachinePaths): DeviceUse[] {
  // what is built on a disk (device mapper, md) uses it, and is where its file systems are mounted from
  const all = new Map(disks.map((disk) => [disk.name, disk]))
  const uses: DeviceUse[] = []
  for (const disk of all.values()) {
    for (const name of namesIn(join(disk.folder, 'holders'))) {
      uses.push({ kind: 'holder', what: `${disk.node ?? disk.name} is a part of ${name}` })
      const folder = blockFolder(name, paths)
      const holder = folder === undefined ? undefined : readPart(folder, paths)
      if (holder !== undefined && !all.has(name)) all.set(name, holder)
    }
  }
  const stacked = [...all.values()]
  uses.push(...mounts(stacked, paths), ...swaps(stacked, paths))
  // what nobody above names: file systems of other mount namespaces, of several disks, ...
  if (uses.length === 0) {
    const claimed = disks.find(isClaimed)
    if (claimed !== undefined)
      uses.push({
        kind: 'holder',
        what: `${claimed.node} is claimed by the kernel: mounted elsewhere, or in a volume`,
      })
  }
  return uses
}

/** `/proc/self/mountinfo`: id, parent, major:minor, root, mount point, options, [tags], -, type, source (proc(5)). */
function mounts(disks: readonly DevicePart[], { proc }: MachinePaths): DeviceUse[] {
  const lines = (readText(join(proc, 'self/mountinfo')) ?? '').split('\n')
  return lines.flatMap((line): DeviceUse[] => {
    const [left = '', right = ''] = line.split(' - ')
    const [, , number, , point = ''] = left.split(' ')
    const source = unescapeOctal(right.split(' ')[1] ?? '')
    // btrfs has numbers of its own: its source is what tells
    const disk = disks.find((each) => each.number === number || sameNode(each, source))
    if (disk === undefined) return []
    const path = unescapeOctal(point)
    return [
      {
        kind: 'mount',
        what: `${disk.node ?? disk.name} is mounted on ${path}`,
        command: `umount ${shellWord(path)}`,
      },
    ]
  })
}

function swaps(disks: readonly DevicePart[], { proc }: MachinePaths): DeviceUse[] {
  const lines = (readText(join(proc, 'swaps')) ?? '').split('\n').slice(1)
  return lines.flatMap((line): DeviceUse[] => {
    const path = unescapeOctal(line.split(/\s/)[0] ?? '')
    if (!disks.some((disk) => sameNode(disk, path))) return []
    return [{ kind: 'swap', what: `${path} is swap space`, command: `swapoff ${shellWord(path)}` }]
  })
}

/** A path of /dev that is this disk, by name or as a link. */
function sameNode({ node, number }: DevicePart, path: string): boolean {
  if (!path.startsWith('/')) return false
  if (path === node) return true
  try {
    const stat = statSync(path)
    const device = (stat.mode & constants.S_IFMT) === constants.S_IFBLK ? stat.rdev : undefined
    return device !== undefined && number === deviceNumber(device)
  } catch {
    return false
  }
}

/** MAJOR:MINOR of an st_rdev (gnu_dev_major in glibc's sys/sysmacros.h; both fit 32 bits here). */
export function deviceNumber(rdev: number): string {
  const device = BigInt(rdev)
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xffff_f000n)
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffff_ff00n)
  return `${major}:${minor}`
}

/** True where opening for exclusive use answers EBUSY: whatever uses a block device in the kernel has claimed it (block/bdev.c). */
function isClaimed({ node }: DevicePart): boolean {
  if (node === undefined) return false
  try {
    closeSync(openSync(node, constants.O_RDONLY | constants.O_EXCL | constants.O_NONBLOCK))
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EBUSY'
  }
}

/** IFF_UP (include/uapi/linux/if.h). */
const IFF_UP = 1

function networkUses({ name, folder }: DevicePart): DeviceUse[] {
  const master = linkName(join(folder, 'master'))
  if (master !== undefined)
    return [
      {
        kind: 'network',
        what: `network interface ${name} is a part of ${master}`,
        command: `ip link set ${shellWord(name)} nomaster down`,
      },
    ]
  if ((Number(readText(join(folder, 'flags')) ?? 0) & IFF_UP) === 0) return []
  const address = readText(join(folder, 'operstate')) === 'up' ? ' and has a link' : ''
  return [
    {
      kind: 'network',
      what: `network interface ${name} is up${address}`,
      command: `ip link set ${shellWord(name)} down`,
    },
  ]
}

/** An interface that was moved to another network namespace leaves an empty folder here. */
function strayNetworks(
  { bdf }: PciDeviceInfo,
  parts: readonly DevicePart[],
  { sysfs }: MachinePaths,
): DeviceUse[] {
  const folder = join(sysfs, 'bus/pci/devices', bdf, 'net')
  if (parts.some(({ subsystem }) => subsystem === 'net') || !existsSync(folder)) return []
  return [{ kind: 'network', what: `${bdf} has a network interface in another network namespace` }]
}

function display({ bdf, driver }: PciDeviceInfo, { sysfs }: MachinePaths): DeviceUse[] {
  const boot = readText(join(sysfs, 'bus/pci/devices', bdf, 'boot_vga')) === '1'
  return boot && driver !== undefined && !isVfioDriver(driver)
    ? [{ kind: 'display', what: `${bdf} is the display that the machine started with` }]
    : []
}

function processes(device: PciDeviceInfo, parts: readonly DevicePart[], paths: MachinePaths): DeviceUse[] {
  const nodes = parts.flatMap(({ node }) => node ?? [])
  // a group has one user at a time, whichever of its devices that is after
  const group =
    device.driver !== undefined && isVfioDriver(device.driver) ? vfioGroupNode(device, paths) : undefined
  return holdersOf([...nodes, ...(group === undefined ? [] : [group.path])], paths).map((holder) => ({
    kind: 'process',
    what: `${describeHolder(holder)} has ${holder.path} open`,
    command: `kill ${holder.pid}`,
  }))
}

/** Space, tab, line end and backslash come as `\040` (fs/proc_namespace.c). {@link readText} gives bytes; paths are UTF-8. */
const unescapeOctal = (text: string) => {
  const bytes = text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  )
  return Buffer.from(bytes, 'latin1').toString('utf8')
}
