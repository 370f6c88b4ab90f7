import { type Dirent, readdirSync, realpathSync } from 'node:fs'
import { basename, join } from 'node:path'
import { linkName, type MachinePaths, readText } from './machine.js'

/** What the kernel has made of a PCI function: a disk, a network interface, a character device. */
export interface DevicePart {
  /** The kernel's name, such as `nvme0n1p1` or `eth0`. */
  readonly name: string
  /** Its class: `block`, `net`, `drm`, `vfio`. */
  readonly subsystem: string
  /** Its folder in sysfs. */
  readonly folder: string
  /** MAJOR:MINOR of its node, where it has one. */
  readonly number?: string
  /** Path of its node. */
  readonly node?: string
}

/** Deepest that the kernel nests a disk below its controller is 8 (SAS expanders); and a bound for any sysfs. */
const maxDepth = 16
const maxParts = 4096

/** All parts of a function, found below its folder in sysfs. Symbolic links are not followed. */
export function partsOf(bdf: string, paths: MachinePaths): DevicePart[] {
  const parts: DevicePart[] = []
  const walk = (folder: string, depth: number) => {
    for (const entry of folders(folder)) {
      // another function's folder lies below that of a bridge
      if (/^[0-9a-f]{4,8}:[0-9a-f]{2}:/.test(entry.name)) continue
      const at = join(folder, entry.name)
      const part = readPart(at, paths)
      if (part !== undefined) parts.push(part)
      if (parts.length < maxParts && depth < maxDepth) walk(at, depth + 1)
    }
  }
  walk(join(paths.sysfs, 'bus/pci/devices', bdf), 0)
  return parts.flatMap((part) => [part, ...multipathHead(part, paths)])
}

/** The part whose folder this is. Absent where it is none. */
export function readPart(folder: string, { devfs }: MachinePaths): DevicePart | undefined {
  const subsystem = linkName(join(folder, 'subsystem'))
  if (subsystem === undefined) return undefined
  const number = readText(join(folder, 'dev'))
  const node = /^DEVNAME=([\w./!-]+)$/m.exec(readText(join(folder, 'uevent')) ?? '')?.[1]
  return {
    name: basename(folder),
    subsystem,
    folder,
    ...(number !== undefined && /^\d+:\d+$/.test(number) ? { number } : {}),
    ...(node !== undefined && !node.split('/').includes('..') ? { node: join(devfs, node) } : {}),
  }
}

/** With multipath, NVMe's disk of a namespace is no part of a controller: `nvme0c1n1` is a path of `nvme0n1` (drivers/nvme/host/multipath.c). */
function multipathHead({ name }: DevicePart, paths: MachinePaths): DevicePart[] {
  const [, subsystem, namespace] = /^nvme(\d+)c\d+n(\d+)$/.exec(name) ?? []
  if (subsystem === undefined) return []
  const folder = blockFolder(`nvme${subsystem}n${namespace}`, paths)
  if (folder === undefined) return []
  const head = readPart(folder, paths)
  const partitions = folders(folder).map((entry) => readPart(join(folder, entry.name), paths))
  return [head, ...partitions].filter((part) => part?.subsystem === 'block') as DevicePart[]
}

/** Folder of a block device by its name. */
export function blockFolder(name: string, { sysfs }: MachinePaths): string | undefined {
  try {
    return realpathSync(join(sysfs, 'class/block', name))
  } catch {
    return undefined
  }
}

function folders(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  } catch {
    return []
  }
}
