import { readFileSync, statSync } from 'node:fs'
import {
  type ConfigCapability,
  type ConfigDescription,
  type ConfigRegister,
  describeConfigSpace,
  PciRegion,
  pciNames,
  readPciDevice,
} from '@uaccel/core'
import type { Command } from 'commander'
import { configDump, parseConfigDump } from '../config-dump.js'
import { columnsOfStdout, hex, note, printJson } from '../output.js'
import { isSocket, openTarget, parseAddress, pciTargetHelp } from '../target.js'
import { wrap } from '../text.js'
import { human } from '../units.js'

/** Config space as it was read. */
interface Read {
  readonly bytes: Uint8Array
  /** Bytes of each BAR that there is, by index; absent where only the bytes are known. */
  readonly barBytes?: ReadonlyMap<number, number>
}

/** `uaccel config`: configuration space, decoded. */
export function configCommand(command: Command): void {
  command
    .argument(
      '<device>',
      `${pciTargetHelp}; or a file that holds what lspci -xxxx printed, or the bytes themselves`,
    )
    .option(
      '-v, --verbose',
      'every register, field by field, as lspci -vvv has them; -vv adds their places and raw values, and all bytes as lspci -xxxx',
      (_, times: number) => times + 1,
      0,
    )
    .option('--json', 'as JSON; with -v every register')
    .addHelpText(
      'after',
      `
flag+ is set, flag- is not. A PCI device is not opened: whoever holds it is not disturbed.

Examples:
  uaccel config 00:05.0                 header, BARs and capabilities, a line each
  uaccel config -v 00:05.0              link speed, payload sizes, error masks, ...
  uaccel config -vv 00:05.0 > edu.txt   for somebody else:
  uaccel config -v ./edu.txt            without the device (lspci -vvvF edu.txt reads it too)
  uaccel config -v ./edu.sock           of a vfio-user server`,
    )
    .action(async (target: string, { verbose, json }: { verbose: number; json?: boolean }) => {
      const { bytes, barBytes } = await readConfig(target)
      const described = describeConfigSpace(bytes)
      // a BAR that the device lacks may still show bits: only its size tells, and that is not in these bytes
      const bars = described.bars
        .filter(({ index }) => barBytes?.has(index) ?? true)
        .map((bar) => ({ ...bar, ...(barBytes && { sizeBytes: barBytes.get(bar.index) }) }))
      const info = { ...described, bars }
      if (json) printJson(verbose > 0 ? info : withoutRegisters(info))
      else show(target, info, verbose)
      if (verbose > 1 && !json) process.stdout.write(`\n${configDump(target, bytes)}`)
      if (bytes.length === 64) note('Only the first 64 bytes are readable without root: no capabilities.')
    })
}

type Info = Omit<ConfigDescription, 'bars'> & {
  readonly bars: readonly (ConfigDescription['bars'][number] & { readonly sizeBytes?: number | undefined })[]
}

function withoutRegisters({ header: _, ...info }: Info): object {
  const bare = <C extends object>(list: readonly (C & { registers: unknown })[]) =>
    list.map(({ registers: _, ...capability }) => capability)
  return {
    ...info,
    capabilities: bare(info.capabilities),
    extendedCapabilities: bare(info.extendedCapabilities),
  }
}

/** From sysfs, so that a device can be looked at whoever holds it; a socket's by its own means. */
async function readConfig(target: string): Promise<Read> {
  if (!isSocket(target)) {
    const { bdf, bars } = readPciDevice(parseAddress(target))
    return {
      bytes: readFileSync(`/sys/bus/pci/devices/${bdf}/config`),
      barBytes: new Map(bars.map(({ index, sizeBytes }) => [index, sizeBytes])),
    }
  }
  if (statSync(target, { throwIfNoEntry: false })?.isFile()) {
    return { bytes: parseConfigDump(target, readFileSync(target)) }
  }
  const transport = await openTarget(target)
  try {
    const bytes = new Uint8Array(transport.regions[PciRegion.CONFIG]?.sizeBytes ?? 0)
    transport.readBytes(PciRegion.CONFIG, 0, bytes)
    const present = transport.regions.filter(
      ({ index, sizeBytes }) => index <= PciRegion.BAR5 && sizeBytes > 0,
    )
    return { bytes, barBytes: new Map(present.map(({ index, sizeBytes }) => [index, sizeBytes])) }
  } finally {
    await transport.close()
  }
}

function show(target: string, info: Info, verbose: number): void {
  const names = pciNames()
  const name = [names?.vendor(info.vendor), names?.device(info.vendor, info.device)].filter(Boolean).join(' ')
  const set = (bits: object) =>
    Object.entries(bits)
      .filter(([, on]) => typeof on === 'boolean')
      .map(([bit, on]) => `${bit}${on ? '+' : '-'}`)
      .join(' ')
  const registers = (list: readonly ConfigRegister[], indent: string) =>
    verbose > 0 ? registerLines(list, indent, verbose > 1) : []
  const lines = [
    [target, `${hex(info.vendor, 4)}:${hex(info.device, 4)}`, name].filter(Boolean).join('  '),
    `  class      ${hex(info.classCode, 6)}${suffix(names?.classOf(info.classCode))}, revision ${hex(info.revision, 2)}`,
    ...(info.subsystemVendor === undefined
      ? []
      : [`  subsystem  ${hex(info.subsystemVendor, 4)}:${hex(info.subsystem ?? 0, 4)}`]),
    ...(verbose > 0 && info.header.length > 0
      ? []
      : [
          `  command    ${hex(info.command.raw, 4)} ${set(info.command)}`,
          `  status     ${hex(info.status.raw, 4)} ${set(info.status)}`,
          ...(info.interruptPin === undefined ? [] : [`  interrupt  pin ${info.interruptPin}`]),
        ]),
    ...registers(info.header, '  '),
    ...info.bars.map(
      ({ index, kind, address, sizeBytes, is64Bit, prefetchable }) =>
        `  BAR ${index}      ${kind} at ${hex(address)}${sizeBytes === undefined ? '' : `, ${human(sizeBytes, 'bytes')}`}${is64Bit ? ', 64-bit' : ''}${prefetchable ? ', prefetchable' : ''}`,
    ),
    ...info.capabilities.flatMap((capability) => [
      `  [${hex(capability.offset, 2)}]     ${capability.name}${verbose > 0 ? '' : fieldsOf(capability)}`,
      ...registers(capability.registers, '      '),
    ]),
    ...info.extendedCapabilities.flatMap(({ offset, name, version, registers: list }) => [
      `  [${hex(offset, 3)}]    ${name}, version ${version}`,
      ...registers(list, '      '),
    ]),
    ...info.problems.map((problem) => `  problem    ${problem}`),
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
}

const suffix = (name: string | undefined) => (name === undefined ? '' : ` ${name}`)

/** A line for each register, or more where the terminal has not the columns. */
function registerLines(list: readonly ConfigRegister[], indent: string, raw: boolean): string[] {
  const widest = Math.max(0, ...list.map(({ name }) => name.length))
  return list.flatMap((register) => {
    const { name, offset, width } = register
    const place = raw ? `${hex(offset, 3)} ${hex(register.raw, width / 4).padEnd(10)}  ` : ''
    const head = `${indent}${place}${name.padEnd(widest)}  `
    const text = Object.entries(register.fields).map(([field, value]) => fieldText(field, value))
    const parts = wrap(text.join(' ') || hex(register.raw, width / 4), columnsOfStdout() - head.length)
    return parts.map((part, i) => (i === 0 ? head : ' '.repeat(head.length)) + part)
  })
}

/** Numbers that are places are in hex, as a datasheet has them. */
const places = /address|offset|vendor|^device$|requester|^id$/i

function fieldText(name: string, value: number | boolean | string): string {
  if (typeof value === 'boolean') return `${name}${value ? '+' : '-'}`
  return `${name}=${typeof value === 'number' && places.test(name) ? hex(value) : value}`
}

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
