import { closeSync, mkdirSync, openSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { CreateError } from './errors.js'
import type { MadeFile } from './template.js'

/** What may be in a folder already: the repository that the package is to be in. */
const harmless = new Set(['.git'])

/**
 * Writes files into a folder that does not exist or is empty. All or none: what was written is taken back where one fails.
 *
 * @throws ERR_ACCEL_BUSY the folder has something in it; ERR_ACCEL_PERMISSION; ERR_ACCEL_INVALID_ARGUMENT it is a file;
 *   ERR_ACCEL_SYSTEM, such as a full disk
 */
export function writeFiles(folder: string, files: readonly MadeFile[]): void {
  requireEmpty(folder)
  const undo: (() => void)[] = []
  try {
    makeFolder(folder, undo)
    for (const { path, text } of files) {
      const file = join(folder, path)
      makeFolder(dirname(file), undo)
      const fd = openSync(file, 'wx') // whatever came in between stays
      undo.push(() => rmSync(file))
      try {
        writeFileSync(fd, text)
      } finally {
        closeSync(fd)
      }
    }
  } catch (cause) {
    for (const step of undo.reverse()) {
      try {
        step()
      } catch {} // somebody else took it away, or put something into it: that stays
    }
    throw explain(folder, cause as NodeJS.ErrnoException)
  }
}

function requireEmpty(folder: string): void {
  let names: string[]
  try {
    names = readdirSync(folder)
  } catch (cause) {
    const error = cause as NodeJS.ErrnoException
    if (error.code === 'ENOENT') return
    throw explain(folder, error)
  }
  const found = names.filter((name) => !harmless.has(name))
  if (found.length === 0) return
  const some = found.slice(0, 3).join(', ') + (found.length > 3 ? ', ...' : '')
  throw new CreateError(
    'ERR_ACCEL_BUSY',
    `${folder} is not empty: it has ${some}. Nothing was written. Take another name, or another folder with --dir`,
  )
}

/** Makes a folder and those above it, and notes how to remove what was made. */
function makeFolder(folder: string, undo: (() => void)[]): void {
  try {
    mkdirSync(folder)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'EEXIST') return
    if (code !== 'ENOENT' || dirname(folder) === folder) throw cause
    makeFolder(dirname(folder), undo)
    mkdirSync(folder)
  }
  undo.push(() => rmdirSync(folder))
}

function explain(folder: string, cause: NodeJS.ErrnoException): Error {
  const { code, path = folder } = cause
  switch (code) {
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new CreateError(
        'ERR_ACCEL_PERMISSION',
        `${path} may not be written (${code}). Nothing was made. Go to a folder of your own, or name one with --dir`,
        { cause },
      )
    case 'ENOTDIR':
    case 'EEXIST':
      return new CreateError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `${path} is a file where a folder is to be, or came while the package was made. Nothing was made. Take another name, or another folder with --dir`,
        { cause },
      )
    default:
      return new CreateError(
        'ERR_ACCEL_SYSTEM',
        `${path} could not be written: ${cause.message}. Nothing was made`,
        { cause },
      )
  }
}
