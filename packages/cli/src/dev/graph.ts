import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import type { DriverPackage } from './package.js'

/** What a module consists of, in its own package. */
export interface Graph {
  readonly files: readonly string[]
  /** Of all of their contents: equal where nothing changed. */
  readonly digest: string
}

/** Modules that a module imports, statically or not, and files that it reads beside itself (by a `URL` relative to `import.meta.url`). */
const IMPORTS =
  /(?:\bfrom\s*|\bimport\s*\(?\s*)(["'])([^"'\n]+)\1|new URL\(\s*(["'])(\.[^"'\n]+)\3\s*,\s*import\.meta\.url/g
const MODULE = /\.[cm]?[jt]s$/

/** The files of the package that `entry` is made of: those of other packages are left out. */
export function graphOf(entry: string, { folder, own }: Pick<DriverPackage, 'folder' | 'own'>): Graph {
  const found = new Map<string, Buffer | undefined>()
  const queue = [entry]
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    if (found.has(file)) continue
    const content = read(file)
    found.set(file, content)
    if (content === undefined || !MODULE.test(file)) continue
    for (const [, , imported, , beside] of content.toString('utf8').matchAll(IMPORTS)) {
      const name = imported ?? beside!
      const target = name.startsWith('.') ? resolve(dirname(file), name) : own.get(name)
      if (target !== undefined && isIn(folder, target)) queue.push(target)
    }
  }
  const files = [...found.keys()].sort()
  const hash = createHash('sha256')
  for (const file of files) {
    const content = found.get(file)
    hash.update(`${file}\0${content?.length ?? 'absent'}\0`)
    if (content !== undefined) hash.update(content)
  }
  return { files, digest: hash.digest('hex') }
}

function read(file: string): Buffer | undefined {
  try {
    return readFileSync(file)
  } catch {
    return undefined // not there yet, or a folder: whoever imports it will say so
  }
}

const isIn = (folder: string, file: string) => {
  const path = relative(folder, file)
  return !path.startsWith('..') && !path.split('/').includes('node_modules')
}
