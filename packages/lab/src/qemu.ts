import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { AccelError, isAccelError } from '@uaccel/uapi'
import { aptDistribution, newestDebian, openReleaseApt } from './apt.js'
import { cached, cacheFolder } from './cache.js'
import { run } from './child.js'
import { readable, which } from './files.js'
import type { OnProgress } from './progress.js'

/** A QEMU that can be started. */
export interface LabQemu {
  /** The program itself. */
  path: string
  /** The program with what must precede its own arguments. */
  command: readonly string[]
  env: Readonly<Record<string, string>>
  /** Where it comes from: `UACCEL_LAB_QEMU`, `PATH` or `cache`. */
  source: string
}

export interface FetchOptions {
  onProgress?: OnProgress | undefined
  signal?: AbortSignal | undefined
}

/** The machine's own. */
export async function machineQemu(): Promise<LabQemu | undefined> {
  const named = process.env.UACCEL_LAB_QEMU
  if (named) {
    if (await readable(named)) return { path: named, command: [named], env: {}, source: 'UACCEL_LAB_QEMU' }
    throw new AccelError('ERR_ACCEL_NOT_FOUND', `UACCEL_LAB_QEMU names '${named}', which cannot be read`)
  }
  const path = await which('qemu-system-x86_64')
  return path === undefined ? undefined : { path, command: [path], env: {}, source: 'PATH' }
}

const libraryFolder = 'lib/x86_64-linux-gnu'

/** An unpacked QEMU is started by the loader it was unpacked with, and told where everything lies. */
export function cachedQemu(root: string): LabQemu | undefined {
  const program = join(root, 'usr/bin/qemu-system-x86_64')
  const libraries = [join(root, libraryFolder), join(root, 'usr', libraryFolder)]
  const loader = libraries
    .map((folder) => join(folder, 'ld-linux-x86-64.so.2'))
    .find((path) => existsSync(path))
  if (loader === undefined || !existsSync(program)) return undefined
  const firmware = ['usr/share/qemu', 'usr/share/seabios', 'usr/lib/ipxe/qemu'].map((path) =>
    join(root, path),
  )
  // Libraries in folders of their own (pulseaudio's, for one) are found where the package lists them.
  const libraryPath = [...libraries, join(root, 'usr', libraryFolder, 'pulseaudio')].join(':')
  return {
    path: program,
    command: [loader, '--library-path', libraryPath, program, ...firmware.flatMap((path) => ['-L', path])],
    env: { QEMU_MODULE_DIR: join(root, 'usr', libraryFolder, 'qemu') },
    source: 'cache',
  }
}

/** The first with vfio-user-pci (QEMU's docs/system/devices/vfio-user.rst). */
const vfioUserVersion = [10, 1] as const

const versions = new Map<string, Promise<string>>()

/** Its version, such as `11.1.2`; empty where it does not tell. */
export function qemuVersion({ command, env, path }: LabQemu): Promise<string> {
  let version = versions.get(path)
  if (!version) {
    version = run([...command, '--version'], { env: { ...process.env, ...env } }).then(
      (text) => /^QEMU emulator version ([\d.]+)/.exec(text)?.[1] ?? '',
      () => '',
    )
    versions.set(path, version)
  }
  return version
}

/** By its version: where it loads modules of another one, it cannot list its devices. */
export async function hasVfioUser(qemu: LabQemu): Promise<boolean> {
  const [major = 0, minor = 0] = (await qemuVersion(qemu)).split('.').map(Number)
  return major > vfioUserVersion[0] || (major === vfioUserVersion[0] && minor >= vfioUserVersion[1])
}

const vfioUserFolder = () => join(cacheFolder(), `debian-${newestDebian}-qemu`)

/** The one that {@link fetchQemu} fetched. */
export const fetchedQemu = (): LabQemu | undefined => cachedQemu(vfioUserFolder())

/** What QEMU loads for screens, sound, smart cards and passwords only, and what needs a running system. */
const notNeeded =
  /^(systemd|libsystemd-shared|openssl-provider-legacy|libc-gconv-modules-extra|gcc-\d+-base|libasound2.*|libsasl2-modules-db|libdb5.*|libnss3|libnspr4|libsqlite3-0|libcacard0|libpcsclite1|libbrlapi.*|libexecs1|libncursesw6|libtinfo6|libusb.*)$/

/** What helps where there is no QEMU with vfio-user-pci. */
export const vfioUserMissing = `qemu-system-x86_64 of version ${vfioUserVersion.join('.')} or later (package qemu-system-x86), or one named in UACCEL_LAB_QEMU, for vfio-user devices; on Debian 'uaccel lab fetch-qemu' fetches it`

/**
 * Fetches a QEMU that has vfio-user-pci into the cache, if it is not there yet: Debian's newest, whatever the
 * machine's own release is. 30 MB of downloads, 150 MB of disk; nothing is installed.
 * @throws ERR_ACCEL_NOT_FOUND where this is not Debian, or with what went wrong as its cause; ERR_ACCEL_ABORTED
 */
export async function fetchQemu(options: FetchOptions = {}): Promise<LabQemu> {
  const missing = (why: string, cause?: unknown) =>
    new AccelError('ERR_ACCEL_NOT_FOUND', `the lab lacks ${vfioUserMissing}; ${why}`, { cause })
  const { id } = await aptDistribution()
  if (id !== 'debian') throw missing(`this is ${id}`)
  try {
    const folder = await cached(basename(vfioUserFolder()), async (result, work) => {
      const apt = await openReleaseApt(work, { ...options, release: newestDebian })
      const packages = (await apt.closure(['qemu-system-x86'])).filter((name) => !notNeeded.test(name))
      await apt.unpack(packages, result, options.onProgress)
      const { command, env } = cachedQemu(result)!
      await run([...command, '--version'], { env: { ...process.env, ...env } }) // that nothing is lacking
    })
    return cachedQemu(folder)!
  } catch (cause) {
    if (isAccelError(cause, 'ERR_ACCEL_ABORTED')) throw cause
    throw missing(`that failed here: ${(cause as Error).message}`, cause)
  }
}
