import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { accelError } from '@uaccel/uapi'

/** What mke2fs makes. */
export const imageTypes = ['ext2', 'ext3', 'ext4'] as const
export type ImageType = (typeof imageTypes)[number]

/** Node reads no larger file at once. */
const MAX_IMAGE_BYTES = 2 ** 31 - 1
/** What the file system itself takes: journal, tables. */
const OVERHEAD_BYTES = 16 << 20
/** Room for each file or folder beside its bytes: the rest of its last block. */
const ENTRY_BYTES = 4096
/** Inodes that are taken from the beginning (special_inodes.rst), and some more: mke2fs rounds down to eights in each group. */
const SPARE_INODES = 64

/** The disk image in a file. `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_PERMISSION`, `ERR_ACCEL_INVALID_ARGUMENT` for a folder, `ERR_ACCEL_OUT_OF_RANGE`. */
export function readImage(path: string): Uint8Array {
  const { size } = hostFile(path, () => statSync(path))
  if (size <= MAX_IMAGE_BYTES) {
    const { buffer, byteOffset, length } = hostFile(path, () => readFileSync(path))
    return new Uint8Array(buffer, byteOffset, length) // whose slice() is a copy, as Buffer's is not
  }
  throw accelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `The model keeps its disk in memory: an image may have ${MAX_IMAGE_BYTES} bytes, ${path} has ${size}`,
  )
}

/** Does something with a file of the host, and says in the words of the error table what is in the way. */
export function hostFile<T>(path: string, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR')
      throw accelError('ERR_ACCEL_NOT_FOUND', `There is no file or folder ${path} on this machine`, { cause })
    if (code === 'EACCES')
      throw accelError('ERR_ACCEL_PERMISSION', `This user may not read ${path}`, { cause })
    if (code === 'EISDIR')
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path} is a folder, wanted a file`, { cause })
    throw cause
  }
}

/** `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_INVALID_ARGUMENT` for a file. */
export function requireFolder(path: string): void {
  if (!hostFile(path, () => statSync(path)).isDirectory())
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path} is a file, wanted a folder`)
}

export interface ImageOptions {
  /** Default ext4. */
  readonly type?: ImageType
  /** Default: what the folder needs. */
  readonly sizeBytes?: number
  /** More arguments for mke2fs. */
  readonly extra?: readonly string[]
  /** The program, where it is another. */
  readonly mke2fs?: string
}

/**
 * Makes a disk image with a file system that holds what is in a folder, by mke2fs of e2fsprogs, which needs no root for it. Errors:
 * `ERR_ACCEL_NOT_FOUND` without it, `ERR_ACCEL_SYSTEM` with what it said.
 */
export async function makeImage(folder: string, options: ImageOptions = {}): Promise<Uint8Array> {
  const { type = 'ext4', extra = [], mke2fs = 'mke2fs' } = options
  requireFolder(folder)
  const { bytes, entries } = measure(folder)
  const { sizeBytes = 1.1 * (bytes + ENTRY_BYTES * entries) + OVERHEAD_BYTES } = options
  const sizeKiB = Math.ceil(sizeBytes / 1024)
  const work = mkdtempSync(join(tmpdir(), 'uaccel-block-'))
  const path = join(work, 'disk.img')
  // Names of programs for the administrator are not in every user's PATH.
  const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` }
  const inodes = ['-N', String(entries + SPARE_INODES + Math.ceil(sizeKiB / 1024))]
  try {
    await promisify(execFile)(
      mke2fs,
      ['-q', '-F', '-t', type, '-m', '0', ...inodes, ...extra, '-d', folder, path, `${sizeKiB}k`],
      { env },
    )
    return readImage(path)
  } catch (cause) {
    const { code, stderr } = cause as { code?: unknown; stderr?: string }
    if (code === 'ENOENT') {
      throw accelError(
        'ERR_ACCEL_NOT_FOUND',
        'There is no mke2fs on this machine, which makes file systems: install e2fsprogs (`apt install e2fsprogs`, `dnf install e2fsprogs`), or give an image by --image',
        { cause },
      )
    }
    if (stderr === undefined) throw cause
    throw accelError('ERR_ACCEL_SYSTEM', `mke2fs made no image of ${folder}: ${stderr.trim()}`, { cause })
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** What is in a folder, and in those within. */
function measure(folder: string): { bytes: number; entries: number } {
  const sum = { bytes: 0, entries: 0 }
  for (const entry of hostFile(folder, () => readdirSync(folder, { withFileTypes: true }))) {
    const path = join(folder, entry.name)
    const inner = entry.isDirectory() ? measure(path) : undefined
    sum.bytes += inner?.bytes ?? (entry.isFile() ? statSync(path).size : 0)
    sum.entries += 1 + (inner?.entries ?? 0)
  }
  return sum
}
