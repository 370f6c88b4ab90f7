import { resolve } from 'node:path'
import { namesOf } from './names.js'
import { type MadeFile, renderTemplate } from './template.js'
import { writeFiles } from './write.js'

export { CreateError } from './errors.js'
export type { MadeFile } from './template.js'

/** A driver's package that is to be made. */
export interface DriverOptions {
  /** Of the package: `my-npu`, or `@me/my-npu`. */
  readonly name: string
  /** PCI vendor id. Default 0x1234, which is nobody's and QEMU's. */
  readonly vendor?: number
  /** PCI device id. Default 0x0acc. */
  readonly device?: number
  /** Where it is made. Default: a folder of its name, without a scope, in the current one. */
  readonly folder?: string
  /** A folder with tarballs of uaccel's packages, to depend on in place of those in the registry. */
  readonly packages?: string
}

export const DEFAULT_VENDOR = 0x1234
export const DEFAULT_DEVICE = 0x0acc

/**
 * Makes a driver's package: all of it or, where this throws, nothing.
 *
 * @returns its folder, and the paths of its files in it
 * @throws CreateError
 */
export function createDriver({
  name,
  vendor = DEFAULT_VENDOR,
  device = DEFAULT_DEVICE,
  folder,
  packages,
}: DriverOptions): { folder: string; files: string[] } {
  const names = namesOf(name)
  const files: MadeFile[] = renderTemplate(
    { ...names, vendor, device },
    packages === undefined ? undefined : resolve(packages),
  )
  const made = resolve(folder ?? names.driverName)
  writeFiles(made, files)
  return { folder: made, files: files.map(({ path }) => path) }
}
