import { randomBytes } from 'node:crypto'
import { open, rename, rm } from 'node:fs/promises'
import { accelError } from '@uaccel/uapi'

/** What is read, encrypted and compared at once. */
const PART_BYTES = 4 << 20

/** A message that comes in parts. */
export interface Message {
  readonly name: string
  readonly parts: AsyncIterable<Uint8Array>
}

/** So many bytes that nobody can foretell. */
export function randomMessage(sizeBytes: number): Message {
  async function* parts() {
    for (let left = sizeBytes; left > 0; left -= PART_BYTES) yield randomBytes(Math.min(left, PART_BYTES))
  }
  return { name: 'random bytes', parts: parts() }
}

/** The message in a file. `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_PERMISSION`, `ERR_ACCEL_INVALID_ARGUMENT` for a folder. */
export async function fileMessage(path: string): Promise<Message> {
  const file = await opened(path, path, 'r')
  if (!(await file.stat()).isDirectory())
    return { name: path, parts: file.createReadStream({ highWaterMark: PART_BYTES }) }
  await file.close()
  throw isFolder(path)
}

/** A file that is there whole, once it is kept, or not at all. */
export interface NewFile {
  write(bytes: Uint8Array): Promise<void>
  keep(): Promise<void>
  /** Does nothing to one that was kept. */
  discard(): Promise<void>
}

/** Begins a file. Errors: as of {@link fileMessage}. */
export async function createFile(path: string): Promise<NewFile> {
  const partial = `${path}.partial`
  const file = await opened(partial, path, 'w')
  let [open, there] = [true, true]
  const close = async () => {
    if (!open) return
    open = false
    await file.close()
  }
  return {
    write: (bytes) => file.writeFile(bytes),
    async keep() {
      await close()
      await translated(path, () => rename(partial, path))
      there = false
    },
    async discard() {
      await close()
      if (there) await rm(partial)
      there = false
    },
  }
}

const opened = (actual: string, path: string, flags: string) => translated(path, () => open(actual, flags))

/** Does something with a file, and says in the words of the error table what is in the way. */
async function translated<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR')
      throw accelError('ERR_ACCEL_NOT_FOUND', `There is no file or folder ${path}`, { cause })
    if (code === 'EACCES' || code === 'EROFS')
      throw accelError('ERR_ACCEL_PERMISSION', `This user may not open ${path}`, { cause })
    if (code === 'EISDIR') throw isFolder(path)
    throw cause
  }
}

const isFolder = (path: string) =>
  accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path} is a folder; a file is wanted`)
