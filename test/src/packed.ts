import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Test } from 'tap'

const checkout = fileURLToPath(new URL('../../', import.meta.url))
const execute = promisify(execFile)

/** A package as `npm pack` made it. */
export interface Packed {
  readonly name: string
  readonly version: string
  readonly tarball: string
  /** Its files, by their paths in it. */
  readonly files: readonly string[]
}

/** What of the environment is the machine's, and not a test runner's or another npm's: as in the shell of somebody new. */
const env = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) =>
      /^(PATH|HOME|USER|LANG|CI|TMPDIR|XDG_\w+|UACCEL_\w+|(https?|no)_proxy|NODE_EXTRA_CA_CERTS|SSL_CERT_\w+)$/i.test(
        name,
      ) || /^npm_config_(registry|cafile|cache|userconfig|globalconfig)$/.test(name),
  ),
)

/** A program that ended, and how long it took. */
export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
  readonly seconds: number
}

/** Runs a program as somebody would in that folder. */
export async function runIn(folder: string, command: readonly string[]): Promise<Ran> {
  const start = performance.now()
  const [program, ...args] = command
  const ended = (code: number, { stdout, stderr }: { stdout: string; stderr: string }) => ({
    code,
    stdout,
    stderr,
    seconds: (performance.now() - start) / 1000,
  })
  try {
    return ended(0, await execute(program!, args, { cwd: folder, env, maxBuffer: 1 << 26 }))
  } catch (error) {
    const failed = error as { code?: number | string; stdout: string; stderr: string }
    return ended(typeof failed.code === 'number' ? failed.code : -1, failed)
  }
}

/** A folder outside of this repository, with every package in it as `npm publish` would send it. */
export async function packAll(t: Test): Promise<{ folder: string; packages: Packed[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-packed-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const workspaces = readdirSync(join(checkout, 'packages')).map((name) => `--workspace=packages/${name}`)
  const { code, stdout, stderr } = await runIn(checkout, [
    'npm',
    'pack',
    '--json',
    `--pack-destination=${folder}`,
    ...workspaces,
  ])
  if (code !== 0) throw new Error(`npm pack ended with ${code}: ${stderr}`)
  const made = Object.values(
    JSON.parse(stdout) as Record<
      string,
      { name: string; version: string; filename: string; files: { path: string }[] }
    >,
  )
  const packages = made.map(({ name, version, filename, files }) => ({
    name,
    version,
    tarball: join(folder, filename),
    files: files.map(({ path }) => path),
  }))
  return { folder, packages }
}

/** An author's package, made by the packed command in an empty folder, and installed: with Node and npm alone. */
export async function createPackage(
  t: Test,
  packed: { folder: string; packages: readonly Packed[] },
): Promise<string> {
  const empty = join(packed.folder, 'empty')
  mkdirSync(empty)
  const { tarball } = packed.packages.find(({ name }) => name === '@uaccel/create-driver')!
  // What npm create does with a package of the registry. Its cache of such programs is not to keep this one.
  const create = [
    'npm',
    'exec',
    '--yes',
    `--cache=${join(packed.folder, 'cache')}`,
    `--package=${tarball}`,
    '--',
  ]
  const made = await runIn(empty, [...create, 'create-driver', 'my-npu', '--packages', packed.folder])
  requireEnd(t, 'npm create @uaccel/driver my-npu', made)
  const folder = join(empty, 'my-npu')
  requireEnd(t, 'npm install', await runIn(folder, ['npm', 'install', '--prefer-offline', '--no-audit']))
  return folder
}

/** Asserts that a command of an author's ended well, and tells how long it took. */
export function requireEnd(t: Test, what: string, { code, stdout, stderr, seconds }: Ran): void {
  if (code !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(code, 0, `${what}, in ${seconds.toFixed(1)} s`)
}
