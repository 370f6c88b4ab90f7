import type { Transport } from '@uaccel/core'
import type { Command } from 'commander'
import { hex, printJson } from '../output.js'
import {
  type DeviceOptions,
  deviceOptions,
  type Found,
  find,
  findReadable,
  type Maps,
  parseValue,
  readDecoded,
  readingText,
  requireAccess,
  withDevice,
  writeRegister,
} from '../register-access.js'
import { table } from '../table.js'
import { targetHelp } from '../target.js'
import { regDumpCommand } from './reg-dump.js'
import { regImportCommand } from './reg-import.js'
import { regShellCommand } from './reg-shell.js'
import { regWatchCommand } from './reg-watch.js'

/** `uaccel reg`: registers by the names of the driver's register map. */
export function regCommand(reg: Command): void {
  reg
    .command('list')
    .argument('<device>', targetHelp)
    .description('the registers that the driver declares')
    .option('--json', 'as JSON')
    .action((target: string, { json, ...how }: { json?: boolean } & DeviceOptions) =>
      withDevice(target, how, (_, maps) => list(maps, json)),
    )
  reg
    .command('read')
    .argument('<device>', targetHelp)
    .argument('<names...>', 'registers; one of an array is named like QUEUE[3].HEAD')
    .description('read registers and decode their fields')
    .option('--json', 'as JSON')
    .action((target: string, names: string[], { json, ...how }: { json?: boolean } & DeviceOptions) =>
      withDevice(target, how, (transport, maps) => show(transport, findReadable(maps, names), json)),
    )
  reg
    .command('write')
    .argument('<device>', targetHelp)
    .argument('<name>', 'a register; one of an array is named like QUEUE[3].HEAD')
    .argument('<value>', 'decimal or 0x...')
    .description('write a register')
    .option('-r, --read <names...>', 'registers to read after it, as reg read does')
    .option('--json', 'what is read as JSON')
    .action(
      (
        target: string,
        name: string,
        value: string,
        { read = [], json, ...how }: { read?: string[]; json?: boolean } & DeviceOptions,
      ) =>
        withDevice(target, how, (transport, maps) => {
          const register = find(maps, name)
          requireAccess(register.entry, 'written', 'ro', 'rc')
          const raw = parseValue(value, register.entry)
          const wanted = findReadable(maps, read)
          writeRegister(transport, register, raw)
          if (wanted.length > 0) show(transport, wanted, json)
        }),
    )
    .addHelpText(
      'after',
      '\nThe device is reset when it is given back: what is written lasts for this\ncommand.',
    )
  regShellCommand(reg)
  regWatchCommand(reg)
  regDumpCommand(reg)
  for (const command of reg.commands) deviceOptions(command)
  regImportCommand(reg)
}

function list(maps: Maps, json = false): void {
  const rows = Object.entries(maps).flatMap(([bar, { entries }]) =>
    entries.map(({ name, offset, width, access, fields, doc }) => ({
      bar: Number(bar),
      name,
      offset,
      width,
      access,
      fields: Object.keys(fields),
      doc,
    })),
  )
  if (json) printJson(rows)
  else
    process.stdout.write(
      table(
        ['BAR', 'offset', 'bits', 'access', 'name', 'fields'],
        rows.map((row) => [
          `${row.bar}`,
          hex(row.offset, 3),
          `${row.width}`,
          row.access,
          row.name,
          row.fields.join(' '),
        ]),
      ),
    )
}

/** Reads registers, in order, and prints them with their fields. */
function show(transport: Transport, registers: readonly Found[], json = false): void {
  const rows = registers.map((register) => readDecoded(transport, register))
  if (json) printJson(rows)
  else process.stdout.write(rows.map((row) => `${readingText(row)}\n`).join(''))
}
