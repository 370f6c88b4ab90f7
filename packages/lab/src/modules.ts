import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { AccelError } from '@uaccel/uapi'

/** A kernel module, unpacked, as the guest loads it. */
export interface KernelModule {
  name: string
  data: Buffer
}

/** What the guest loads where the kernel has these as modules. */
export const labModules = {
  required: [
    'virtio_pci',
    'virtio_console',
    '9pnet_virtio',
    '9p',
    'overlay',
    'vfio_pci',
    'vfio_iommu_type1',
    'uio_pci_generic',
  ],
  optional: ['virtio_rng', 'iommufd', 'udmabuf', 'cuse', 'uio_pdrv_genirq', 'uio_mf624'],
} as const

/** `vfio-pci` and `vfio_pci` are one module. */
export const moduleName = (text: string): string => text.replaceAll('-', '_')

/**
 * Orders modules so that each comes after what it depends on.
 * @param wanted names to load
 * @param dependencies what one module needs, `undefined` where there is no such module to load
 */
export async function loadOrder(
  wanted: readonly string[],
  dependencies: (name: string) => Promise<readonly string[] | undefined>,
): Promise<string[]> {
  const order: string[] = []
  const visited = new Set<string>()
  async function visit(name: string): Promise<void> {
    if (visited.has(name)) return // also ends a cycle, which a kernel's own build does not produce
    visited.add(name)
    const needed = await dependencies(name)
    if (needed === undefined) return
    for (const each of needed) await visit(each)
    order.push(name)
  }
  for (const name of wanted) await visit(moduleName(name))
  return order
}

/** Tags of a module's `.modinfo` section: NUL-separated `key=value` (Linux include/linux/moduleparam.h). */
export function moduleInfo(module: Buffer): { depends: string[]; softdepPre: string[] } {
  const info = elfSection(module, '.modinfo')?.toString('latin1').split('\0') ?? []
  const values = (key: string) =>
    info.filter((tag) => tag.startsWith(`${key}=`)).map((tag) => tag.slice(key.length + 1))
  const words = (text: string, by: RegExp) => text.split(by).filter(Boolean).map(moduleName)
  return {
    depends: values('depends').flatMap((value) => words(value, /,/)),
    softdepPre: values('softdep').flatMap((value) =>
      words(/\bpre:\s*([^:]*?)(?:\s*\bpost:|$)/.exec(value)?.[1] ?? '', /\s+/),
    ),
  }
}

/** A section of a 64-bit little-endian ELF file by its name (System V ABI, "Sections"). */
function elfSection(elf: Buffer, wanted: string): Buffer | undefined {
  if (elf.length < 64 || elf.readUInt32BE(0) !== 0x7f454c46 || elf[4] !== 2 || elf[5] !== 1) return undefined
  const headers = Number(elf.readBigUInt64LE(0x28)) // e_shoff
  const entrySize = elf.readUInt16LE(0x3a) // e_shentsize
  const count = elf.readUInt16LE(0x3c) // e_shnum
  const section = (index: number) => {
    const at = headers + index * entrySize
    return {
      name: elf.readUInt32LE(at), // sh_name
      offset: Number(elf.readBigUInt64LE(at + 0x18)), // sh_offset
      size: Number(elf.readBigUInt64LE(at + 0x20)), // sh_size
    }
  }
  const names = section(elf.readUInt16LE(0x3e)) // e_shstrndx
  for (let index = 0; index < count; index++) {
    const { name, offset, size } = section(index)
    const start = names.offset + name
    if (elf.toString('latin1', start, elf.indexOf(0, start)) === wanted) {
      return elf.subarray(offset, offset + size)
    }
  }
  return undefined
}

/** The module files of a kernel by name, and the names of what it has built in. */
async function listModules(folder: string): Promise<{ files: Map<string, string>; builtin: Set<string> }> {
  const list = await readFile(join(folder, 'modules.builtin'), 'utf8').catch(() => '')
  const builtin = new Set(list.split('\n').map((line) => moduleName(basename(line, '.ko'))))
  const files = new Map<string, string>()
  for (const file of await readdir(folder, { recursive: true })) {
    const found = /([^/]+)\.ko(\.xz|\.zst|\.gz)?$/.exec(file)
    if (found) files.set(moduleName(found[1]!), join(folder, file))
  }
  return { files, builtin }
}

/** Drivers that the lab needs and that a kernel, given by its module folder, does not have. */
export async function missingModules(folder: string): Promise<string[]> {
  const { files, builtin } = await listModules(folder)
  return labModules.required.filter((name) => !files.has(name) && !builtin.has(name))
}

/**
 * The lab's modules out of a kernel's module folder (`lib/modules/VERSION`), unpacked, in load order.
 * What the kernel has built in, or does not have, is left out.
 * @throws ERR_ACCEL_NOT_FOUND where the program that unpacks them is not there
 */
export async function collectModules(folder: string): Promise<KernelModule[]> {
  const { files } = await listModules(folder)
  const unpacked = new Map<string, Buffer>()
  const order = await loadOrder([...labModules.required, ...labModules.optional], async (name) => {
    const file = files.get(name)
    if (file === undefined) return undefined
    const data = await unpack(file)
    unpacked.set(name, data)
    const info = moduleInfo(data)
    return [...info.softdepPre, ...info.depends]
  })
  return order.map((name) => ({ name, data: unpacked.get(name)! }))
}

const decompressors: Readonly<Record<string, string>> = { '.xz': 'xz', '.zst': 'zstd' }

/** A module file without its compression; xz and zstd are done by the programs of that name. */
async function unpack(file: string): Promise<Buffer> {
  if (file.endsWith('.gz')) return promisify(gunzip)(await readFile(file))
  const program = decompressors[/\.[^.]+$/.exec(file)![0]]
  if (program === undefined) return readFile(file)
  try {
    const limits = { encoding: 'buffer', maxBuffer: 1 << 28 } as const
    return (await promisify(execFile)(program, ['-dc', file], limits)).stdout
  } catch (cause) {
    throw new AccelError(
      'ERR_ACCEL_NOT_FOUND',
      `${file} could not be unpacked: '${program}' is needed for it`,
      {
        cause,
      },
    )
  }
}
