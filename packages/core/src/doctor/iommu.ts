import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { bindCommands, loadCommands } from '../pci/bind-plan.js'
import {
  linkName,
  type MachinePaths,
  namesIn,
  noIommuMode,
  noIommuParameter,
  readText,
} from '../pci/machine.js'
import { afterUses, usesOf } from '../pci/uses.js'
import type { Check, DeviceContext, Finding, Fix, MachineContext } from './check.js'

/** True where the kernel has put devices into groups that an IOMMU keeps apart: those of no-IOMMU VFIO are none. */
export function hasIommu(paths: MachinePaths): boolean {
  return iommuNames(paths).length > 0
}

const iommuNames = ({ sysfs }: MachinePaths) => namesIn(join(sysfs, 'class/iommu')).sort()

/** Bits 21:16 of the capability register are the width less 1 (Intel VT-d 4.1, 11.4.2, MGAW). */
function addressBits(name: string, { sysfs }: MachinePaths): number | undefined {
  const text = readText(join(sysfs, 'class/iommu', name, 'intel-iommu/cap'))
  if (text === undefined || !/^[0-9a-f]{1,16}$/i.test(text)) return undefined
  return Number((BigInt(`0x${text}`) >> 16n) & 0x3fn) + 1
}

/** ACPI tables that describe an IOMMU: Intel's, AMD's, and that of virtual machines (Linux drivers/acpi/viot.c). */
const tables = ['DMAR', 'IVRS', 'VIOT']

export const iommu: Check<MachineContext> = {
  id: 'iommu',
  title: 'IOMMU',
  run({ paths }) {
    const names = iommuNames(paths)
    const groups = namesIn(join(paths.sysfs, 'kernel/iommu_groups'))
    if (names.length > 0 && groups.length > 0) {
      const bits = [...new Set(names.flatMap((name) => addressBits(name, paths) ?? []))]
      const width = bits.length === 0 ? '' : `, addresses of ${bits.join(' or ')} bits`
      return { status: 'ok', found: `${names.join(', ')}: ${groups.length} groups${width}` }
    }
    if (noIommuMode(paths)) {
      return {
        status: 'warning',
        found: "no IOMMU; the kernel's unsafe no-IOMMU mode is on",
        cause:
          'a device can reach all memory of the machine, and drivers open one only when told so (`allowNoIommu`)',
      }
    }
    if (namesIn(join(paths.sysfs, 'bus/pci/drivers/uio_pci_generic')).some((name) => name.includes(':'))) {
      return {
        status: 'warning',
        found: 'none; devices are given to programs through UIO',
        cause:
          'they can reach all memory of the machine, and drivers open one only when told so (`allowNoIommu`)',
      }
    }
    return absent(paths)
  },
}

function absent(paths: MachinePaths): Finding {
  const commandLine = readText(join(paths.proc, 'cmdline')) ?? ''
  const vendor = /^vendor_id\s*:\s*(\S+)/m.exec(readText(join(paths.proc, 'cpuinfo')) ?? '')?.[1]
  const table = tables.find((name) => existsSync(join(paths.sysfs, 'firmware/acpi/tables', name)))
  const off = commandLine.split(/\s+/).find((word) => /^(intel_iommu|amd_iommu|iommu)=(.*,)?off\b/.test(word))
  const intel = vendor === 'GenuineIntel' || table === 'DMAR'
  const name = intel ? 'VT-d' : vendor === 'AuthenticAMD' ? 'AMD-Vi (IOMMU)' : 'the IOMMU'
  const firmware: Fix = {
    what: `switch ${name} on in the setup of the firmware; give a virtual machine a virtual IOMMU`,
    commands: [],
    reboot: true,
  }
  const fixes =
    off !== undefined
      ? [bootWithout(off)]
      : table === undefined
        ? [firmware, ...(intel ? [bootWith('intel_iommu=on')] : [])]
        : [bootWith(intel ? 'intel_iommu=on' : 'iommu=pt')]
  const found =
    off !== undefined
      ? `none: the kernel was booted with ${off}`
      : table === undefined
        ? 'none: the firmware describes no IOMMU (no DMAR, IVRS or VIOT table)'
        : `none: the firmware describes one (table ${table}), and the kernel does not use it`
  return {
    status: 'failed',
    found,
    cause: 'VFIO gives a device to a program only behind an IOMMU, which keeps it out of all other memory',
    fixes: [...fixes, withoutIommu(paths)],
  }
}

/** What does without an IOMMU, on this kernel: distributions leave no-IOMMU VFIO out (Debian's 6.1 does). */
function withoutIommu({ sysfs }: MachinePaths): Fix {
  const loaded = existsSync(join(sysfs, 'module/vfio'))
  if (loaded && !existsSync(join(sysfs, noIommuParameter))) {
    return {
      what:
        'or do without: a device on UIO can read and write all memory of the machine ' +
        '(`uaccel bind ADDRESS --driver uio_pci_generic`)',
      commands: loadCommands('uio_pci_generic', sysfs),
      unsafe: true,
    }
  }
  return {
    what: 'or do without: the device can then read and write all memory of the machine, until the next boot',
    commands: [...(loaded ? [] : ['modprobe vfio']), `echo 1 > /sys/${noIommuParameter}`],
    unsafe: true,
  }
}

/** The files by which distributions' boot loaders are known, and what sets and takes away a word. */
const bootLoaders = [
  {
    file: '/usr/sbin/grubby',
    add: (word: string) => [`grubby --update-kernel=ALL --args=${word}`],
    remove: (word: string) => [`grubby --update-kernel=ALL --remove-args=${word}`],
  },
  {
    file: '/etc/default/grub',
    add: (word: string) => [`sed -i 's/^GRUB_CMDLINE_LINUX="/&${word} /' /etc/default/grub`, 'update-grub'],
    remove: (word: string) => [
      `sed -i '/^GRUB_CMDLINE_LINUX/s/\\b${word} \\?//' /etc/default/grub`,
      'update-grub',
    ],
  },
]

const bootLoader = () => bootLoaders.find(({ file }) => existsSync(file))

const bootWith = (word: string): Fix => ({
  what: `boot the kernel with ${word}`,
  commands: bootLoader()?.add(word) ?? [],
  reboot: true,
})

const bootWithout = (word: string): Fix => ({
  what: `boot the kernel without ${word}`,
  commands: bootLoader()?.remove(word) ?? [],
  reboot: true,
})

/**
 * Type 1 and iommufd refuse devices whose interrupts are not remapped: a device could write any interrupt to a
 * processor (vfio_iommu_type1_attach_group, iommufd_device_bind: EPERM).
 */
export const interruptRemapping: Check<MachineContext> = {
  id: 'interrupt-remapping',
  title: 'Interrupt remapping',
  run({ paths }) {
    if (!hasIommu(paths)) return { status: 'ok', found: 'needed with an IOMMU only' }
    const interrupts = readText(join(paths.proc, 'interrupts'))
    if (interrupts === undefined)
      return { status: 'unknown', found: `${paths.proc}/interrupts cannot be read` }
    // names of interrupt chips that are remapped begin so (arch/x86/kernel/apic, drivers/iommu)
    if (/\sIR-/.test(interrupts)) return { status: 'ok', found: 'on' }
    const allowed = ['vfio_iommu_type1', 'iommufd'].filter(
      (module) => readText(join(paths.sysfs, 'module', module, 'parameters/allow_unsafe_interrupts')) === 'Y',
    )
    if (allowed.length > 0) {
      return {
        status: 'warning',
        found: `off, and allowed for ${allowed.join(' and ')}`,
        cause: whyRemapping,
      }
    }
    return {
      status: 'failed',
      found: 'off: no interrupt of this machine is remapped',
      cause: whyRemapping,
      fixes: [
        { what: 'switch interrupt remapping (x2APIC) on in the firmware', commands: [], reboot: true },
        {
          what: 'or do without, where only trusted programs get devices, until the next boot',
          commands: ['vfio_iommu_type1', 'iommufd']
            .map((module) => `module/${module}/parameters/allow_unsafe_interrupts`)
            .filter((path) => existsSync(join(paths.sysfs, path)))
            .map((path) => `echo 1 > /sys/${path}`),
          unsafe: true,
        },
      ],
    }
  },
}

const whyRemapping =
  'a device can raise any interrupt of the machine, so that the kernel gives none to programs'

export const deviceIommu: Check<DeviceContext> = {
  id: 'iommu-group',
  title: 'IOMMU of the device',
  run({ device, paths }) {
    const name = linkName(join(paths.sysfs, 'bus/pci/devices', device.bdf, 'iommu'))
    const group = device.iommuGroup
    if (name !== undefined && group !== undefined) {
      const bits = addressBits(name, paths)
      const width = bits === undefined ? '' : `, I/O addresses of ${bits} bits`
      return { status: 'ok', found: `${name}, group ${group.id}${width}` }
    }
    if (noIommuMode(paths)) {
      return {
        status: 'warning',
        found: 'none; no-IOMMU mode is on',
        cause: 'the device can reach all memory',
      }
    }
    if (device.driver === 'uio_pci_generic') {
      return { status: 'warning', found: 'none; the device is on UIO', cause: 'it can reach all memory' }
    }
    return {
      status: 'failed',
      found: hasIommu(paths)
        ? 'none: the machine has an IOMMU, and this device does not stand behind it'
        : 'none: see IOMMU',
      cause: 'the driver vfio-pci takes no such device',
      fixes: [
        {
          what: 'do without, through UIO: it can then read and write all memory of the machine',
          commands: afterUses(usesOf(device, paths), bindCommands(device, 'uio_pci_generic', paths.sysfs)),
          unsafe: true,
        },
      ],
    }
  },
}
