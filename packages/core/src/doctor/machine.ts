import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readMemlock } from '@uaccel/memory'
import { sys } from '@uaccel/sys'
import { isAccelError } from '@uaccel/uapi'
import { namesIn, readText } from '../pci/machine.js'
import { userName } from '../pci/user.js'
import type { Check, MachineContext } from './check.js'
import { hasIommu, interruptRemapping, iommu } from './iommu.js'

const platform: Check<MachineContext> = {
  id: 'platform',
  title: 'Platform',
  run() {
    const found = `${process.platform} ${process.arch}, Node ${process.versions.node}`
    try {
      return { status: 'ok', found: `${found}, native calls through ${sys.provider.name}` }
    } catch (error) {
      return {
        status: 'failed',
        found,
        cause: isAccelError(error) ? error.message : `native calls do not work: ${String(error)}`,
      }
    }
  },
}

const drivers: Check<MachineContext> = {
  id: 'vfio',
  title: 'VFIO',
  run({ paths }) {
    const has = (path: string) => existsSync(join(paths.sysfs, path))
    const type1 = has('module/vfio_iommu_type1')
    const iommufd = existsSync(join(paths.devfs, 'iommu'))
    const missing = [
      ...(has('bus/pci/drivers/vfio-pci') ? [] : ['vfio-pci']),
      ...(type1 || iommufd || !hasIommu(paths) ? [] : ['vfio_iommu_type1']),
    ]
    const ways = [...(type1 ? ['type 1'] : []), ...(iommufd ? ['iommufd'] : [])]
    if (missing.length === 0)
      return { status: 'ok', found: `vfio-pci${ways.length === 0 ? '' : `, ${ways.join(', ')}`}` }
    const lacking = missing.filter((name) => !offered(name))
    if (lacking.length > 0) {
      return {
        status: 'failed',
        found: `the kernel has no ${lacking.join(' and ')}, neither loaded nor as a module`,
        cause: 'it gives no device to programs',
        fixes: [
          {
            what: 'take a kernel with CONFIG_VFIO_PCI and CONFIG_VFIO_IOMMU_TYPE1',
            commands: [],
            reboot: true,
          },
        ],
      }
    }
    return {
      status: 'failed',
      found: `${missing.join(' and ')} ${missing.length === 1 ? 'is' : 'are'} not loaded`,
      cause: 'without, the kernel gives no device to programs',
      fixes: [
        { what: 'load now', commands: missing.map((name) => `modprobe ${name}`) },
        {
          what: 'and at each boot',
          commands: missing.map((name) => `echo ${name} > /etc/modules-load.d/${name}.conf`),
          reboot: true,
        },
      ],
    }
  },
}

/** False where the running kernel surely has no such module. */
function offered(name: string): boolean {
  const release = readText('/proc/sys/kernel/osrelease')
  const list = release === undefined ? undefined : readText(`/lib/modules/${release}/modules.dep`)
  return list === undefined || new RegExp(`/${name.replaceAll(/[-_]/g, '[-_]')}\\.ko`).test(list)
}

const lockdown: Check<MachineContext> = {
  id: 'lockdown',
  title: 'Kernel lockdown',
  run({ paths }) {
    const mode =
      /\[(\w+)\]/.exec(readText(join(paths.sysfs, 'kernel/security/lockdown')) ?? '')?.[1] ?? 'none'
    if (mode === 'none' || hasIommu(paths))
      return {
        status: 'ok',
        found: mode === 'none' ? 'off' : `${mode}; VFIO behind an IOMMU is not touched by it`,
      }
    return {
      status: 'failed',
      found: mode,
      cause:
        'without an IOMMU a program reaches a device only in ways that lockdown forbids (no-IOMMU VFIO, UIO)',
      fixes: [
        {
          what: 'switch Secure Boot off in the firmware, which switches lockdown on',
          commands: [],
          reboot: true,
        },
      ],
    }
  },
}

/** One arena of DMA memory: what a driver maps at the least for its queues. Smaller ones are made where it cannot, as long as they suffice. */
const arenaBytes = 2 << 20
/** Below this, models and blocks of usual size do not fit. */
const comfortableBytes = 64 << 20

const memlock: Check<MachineContext> = {
  id: 'memlock',
  title: 'Locked memory',
  run() {
    const { limitBytes, exempt } = readMemlock()
    if (exempt) return { status: 'ok', found: 'no limit for this user (CAP_IPC_LOCK)' }
    if (limitBytes >= comfortableBytes) return { status: 'ok', found: `up to ${size(limitBytes)}` }
    return {
      status: limitBytes < arenaBytes ? 'failed' : 'warning',
      found: `up to ${size(limitBytes)}`,
      cause: "memory that a device reaches is locked, and a driver's queues and buffers must fit this limit",
      fixes: [
        {
          what: 'in the shell that started this',
          commands: [`prlimit --memlock=unlimited --pid ${shellPid()}`],
        },
        {
          what: `for each later login of ${userName()}`,
          commands: [`echo '${userName()} - memlock unlimited' > /etc/security/limits.d/90-uaccel.conf`],
        },
        { what: 'for a service of systemd, add LimitMEMLOCK=infinity to its unit', commands: [] },
      ],
    }
  },
}

/**
 * The shell whose command this is: an interactive shell makes each command a process group, whose leader is its child,
 * `npx` or this process. Where that is not a process of this user, the parent.
 */
function shellPid(): number {
  try {
    // pid (comm) state ppid pgrp (proc(5)); comm may hold anything
    const stat = (pid: number | string) =>
      readFileSync(`/proc/${pid}/stat`, 'latin1')
        .replace(/^.*\) \S /s, '')
        .split(' ')
    const shell = Number(stat(Number(stat('self')[1]))[0])
    const uid = /^Uid:\s+(\d+)/m.exec(readText(`/proc/${shell}/status`) ?? '')?.[1]
    if (shell > 1 && uid === String(process.getuid?.())) return shell
  } catch {
    // its leader has ended
  }
  return process.ppid
}

const hugepages: Check<MachineContext> = {
  id: 'hugepages',
  title: 'Huge pages',
  run({ paths }) {
    const folder = join(paths.sysfs, 'kernel/mm/hugepages')
    const pools = namesIn(folder)
      .sort()
      .map((name) => ({
        size: Number(/^hugepages-(\d+)kB$/.exec(name)?.[1] ?? 0) * 1024,
        free: Number(readText(join(folder, name, 'free_hugepages')) ?? 0),
      }))
    const free = pools.filter((pool) => pool.free > 0).map((pool) => `${pool.free} of ${size(pool.size)}`)
    const found = free.length === 0 ? 'none free' : `free: ${free.join(', ')}`
    if (hasIommu(paths)) return { status: 'ok', found: `${found}; not needed with an IOMMU` }
    if (free.length > 0) return { status: 'ok', found }
    return {
      status: 'warning',
      found,
      cause: 'without an IOMMU, DMA needs memory that is contiguous; a driver without DMA does not',
      fixes: [
        { what: 'reserve 128 MiB, until the next boot', commands: ['echo 64 > /proc/sys/vm/nr_hugepages'] },
      ],
    }
  },
}

function size(bytes: number): string {
  if (bytes === Number.POSITIVE_INFINITY) return 'any size'
  return bytes >= 1 << 30
    ? `${+(bytes / (1 << 30)).toFixed(1)} GiB`
    : bytes >= 1 << 20
      ? `${+(bytes / (1 << 20)).toFixed(1)} MiB`
      : `${Math.floor(bytes / 1024)} KiB`
}

/** What concerns every device. */
export const machineChecks: readonly Check<MachineContext>[] = [
  platform,
  iommu,
  interruptRemapping,
  drivers,
  lockdown,
  memlock,
  hugepages,
]
