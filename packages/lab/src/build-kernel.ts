import { appendFile, copyFile, mkdir, readFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { AccelError } from '@uaccel/uapi'
import { aptDistribution, newestDebian, openReleaseApt } from './apt.js'
import { cached, keep, withWorkFolder } from './cache.js'
import { run } from './child.js'
import { which } from './files.js'
import type { FetchOptions } from './qemu.js'
import { byVersion } from './tools.js'

/** A kernel of the lab's own. */
export interface KernelBuild {
  /** Of its source, such as `7.2.12`. */
  version: string
  imagePath: string
}

const configPath = fileURLToPath(new URL('../guest/kernel.config', import.meta.url))

/** Programs that must be installed, and their packages. */
const installed: Readonly<Record<string, string>> = {
  gcc: 'gcc',
  make: 'make',
  ld: 'binutils',
  tar: 'tar',
  xz: 'xz-utils',
}

/** What else a build runs. These packages serve unpacked as well, so they are fetched. */
const helpers = ['flex', 'm4', 'bison', 'bc', 'libelf-dev', 'zlib1g-dev']
/** Of what they need, all but these is there with the compiler. */
const helperLibraries = /^(libelf1|zlib1g|libreadline\d+|libzstd1)(t64)?$/

/**
 * Builds the lab's small kernel from the newest source that the distribution has and keeps it in the cache,
 * where {@link prepareLab} prefers it from then on. Takes about 10 minutes on two processors and 2 GB of disk
 * while it runs.
 * @throws ERR_ACCEL_NOT_FOUND naming what must be installed, ERR_ACCEL_SYSTEM with the end of what make said,
 * ERR_ACCEL_ABORTED
 */
export async function buildKernel(options: FetchOptions = {}): Promise<KernelBuild> {
  return withWorkFolder(async (work) => {
    const source = await prepareSource(work, options)
    await source.make([`-j${availableParallelism()}`, 'bzImage'])
    const result = join(work, 'result')
    await mkdir(result)
    await copyFile(join(source.tree, 'arch/x86/boot/bzImage'), join(result, 'bzImage'))
    const kept = await keep(result, `built-${source.version}`)
    return { version: source.version, imagePath: join(kept, 'bzImage') }
  })
}

interface KernelSource {
  tree: string
  version: string
  make(targets: readonly string[]): Promise<string>
}

/** Fetches the source into a folder, configures it, and checks that it took the whole configuration. */
export async function prepareSource(work: string, options: FetchOptions): Promise<KernelSource> {
  const { onProgress, signal } = options
  const env = await buildEnvironment(options)
  const tree = await fetchSource(work, options)
  const make = (targets: readonly string[]) =>
    run(['make', ...targets], {
      cwd: tree,
      env,
      signal,
      onLine: (line) => onProgress?.({ stage: 'build', message: line.trim() }),
    })
  await make(['tinyconfig'])
  const wanted = await readFile(configPath, 'utf8')
  await appendFile(join(tree, '.config'), wanted) // of two lines for one symbol the later counts
  await make(['olddefconfig'])
  const refused = refusedSymbols(wanted, await readFile(join(tree, '.config'), 'utf8'))
  if (refused.length > 0) {
    throw new AccelError(
      'ERR_ACCEL_UNSUPPORTED',
      `this kernel does not take ${refused.join(', ')} of ${configPath}`,
    )
  }
  const version = (await make(['-s', 'kernelversion'])).trim()
  return { tree, version, make }
}

/** Symbols of a configuration that are not as wanted in the one that Kconfig made of it. */
export function refusedSymbols(wanted: string, taken: string): string[] {
  const lines = new Set(taken.split('\n'))
  return [...wanted.matchAll(/^(CONFIG_\w+)=(.*)$/gm)]
    .filter(([line, symbol, value]) =>
      // A symbol that is off is not set, or not known at all where what it depends on is off.
      value === 'n' ? taken.includes(`\n${symbol}=`) : !lines.has(line),
    )
    .map(([line]) => line)
}

async function fetchSource(work: string, options: FetchOptions): Promise<string> {
  const { onProgress, signal } = options
  const { id } = await aptDistribution()
  const apt = await openReleaseApt(work, { ...options, ...(id === 'debian' && { release: newestDebian }) })
  const packages = (await apt.names('linux-source-')).filter((name) => /^linux-source-[\d.]+$/.test(name))
  const newest = packages.sort(byVersion).at(-1)
  if (newest === undefined) {
    throw new AccelError('ERR_ACCEL_NOT_FOUND', 'the distribution has no package linux-source-VERSION')
  }
  const unpacked = join(work, 'package')
  await apt.unpack([newest], unpacked, onProgress)
  onProgress?.({ stage: 'unpack', message: newest })
  // Debian has the archive in /usr/src, Ubuntu in a folder of the package's name below.
  const tree = join(work, 'source')
  await mkdir(tree)
  const archive = (await run(['find', join(unpacked, 'usr/src'), '-name', `${newest}.tar.*`]))
    .trim()
    .split('\n')[0]!
  await run(['tar', '-xf', archive, '--strip-components=1', '-C', tree], { signal })
  return tree
}

/** The environment of make; fetches what the build runs and the machine lacks. */
async function buildEnvironment(options: FetchOptions): Promise<NodeJS.ProcessEnv> {
  const absent: string[] = []
  for (const [program, name] of Object.entries(installed)) if (!(await which(program))) absent.push(name)
  if (absent.length > 0) {
    throw new AccelError(
      'ERR_ACCEL_NOT_FOUND',
      `a kernel's build needs ${Object.keys(installed).join(', ')}; install ${absent.join(', ')}`,
      { details: { missing: absent } },
    )
  }
  const { id, codename } = await aptDistribution()
  const folder = await cached(`${id}-${codename}-build`, async (result, work) => {
    const apt = await openReleaseApt(work, options)
    const needed = await apt.closure(helpers)
    const wanted = needed.filter((name) => helpers.includes(name) || helperLibraries.test(name))
    await apt.unpack(wanted, result, options.onProgress)
  })
  const below = (...path: string[]) => join(folder, ...path)
  const libraries = [below('usr/lib/x86_64-linux-gnu'), below('lib/x86_64-linux-gnu')].join(delimiter)
  return {
    ...process.env,
    PATH: [below('usr/bin'), process.env.PATH].join(delimiter),
    M4: below('usr/bin/m4'),
    BISON_PKGDATADIR: below('usr/share/bison'),
    C_INCLUDE_PATH: below('usr/include'),
    LIBRARY_PATH: libraries,
    LD_LIBRARY_PATH: libraries,
    KBUILD_BUILD_USER: 'uaccel',
    KBUILD_BUILD_HOST: 'lab',
  }
}
