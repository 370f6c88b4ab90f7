import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative, resolve } from 'node:path'
import { accelError } from '@uaccel/uapi'

/** A driver's package, as its author has it. */
export interface DriverPackage {
  readonly name: string
  readonly folder: string
  /** Modules that Node runs: what `exports` names for the driver and for its model. They may not be there before the first build. */
  readonly driver: string
  readonly model: string
  /** Modules of the package by the words with which it imports them itself: `my-npu/uapi`. */
  readonly own: ReadonlyMap<string, string>
  /** The TypeScript compiler that it has installed; absent where it has no tsconfig.json. */
  readonly compiler: Compiler | undefined
}

export interface Compiler {
  /** What Node runs. */
  readonly program: string
  /** Of its version. */
  readonly major: number
}

/** Conditions of `exports` under which Node imports, in the order of the package. nodejs.org/api/packages.html#conditional-exports */
const CONDITIONS = new Set(['import', 'node', 'module-sync', 'default'])

/**
 * Reads the package of a driver.
 *
 * @throws ERR_ACCEL_NOT_FOUND there is no package, no driver or model in it, or no compiler; ERR_ACCEL_INVALID_ARGUMENT package.json
 */
export function readPackage(path: string): DriverPackage {
  const folder = resolve(path)
  const file = join(folder, 'package.json')
  const { name, exports, main } = parse(file)
  const subpaths: Record<string, unknown> =
    typeof exports === 'object' && exports !== null && Object.keys(exports).some((key) => key.startsWith('.'))
      ? (exports as Record<string, unknown>)
      : { '.': exports ?? main }
  const own = new Map<string, string>()
  for (const [subpath, value] of Object.entries(subpaths)) {
    const target = targetOf(value)
    if (target !== undefined) own.set(join(name, subpath), resolve(folder, target))
  }
  const need = (subpath: string, what: string) => {
    const found = own.get(join(name, subpath))
    if (found !== undefined) return found
    const has = [...own].map(([, each]) => relative(folder, each)).join(', ') || 'nothing'
    throw accelError(
      'ERR_ACCEL_NOT_FOUND',
      `${file} exports no ${what}: "exports" wants "${subpath}", such as "./dist/${subpath === '.' ? 'driver' : 'model'}.js"; it names ${has}.`,
    )
  }
  return {
    name,
    folder,
    driver: need('.', 'driver'),
    model: need('./model', 'model'),
    own,
    compiler: existsSync(join(folder, 'tsconfig.json')) ? compilerOf(folder) : undefined,
  }
}

function parse(file: string): { name: string; exports: unknown; main: unknown } {
  let data: unknown
  try {
    data = JSON.parse(readFileSync(file, 'utf8'))
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw accelError(
        'ERR_ACCEL_NOT_FOUND',
        `There is no ${file}: name the folder of a driver's package, or make one with \`npm create @uaccel/driver\`.`,
        { cause },
      )
    }
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${file} cannot be read: ${message}`, { cause })
  }
  const { name = '', exports, main } = (data ?? {}) as Record<string, unknown>
  return { name: typeof name === 'string' ? name : '', exports, main }
}

/** What Node would import. */
function targetOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value !== 'object' || value === null) return undefined
  for (const [condition, inner] of Object.entries(value)) {
    const found = CONDITIONS.has(condition) ? targetOf(inner) : undefined
    if (found !== undefined) return found
  }
  return undefined
}

/** The package's own: another version may not take its options. */
function compilerOf(folder: string): Compiler {
  try {
    const file = createRequire(join(folder, 'package.json')).resolve('typescript/package.json')
    const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string }
    return { program: join(dirname(file), 'bin', 'tsc'), major: Number.parseInt(version, 10) }
  } catch (cause) {
    throw accelError(
      'ERR_ACCEL_NOT_FOUND',
      `${folder} has a tsconfig.json and no TypeScript: npm install --save-dev typescript`,
      { cause },
    )
  }
}
