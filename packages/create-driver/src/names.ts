import { isBuiltin } from 'node:module'
import { CreateError } from './errors.js'

/** What the template calls the author's device: words that stand for the author's own. */
export interface Names {
  /** Of the package: `my-npu` or `@me/my-npu`. */
  readonly packageName: string
  /** Of driver, uAPI, model and folder: `my-npu`. */
  readonly driverName: string
  /** In identifiers: `myNpu`, `MyNpu`. */
  readonly camelCase: string
  readonly pascalCase: string
}

/** Longest package name (docs.npmjs.com, package.json, name). */
const PACKAGE_NAME_LENGTH = 214
/** As `accelDriver` wants it. */
const driverForm = /^[a-z][a-z0-9-]{0,30}$/
const scopeForm = /^@[a-z0-9~-][a-z0-9._~-]*$/
/** Names that npm keeps to itself. */
const taken = ['node-modules', 'node_modules', 'favicon.ico']

/**
 * The names that come of a package's.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT where npm would not take it for a package, or uaccel not for a driver
 */
export function namesOf(packageName: string): Names {
  const parts = packageName.split('/')
  const driverName = parts.at(-1)!
  const scope = parts.length > 1 ? parts[0]! : undefined
  const wrong = (why: string) =>
    new CreateError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `"${packageName}" is no name for a driver's package: ${why}. For example: my-npu, or @me/my-npu`,
    )
  if (packageName === '') throw wrong('it is empty')
  if (parts.length > 2 || (scope !== undefined && !scopeForm.test(scope)))
    throw wrong('before a / stands a scope, which is @ and a-z, 0-9, -')
  if (!driverForm.test(driverName))
    throw wrong('it begins with a-z, and goes on with a-z, 0-9 and -, at most 31 characters')
  if (packageName.length > PACKAGE_NAME_LENGTH) throw wrong(`npm takes ${PACKAGE_NAME_LENGTH} characters`)
  if (scope === undefined && (isBuiltin(driverName) || taken.includes(driverName)))
    throw wrong('Node or npm has a module of that name')
  const words = driverName.split('-').filter(Boolean)
  const pascalCase = words.map((word) => word[0]!.toUpperCase() + word.slice(1)).join('')
  return {
    packageName,
    driverName,
    camelCase: pascalCase[0]!.toLowerCase() + pascalCase.slice(1),
    pascalCase,
  }
}

/** All ones is what a missing device reads as (PCI Local Bus 3.0, 6.1): no vendor has it. */
const NO_VENDOR = 0xffff

/**
 * A PCI id, hexadecimal as `lspci -n` prints it, with or without 0x.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT, ERR_ACCEL_OUT_OF_RANGE
 */
export function parseId(text: string, what: 'vendor' | 'device'): number {
  const digits = /^(?:0x)?([0-9a-f]+)$/i.exec(text.trim())?.[1]
  if (digits === undefined)
    throw new CreateError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `"${text}" is no ${what} id: four hexadecimal digits, such as 0x1234`,
    )
  const id = Number.parseInt(digits, 16)
  if (id > 0xffff || (what === 'vendor' && id === NO_VENDOR))
    throw new CreateError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `The ${what} id ${text} is out of range: 0x0000 to ${what === 'vendor' ? '0xfffe, since 0xffff says that there is no device' : '0xffff'}`,
    )
  return id
}

/** As `lspci -n` prints it. */
export const formatId = (id: number): string => id.toString(16).padStart(4, '0')
