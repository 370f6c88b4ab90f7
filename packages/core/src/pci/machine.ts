import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
} from 'node:fs'
import { basename, join } from 'node:path'

/** Where the kernel shows the machine; tests put folders of their own in their place. */
export interface MachinePaths {
  /** Default `/sys`. */
  readonly sysfs: string
  /** Default `/proc`. */
  readonly proc: string
  /** Default `/dev`. */
  readonly devfs: string
  /** Default `/run`: what is remembered until the next boot. */
  readonly run: string
}

export const machinePaths: MachinePaths = { sysfs: '/sys', proc: '/proc', devfs: '/dev', run: '/run' }

/** A file of sysfs or procfs without its last line end. Absent where it cannot be read. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1').trimEnd()
  } catch {
    return undefined
  }
}

/** What a folder holds, in no order. Empty where it cannot be read. */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

/** The switch of VFIO for devices without an IOMMU, below sysfs. Absent without CONFIG_VFIO_NOIOMMU. */
export const noIommuParameter = 'module/vfio/parameters/enable_unsafe_noiommu_mode'

/** True where the administrator has switched it on. */
export const noIommuMode = ({ sysfs }: Pick<MachinePaths, 'sysfs'>): boolean =>
  readText(join(sysfs, noIommuParameter)) === 'Y'

/** The last part of where a symbolic link points. Absent where there is none. */
export function linkName(path: string): string | undefined {
  try {
    return basename(readlinkSync(path))
  } catch {
    return undefined
  }
}

/** A small regular file that nobody but this user can have written. Absent where it is anything else. */
export function readOwn(path: string, maxBytes: number): string | undefined {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch {
    return undefined
  }
  try {
    const { uid, mode, size } = fstatSync(fd)
    const regular = (mode & constants.S_IFMT) === constants.S_IFREG
    if (!regular || uid !== process.geteuid?.() || (mode & 0o022) !== 0 || size > maxBytes) return undefined
    const bytes = Buffer.alloc(size)
    return bytes.toString('utf8', 0, readSync(fd, bytes))
  } finally {
    closeSync(fd)
  }
}

/** A word as a POSIX shell reads it back unchanged; plain where it needs no quotes. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
