import { readFileSync } from 'node:fs'
import {
  type ConfigCapability,
  type ConfigSpaceInfo,
  decodeConfigSpace,
  PciRegion,
  pciNames,
  readPciDevice,
} from '@uaccel/core'
import type { Command } from 'commander'
import { hex, note, printJson } from '../output.js'
import { isSocket, openTarget, parseAddress, pciTargetHelp } from '../target.js'

/** `uaccel config`: configuration space, decoded. */
export function configCommand(command: Command): void {
  command
    .argument('<device>', pciTargetHelp)
    .option('--json', 'as JSON')
    .action(async (target: string, { json }: { json?: boolean }) => {
      const { bytes, bars } = await readConfig(target)
      const decoded = decodeConfigSpace(bytes)
      // a BAR that the device lacks may still show bits: only its size tells, and that is not in these bytes
      const info = { ...decoded, bars: decoded.bars.filter(({ index }) => bars.has(index)) }
      if (json) printJson(info)
      else show(target, info)
      if (bytes.length === 64) note('Only the first 64 bytes are readable without root: no capabilities.')
    })
}

/** From sysfs, so that a device can be looked at whoever holds it; a socket's by its own means. */
async function readConfig(target: string): Promise<{ bytes: Uint8Array; bars: ReadonlySet<number> }> {
  if (!isSocket(target)) {
    const { bdf, bars } = readPciDevice(parseAddress(target))
    return {
      bytes: readFileSync(`/sys/bus/pci/devices/${bdf}/config`),
      bars: new Set(bars.map(({ index }) => index)),
    }
  }
  const transport = await openTarget(target)
  try {
    const bytes = new Uint8Array(transport.regions[PciRegion.CONFIG]?.sizeBytes ?? 0)
    transport.readBytes(PciRegion.CONFIG, 0, bytes)
    const present = transport.regions.filter(
      ({ index, sizeBytes }) => index <= PciRegion.BAR5 && sizeBytes > 0,
    )
    return { bytes, bars: new Set(present.map(({ index }) => index)) }
  } finally {
    await transport.close()
  }
}

function show(target: string, info: ConfigSpaceInfo): void {
  const names = pciNames()
  const name = [names?.vendor(info.vendor), names?.device(info.vendor, info.device)].filter(Boolean).join(' ')
  const set = (bits: object) =>
    Object.entries(bits)
      .filter(([, on]) => typeof on === 'boolean')
      .map(([bit, on]) => `${bit}${on ? '+' : '-'}`)
      .join(' ')
  const lines = [
    [target, `${hex(info.vendor, 4)}:${hex(info.device, 4)}`, name].filter(Boolean).join('  '),
    `  class      ${hex(info.classCode, 6)}${suffix(names?.classOf(info.classCode))}, revision ${hex(info.revision, 2)}`,
    ...(info.subsystemVendor === undefined
      ? []
      : [`  subsystem  ${hex(info.subsystemVendor, 4)}:${hex(info.subsystem ?? 0, 4)}`]),
    `  command    ${hex(info.command.raw, 4)} ${set(info.command)}`,
    `  status     ${hex(info.status.raw, 4)} ${set(info.status)}`,
    ...(info.interruptPin === undefined ? [] : [`  interrupt  pin ${info.interruptPin}`]),
    ...info.bars.map(
      ({ index, kind, address, is64Bit, prefetchable }) =>
        `  BAR ${index}      ${kind} at ${hex(address)}${is64Bit ? ', 64-bit' : ''}${prefetchable ? ', prefetchable' : ''}`,
    ),
    ...info.capabilities.map(
      (capability) => `  [${hex(capability.offset, 2)}]     ${capability.name}${fieldsOf(capability)}`,
    ),
    ...info.extendedCapabilities.map(
      ({ offset, name, version }) => `  [${hex(offset, 3)}]    ${name}, version ${version}`,
    ),
    ...info.problems.map((problem) => `  problem    ${problem}`),
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
}

const suffix = (name: string | undefined) => (name === undefined ? '' : ` ${name}`)

function fieldsOf({ fields = {} }: ConfigCapability): string {
  const text = Object.entries(fields).map(([name, value]) =>
    typeof value === 'object'
      ? `${name}=BAR ${value.bar} + ${hex(value.offset)}`
      : typeof value === 'boolean'
        ? `${name}${value ? '+' : '-'}`
        : `${name}=${value}`,
  )
  return text.length === 0 ? '' : `: ${text.join(' ')}`
}
