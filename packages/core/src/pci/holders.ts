import { readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { type MachinePaths, namesIn, readText } from './machine.js'

/** A process that has a file open. */
export interface Holder {
  readonly pid: number
  /** Its command name, as the kernel keeps it: 15 bytes. */
  readonly name: string
  /** Which of the files. */
  readonly path: string
}

/**
 * Processes that have one of these files open, each once. What belongs to other users is seen by root only. Links are
 * read and not followed: a file of a file system that hangs would hang the reader.
 */
export function holdersOf(paths: readonly string[], { proc }: Pick<MachinePaths, 'proc'>): Holder[] {
  if (paths.length === 0) return []
  const wanted = new Set(paths)
  const open = (pid: string) => {
    const folder = join(proc, pid, 'fd')
    return namesIn(folder)
      .map((fd) => target(join(folder, fd)))
      .find((path) => path !== undefined && wanted.has(path))
  }
  return namesIn(proc)
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const path = open(pid)
      return path === undefined
        ? []
        : [{ pid: Number(pid), name: readText(join(proc, pid, 'comm')) ?? '?', path }]
    })
}

/** `qemu-system-x86 (process 4711)`. */
export const describeHolder = ({ pid, name }: Holder): string =>
  `${name.replace(/[^\x20-\x7e]/g, '?')} (process ${pid}${pid === process.pid ? ', this one' : ''})`

/** What a descriptor is of. A device that is being taken away has lost its node, and the kernel says so behind the path. */
function target(path: string): string | undefined {
  try {
    return readlinkSync(path).replace(/ \(deleted\)$/, '')
  } catch {
    return undefined
  }
}
