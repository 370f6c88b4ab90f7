import { accessSync, closeSync, constants, openSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { bindCommands, unbindCommands } from '../pci/bind-plan.js'
import { decodeConfigSpace } from '../pci/decode.js'
import { describeHolder, holdersOf } from '../pci/holders.js'
import { readText } from '../pci/machine.js'
import { userNodes, vfioGroupNode } from '../pci/nodes.js'
import { readPciDevice } from '../pci/sysfs.js'
import { chownCommand, userName } from '../pci/user.js'
import { afterUses, usesOf } from '../pci/uses.js'
import { blockersOf, isVfioDriver } from '../vfio/iommu.js'
import type { Check, DeviceContext, Fix } from './check.js'
import { deviceIommu } from './iommu.js'

const folderOf = ({ device, paths }: DeviceContext) => join(paths.sysfs, 'bus/pci/devices', device.bdf)

const isUio = (driver: string | undefined) => driver === 'uio_pci_generic'

const driver: Check<DeviceContext> = {
  id: 'driver',
  title: 'Kernel driver',
  run({ device, paths }) {
    const { bdf, driver } = device
    if (driver !== undefined && isVfioDriver(driver)) return { status: 'ok', found: driver }
    if (isUio(driver)) {
      return {
        status: 'warning',
        found: 'uio_pci_generic',
        cause: 'the device can reach all memory; drivers open it only when told so',
      }
    }
    const uses = driver === undefined ? [] : usesOf(device, paths)
    const commands = afterUses(uses, bindCommands(device, 'vfio-pci', paths.sysfs))
    return {
      status: 'failed',
      found: [driver ?? 'none', ...uses.map(({ what }) => what)].join('; '),
      cause: 'a program can open a device that is bound to vfio-pci',
      fixes: [
        {
          what:
            commands.length === 0
              ? `end what uses it; \`uaccel bind ${bdf}\` binds it then`
              : `\`uaccel bind ${bdf}\` does this, and refuses a device in use`,
          commands,
        },
      ],
    }
  },
}

const viable: Check<DeviceContext> = {
  id: 'group-viable',
  title: 'Devices of its IOMMU group',
  run({ device, paths }) {
    const group = device.iommuGroup
    if (group === undefined) return { status: 'ok', found: 'no group' }
    const others = group.members.filter((bdf) => bdf !== device.bdf)
    const blockers = blockersOf(group, paths).filter(({ bdf }) => bdf !== device.bdf)
    if (blockers.length === 0)
      return {
        status: 'ok',
        found: others.length === 0 ? 'it is alone' : `${others.length} others, none in the way`,
      }
    return {
      status: 'failed',
      found: `in the hands of the kernel: ${blockers.map(({ bdf, driver }) => `${bdf} (${driver})`).join(', ')}`,
      cause:
        'the IOMMU cannot tell the devices of a group apart, so the kernel gives all or none to a program',
      fixes: [
        {
          what: `\`uaccel bind --group ${device.bdf}\` binds them too, and refuses devices in use; or just unbind them`,
          commands: blockers.flatMap((blocker) =>
            afterUses(usesOf(readPciDevice(blocker.bdf, paths), paths), unbindCommands(blocker)),
          ),
        },
      ],
    }
  },
}

const permission: Check<DeviceContext> = {
  id: 'permission',
  title: 'Rights to its nodes',
  run(context) {
    const { device, paths } = context
    const nodes = userNodes(device, paths)
    if (nodes.length === 0) return { status: 'ok', found: 'no nodes before it is bound' }
    const group = vfioGroupNode(device, paths)?.path
    const own = nodes.map(({ path }) => path).filter((path) => path !== group)
    const container = join(paths.devfs, 'vfio/vfio')
    const iommufd = join(paths.devfs, 'iommu')
    const uio = isUio(device.driver)
    const config = join(folderOf(context), 'config')
    const files = [...nodes.map(({ path }) => path), container, iommufd, ...(uio ? [config] : [])]
    const denied = new Map(files.map((path) => [path, refusal(path)]))
    const open = (paths: readonly string[]) => paths.every((path) => denied.get(path) === undefined)
    const ways = uio
      ? [[...own, config]]
      : [
          ...(group === undefined ? [] : [[group, container]]),
          ...(own.length === 0 ? [] : [[...own, iommufd]]),
        ]
    const usable = ways.filter(open)
    if (usable.length > 0)
      return { status: 'ok', found: `can open ${usable.map((way) => way[0]).join(', ')}` }
    const wanted = (ways[0] ?? own).filter((path) => denied.get(path) !== undefined)
    const other = wanted.find((path) => denied.get(path) !== 'EACCES' && denied.get(path) !== 'EPERM')
    if (other !== undefined) {
      return {
        status: 'failed',
        found: `${other} does not open: ${denied.get(other)}`,
        fixes:
          denied.get(other) === 'ENOENT' && other === container
            ? [{ what: 'load VFIO', commands: ['modprobe vfio'] }]
            : [],
      }
    }
    const found = `${userName()} may not open ${wanted.join(', ')}`
    if (uio) {
      return {
        status: 'failed',
        found,
        cause: 'behind UIO, configuration space and registers are files of sysfs, which are of root',
        fixes: [{ what: 'run the program as root', commands: [] }],
      }
    }
    // Without a group there are the device's own node and that of iommufd alone (CONFIG_VFIO_GROUP).
    const rules =
      group === undefined
        ? ['SUBSYSTEM=="vfio-dev"', 'KERNEL=="iommu", SUBSYSTEM=="misc"']
        : ['SUBSYSTEM=="vfio"']
    const subsystems = group === undefined ? ['vfio-dev', 'misc'] : ['vfio']
    return {
      status: 'failed',
      found,
      cause: 'new nodes belong to root',
      fixes: [
        {
          what: `give it to this user, until it is bound anew (\`uaccel bind ${device.bdf} --owner ${userName()}\` does too)`,
          commands: wanted.map(chownCommand),
        },
        {
          what: 'or each one to the members of a group, for good',
          commands: [
            'getent group vfio || groupadd --system vfio',
            `usermod --append --groups vfio ${userName()}`,
            `printf '%s\\n' ${rules.map((rule) => `'${rule}, GROUP="vfio", MODE="0660"'`).join(' ')} > /etc/udev/rules.d/90-uaccel.rules`,
            'udevadm control --reload',
            `udevadm trigger ${subsystems.map((name) => `--subsystem-match=${name}`).join(' ')}`,
          ],
        },
      ],
    }
  },
}

/**
 * The errno with which a node does not open. Opening a node of VFIO does nothing to the device. One of UIO is only asked for its
 * rights: closing it would switch bus mastering off under whoever uses the device (release in drivers/uio/uio_pci_generic.c).
 */
function openingError(path: string): string | undefined {
  try {
    if (/^uio\d+$/.test(basename(path))) accessSync(path, constants.R_OK | constants.W_OK)
    else closeSync(openSync(path, constants.O_RDWR | constants.O_NONBLOCK))
    return undefined
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'error'
  }
}

/** The same, but EBUSY is no want of rights. */
function refusal(path: string): string | undefined {
  const code = openingError(path)
  return code === 'EBUSY' ? undefined : code
}

const holder: Check<DeviceContext> = {
  id: 'holder',
  title: 'Held by a program',
  run({ device, paths }) {
    const nodes = userNodes(device, paths).map(({ path }) => path)
    const holders = holdersOf(nodes, paths)
    if (holders.length > 0) {
      return {
        status: 'failed',
        found: holders.map((each) => `${describeHolder(each)} has ${each.path} open`).join(', '),
        cause: 'a group has one user at a time',
        fixes: [
          { what: 'let it close the device, or end it', commands: holders.map(({ pid }) => `kill ${pid}`) },
        ],
      }
    }
    const group = vfioGroupNode(device, paths)?.path
    if (group !== undefined && openingError(group) === 'EBUSY') {
      return {
        status: 'failed',
        found: `${group} is open in a process of another user, which only root sees`,
        fixes: [{ what: 'find out whose it is', commands: [`fuser -v ${nodes.join(' ')}`] }],
      }
    }
    return { status: 'ok', found: 'no' }
  },
}

const interrupts: Check<DeviceContext> = {
  id: 'interrupts',
  title: 'Interrupts',
  run(context) {
    const { capabilities, interruptPin, problems } = decodeConfigSpace(
      readFileSync(join(folderOf(context), 'config')),
    )
    const kinds = [
      ...(interruptPin === undefined ? [] : [`INTx (pin ${interruptPin})`]),
      ...capabilities.flatMap(({ name, fields }) =>
        name === 'MSI' || name === 'MSI-X' ? [`${name} (${fields?.vectors ?? '?'})`] : [],
      ),
    ]
    if (kinds.length > 0) return { status: 'ok', found: kinds.join(', ') }
    if (problems.length > 0) return { status: 'unknown', found: problems.join(', ') }
    return { status: 'warning', found: 'the device has none', cause: 'its driver can only poll' }
  },
}

const reset: Check<DeviceContext> = {
  id: 'reset',
  title: 'Reset',
  run(context) {
    const methods = readText(join(folderOf(context), 'reset_method'))
    if (methods !== undefined && methods !== '') return { status: 'ok', found: methods.split(' ').join(', ') }
    return {
      status: 'warning',
      found: 'the kernel knows no way to reset this device alone',
      cause:
        'what one program leaves in it, the next finds; after an error only a new start of the machine helps',
    }
  },
}

/** Resources of which the kernel found no place for (include/linux/ioport.h, IORESOURCE_UNSET). */
const IORESOURCE_UNSET = 0x2000_0000n

const power: Check<DeviceContext> = {
  id: 'power',
  title: 'Power and answers',
  run(context) {
    const { device } = context
    const state = readText(join(folderOf(context), 'power_state'))
    const config = readFileSync(join(folderOf(context), 'config'))
    const rescan: Fix = {
      what: 'take it off the bus and look for it again',
      commands: [`echo 1 > /sys/bus/pci/devices/${device.bdf}/remove`, 'echo 1 > /sys/bus/pci/rescan'],
    }
    // All ones are what the bus gives where nobody answers (PCI Express Base 3.0, 2.3.2).
    if (config.length >= 4 && config.readUInt32LE(0) === 0xffff_ffff) {
      return {
        status: 'failed',
        found: `it does not answer: its configuration reads all ones${state === undefined ? '' : ` (power state ${state})`}`,
        cause: 'it has lost power or its link, or hangs',
        fixes: [rescan],
      }
    }
    const unset = (readText(join(folderOf(context), 'resource')) ?? '').split('\n').flatMap((line, index) => {
      const flags = /^0x\w+ 0x\w+ 0x([0-9a-f]{1,16})$/.exec(line)?.[1]
      return index < 6 && flags !== undefined && (BigInt(`0x${flags}`) & IORESOURCE_UNSET) !== 0n
        ? [index]
        : []
    })
    if (unset.length > 0) {
      return {
        status: 'failed',
        found: `BAR ${unset.join(', ')} got no address`,
        cause: 'the firmware left too little room on its bus, and the kernel does not enable such a device',
        fixes: [
          rescan,
          {
            what: 'or boot with pci=realloc, or with "above 4G decoding" on in the firmware',
            commands: [],
            reboot: true,
          },
        ],
      }
    }
    return { status: 'ok', found: `it answers${state === undefined ? '' : `; ${state}`}` }
  },
}

/** What concerns one device. */
export const deviceChecks: readonly Check<DeviceContext>[] = [
  power,
  deviceIommu,
  driver,
  viable,
  permission,
  holder,
  interrupts,
  reset,
]
