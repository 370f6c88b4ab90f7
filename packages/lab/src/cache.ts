import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** Where the lab keeps what it fetched and built: `$XDG_CACHE_HOME/uaccel/lab`, or below `~/.cache`. */
export function cacheFolder(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'uaccel', 'lab')
}

/** Runs something with a temporary folder of the cache. What killed processes left is swept away first. */
export async function withWorkFolder<T>(use: (work: string) => Promise<T>): Promise<T> {
  const cache = cacheFolder()
  await mkdir(cache, { recursive: true })
  for (const name of await readdir(cache)) {
    const pid = /^tmp-(\d+)-/.exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) {
      await rm(join(cache, name), { recursive: true, force: true })
    }
  }
  const work = await mkdtemp(join(cache, `tmp-${process.pid}-`))
  try {
    return await use(work)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** Moves a finished folder into the cache, whole or not at all, in place of what has that name there. */
export async function keep(folder: string, name: string): Promise<string> {
  const target = join(cacheFolder(), name)
  for (;;) {
    try {
      await rename(folder, target)
      return target
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error
    }
    // Out of the way in one step, so that no reader sees half of it; withWorkFolder's end removes it.
    await rename(target, join(folder, '..', `old-${Date.now()}`)).catch(() => {})
  }
}

type Fill = (result: string, work: string) => Promise<void>

/** What this process is filling just now: a second one who wants it waits for the first. */
const filling = new Map<string, Promise<string>>()

/** A folder of the cache; where it is not there, `fill` makes it. */
export async function cached(name: string, fill: Fill): Promise<string> {
  const target = join(cacheFolder(), name)
  if (existsSync(target)) return target
  let filled = filling.get(target)
  if (!filled) {
    filled = withWorkFolder(async (work) => {
      const result = join(work, 'result')
      await mkdir(result)
      await fill(result, work)
      return keep(result, name)
    }).finally(() => filling.delete(target))
    filling.set(target, filled)
  }
  return filled
}
