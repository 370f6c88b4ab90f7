import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** Where the lab keeps what it fetched and built: `$XDG_CACHE_HOME/uaccel/lab`, or below `~/.cache`. */
export function cacheFolder(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'uaccel', 'lab')
}

/**
 * Makes a folder of the cache whole or not at all: `fill` works in a temporary folder, whose subfolder `result`
 * is moved into place at its end. Where another process was faster, its folder stands. What killed processes
 * left is swept away first.
 * @returns path of the folder
 */
export async function cached(name: string, fill: (work: string) => Promise<void>): Promise<string> {
  const cache = cacheFolder()
  const target = join(cache, name)
  if (existsSync(target)) return target
  await mkdir(cache, { recursive: true })
  await sweep(cache)
  const work = await mkdtemp(join(cache, `tmp-${process.pid}-`))
  try {
    await mkdir(join(work, 'result'))
    await fill(work)
    await rename(join(work, 'result'), target).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
    })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
  return target
}

async function sweep(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    const pid = /^tmp-(\d+)-/.exec(name)?.[1]
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      await rm(join(cache, name), { recursive: true, force: true })
  }
}
