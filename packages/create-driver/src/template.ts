import { readdirSync, readFileSync } from 'node:fs'
import { join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CreateError } from './errors.js'
import { formatId, type Names } from './names.js'

/** What is to be made. */
export interface Device extends Names {
  readonly vendor: number
  readonly device: number
}

/** A file of the package, by its path in it. */
export interface MadeFile {
  readonly path: string
  readonly text: string
}

interface Manifest {
  name: string
  description: string
  dependencies: Record<string, string>
  devDependencies: Record<string, string>
  overrides?: Record<string, string>
}

const root = new URL('../', import.meta.url)
const templateFolder = fileURLToPath(new URL('template/', root))
const { version } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { version: string }

/** npm leaves a .gitignore out of the packages that it makes. */
const otherwiseNamed: Readonly<Record<string, string>> = { _gitignore: '.gitignore' }
/** Of the author's: what a build in the template itself left. */
const notOfIt = /^(dist|node_modules|\.tap)(\/|$)/

/**
 * The files of the author's package, in memory.
 *
 * @param packages a folder of the tarballs that `npm pack` makes, to depend on in place of the versions in the registry
 */
export function renderTemplate(device: Device, packages?: string): MadeFile[] {
  const tarballs = packages === undefined ? undefined : tarballsIn(packages)
  return readdirSync(templateFolder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(templateFolder.length))
    .map((path) => path.split(sep).join('/'))
    .filter((path) => !notOfIt.test(path))
    .sort()
    .map((path) => {
      const text = readFileSync(join(templateFolder, path), 'utf8')
      return {
        path: otherwiseNamed[path] ?? path,
        text: path === 'package.json' ? manifest(text, device, tarballs) : rename(text, device),
      }
    })
}

/** The template is a driver of its own, `my-npu`, that compiles and is checked as it is; its names and ids become the author's. */
function rename(
  text: string,
  { packageName, driverName, camelCase, pascalCase, vendor, device }: Device,
): string {
  const [vendorId, deviceId] = [formatId(vendor), formatId(device)]
  const words: Readonly<Record<string, string>> = {
    "'my-npu/": `'${packageName}/`,
    'my-npu': driverName,
    myNpu: camelCase,
    MyNpu: pascalCase,
    '1234:0acc': `${vendorId}:${deviceId}`,
    '0x1234': `0x${vendorId}`,
    '0x0acc': `0x${deviceId}`,
  }
  return text.replace(/'my-npu\/|my-npu|myNpu|MyNpu|1234:0acc|0x1234|0x0acc/g, (word) => words[word]!)
}

function manifest(text: string, device: Device, tarballs: ReadonlyMap<string, string> | undefined): string {
  const made = JSON.parse(rename(text, device)) as Manifest
  made.name = device.packageName
  for (const dependencies of [made.dependencies, made.devDependencies])
    for (const name of Object.keys(dependencies).filter(isOurs))
      dependencies[name] = tarballs ? tarball(tarballs, name) : `^${version}`
  // What our packages depend on is ours, too.
  if (tarballs)
    made.overrides = Object.fromEntries([...tarballs].map(([name, file]) => [name, `file:${file}`]))
  return `${JSON.stringify(made, null, 2)}\n`
}

const isOurs = (name: string) => name.startsWith('@uaccel/')

/** Tarballs of our packages in a folder, by package. */
function tarballsIn(folder: string): Map<string, string> {
  let names: string[]
  try {
    names = readdirSync(folder)
  } catch (cause) {
    throw new CreateError(
      'ERR_ACCEL_NOT_FOUND',
      `There is no folder ${folder} of packages: ${(cause as Error).message}`,
      { cause },
    )
  }
  const form = new RegExp(`^uaccel-(.+)-${version.replaceAll('.', '\\.')}\\.tgz$`)
  const found = names.flatMap((file) => {
    const name = form.exec(file)?.[1]
    return name === undefined ? [] : [[`@uaccel/${name}`, join(folder, file)] as const]
  })
  return new Map(found.sort())
}

function tarball(tarballs: ReadonlyMap<string, string>, name: string): string {
  const file = tarballs.get(name)
  if (file !== undefined) return `file:${file}`
  throw new CreateError(
    'ERR_ACCEL_NOT_FOUND',
    `Among the packages is none of ${name} ${version}: make it with npm pack in its folder`,
  )
}
