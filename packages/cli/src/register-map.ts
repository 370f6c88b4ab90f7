import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { RegisterMap } from '@uaccel/core'
import { planBlock, readRegisterFile, selectBlocks, toRegisterMap } from '@uaccel/register-import'
import { accelError } from '@uaccel/uapi'
import { note } from './output.js'

/**
 * The register map of a file: one that `uaccel reg import` reads, or a compiled module that exports it. `name` is the block or the export,
 * where there are several.
 *
 * @throws ERR_ACCEL_NOT_FOUND for no such file, block or export; ERR_ACCEL_INVALID_ARGUMENT where the file says no map, or more than one
 */
export async function loadMap(path: string, name?: string): Promise<RegisterMap> {
  if (/\.[cm]?ts$/.test(path))
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `${path} is TypeScript: compile it, and name the .js file.`,
    )
  if (/\.[cm]?js$/.test(path)) return exportedMap(path, name)
  const description = readRegisterFile(path)
  const blocks = selectBlocks(description, name === undefined ? [] : [name])
  requireOne(
    path,
    blocks.map((block) => block.name),
  )
  let remarks = 0
  const [map, ...others] = planBlock(blocks[0], () => remarks++)
  if (others.length > 0)
    note(`${path}: left out are ${others.map((other) => other.name).join(', ')}, at the same places`)
  remarks += description.warnings.length
  if (remarks > 0) note(`${path}: what does not fit a map (${remarks}) is told by \`uaccel reg import\``)
  return toRegisterMap(map)
}

function requireOne(path: string, names: readonly string[]): void {
  if (names.length === 0) throw accelError('ERR_ACCEL_NOT_FOUND', `${path} has no register map.`)
  if (names.length > 1)
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `${path} has ${names.length} register maps: name one with --block; there are ${names.slice(0, 40).join(', ')}.`,
    )
}

async function exportedMap(path: string, name: string | undefined): Promise<RegisterMap> {
  const maps = await exportedMaps(path)
  if (name !== undefined && Object.hasOwn(maps, name)) return maps[name]
  const names = Object.keys(maps)
  if (name !== undefined)
    throw accelError(
      'ERR_ACCEL_NOT_FOUND',
      `${path} exports no register map ${name}; there are ${names.join(', ') || 'none'}.`,
    )
  requireOne(path, names)
  return maps[names[0]]
}

async function exportedMaps(path: string): Promise<Record<string, RegisterMap>> {
  let module: Readonly<Record<string, unknown>>
  try {
    module = (await import(pathToFileURL(resolve(path)).href)) as typeof module
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND'
    throw accelError(
      missing ? 'ERR_ACCEL_NOT_FOUND' : 'ERR_ACCEL_INVALID_ARGUMENT',
      `${path} cannot be loaded: ${(cause as Error).message}`,
      { cause },
    )
  }
  return Object.fromEntries(
    Object.entries(module).filter((entry): entry is [string, RegisterMap] => isMap(entry[1])),
  )
}

/** By its form: the module may have a @uaccel/core of its own. */
function isMap(value: unknown): value is RegisterMap {
  const map = value as Partial<RegisterMap> | null
  return typeof map === 'object' && Array.isArray(map?.entries) && typeof map.sizeBytes === 'number'
}
