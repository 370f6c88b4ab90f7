import { createHash, type Hash } from 'node:crypto'
import { createReadStream, type Dirent, openSync, readdirSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { isAccelError } from '@uaccel/uapi'
import type { Ext4 } from './ext4.js'
import { hostFile, requireFolder } from './image.js'
import type { FileType, Inode } from './layout.js'

/** Files that are read at once. */
const FILES_AT_ONCE = 16
/** What mke2fs puts into each root directory. */
const LOST_AND_FOUND = '/lost+found'

/** What a comparison came to. */
export interface Verification {
  readonly files: number
  readonly directories: number
  readonly links: number
  /** Bytes of files that were read through the device. */
  readonly bytes: number
  /** Time in which they were read and hashed. */
  readonly seconds: number
  /** A sentence for each name that is not the same on both sides. */
  readonly mismatches: readonly string[]
}

interface File {
  /** In the file system. */
  readonly path: string
  readonly hostPath: string
  readonly inode: Inode
}

/** Compares a file system with a folder of this machine: names, types, sizes, contents by SHA-256, targets of links. */
export async function verify(fs: Ext4, folder: string): Promise<Verification> {
  requireFolder(folder)
  const files: File[] = []
  const mismatches: string[] = []
  let [directories, links] = [0, 0]

  /** Does something with what an image says of a path; what is damaged or not read there is a mismatch of that path alone. */
  async function attempt<T>(path: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work()
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_INVALID_ARGUMENT') && !isAccelError(error, 'ERR_ACCEL_UNSUPPORTED'))
        throw error
      mismatches.push(`${path}: ${error.message}`)
      return undefined
    }
  }

  async function compareDirectory(path: string, directory: Inode): Promise<void> {
    const hostPath = join(folder, path)
    const hostEntries = hostFile(hostPath, () => readdirSync(hostPath, { withFileTypes: true }))
    const entries = await attempt(path || '/', () => fs.entries(directory))
    if (entries === undefined) return
    directories++
    const numbers = new Map(entries.map(({ name, inode }) => [name, inode]))
    for (const hostEntry of hostEntries) {
      const inner = `${path}/${hostEntry.name}`
      const number = numbers.get(hostEntry.name)
      numbers.delete(hostEntry.name)
      if (number === undefined) mismatches.push(`${inner}: is missing in the file system`)
      else await attempt(inner, async () => compareEntry(inner, hostEntry, await fs.inode(number)))
    }
    for (const name of numbers.keys())
      if (`${path}/${name}` !== LOST_AND_FOUND) mismatches.push(`${path}/${name}: is missing in the folder`)
  }

  async function compareEntry(path: string, hostEntry: Dirent, inode: Inode): Promise<void> {
    const hostPath = join(folder, path)
    const type = typeOf(hostEntry)
    if (inode.type !== type)
      mismatches.push(`${path}: is a ${inode.type} in the file system, and a ${type} in the folder`)
    else if (type === 'directory') await compareDirectory(path, inode)
    else if (type === 'file') {
      const { size } = hostFile(hostPath, () => statSync(hostPath))
      if (inode.sizeBytes === size) files.push({ path, hostPath, inode })
      else
        mismatches.push(`${path}: has ${inode.sizeBytes} bytes in the file system, and ${size} in the folder`)
    } else if (type === 'link') {
      links++
      const [target, hostTarget] = [await fs.target(inode), hostFile(hostPath, () => readlinkSync(hostPath))]
      if (target !== hostTarget)
        mismatches.push(`${path}: leads to ${target} in the file system, and to ${hostTarget} in the folder`)
    }
  }

  await compareDirectory('', await fs.lookup('/'))
  const start = performance.now()
  const hashes = await atOnce(files, ({ path, inode }) => attempt(path, () => hash(fs.read(inode))))
  const seconds = (performance.now() - start) / 1000
  const hostHashes = await atOnce(files, ({ hostPath }) => hash(hostStream(hostPath)))
  let bytes = 0
  for (const [i, { path, inode }] of files.entries()) {
    if (hashes[i] === undefined) continue
    bytes += inode.sizeBytes
    if (hashes[i] !== hostHashes[i]) mismatches.push(`${path}: the contents differ`)
  }
  return { files: files.length, directories, links, bytes, seconds, mismatches }
}

/** Calls `work` for each item, with some under way at once; answers the results in order. */
async function atOnce<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length)
  let next = 0
  const worker = async () => {
    while (next < items.length) {
      const i = next++
      results[i] = await work(items[i])
    }
  }
  await Promise.all(Array.from({ length: FILES_AT_ONCE }, worker))
  return results
}

async function hash(parts: AsyncIterable<Uint8Array>): Promise<string> {
  const digest: Hash = createHash('sha256')
  for await (const part of parts) digest.update(part)
  return digest.digest('hex')
}

const hostStream = (path: string) => createReadStream(path, { fd: hostFile(path, () => openSync(path, 'r')) })

function typeOf(entry: Dirent): FileType {
  if (entry.isFile()) return 'file'
  if (entry.isDirectory()) return 'directory'
  if (entry.isSymbolicLink()) return 'link'
  if (entry.isFIFO()) return 'fifo'
  if (entry.isSocket()) return 'socket'
  return entry.isBlockDevice() ? 'block device' : 'character device'
}
