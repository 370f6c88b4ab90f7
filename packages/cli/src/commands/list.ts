import {
  listPciDevices,
  listUioDevices,
  type PciDeviceInfo,
  pciNames,
  type UioDeviceInfo,
  vfioInterface,
} from '@uaccel/core'
import type { Command } from 'commander'
import { knownById } from '../drivers.js'
import { type FolderFlag, nodeOptions } from '../nodes/find.js'
import { listNodes } from '../nodes/roll.js'
import { hex, note, printJson } from '../output.js'
import { table } from '../table.js'

interface ListFlags extends FolderFlag {
  all?: boolean
  json?: boolean
  nodes?: boolean
}

/** `uaccel list`: what is on the PCI bus, and who has it; or the nodes that there are. */
export function listCommand(command: Command): void {
  nodeOptions(command.option('-n, --nodes', 'nodes, in place of devices: also `uaccel -L`'))
    .option('-a, --all', 'all devices; otherwise bridges and the chipset are left out')
    .option('--json', 'as JSON, all devices; with --nodes schema uaccel.nodes/1')
    .addHelpText(
      'after',
      `
A node that nobody serves, or that this user may not open, is listed with the
reason; and so is one whose device has no process now, where \`uaccel serve\`
has it.`,
    )
    .action(({ all, json, nodes, folder }: ListFlags) => {
      const at = folder === undefined ? {} : { folder }
      if (nodes || folder !== undefined) return listNodes({ ...at, ...(json ? { json } : {}) })
      const names = pciNames()
      const devices = listPciDevices({ names })
      const others = listUioDevices().filter(hasItsOwnDriver)
      if (json) {
        printJson([
          ...devices.map((device) => ({
            ...device,
            iommu: vfioInterface(device),
            uaccelDriver: matching(device),
          })),
          ...others.map((device) => ({
            bus: 'platform',
            ...device,
            uaccelDriver: matchingName(device),
          })),
        ])
      } else {
        show(all ? devices : devices.filter(isEndpoint), devices.length)
        showOthers(others)
      }
      if (!json && !names)
        note('Names come from the file pci.ids, which is not on this machine (package pci.ids).')
    })
}

/** Base class 6: bridges; 8: base system peripherals; 5: memory controllers (PCI Code and ID Assignment, 1.). */
const isEndpoint = ({ classCode }: PciDeviceInfo) => ![0x05, 0x06, 0x08].includes(classCode >>> 16)

/** uio_pci_generic only passes PCI devices on, which are listed as such. */
const hasItsOwnDriver = ({ name }: UioDeviceInfo) => name !== 'uio_pci_generic'

const matching = ({ vendor, device }: PciDeviceInfo) => knownById({ bus: 'pci', vendor, device })?.name
const matchingName = ({ name }: UioDeviceInfo) => knownById({ bus: 'platform', name })?.name

function show(devices: readonly PciDeviceInfo[], total: number): void {
  const rows = devices.map((device) => [
    device.bdf,
    `${digits(device.vendor, 4)}:${digits(device.device, 4)}`,
    digits(device.classCode, 6),
    device.iommuGroup === undefined ? '-' : `${device.iommuGroup.id}`,
    device.numaNode === undefined ? '-' : `${device.numaNode}`,
    [device.driver ?? '-', vfioInterface(device)].filter(Boolean).join(', '),
    matching(device) ?? '-',
    [device.vendorName, device.deviceName ?? device.className].filter(Boolean).join(' ') || '-',
  ])
  if (rows.length > 0) {
    process.stdout.write(
      table(['ADDRESS', 'ID', 'CLASS', 'GROUP', 'NODE', 'KERNEL DRIVER', 'UACCEL DRIVER', 'NAME'], rows),
    )
  }
  if (rows.length < total) note(`Not shown: bridges and chipset (${total - rows.length}); --all shows them.`)
  if (total === 0)
    note('There is no PCI device on this machine. `uaccel lab --device edu -- uaccel list` emulates one.')
}

function showOthers(devices: readonly UioDeviceInfo[]): void {
  if (devices.length === 0) return
  const rows = devices.map((device) => [
    `uio:${device.name}`,
    device.uio,
    device.version || '-',
    device.maps.map(({ sizeBytes }) => `${sizeBytes}`).join(', ') || '-',
    device.bdf ?? '-',
    matchingName(device) ?? '-',
  ])
  process.stdout.write(
    `\n${table(['DEVICE OF UIO', 'NODE', 'VERSION', 'BYTES OF ITS MAPS', 'PCI ADDRESS', 'UACCEL DRIVER'], rows)}`,
  )
}

const digits = (value: number, count: number) => hex(value, count).slice(2)
