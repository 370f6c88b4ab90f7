import { readFileSync, writeFileSync } from 'node:fs'
import type { RegisterEntry } from '@uaccel/core'
import { accelError } from '@uaccel/uapi'
import type { Command } from 'commander'
import { fileError } from '../file-error.js'
import { hex, note, printJson } from '../output.js'
import {
  type DeviceOptions,
  type Found,
  readingText,
  readRegister,
  registersOf,
  withDevice,
} from '../register-access.js'
import { targetHelp } from '../target.js'
import { clean } from '../text.js'

/** The form of a saved dump. */
const SCHEMA = 'uaccel.reg-dump/1'

interface Options extends DeviceOptions {
  readonly save?: string
  readonly diff?: string | true
  readonly withRc?: boolean
  readonly json?: boolean
}

/** A register that was read. */
interface Reading extends Found {
  readonly value: bigint
}

/** What a register was expected to hold, in the bits of `mask`. */
interface Expected {
  readonly value: bigint
  readonly mask: bigint
}

/** `uaccel reg dump`: all registers of a device, and what differs from another time. */
export function regDumpCommand(reg: Command): void {
  reg
    .command('dump')
    .argument('<device>', targetHelp)
    .description('read all registers that reading does not change, and compare them')
    .option('-s, --save <file>', 'also write what was read, as JSON, to compare with later')
    .option(
      '-d, --diff [file]',
      'only what differs from a saved dump, or without one from the reset values of the map',
    )
    .option('--with-rc', 'also registers that reading clears')
    .option('--json', 'as JSON')
    .action(dump)
    .addHelpText(
      'after',
      `
Registers that can only be written are not in it, and those that reading clears only with --with-rc.

Examples:
  uaccel reg dump 00:05.0 --save good.json
  uaccel reg dump 00:05.0 --diff good.json
  uaccel reg dump ./edu.sock --map edu.rdl --diff`,
    )
}

async function dump(target: string, { save, diff, withRc, json, ...how }: Options): Promise<void> {
  const saved = typeof diff === 'string' ? readDump(diff) : undefined
  await withDevice(target, how, (transport, maps) => {
    const all = registersOf(maps)
    if (all.length === 0) throw accelError('ERR_ACCEL_NOT_FOUND', `The map of ${target} has no registers.`)
    const readings = readable(all, withRc).map(
      (found): Reading => ({ ...found, value: BigInt(readRegister(transport, found)) }),
    )
    if (save !== undefined) saveDump(save, readings)
    if (diff === undefined) show(readings, json)
    else
      compare(
        readings,
        saved ? (reading) => expectedOf(reading, saved) : ({ entry }) => entry.reset,
        json,
        diff,
      )
    if (saved && typeof diff === 'string') tellMissing(readings, saved, diff)
  })
}

/** Those that a dump may read; it says which it leaves out. */
function readable(all: readonly Found[], withRc = false): Found[] {
  const skipped = all
    .filter(({ entry: { access } }) => access === 'rc' && !withRc)
    .map(({ entry }) => entry.name)
  if (skipped.length > 0)
    note(
      `${skipped.length === 1 ? 'A register that reading clears is' : `${skipped.length} registers that reading clears are`} left out: ${some(skipped)}; --with-rc reads them`,
    )
  return all.filter(({ entry: { access } }) => access !== 'wo' && (withRc || access !== 'rc'))
}

/** Names of a saved dump are somebody's text. */
const some = (names: readonly string[]): string =>
  clean(names.slice(0, 8).join(', ')) + (names.length > 8 ? ` and ${names.length - 8} more` : '')

const fieldsOf = ({ codec, width }: RegisterEntry, value: bigint) =>
  width === 64 ? codec.decode64(value) : codec.decode(Number(value))

function show(readings: readonly Reading[], json = false): void {
  const rows = readings.map((reading) => ({
    ...savedForm(reading),
    fields: fieldsOf(reading.entry, reading.value),
  }))
  if (json) printJson(rows)
  else
    process.stdout.write(rows.map((row) => `${readingText({ ...row, value: BigInt(row.value) })}\n`).join(''))
}

/** What differs of one register, by name; bits that no field has are `bits 7:4`. */
interface Difference {
  readonly bar: number
  readonly name: string
  readonly offset: number
  readonly expected: string
  readonly found: string
  readonly fields: readonly { readonly name: string; readonly expected: unknown; readonly found: unknown }[]
}

function difference(
  { bar, entry, value }: Reading,
  { value: expected, mask }: Expected,
): Difference | undefined {
  const changed = (value ^ expected) & mask
  if (changed === 0n) return undefined
  // what is not known counts as it was found, so that a field of which a part is known shows its numbers whole
  const whole = (expected & mask) | (value & ~mask)
  const [before, after] = [fieldsOf(entry, whole), fieldsOf(entry, value)]
  const digits = entry.width / 4
  let rest = changed
  const fields = Object.entries(entry.fields).flatMap(([name, { hi, lo }]) => {
    const bits = ((1n << BigInt(hi - lo + 1)) - 1n) << BigInt(lo)
    rest &= ~bits
    return (changed & bits) === 0n ? [] : [{ name, expected: before[name], found: after[name] }]
  })
  const named = Object.keys(entry.fields).length > 0
  return {
    bar,
    name: entry.name,
    offset: entry.offset,
    expected: hex(whole, digits),
    found: hex(value, digits),
    fields: [
      ...fields,
      ...(named ? runs(rest) : []).map(([hi, lo]) => ({
        name: hi === lo ? `bit ${lo}` : `bits ${hi}:${lo}`,
        expected: part(whole, hi, lo),
        found: part(value, hi, lo),
      })),
    ],
  }
}

const part = (value: bigint, hi: number, lo: number): string =>
  hex(BigInt.asUintN(hi - lo + 1, value >> BigInt(lo)))

/** Stretches of ones, from the lowest on. */
function runs(bits: bigint): [hi: number, lo: number][] {
  const text = bits.toString(2)
  return [...text.matchAll(/1+/g)]
    .map(({ index, 0: ones }): [number, number] => [
      text.length - 1 - index,
      text.length - index - ones.length,
    ])
    .reverse()
}

function compare(
  readings: readonly Reading[],
  expectedOf: (found: Found) => Expected | undefined,
  json = false,
  source: string | true = true,
): void {
  const unknown: string[] = []
  const differences = readings.flatMap((reading) => {
    const expected = expectedOf(reading)
    if (!expected) unknown.push(reading.entry.name)
    const found = expected && difference(reading, expected)
    return found ? [found] : []
  })
  const [what, where] = source === true ? ['reset value', 'the map'] : ['value', source]
  const compared = readings.length - unknown.length
  if (compared === 0)
    throw accelError(
      'ERR_ACCEL_NOT_FOUND',
      `Nothing could be compared: ${where} has no ${what} of these registers.`,
    )
  if (unknown.length > 0) note(`without a ${what} in ${where}: ${some(unknown)}`)
  if (json) printJson(differences)
  else
    for (const { name, expected, found, fields } of differences) {
      const parts = fields.map((field) => `${field.name}: ${field.expected} -> ${field.found}`)
      process.stdout.write(`${[`${name}  ${expected} -> ${found}`, ...parts].join('  ')}\n`)
    }
  note(
    differences.length === 0
      ? `no difference in ${compared} registers`
      : `${differences.length} of ${compared} registers differ`,
  )
}

/** One register of a saved dump. */
interface Saved {
  readonly bar: number
  readonly name: string
  readonly offset: number
  readonly width: number
  readonly value: string
}

const savedForm = ({ bar, entry: { name, offset, width }, value }: Reading): Saved => ({
  bar,
  name,
  offset,
  width,
  value: hex(value, width / 4),
})

const keyOf = ({ bar, name }: { bar: number; name: string }): string => `${bar}:${name}`

function expectedOf({ bar, entry }: Found, saved: ReadonlyMap<string, Saved>): Expected | undefined {
  const then = saved.get(keyOf({ bar, name: entry.name }))
  if (!then) return undefined
  const value = BigInt(then.value)
  if (then.offset === entry.offset && then.width === entry.width && value >> BigInt(entry.width) === 0n)
    return { value, mask: (1n << BigInt(entry.width)) - 1n }
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `${entry.name} is ${entry.width} bits at ${hex(entry.offset)} of BAR ${bar} now, and was ${then.width} bits at ${hex(then.offset)} with ${then.value}: the dump is of another map.`,
  )
}

function tellMissing(readings: readonly Reading[], saved: ReadonlyMap<string, Saved>, file: string): void {
  const now = new Set(readings.map(({ bar, entry }) => keyOf({ bar, name: entry.name })))
  const gone = [...saved].filter(([key]) => !now.has(key)).map(([, { name }]) => name)
  if (gone.length > 0) note(`only in ${file}: ${some(gone)}`)
}

function saveDump(path: string, readings: readonly Reading[]): void {
  const text = JSON.stringify({ schema: SCHEMA, registers: readings.map(savedForm) }, undefined, 2)
  try {
    writeFileSync(path, `${text}\n`)
  } catch (cause) {
    throw fileError(path, 'written', cause)
  }
  note(`${readings.length} registers are in ${path}`)
}

/** A dump that was saved, by {@link keyOf}. */
function readDump(path: string): ReadonlyMap<string, Saved> {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    throw fileError(path, 'read', cause)
  }
  const wrong = (what: string, cause?: unknown) =>
    accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path} is no dump of uaccel reg dump --save: ${what}.`, {
      cause,
    })
  let dump: { schema?: unknown; registers?: unknown } | null
  try {
    dump = JSON.parse(text) as typeof dump
  } catch (cause) {
    throw wrong('it is no JSON', cause)
  }
  if (dump?.schema !== SCHEMA) throw wrong(`its schema is not ${SCHEMA}`)
  if (!Array.isArray(dump.registers)) throw wrong('it has no list of registers')
  return new Map(
    dump.registers.map((one: Partial<Saved> | null, i) => {
      const isNumber = (value: unknown) => Number.isSafeInteger(value)
      if (
        typeof one?.name !== 'string' ||
        !isNumber(one.bar) ||
        !isNumber(one.offset) ||
        !isNumber(one.width) ||
        !/^0x[0-9a-f]{1,16}$/.test(`${one.value}`)
      )
        throw wrong(`its register ${i} has not the form {bar, name, offset, width, value: "0x..."}`)
      const register = one as Saved
      return [keyOf(register), register]
    }),
  )
}
