import { AccelError } from '@uaccel/uapi'

/** One entry of an archive. Exactly one of the kinds; paths are relative, without a leading slash. */
export type CpioEntry =
  | { path: string; kind: 'directory'; mode?: number }
  | { path: string; kind: 'file'; data: Uint8Array; mode?: number }
  | { path: string; kind: 'symlink'; target: string }
  | { path: string; kind: 'device'; major: number; minor: number; mode?: number }

/** File type bits of `st_mode` (inode(7)). */
const typeBits = { directory: 0o040000, file: 0o100000, symlink: 0o120000, device: 0o020000 } as const
const defaultMode = { directory: 0o755, file: 0o644, symlink: 0o777, device: 0o600 } as const

/**
 * Packs entries into an archive of the "newc" format, as the kernel unpacks it into its root file system
 * (Linux Documentation/driver-api/early-userspace/buffer-format.rst). A folder must precede what is in it.
 */
export function packCpio(entries: readonly CpioEntry[]): Buffer {
  const parts: Buffer[] = []
  entries.forEach((entry, index) => {
    const data =
      entry.kind === 'file'
        ? Buffer.from(entry.data.buffer, entry.data.byteOffset, entry.data.byteLength)
        : Buffer.from(entry.kind === 'symlink' ? entry.target : '')
    const mode =
      typeBits[entry.kind] | (('mode' in entry ? entry.mode : undefined) ?? defaultMode[entry.kind])
    const device = entry.kind === 'device' ? ([entry.major, entry.minor] as const) : ([0, 0] as const)
    push(parts, entry.path, {
      inode: index + 1,
      mode,
      links: entry.kind === 'directory' ? 2 : 1,
      data,
      device,
    })
  })
  push(parts, 'TRAILER!!!', { inode: 0, mode: 0, links: 1, data: Buffer.alloc(0), device: [0, 0] })
  return Buffer.concat(parts)
}

interface Header {
  inode: number
  mode: number
  links: number
  data: Buffer
  device: readonly [major: number, minor: number]
}

function push(parts: Buffer[], path: string, header: Header): void {
  if (path.startsWith('/') || path.includes('\0') || path === '') {
    throw new AccelError('ERR_ACCEL_INVALID_ARGUMENT', `cpio: '${path}' is not a relative path`)
  }
  const name = Buffer.from(`${path}\0`)
  // magic, then 13 fields of 8 hex digits: ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
  // rdevmajor, rdevminor, namesize (with the NUL), check (0 in newc)
  const { inode, mode, links, data, device } = header
  const fields = [inode, mode, 0, 0, links, 0, data.length, 0, 0, device[0], device[1], name.length, 0]
  const head = Buffer.from(`070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`)
  parts.push(head, name, padding(head.length + name.length), data, padding(data.length))
}

const padding = (length: number): Buffer => Buffer.alloc(-length & 3)
