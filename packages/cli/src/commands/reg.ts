import {
  type Access,
  type Device,
  type NoIommuOptions,
  openDevice,
  type RegisterEntry,
  type RegisterMap,
  type Transport,
} from '@uaccel/core'
import { accelError } from '@uaccel/uapi'
import type { Command } from 'commander'
import { knownById } from '../drivers.js'
import { hex, printJson } from '../output.js'
import { table } from '../table.js'
import { allowNoIommu, openTarget, targetHelp } from '../target.js'

interface Found {
  readonly bar: number
  readonly entry: RegisterEntry
}

/** `uaccel reg`: registers by the names of the driver's register map. */
export function regCommand(reg: Command): void {
  reg
    .command('list')
    .argument('<device>', targetHelp)
    .description('the registers that the driver declares')
    .option('--json', 'as JSON')
    .action((target: string, { json, ...how }: { json?: boolean } & NoIommuOptions) =>
      withDevice(target, how, (_, maps) => list(maps, json)),
    )
  reg
    .command('read')
    .argument('<device>', targetHelp)
    .argument('<names...>', 'registers; one of an array is named like QUEUE[3].HEAD')
    .description('read registers and decode their fields')
    .option('--json', 'as JSON')
    .action((target: string, names: string[], { json, ...how }: { json?: boolean } & NoIommuOptions) =>
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
        { read = [], json, ...how }: { read?: string[]; json?: boolean } & NoIommuOptions,
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
  for (const command of reg.commands) command.option(...allowNoIommu)
}

/** Opens the device, hands it over with the maps of its driver, and gives it back. */
async function withDevice(
  target: string,
  how: NoIommuOptions,
  use: (transport: Transport, maps: Readonly<Record<number, RegisterMap>>) => void,
): Promise<void> {
  const transport = await openTarget(target, how)
  let device: Device | undefined
  try {
    device = openDevice(transport)
    const { identity } = device
    const found = knownById(identity)
    if (!found) {
      throw accelError(
        'ERR_ACCEL_NO_DRIVER',
        `No driver here has a register map for ${identity.bus === 'pci' ? `${hex(identity.vendor, 4)}:${hex(identity.device, 4)}` : identity.name} (${target}).`,
      )
    }
    await device.enable()
    use(transport, found.known.bars)
  } finally {
    await device?.release()
    await transport.close()
  }
}

function find(maps: Readonly<Record<number, RegisterMap>>, name: string): Found {
  for (const [bar, map] of Object.entries(maps)) {
    const entry = map.entries.find((candidate) => candidate.name === name)
    if (entry) return { bar: Number(bar), entry }
  }
  const names = Object.values(maps).flatMap(({ entries }) => entries.map((entry) => entry.name))
  const meant = names.find((candidate) => candidate.toUpperCase() === name.toUpperCase())
  const some =
    names.length > 30
      ? `${names.slice(0, 30).join(', ')} and more, see \`uaccel reg list\``
      : names.join(', ')
  throw accelError(
    'ERR_ACCEL_NOT_FOUND',
    `There is no register ${name}${meant ? `, but ${meant}` : `; there are ${some}`}.`,
  )
}

const accessKinds: Readonly<Record<Access, string>> = {
  ro: 'ro, read-only',
  wo: 'wo, write-only',
  rw: 'rw, read and write',
  w1c: 'w1c, written ones clear',
  rc: 'rc, reading clears',
}

function findReadable(maps: Readonly<Record<number, RegisterMap>>, names: readonly string[]): Found[] {
  const found = names.map((name) => find(maps, name))
  for (const { entry } of found) requireAccess(entry, 'read', 'wo')
  return found
}

function requireAccess({ name, access }: RegisterEntry, done: string, ...refused: string[]): void {
  if (!refused.includes(access)) return
  throw accelError(
    'ERR_ACCEL_BAD_ACCESS',
    `${name} cannot be ${done}: its access kind is ${accessKinds[access]}.`,
  )
}

function readRegister(transport: Transport, { bar, entry: { offset, width } }: Found): number | bigint {
  return width === 64 ? transport.read64(bar, offset) : transport.read(bar, offset, (width / 8) as 1 | 2 | 4)
}

function writeRegister(transport: Transport, { bar, entry: { offset, width } }: Found, value: bigint): void {
  if (width === 64) transport.write64(bar, offset, value)
  else transport.write(bar, offset, (width / 8) as 1 | 2 | 4, Number(value))
}

function parseValue(text: string, { name, width }: RegisterEntry): bigint {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? BigInt(text) : -1n
  if (value >= 0n && value < 1n << BigInt(width)) return value
  throw accelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `"${text}" is no value of ${name}, which has ${width} bits; write 10 or 0xa.`,
  )
}

function list(maps: Readonly<Record<number, RegisterMap>>, json = false): void {
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
  const rows = registers.map((register) => {
    const { bar, entry } = register
    const value = readRegister(transport, register)
    const fields = typeof value === 'bigint' ? entry.codec.decode64(value) : entry.codec.decode(value)
    return { bar, name: entry.name, offset: entry.offset, width: entry.width, value, fields }
  })
  if (json) {
    printJson(rows)
    return
  }
  for (const { name, width, value, fields } of rows) {
    const decoded = Object.entries(fields).map(([field, part]) => `${field}=${part}`)
    process.stdout.write(`${[`${name} = ${hex(value, width / 4)}`, ...decoded].join('  ')}\n`)
  }
}
