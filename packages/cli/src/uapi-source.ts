import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import * as everyDevice from '@uaccel/uapi'
import { accelError, isAccelError, type Uapi } from '@uaccel/uapi'
import { known } from './drivers.js'

/** Those that can be named: what every device speaks, and the drivers here. Any other is a module. */
const named: Readonly<Record<string, Uapi>> = Object.fromEntries(
  [
    ...Object.values<unknown>(everyDevice).filter(isUapi),
    ...Object.values(known).map(({ driver }) => driver.uapi),
  ].map((uapi) => [uapi.name, uapi]),
)

export const uapiNames = Object.keys(named)

/**
 * The uAPI of that name, or the one that the module at that path exports. `ERR_ACCEL_NOT_FOUND` where there is none,
 * `ERR_ACCEL_INVALID_ARGUMENT` where the module exports several, or fails.
 */
export async function loadUapi(source: string): Promise<Uapi> {
  if (Object.hasOwn(named, source)) return named[source]
  if (!/[/\\]|\.[cm]?js$/.test(source)) {
    throw accelError(
      'ERR_ACCEL_NOT_FOUND',
      `There is no uAPI "${source}"; there are ${uapiNames.join(', ')}. One of your own is named by its module: ./dist/uapi.js.`,
    )
  }
  const found = new Set(Object.values(await load(resolve(source))).filter(isUapi))
  const [uapi] = found
  if (found.size === 1) return uapi
  throw found.size === 0
    ? accelError(
        'ERR_ACCEL_NOT_FOUND',
        `${source} exports no uAPI: export what uapi({ ... }) of @uaccel/uapi gives.`,
      )
    : accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `${source} exports several uAPIs: ${[...found].map(({ name }) => name).join(', ')}. Name a module that exports one.`,
      )
}

async function load(path: string): Promise<Record<string, unknown>> {
  try {
    return (await import(pathToFileURL(path).href)) as Record<string, unknown>
  } catch (cause) {
    if (isAccelError(cause)) throw cause
    const { code, message } = cause as NodeJS.ErrnoException
    const missing = code === 'ERR_MODULE_NOT_FOUND' || code === 'ERR_UNSUPPORTED_DIR_IMPORT'
    throw accelError(
      missing ? 'ERR_ACCEL_NOT_FOUND' : 'ERR_ACCEL_INVALID_ARGUMENT',
      `${path} cannot be imported: ${message}`,
      { cause },
    )
  }
}

/** By its form: the module may have a copy of @uaccel/uapi of its own. */
function isUapi(value: unknown): value is Uapi {
  if (typeof value !== 'object' || value === null) return false
  const { name, version, commands, digest, byNumber } = value as Partial<Record<keyof Uapi, unknown>>
  return (
    typeof name === 'string' &&
    typeof version === 'number' &&
    typeof digest === 'string' &&
    typeof byNumber === 'function' &&
    typeof commands === 'object' &&
    commands !== null
  )
}
