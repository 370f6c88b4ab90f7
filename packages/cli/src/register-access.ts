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
import { type Command, InvalidArgumentError } from 'commander'
import { knownById } from './drivers.js'
import { hex } from './output.js'
import { loadMap } from './register-map.js'
import { allowNoIommu, openTarget } from './target.js'

/** Registers of a device by the names of its driver's maps, reached without the driver. */

/** Register maps by BAR. */
export type Maps = Readonly<Record<number, RegisterMap>>

export interface Found {
  readonly bar: number
  readonly entry: RegisterEntry
}

/** How a device is opened, and whose registers it has: its driver's, or those of a file. */
export interface DeviceOptions extends NoIommuOptions {
  readonly map?: string
  readonly block?: string
  readonly bar?: number
  /** Where the map begins in the BAR, in bytes. */
  readonly offset?: number
}

/** The options that {@link withDevice} takes. */
export function deviceOptions(command: Command): Command {
  return command
    .option(
      '-m, --map <file>',
      "registers of this SVD, IP-XACT or SystemRDL file or compiled module (.js), instead of the driver's",
    )
    .option('-b, --block <name>', 'block of the file, or export of the module, where there are several')
    .option('--bar <number>', 'BAR that has the registers of that map; 0 unless told', parseBar)
    .option('--offset <bytes>', 'where that map, or its block, begins in the BAR; 0 unless told', parseOffset)
    .option(...allowNoIommu)
}

function parseBar(text: string): number {
  if (/^[0-5]$/.test(text)) return Number(text)
  throw new InvalidArgumentError('A BAR is 0 to 5.')
}

function parseOffset(text: string): number {
  const offset = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN
  if (Number.isSafeInteger(offset)) return offset
  throw new InvalidArgumentError('Bytes are wanted, such as 0x1000.')
}

/** Opens the device, hands it over with the maps of its driver or of a file, and gives it back. */
export async function withDevice(
  target: string,
  { map, block, bar, offset, ...how }: DeviceOptions,
  use: (transport: Transport, maps: Maps) => void | Promise<void>,
): Promise<void> {
  if (map === undefined && (block !== undefined || bar !== undefined || offset !== undefined))
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      '--block, --bar and --offset are of a map: name its file with --map.',
    )
  const given = map === undefined ? undefined : { [bar ?? 0]: moved(await loadMap(map, block), offset ?? 0) }
  const transport = await openTarget(target, how)
  let device: Device | undefined
  try {
    device = openDevice(transport)
    const maps = given ?? mapsOf(device, target)
    await device.enable()
    for (const [index, each] of Object.entries(maps)) transport.describe?.(Number(index), each)
    await use(transport, maps)
  } finally {
    await device?.release()
    await transport.close()
  }
}

const moved = (map: RegisterMap, by: number): RegisterMap => ({
  ...map,
  find: map.find,
  sizeBytes: map.sizeBytes + by,
  entries: map.entries.map((entry) => ({ ...entry, offset: entry.offset + by })),
})

function mapsOf({ identity }: Device, target: string): Maps {
  const found = knownById(identity)
  if (found) return found.known.bars
  const what =
    identity.bus === 'pci' ? `${hex(identity.vendor, 4)}:${hex(identity.device, 4)}` : identity.name
  throw accelError(
    'ERR_ACCEL_NO_DRIVER',
    `No driver here has a register map for ${what} (${target}); --map takes one from a file.`,
  )
}

/** All registers of the maps, in their order. */
export const registersOf = (maps: Maps): Found[] =>
  Object.entries(maps).flatMap(([bar, { entries }]) => entries.map((entry) => ({ bar: Number(bar), entry })))

export function find(maps: Maps, name: string): Found {
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

export function findReadable(maps: Maps, names: readonly string[]): Found[] {
  const found = names.map((name) => find(maps, name))
  for (const { entry } of found) requireAccess(entry, 'read', 'wo')
  return found
}

export function requireAccess({ name, access }: RegisterEntry, done: string, ...refused: string[]): void {
  if (!refused.includes(access)) return
  throw accelError(
    'ERR_ACCEL_BAD_ACCESS',
    `${name} cannot be ${done}: its access kind is ${accessKinds[access]}.`,
  )
}

export function readRegister(
  transport: Transport,
  { bar, entry: { offset, width } }: Found,
): number | bigint {
  return width === 64 ? transport.read64(bar, offset) : transport.read(bar, offset, (width / 8) as 1 | 2 | 4)
}

export function writeRegister(
  transport: Transport,
  { bar, entry: { offset, width } }: Found,
  value: bigint,
): void {
  if (width === 64) transport.write64(bar, offset, value)
  else transport.write(bar, offset, (width / 8) as 1 | 2 | 4, Number(value))
}

export function parseValue(text: string, { name, width }: RegisterEntry): bigint {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? BigInt(text) : -1n
  if (value >= 0n && value < 1n << BigInt(width)) return value
  throw accelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `"${text}" is no value of ${name}, which has ${width} bits; write 10 or 0xa.`,
  )
}

/** A register as it was read. */
export interface Reading {
  readonly bar: number
  readonly name: string
  readonly offset: number
  readonly width: number
  readonly value: number | bigint
  readonly fields: Readonly<Record<string, string | number | boolean>>
}

/** Reads a register once, and decodes it. */
export function readDecoded(transport: Transport, register: Found): Reading {
  const { bar, entry } = register
  const value = readRegister(transport, register)
  const fields = typeof value === 'bigint' ? entry.codec.decode64(value) : entry.codec.decode(value)
  return { bar, name: entry.name, offset: entry.offset, width: entry.width, value, fields }
}

/** `STATUS = 0x00000080  computing=false  irqOnDone=true` */
export function readingText({
  name,
  width,
  value,
  fields,
}: Pick<Reading, 'name' | 'width' | 'value' | 'fields'>): string {
  const decoded = Object.entries(fields).map(([field, part]) => `${field}=${part}`)
  return [`${name} = ${hex(value, width / 4)}`, ...decoded].join('  ')
}
