import { createHash } from 'node:crypto'
import { accelError } from './errors.js'
import { badDefinition, binaryForm } from './field.js'
import {
  describeFields,
  type Fields,
  type StructCodec,
  type StructInput,
  type StructOutput,
  structCodec,
} from './struct.js'

/** Numbers below this one are the framework's own, for every device. */
export const FIRST_DRIVER_COMMAND = 0x40
/** Command numbers are 16 bits wide. */
const LAST_COMMAND = 0xffff

/** One command as its author writes it: see {@link cmd}. */
export interface CommandDefinition<I extends Fields = Fields, O extends Fields = Fields> {
  readonly number: number
  readonly in: I
  readonly out: O
  readonly concurrent: boolean
  readonly doc: string | undefined
}

/** Commands by name. */
export type CommandDefinitions = Readonly<Record<string, CommandDefinition>>

type Empty = Readonly<Record<never, never>>
type FieldsOf<T> = T extends Fields ? T : Empty

/** What {@link cmd} takes besides the number. */
export interface CommandOptions {
  readonly in?: Fields
  readonly out?: Fields
  readonly concurrent?: boolean
  readonly doc?: string
}

/**
 * A command. `number` is the ABI: explicit, unique, never used again for another one.
 * `in` and `out` are fields by name. A `concurrent` command does not wait for the device's others.
 */
export function cmd<D extends CommandOptions = Empty>(
  number: number,
  options?: D,
): CommandDefinition<FieldsOf<D['in']>, FieldsOf<D['out']>> {
  return {
    number,
    in: (options?.in ?? {}) as FieldsOf<D['in']>,
    out: (options?.out ?? {}) as FieldsOf<D['out']>,
    concurrent: options?.concurrent ?? false,
    doc: options?.doc,
  }
}

/** A command with its codecs. */
export interface Command<I extends Fields = Fields, O extends Fields = Fields> {
  readonly name: string
  readonly number: number
  readonly in: StructCodec<I>
  readonly out: StructCodec<O>
  readonly concurrent: boolean
  readonly doc: string | undefined
}

/** All that a client must know of a kind of device. */
export interface Uapi<C extends CommandDefinitions = CommandDefinitions> {
  readonly name: string
  /** Grows by one when commands or fields are appended. */
  readonly version: number
  readonly commands: { readonly [K in keyof C]: Command<C[K]['in'], C[K]['out']> }
  /** SHA-256 over names, numbers and layouts, in hexadecimal: two sides with the same digest speak the same binary. */
  readonly digest: string
  /** `ERR_ACCEL_UNKNOWN_COMMAND` where there is none. */
  byNumber(number: number): Command
  byName(name: string): Command
}

/** What callers give for command `K` of uAPI `U`. */
export type CommandInput<U, K extends keyof CommandsOf<U>> = StructInput<CommandsOf<U>[K]['in']>
/** What command `K` of uAPI `U` answers. */
export type CommandOutput<U, K extends keyof CommandsOf<U>> = StructOutput<CommandsOf<U>[K]['out']>
/** What a handler of command `K` is given: decoded input. */
export type CommandRequest<U, K extends keyof CommandsOf<U>> = StructOutput<CommandsOf<U>[K]['in']>
/** What a handler of command `K` answers. */
export type CommandReply<U, K extends keyof CommandsOf<U>> = StructInput<CommandsOf<U>[K]['out']>
/** The command definitions of uAPI `U`. */
export type CommandsOf<U> = U extends Uapi<infer C> ? C : never

interface Numbers {
  readonly first: number
  readonly last: number
}

/** Builds a uAPI whose numbers lie within `numbers`; {@link uapi} is the one for drivers. */
export function buildUapi<C extends CommandDefinitions>(
  { name, version, commands }: { readonly name: string; readonly version: number; readonly commands: C },
  numbers: Numbers,
): Uapi<C> {
  if (!/^[a-z][a-z0-9-]{0,30}$/.test(name)) throw badDefinition(`"${name}" is not a name: a-z, 0-9 and -`)
  if (!Number.isInteger(version) || version < 1) throw badDefinition(`version ${version} is not 1 or more`)
  const byNumber = new Map<number, Command>()
  const byName = new Map<string, Command>()
  for (const [key, { number, concurrent, doc, ...fields }] of Object.entries(commands)) {
    const path = `${name}.${key}`
    if (!/^[a-z][A-Za-z0-9]*$/.test(key)) throw badDefinition(`${path} is not a camelCase name`)
    if (!Number.isInteger(number) || number < numbers.first || number > numbers.last) {
      const allowed = `0x${numbers.first.toString(16)} to 0x${numbers.last.toString(16)}`
      throw badDefinition(`${path}: number ${number} is not within ${allowed}`)
    }
    const other = byNumber.get(number)
    if (other) throw badDefinition(`${path} and ${name}.${other.name} have the same number ${number}`)
    const command: Command = {
      name: key,
      number,
      in: structCodec(fields.in, `${path}.in`),
      out: structCodec(fields.out, `${path}.out`),
      concurrent,
      doc,
    }
    for (const { name: field, since } of [...command.in.layout.fields, ...command.out.layout.fields]) {
      if (since !== undefined && since > version) {
        throw badDefinition(`${path}: field ${field} is of version ${since}, the uAPI of ${version}`)
      }
    }
    byNumber.set(number, command)
    byName.set(key, command)
  }
  const known = () => [...byName.values()].map((c) => `${c.name} (0x${c.number.toString(16)})`).join(', ')
  const find = <K>(map: ReadonlyMap<K, Command>, key: K, shown: string): Command => {
    const command = map.get(key)
    if (!command) {
      throw accelError('ERR_ACCEL_UNKNOWN_COMMAND', `${name} has no command ${shown}; it has ${known()}`)
    }
    return command
  }
  return {
    name,
    version,
    commands: Object.fromEntries(byName) as unknown as Uapi<C>['commands'],
    digest: digest(name, [...byNumber.values()]),
    byNumber: (number) =>
      find(byNumber, number, Number.isInteger(number) ? `0x${number.toString(16)}` : `${number}`),
    byName: (key) => find(byName, key, key),
  }
}

/**
 * Defines the interface of a kind of device. Everything that cannot work (a number used twice or out of the
 * driver's range, a field in the wrong place) is refused here, with `ERR_ACCEL_INVALID_ARGUMENT`.
 */
export function uapi<C extends CommandDefinitions>(definition: {
  readonly name: string
  readonly version: number
  readonly commands: C
}): Uapi<C> {
  return buildUapi(definition, { first: FIRST_DRIVER_COMMAND, last: LAST_COMMAND })
}

function digest(name: string, commands: readonly Command[]): string {
  const data = commands
    .toSorted((a, b) => a.number - b.number)
    .map((command) => ({
      number: command.number,
      name: command.name,
      in: describeFields(command.in.layout).map(binaryForm),
      out: describeFields(command.out.layout).map(binaryForm),
    }))
  return createHash('sha256')
    .update(canonicalJson({ name, commands: data }))
    .digest('hex')
}

/** JSON with the keys of each object in order, so that equal data has equal text. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}
