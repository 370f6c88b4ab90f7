import {
  type CheckResult,
  type DeviceDiagnosis,
  examineDevice,
  examineMachine,
  listPciDevices,
  type PciDeviceInfo,
  pciNames,
} from '@uaccel/core'
import type { Command } from 'commander'
import pc from 'picocolors'
import { knownById } from '../drivers.js'
import { exitCodes, hex, printJson } from '../output.js'

/** `uaccel doctor`: what is in the way of a driver, and how to mend it. */
export function doctorCommand(command: Command): void {
  command
    .argument('[address]', 'PCI address of a device: 0000:00:05.0 or 00:05.0')
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      `
Changes nothing and opens no device. Run it as the user who is to run the
driver; the commands that it prints are for a shell of root.

Without an address it checks the machine, and gives a line to each accelerator
and each device that is bound to VFIO or UIO.

Exit codes:
  0  a driver could open the device; without an address: a device
  1  something is in the way, marked FAILED (warnings are not), or the
     address is none
  3  there is no such device

Examples:
  uaccel doctor
  uaccel doctor 00:05.0
  uaccel doctor 00:05.0 --json | jq -r '.findings[].fixes[]?.commands[]'`,
    )
    .action((address: string | undefined, { json }: { json?: boolean }) => {
      const machine = examineMachine()
      const chosen =
        address === undefined
          ? listPciDevices()
              .filter(isOfInterest)
              .map(({ bdf }) => bdf)
          : [address]
      const devices = chosen.map((bdf) => examineDevice(bdf))
      const [device] = address === undefined ? [] : devices
      const ok = machine.ok && (device?.ok ?? true)
      if (json) {
        printJson(
          device === undefined
            ? { ok, findings: machine.findings, devices: devices.map(summary) }
            : { ok, device: device.device, findings: [...machine.findings, ...device.findings] },
        )
      } else {
        process.stdout.write(
          device === undefined
            ? tellMachine(machine.findings, devices, ok)
            : tellDevice(machine.findings, device, ok),
        )
      }
      process.exitCode = ok ? exitCodes.done.code : exitCodes.failed.code
    })
}

/** Base class 0x12: processing accelerators; 0x0b40: coprocessors (PCI Code and ID Assignment, 1.12, 1.19). */
const isOfInterest = ({ classCode, driver, vendor, device }: PciDeviceInfo) =>
  classCode >>> 16 === 0x12 ||
  classCode >>> 8 === 0x0b40 ||
  (driver !== undefined && /vfio|^uio_pci_generic$/.test(driver)) ||
  knownById({ bus: 'pci', vendor, device }) !== undefined

const summary = ({ device, ok, findings }: DeviceDiagnosis) => ({ bdf: device.bdf, ok, findings })

const marks = { ok: 'ok', warning: 'warning', failed: 'FAILED', unknown: 'unknown' } as const
const colors = pc.createColors(process.stdout.isTTY === true && !process.env.NO_COLOR)
const paint = { ok: colors.green, warning: colors.yellow, failed: colors.red, unknown: colors.dim }
const columns = 80
const indent = 10

function tellDevice(
  machine: readonly CheckResult[],
  { device, findings, ok }: DeviceDiagnosis,
  able: boolean,
): string {
  const names = pciNames()
  const name = [names?.vendor(device.vendor), names?.device(device.vendor, device.device)]
    .filter(Boolean)
    .join(' ')
  const ids = `${hex(device.vendor, 4).slice(2)}:${hex(device.device, 4).slice(2)}`
  return [
    colors.bold('The machine'),
    ...machine.flatMap(tell),
    '',
    colors.bold([device.bdf, ids, name].filter(Boolean).join('  ')),
    ...findings.flatMap(tell),
    '',
    able
      ? colors.green(`A driver of this user could open ${device.bdf}.`)
      : colors.red(
          `No driver of this user could open ${device.bdf}: mend what FAILED, from the top${ok ? '' : ','}`,
        ) + (ok ? '.' : colors.red('\nand ask again.')),
    '',
  ].join('\n')
}

function tellMachine(
  findings: readonly CheckResult[],
  devices: readonly DeviceDiagnosis[],
  able: boolean,
): string {
  return [
    colors.bold('The machine'),
    ...findings.flatMap(tell),
    '',
    colors.bold('Accelerators, and devices given to programs'),
    ...(devices.length === 0 ? ['  none'] : devices.map(line)),
    '',
    able
      ? colors.green('Devices of this machine can be given to programs.')
      : colors.red('Something is in the way: mend what FAILED, from the top.'),
    '',
  ].join('\n')
}

function line({ device, ok, findings }: DeviceDiagnosis): string {
  const failed = findings.find(({ status }) => status === 'failed')
  const rest = failed === undefined ? (device.driver ?? '') : `${failed.title}: ${failed.found}`
  const text = `${device.bdf}  ${rest}`
  return `  ${mark(ok ? 'ok' : 'failed')}${text.length > columns - indent ? `${text.slice(0, columns - indent - 3)}...` : text}`
}

const mark = (status: CheckResult['status']) => paint[status](marks[status].padEnd(indent - 2))

/** A finding: its state and words, and below it the cause and the commands, which are never broken into lines. */
function tell({ title, status, found, cause, fixes = [] }: CheckResult): string[] {
  const margin = ' '.repeat(indent)
  const [first, ...more] = wrap(`${title}: ${found}`)
  return [
    `  ${mark(status)}${first}`,
    ...[...more, ...(cause === undefined ? [] : wrap(`${cause[0]!.toUpperCase()}${cause.slice(1)}.`))].map(
      (text) => margin + text,
    ),
    ...fixes.flatMap(({ what, commands, unsafe, reboot }) => [
      ...wrap(
        `${unsafe ? 'UNSAFE: ' : '- '}${what}${reboot && commands.length > 0 ? ' (from the next boot on)' : ''}${commands.length > 0 ? ', as root:' : ''}`,
      ).map((text) => margin + (unsafe ? colors.yellow(text) : text)),
      ...commands
        .flatMap((command) => command.split('\n'))
        .map((line) => `${margin}    ${colors.cyan(line)}`),
    ]),
  ]
}

/** Breaks text at spaces, so that it fits 80 columns behind the margin. */
function wrap(text: string): string[] {
  const lines = ['']
  for (const word of text.split(' ')) {
    const last = lines.at(-1)!
    if (last !== '' && last.length + 1 + word.length > columns - indent) lines.push(word)
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`
  }
  return lines
}
