import { existsSync } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AccelError } from '@uaccel/uapi'
import { aptDistribution, openReleaseApt } from './apt.js'
import { cached, cacheFolder } from './cache.js'
import { readable, which } from './files.js'
import { missingModules } from './modules.js'
import {
  cachedQemu,
  type FetchOptions,
  fetchedQemu,
  fetchQemu,
  hasVfioUser,
  type LabQemu,
  machineQemu,
  qemuVersion,
  vfioUserMissing,
} from './qemu.js'

/** A kernel that the guest can boot. */
export interface LabKernel {
  image: string
  /** Its `lib/modules/VERSION`. Absent where all drivers are built in. */
  modulesFolder?: string
  /** Where it comes from: `UACCEL_LAB_KERNEL`, `built`, `machine` or `cache`. */
  source: string
}

/** All that the lab needs. */
export interface LabTools {
  qemu: LabQemu
  /** A busybox without shared libraries: the guest's first programs. */
  busyboxPath: string
  kernel: LabKernel
}

/** What was found of it. */
export interface LabFindings extends Partial<LabTools> {
  /** A QEMU with vfio-user-pci, and its version. It may be the same one as `qemu`. */
  vfioUserQemu?: LabQemu & { version: string }
  /** What is not there, and what would help: one sentence each. */
  missing: readonly string[]
  /** Whether this system can fetch what is missing by itself. */
  canFetch: boolean
  cacheFolder: string
}

export interface PrepareOptions extends FetchOptions {
  /** Kernel image with all drivers built in; the environment's UACCEL_LAB_KERNEL by default. */
  kernel?: string | undefined
  /** Whether QEMU must have vfio-user-pci, for devices that are vfio-user servers. */
  vfioUser?: boolean | undefined
}

/** Looks, changes nothing. */
export async function findLab(
  options: Pick<PrepareOptions, 'kernel' | 'vfioUser'> = {},
): Promise<LabFindings> {
  const distribution = await aptDistribution().catch(() => undefined)
  const toolsFolder = distribution && join(cacheFolder(), `${distribution.id}-${distribution.codename}-tools`)
  const kernelFolder =
    distribution && join(cacheFolder(), `${distribution.id}-${distribution.codename}-kernel`)
  const qemu = (await machineQemu()) ?? (toolsFolder && cachedQemu(toolsFolder))
  const vfioUserQemu = qemu && (await hasVfioUser(qemu)) ? qemu : fetchedQemu()
  const busyboxPath = (await machineBusybox()) ?? (toolsFolder && (await cachedBusybox(toolsFolder)))
  const kernel =
    (await namedKernel(options.kernel)) ??
    (await builtKernel()) ??
    (await stockKernel('/', 'machine')) ??
    (kernelFolder && (await stockKernel(kernelFolder, 'cache')))
  const missing: string[] = []
  if (!(await which('setpriv'))) missing.push('setpriv (package util-linux): ties QEMU to this process')
  if (options.vfioUser && !vfioUserQemu) missing.push(vfioUserMissing)
  if (!qemu && !options.vfioUser)
    missing.push('qemu-system-x86_64 (package qemu-system-x86): emulates the machine')
  if (!busyboxPath)
    missing.push("a busybox without shared libraries (package busybox-static): the guest's first programs")
  if (!kernel) {
    missing.push(
      "a kernel with its modules (packages linux-image-amd64, linux-image-generic), readable in /boot; or one named in UACCEL_LAB_KERNEL; or one from 'uaccel lab build-kernel'",
    )
  }
  return {
    ...(qemu && { qemu }),
    ...(vfioUserQemu && { vfioUserQemu: { ...vfioUserQemu, version: await qemuVersion(vfioUserQemu) } }),
    ...(busyboxPath && { busyboxPath }),
    ...(kernel && { kernel }),
    missing,
    canFetch: distribution !== undefined,
    cacheFolder: cacheFolder(),
  }
}

/**
 * Finds what the lab needs, and on Debian and Ubuntu fetches what is missing into the cache: nothing is
 * installed, no root is needed.
 * @throws ERR_ACCEL_UNSUPPORTED off Linux on x86-64, ERR_ACCEL_NOT_FOUND naming what is missing where it cannot
 * be fetched, ERR_ACCEL_SYSTEM with what apt said
 */
export async function prepareLab(options: PrepareOptions = {}): Promise<LabTools> {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new AccelError(
      'ERR_ACCEL_UNSUPPORTED',
      `the lab runs on Linux on x86-64; this is ${process.platform} on ${process.arch}`,
    )
  }
  let found = await findLab(options)
  if (found.missing.length > 0 && found.canFetch) {
    if (options.vfioUser && !found.vfioUserQemu) await fetchQemu(options)
    if ((!found.qemu && !options.vfioUser) || !found.busyboxPath) await fetchTools(options)
    if (!found.kernel) await fetchKernel(options)
    found = await findLab(options)
  }
  return demandTools(found, options)
}

/**
 * The tools of complete findings.
 * @throws ERR_ACCEL_NOT_FOUND naming what is missing
 */
export function demandTools(found: LabFindings, options: Pick<PrepareOptions, 'vfioUser'> = {}): LabTools {
  const { busyboxPath, kernel, missing, canFetch } = found
  const qemu = options.vfioUser ? found.vfioUserQemu : found.qemu
  if (qemu && busyboxPath && kernel && missing.length === 0) return { qemu, busyboxPath, kernel }
  const hint = canFetch ? '' : ' By itself it fetches QEMU, busybox and a kernel on Debian and Ubuntu only.'
  throw new AccelError(
    'ERR_ACCEL_NOT_FOUND',
    `the lab lacks what follows: install it and try again.${hint}\n${missing.map((line) => `- ${line}`).join('\n')}`,
    { details: { missing } },
  )
}

/** The findings in lines for a person: what was found where, and what is missing. */
export function describeLab(found: LabFindings): string[] {
  const { qemu, vfioUserQemu, busyboxPath, kernel } = found
  return [
    ...(qemu ? [`qemu       ${qemu.path} (${qemu.source})`] : []),
    vfioUserQemu
      ? `vfio-user  QEMU ${vfioUserQemu.version}, ${vfioUserQemu.path} (${vfioUserQemu.source})`
      : `vfio-user  none: needs ${vfioUserMissing}`,
    ...(busyboxPath ? [`busybox    ${busyboxPath}`] : []),
    ...(kernel
      ? [`kernel     ${kernel.image} (${kernel.source}${kernel.modulesFolder ? ', with modules' : ''})`]
      : []),
    `cache      ${found.cacheFolder}`,
    ...found.missing.map((line) => `missing    ${line}`),
    ...(found.missing.length > 0 && found.canFetch
      ? ['           (fetched into the cache at the first run)']
      : []),
  ]
}

async function machineBusybox(): Promise<string | undefined> {
  const path = await which('busybox')
  return path !== undefined && (await isStatic(path)) ? path : undefined
}

async function cachedBusybox(root: string): Promise<string | undefined> {
  const path = ['bin/busybox', 'usr/bin/busybox']
    .map((name) => join(root, name))
    .find((each) => existsSync(each))
  return path
}

/** True for an ELF program that asks for no loader: without a PT_INTERP segment (elf(5)). */
async function isStatic(path: string): Promise<boolean> {
  const file = await open(path)
  try {
    const head = Buffer.alloc(4096)
    const { bytesRead } = await file.read(head, 0, head.length, 0)
    if (bytesRead < 64 || head.readUInt32BE(0) !== 0x7f454c46 || head[4] !== 2) return false
    const at = Number(head.readBigUInt64LE(0x20)) // e_phoff
    const size = head.readUInt16LE(0x36) // e_phentsize
    const count = head.readUInt16LE(0x38) // e_phnum
    for (let index = 0; index < count; index++) {
      if (at + index * size + 4 > bytesRead) return false
      if (head.readUInt32LE(at + index * size) === 3) return false // PT_INTERP
    }
    return true
  } finally {
    await file.close()
  }
}

async function namedKernel(image = process.env.UACCEL_LAB_KERNEL): Promise<LabKernel | undefined> {
  if (!image) return undefined
  if (await readable(image)) return { image, source: 'UACCEL_LAB_KERNEL' }
  throw new AccelError('ERR_ACCEL_NOT_FOUND', `the lab's kernel '${image}' cannot be read`)
}

/** Versions in their own order: 6.10 after 6.9. */
export const byVersion = (a: string, b: string): number => a.localeCompare(b, 'en', { numeric: true })

/** The newest that `buildKernel` made. */
async function builtKernel(): Promise<LabKernel | undefined> {
  const built = (await readdir(cacheFolder()).catch(() => [])).filter((name) => name.startsWith('built-'))
  const newest = built.sort(byVersion).at(-1)
  return newest === undefined ? undefined : { image: join(cacheFolder(), newest, 'bzImage'), source: 'built' }
}

/** The newest kernel of a distribution below a root that this user can read and that has what the lab needs. */
async function stockKernel(root: string, source: string): Promise<LabKernel | undefined> {
  for (const modules of [join(root, 'lib/modules'), join(root, 'usr/lib/modules')]) {
    for (const version of (await readdir(modules).catch(() => [])).sort(byVersion).reverse()) {
      const modulesFolder = join(modules, version)
      for (const image of [join(root, 'boot', `vmlinuz-${version}`), join(modulesFolder, 'vmlinuz')]) {
        if (!(await readable(image))) continue
        if ((await missingModules(modulesFolder)).length === 0) return { image, modulesFolder, source }
      }
    }
  }
  return undefined
}

async function fetchTools(options: PrepareOptions): Promise<void> {
  const { id, codename } = await aptDistribution()
  await cached(`${id}-${codename}-tools`, async (result, work) => {
    const apt = await openReleaseApt(work, options)
    const packages = await apt.closure(['qemu-system-x86', 'busybox-static'])
    await apt.unpack(packages, result, options.onProgress)
  })
}

async function fetchKernel(options: PrepareOptions): Promise<void> {
  const { id, codename } = await aptDistribution()
  await cached(`${id}-${codename}-kernel`, async (result, work) => {
    const apt = await openReleaseApt(work, options)
    const needed = await apt.closure([id === 'debian' ? 'linux-image-amd64' : 'linux-image-generic'])
    // The packages that hold files carry the version in their name; initramfs tools and firmware do not.
    const packages = needed.filter((name) => /^linux-(image|modules|binary|base)[a-z-]*-\d/.test(name))
    await apt.unpack(packages, result, options.onProgress)
  })
}
