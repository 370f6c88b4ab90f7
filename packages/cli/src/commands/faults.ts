import { readFileSync } from 'node:fs'
import {
  type AerCount,
  type AerStatus,
  aerStatusIn,
  iommuFaultsIn,
  type LoggedFault,
  readAerCounts,
  readKernelLog,
  readPciDevice,
} from '@uaccel/core'
import { isAccelError } from '@uaccel/uapi'
import type { Command } from 'commander'
import { hex, note, printJson } from '../output.js'
import { parseAddress } from '../target.js'
import { clean } from '../text.js'

/** `uaccel faults`: what an IOMMU refused, and errors on the PCI Express link. */
export function faultsCommand(command: Command): void {
  command
    .argument('[address]', 'PCI address (0000:00:05.0 or 00:05.0); all devices, unless told')
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      `
IOMMU faults come from the kernel's log (Intel, AMD and Arm), which only root
may read in most systems. The kernel logs no more than some in a second. Of one
device there are its PCI Express errors, too: what the kernel counted, and what
the device's own status registers say. The device is not opened.

Examples:
  uaccel faults
  uaccel faults 00:05.0 --json`,
    )
    .action((address: string | undefined, { json }: { json?: boolean }) => {
      const device = address === undefined ? undefined : readPciDevice(parseAddress(address)).bdf
      const faults = iommuFaults(device)
      const counts = device === undefined ? undefined : readAerCounts(device)
      const status =
        device === undefined ? undefined : aerStatusIn(readFileSync(`/sys/bus/pci/devices/${device}/config`))
      if (json) printJson({ device, iommu: faults, aer: device && { counts, status } })
      else show(device, faults, counts, status)
    })
}

function iommuFaults(device: string | undefined): LoggedFault[] | undefined {
  try {
    return iommuFaultsIn(readKernelLog(), device)
  } catch (error) {
    // What else is known of the device is told all the same.
    if (!isAccelError(error)) throw error
    note(error.message)
    return undefined
  }
}

function show(
  device: string | undefined,
  faults: readonly LoggedFault[] | undefined,
  counts: readonly AerCount[] | undefined,
  status: AerStatus | undefined,
): void {
  const lines = (faults ?? []).flatMap(faultLines)
  if (faults?.length === 0)
    lines.push(`No IOMMU fault${device ? ` of ${device}` : ''} is in the kernel's log.`)
  for (const { severity, error, count } of counts ?? [])
    lines.push(`PCI Express, ${severity}: ${clean(error)}, ${count} counted by the kernel`)
  for (const [severity, errors] of Object.entries(status ?? {}))
    if (errors.length > 0) lines.push(`PCI Express, ${severity}: ${errors.join(', ')} (status of the device)`)
  if (device && counts?.length === 0 && status?.uncorrectable.length === 0 && status.correctable.length === 0)
    lines.push(`${device} has no PCI Express error.`)
  else if (device && counts === undefined && status === undefined)
    lines.push(`${device} does not report PCI Express errors (no AER).`)
  process.stdout.write(lines.map((line) => `${line}\n`).join(''))
}

/** A fault for a person: what it was, then what it may come of. */
export function faultLines({
  atUs,
  device = 'a device',
  access,
  address,
  pasid,
  reason,
  hint,
}: LoggedFault): string[] {
  const at = `[${(atUs / 1e6).toFixed(6).padStart(12)}]`
  const tag = pasid === undefined ? '' : ` with PASID ${pasid}`
  const what = access === undefined ? 'an access' : `a ${access}`
  return [
    `${at} ${device}: ${what} of ${hex(address)}${tag} was refused: ${clean(reason)}`,
    ...(hint === undefined ? [] : [`               ${hint}`]),
  ]
}
