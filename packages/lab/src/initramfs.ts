import { readFile } from 'node:fs/promises'
import { type CpioEntry, packCpio } from './cpio.js'
import { collectModules } from './modules.js'
import type { LabTools } from './tools.js'

/** The programs of busybox that the guest's init uses. */
const applets = [
  ...[
    'sh',
    'mount',
    'mkdir',
    'chmod',
    'cp',
    'mkfifo',
    'readlink',
    'cat',
    'sleep',
    'poweroff',
    'insmod',
    'hostname',
    'ip',
  ],
  ...['chroot', 'dd', 'kill', 'echo'],
] as const

const folders = ['bin', 'dev', 'host', 'lab', 'modules', 'proc', 'scratch', 'sys'] as const

/** What the guest is to do. */
export interface GuestTask {
  command: readonly string[]
  cwd: string
  env: Readonly<Record<string, string>>
  devices: readonly { name: string; bdf: string }[]
  /** Whether the devices go to vfio-pci. */
  bind: boolean
  /** Huge pages that the kernel was told to set aside. */
  hugepages: number
  /** Ends each stream of output. */
  mark: string
}

/** A word as a POSIX shell reads it back unchanged. */
export const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

/** The script that becomes COMMAND. Names that a shell cannot export are left out, as a shell does. */
export function commandScript({ command, cwd, env }: GuestTask): string {
  const exports = Object.entries(env)
    .filter(([name]) => /^[A-Za-z_]\w*$/.test(name))
    .map(([name, value]) => `export ${name}=${quote(value)}\n`)
  return `${exports.join('')}cd ${quote(cwd)} || exit 126\nexec ${command.map(quote).join(' ')}\n`
}

/** Packs the guest's first file system: busybox, the init, the kernel's modules and the task. */
export async function buildInitramfs(tools: LabTools, task: GuestTask): Promise<Buffer> {
  const { modulesFolder } = tools.kernel
  const modules = modulesFolder === undefined ? [] : await collectModules(modulesFolder)
  const config = [
    `MODULES=${quote(modules.map(({ name }) => `${name}.ko`).join(' '))}`,
    `MARK=${quote(task.mark)}`,
    `BIND=${task.bind ? 'yes' : ''}`,
    `HUGEPAGES=${task.hugepages}`,
    `DEVICES=${quote(task.devices.map(({ name, bdf }) => `${name}=${bdf}`).join(' '))}`,
  ]
  const entries: CpioEntry[] = [
    ...folders.map((path) => ({ path, kind: 'directory' as const })),
    { path: 'dev/console', kind: 'device', major: 5, minor: 1 }, // Linux Documentation/admin-guide/devices.txt
    { path: 'bin/busybox', kind: 'file', data: await readFile(tools.busyboxPath), mode: 0o755 },
    ...applets.map((name) => ({ path: `bin/${name}`, kind: 'symlink' as const, target: 'busybox' })),
    {
      path: 'init',
      kind: 'file',
      data: await readFile(new URL('../guest/init', import.meta.url)),
      mode: 0o755,
    },
    { path: 'lab/config', kind: 'file', data: Buffer.from(`${config.join('\n')}\n`) },
    { path: 'lab/command', kind: 'file', data: Buffer.from(commandScript(task)) },
    ...modules.map(({ name, data }) => ({ path: `modules/${name}.ko`, kind: 'file' as const, data })),
  ]
  return packCpio(entries)
}
