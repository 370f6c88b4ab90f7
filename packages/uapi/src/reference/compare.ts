import { accelError } from '../errors.js'
import type { FieldDescription, IntDescription } from '../field.js'
import type { Abi, AbiCommand, AbiField } from './abi.js'

/** One difference between two versions of a uAPI. */
export interface AbiChange {
  /** True where programs that were built against the former one stop working; else it only grows. */
  readonly breaks: boolean
  /** What changed, such as `edu.factorial.in.n`. */
  readonly where: string
  readonly what: string
}

/**
 * Who writes: clients fill `in`, servers fill `out`. The other side refuses values that it does not know, so `in` may
 * learn new values, since no older client sends them, and `out` may not, since older clients refuse them.
 */
type Direction = 'in' | 'out'

type Found = (breaks: boolean, where: string, what: string) => void

/** What changed from `before` to `now`. */
export function compareAbi(before: Abi, now: Abi): readonly AbiChange[] {
  const changes: AbiChange[] = []
  const found: Found = (breaks, where, what) => changes.push({ breaks, where, what })
  const { name } = before
  if (now.name !== name) found(true, name, `is now named ${now.name}`)
  if (now.version < before.version) {
    found(true, name, `went back from version ${before.version} to ${now.version}`)
  }
  compareCommands(before, now, found)
  if (
    now.version === before.version &&
    now.digest !== before.digest &&
    !changes.some(({ breaks }) => breaks)
  ) {
    // Two sides of one version are held against each other by their digests.
    found(true, name, `changed and is still version ${now.version}: make it ${now.version + 1}`)
  }
  for (const [code, number] of Object.entries(before.errors ?? {})) {
    const other = now.errors?.[code]
    if (other === undefined) found(true, code, `(error ${number}) is gone`)
    else if (other !== number) found(true, code, `was error ${number} and is ${other}`)
  }
  for (const [code, number] of Object.entries(now.errors ?? {})) {
    if (before.errors?.[code] === undefined) found(false, code, `is new, as error ${number}`)
  }
  return changes
}

function compareCommands(before: Abi, now: Abi, found: Found): void {
  for (const command of before.commands) {
    const where = `${before.name}.${command.name}`
    const same = now.commands.find(({ number }) => number === command.number)
    const moved = now.commands.find(({ name }) => name === command.name)
    if (same?.name === command.name) {
      for (const way of ['in', 'out'] as const) {
        const fields = { before: command[way].fields, now: same[way].fields }
        const grows = { version: before.version, sizeBytes: command[way].sizeBytes }
        compareFields(fields, { where: `${where}.${way}`, way, grows, found })
      }
    } else if (moved) found(true, where, `had number ${hex(command)} and has ${hex(moved)}`)
    else if (same) found(true, where, `(${hex(command)}) is now named ${same.name}`)
    else found(true, where, `(${hex(command)}) is gone`)
  }
  const known = (command: AbiCommand) =>
    before.commands.some(({ name, number }) => name === command.name || number === command.number)
  for (const command of now.commands) {
    if (!known(command)) found(false, `${before.name}.${command.name}`, `is new, as ${hex(command)}`)
  }
}

interface Place {
  readonly where: string
  readonly way: Direction
  /** The version before and its size; `undefined` within structures that cannot grow. */
  readonly grows: { readonly version: number; readonly sizeBytes: number } | undefined
  readonly found: Found
}

function compareFields(
  fields: { readonly before: readonly AbiField[]; readonly now: readonly AbiField[] },
  place: Place,
): void {
  const { found, grows, way } = place
  const renamed = new Set<AbiField>()
  for (const field of fields.before) {
    const where = `${place.where}.${field.name}`
    const same = fields.now.find(({ name }) => name === field.name)
    if (same === undefined) {
      const heir = fields.now.find(
        ({ name, offset }) => offset === field.offset && fields.before.every((other) => other.name !== name),
      )
      if (heir) renamed.add(heir)
      found(true, where, heir ? `is now named ${heir.name}` : 'is gone')
      continue
    }
    if (same.offset !== field.offset) {
      found(true, where, `moved from byte ${field.offset} to ${same.offset}`)
    }
    if (same.since !== field.since) {
      found(true, where, `was of version ${field.since ?? 1} and is of ${same.since ?? 1}`)
    }
    compareTypes(field, same, { ...place, where })
  }
  for (const field of fields.now) {
    if (renamed.has(field) || fields.before.some(({ name }) => name === field.name)) continue
    const where = `${place.where}.${field.name}`
    if (grows === undefined) {
      found(true, where, 'is new in a structure within another, which cannot grow')
    } else if ((field.since ?? 1) <= grows.version) {
      const { version } = grows
      found(true, where, `is new, but not by added(${version + 1}, ...): version ${version} did not have it`)
    } else if (way === 'out' && field.offset < grows.sizeBytes) {
      // An older client cuts an answer to the size that it knows, and wants padding within that to be zero.
      const within = `the ${grows.sizeBytes} bytes that version ${grows.version} has`
      found(true, where, `is new at byte ${field.offset}, within ${within}: older clients refuse the answer`)
    } else found(false, where, `is new in version ${field.since}`)
  }
}

function compareTypes(before: FieldDescription, now: FieldDescription, place: Place): void {
  const { where, found } = place
  if (isInt(before) && isInt(now) && before.type === now.type) compareRanges(before, now, place)
  else if (before.type === 'flags' && now.type === 'flags')
    compareNumbers('flag', before.bits, now.bits, place)
  else if (before.type === 'enumeration' && now.type === 'enumeration')
    compareNumbers('value', before.values, now.values, place)
  else if (before.type === 'struct' && now.type === 'struct') {
    const fields = { before: before.fields as readonly AbiField[], now: now.fields as readonly AbiField[] }
    compareFields(fields, { ...place, grows: undefined })
  } else if ('max' in before && 'max' in now && before.type === now.type) {
    if (before.max !== now.max) found(true, where, `held at most ${before.max} and holds ${now.max}`)
    if (before.type === 'array' && now.type === 'array') {
      compareTypes(before.element, now.element, { ...place, where: `${where}[]` })
    }
  } else if (named(before) !== named(now)) found(true, where, `was ${named(before)} and is ${named(now)}`)
}

const isInt = (type: FieldDescription): type is IntDescription => /^[ui](8|16|32)$/.test(type.type)

const named = (type: FieldDescription) => (type.type === 'handle' ? `handle('${type.kind}')` : type.type)

function compareRanges(before: IntDescription, now: IntDescription, { where, way, found }: Place): void {
  const least = { before: before.min ?? -Infinity, now: now.min ?? -Infinity }
  const most = { before: before.max ?? Infinity, now: now.max ?? Infinity }
  const wider = least.now < least.before || most.now > most.before
  const narrower = least.now > least.before || most.now < most.before
  const what = `took ${shown(before)} and takes ${shown(now)}`
  if (wider || narrower) found(way === 'in' ? narrower : wider, where, what)
}

const shown = ({ type, min, max }: IntDescription) => (min === undefined ? `any ${type}` : `${min} to ${max}`)

function compareNumbers(
  kind: string,
  before: Readonly<Record<string, number>>,
  now: Readonly<Record<string, number>>,
  { where, way, found }: Place,
): void {
  for (const [name, number] of Object.entries(before)) {
    const other = Object.hasOwn(now, name) ? now[name] : undefined
    if (other === undefined) found(true, where, `${kind} ${name} (${number}) is gone`)
    else if (other !== number) found(true, where, `${kind} ${name} was ${number} and is ${other}`)
  }
  for (const [name, number] of Object.entries(now)) {
    if (Object.hasOwn(before, name)) continue
    const refused = way === 'out' ? ', which older clients refuse in an answer' : ''
    found(way === 'out', where, `${kind} ${name} (${number}) is new${refused}`)
  }
}

/**
 * `ERR_ACCEL_VERSION` where a program built against `before` stops working with `now`. `rewrite` is the command that
 * writes the snapshot, for the message.
 */
export function requireCompatible(before: Abi, now: Abi, rewrite: string): void {
  const changes = compareAbi(before, now).filter(({ breaks }) => breaks)
  if (changes.length === 0) return
  const { name, version } = before
  const next = Math.max(...[before, now].flatMap(({ commands }) => commands.map(({ number }) => number)), 0)
  throw accelError(
    'ERR_ACCEL_VERSION',
    `The uAPI ${name} no longer has the ABI of its snapshot, version ${version}, and breaks programs that were built against it:\n` +
      `${listed(changes)}\nLeave what is there as it was and append: a command with a number of its own` +
      ` (0x${(next + 1).toString(16)} is free), a field at the end of its structure with added(${version + 1}, ...).` +
      ` If nobody has that version yet, write the snapshot anew: ${rewrite} --force`,
    { details: { changes } },
  )
}

/** One change a line. */
export const listed = (changes: readonly AbiChange[]) =>
  changes.map(({ where, what }) => `  ${where} ${what}`).join('\n')

const hex = ({ number }: AbiCommand) => `0x${number.toString(16)}`
