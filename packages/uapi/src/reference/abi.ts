import { accelError } from '../errors.js'
import { binaryForm, type FieldDescription, type MemberDescription } from '../field.js'
import type { Uapi } from '../schema.js'
import { describeFields, type StructLayout } from '../struct.js'
import { extentOf, gaps } from './extent.js'
import { commandsOf, mannerOf } from './manner.js'

/** Version of the form of a snapshot itself. */
const FORMAT = 1

/** A range that no field covers: zero. */
export interface AbiGap {
  readonly offset: number
  readonly sizeBytes: number
}

/** A field in a structure: `offset` counts from the beginning of that structure. */
export type AbiField = MemberDescription & { readonly sizeBytes: number }

/** The binary form of what a command takes or answers. */
export interface AbiStruct {
  readonly sizeBytes: number
  /** What the shortest accepted structure has: the size of the first version. */
  readonly minSizeBytes: number
  readonly fields: readonly AbiField[]
  readonly reserved: readonly AbiGap[]
}

/** The binary form of a command. */
export interface AbiCommand {
  readonly number: number
  readonly name: string
  readonly in: AbiStruct
  readonly out: AbiStruct
}

/** All that programs built against a uAPI rely on, as plain data: what a snapshot holds. */
export interface Abi {
  readonly format: number
  readonly name: string
  readonly version: number
  readonly digest: string
  /** By number. */
  readonly commands: readonly AbiCommand[]
  /** Numbers of error codes: with the common commands only, whose they are. */
  readonly errors?: Readonly<Record<string, number>>
}

/** The binary form of a uAPI. */
export function abiOf(uapi: Uapi): Abi {
  const errors = Object.entries(mannerOf(uapi).errors).map(([code, { number }]) => [code, number] as const)
  return {
    format: FORMAT,
    name: uapi.name,
    version: uapi.version,
    digest: uapi.digest,
    commands: commandsOf(uapi).map(({ number, name, in: input, out }) => ({
      number,
      name,
      in: structOf(input.layout),
      out: structOf(out.layout),
    })),
    ...(errors.length > 0 ? { errors: Object.fromEntries(errors) } : {}),
  }
}

function structOf(layout: StructLayout): AbiStruct {
  const { sizeBytes, minSizeBytes } = layout
  const fields = describeFields(layout)
  return {
    sizeBytes,
    minSizeBytes,
    fields: fields.map(binaryForm).map(fieldOf),
    reserved: gaps(fields, sizeBytes).map(([from, to]) => ({ offset: from, sizeBytes: to - from })),
  }
}

function fieldOf(field: MemberDescription): AbiField {
  const { name, offset, since, ...type } = field
  return {
    name,
    offset,
    sizeBytes: extentOf(field).sizeBytes,
    ...(since === undefined ? {} : { since }),
    ...withSizes(type as FieldDescription),
  }
}

function withSizes(type: FieldDescription): FieldDescription {
  if (type.type === 'struct') return { ...type, fields: type.fields.map(fieldOf) }
  if (type.type === 'array') return { ...type, element: withSizes(type.element) }
  return type
}

/** The text of a snapshot: equal where the binary form is. */
export function formatAbi(abi: Abi): string {
  return `${JSON.stringify(abi, null, 2)}\n`
}

/** Reads the text of a snapshot; `from` names it in errors (`ERR_ACCEL_INVALID_ARGUMENT`, `ERR_ACCEL_VERSION`). */
export function parseAbi(text: string, from: string): Abi {
  let data: unknown
  try {
    data = JSON.parse(text)
  } catch (cause) {
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${from} is no JSON: take it back from version control.`, {
      cause,
    })
  }
  if (!isRecord(data) || !Number.isInteger(data.format)) throw noSnapshot(from, 'it has no "format"')
  if (data.format !== FORMAT) {
    throw accelError(
      'ERR_ACCEL_VERSION',
      `${from} has format ${data.format}, and this version of uaccel reads ${FORMAT}: use the one that wrote it.`,
    )
  }
  const { name, version, commands } = data
  if (typeof name !== 'string' || !Number.isInteger(version) || !Array.isArray(commands)) {
    throw noSnapshot(from, 'it wants "name", "version" and "commands"')
  }
  for (const command of commands) {
    const whole = isRecord(command) && typeof command.name === 'string' && Number.isInteger(command.number)
    if (!whole || !isStruct(command.in) || !isStruct(command.out)) {
      throw noSnapshot(from, 'each command wants "name", "number", "in" and "out" with "fields"')
    }
  }
  return data as unknown as Abi
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null

const isStruct = (value: unknown) =>
  isRecord(value) &&
  Array.isArray(value.fields) &&
  value.fields.every((field) => isRecord(field) && typeof field.name === 'string')

const noSnapshot = (from: string, problem: string) =>
  accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `${from} is no ABI snapshot: ${problem}. Take it back from version control.`,
  )
