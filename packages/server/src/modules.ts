import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import type { AnyDriver } from '@uaccel/accel'
import type { ModelDefinition } from '@uaccel/model'
import { accelError } from '@uaccel/uapi'

/** A driver of the configuration, loaded. */
export interface DriverModule {
  /** As the configuration names it. */
  readonly source: string
  /** URL to import. */
  readonly module: string
  readonly driver: AnyDriver
}

/**
 * The URL of a package or module, looked for from each of `bases` on: files or URLs of modules.
 *
 * @throws ERR_ACCEL_NOT_FOUND
 */
export function resolveModule(source: string, bases: readonly string[]): string {
  let cause: unknown
  for (const base of bases) {
    try {
      return pathToFileURL(createRequire(base).resolve(source)).href
    } catch (error) {
      // Where it is there and yet of no use, that says more than where it is not.
      if (cause === undefined || (error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') cause = error
    }
  }
  const { code, message } = cause as NodeJS.ErrnoException
  const problem =
    code === 'MODULE_NOT_FOUND'
      ? 'install it beside the configuration or the command, or give its path'
      : `it is there, and cannot be loaded: ${message}`
  throw accelError('ERR_ACCEL_NOT_FOUND', `no package or module "${source}": ${problem}`, { cause })
}

/**
 * The driver that a module exports as `default`.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT it exports none; ERR_ACCEL_NOT_FOUND it cannot be loaded
 */
export async function loadDriver(module: string): Promise<AnyDriver> {
  const { default: driver } = await load(module)
  if (isDriver(driver)) return driver
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `${module} is no driver: its default export is not what accelDriver({ ... }) of @uaccel/accel gives`,
  )
}

/**
 * The model that a module exports as `default`, or else its only one.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT it exports none, or several and none as `default`; ERR_ACCEL_NOT_FOUND it cannot be loaded
 */
export async function loadModel(module: string): Promise<ModelDefinition> {
  const exported = await load(module)
  if (isModel(exported.default)) return exported.default
  const models = [...new Set(Object.values(exported).filter(isModel))]
  const [model] = models
  if (model && models.length === 1) return model
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `${module} exports ${models.length === 0 ? 'no model' : 'several models'}: it is to export, as default where there are several, what defineModel({ ... }) of @uaccel/model gives`,
  )
}

async function load(module: string): Promise<Record<string, unknown>> {
  try {
    return (await import(module)) as Record<string, unknown>
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    throw accelError('ERR_ACCEL_NOT_FOUND', `${module} cannot be loaded: ${message}`, { cause })
  }
}

// By their form: a module may have copies of our packages of its own.

function isDriver(value: unknown): value is AnyDriver {
  if (typeof value !== 'object' || value === null) return false
  const { name, uapi, ids, probe } = value as Partial<Record<keyof AnyDriver, unknown>>
  return (
    typeof name === 'string' && typeof uapi === 'object' && Array.isArray(ids) && typeof probe === 'function'
  )
}

function isModel(value: unknown): value is ModelDefinition {
  if (typeof value !== 'object' || value === null) return false
  const { identity, bars, create } = value as Partial<Record<keyof ModelDefinition, unknown>>
  return typeof identity === 'object' && Array.isArray(bars) && typeof create === 'function'
}
