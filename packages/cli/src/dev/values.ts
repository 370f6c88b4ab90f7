import { accelError, type Command, type FieldDescription, type MemberDescription } from '@uaccel/uapi'
import { clip } from '../text.js'

/** Characters of one value, and bytes of one that is binary, which a line of the journal has room for. */
const MOST_CHARACTERS = 100
const MOST_BYTES = 16

/** What a command takes or answers, on one line, for people. */
export function showValue(value: unknown): string {
  return clip(JSON.stringify(value, replaced) ?? '', MOST_CHARACTERS)
}

function replaced(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint')
    return Number.isSafeInteger(Number(value)) ? Number(value) : `0x${value.toString(16)}`
  if (!(value instanceof Uint8Array)) return value
  const shown = Buffer.from(value.buffer, value.byteOffset, Math.min(value.length, MOST_BYTES)).toString(
    'hex',
  )
  return value.length > MOST_BYTES ? `${shown}... (${value.length} bytes)` : shown
}

/** What a command answers, as JSON without loss: 64 bits as a number where one holds them, else as text; bytes in hexadecimal. */
export function answerJson(value: unknown): string {
  return JSON.stringify(value, (_key, each: unknown) => {
    if (typeof each === 'bigint') return Number.isSafeInteger(Number(each)) ? Number(each) : `${each}`
    return each instanceof Uint8Array ? Buffer.from(each).toString('hex') : each
  })
}

/** `factorial {"n":5}`: a command and what it takes. @throws ERR_ACCEL_INVALID_ARGUMENT */
export function parseCommand(text: string): {
  readonly name: string
  readonly input: Record<string, unknown>
} {
  const [, name, json = ''] = /^\s*(\w+)\s*(.*)$/s.exec(text) ?? []
  let input: unknown
  try {
    input = json === '' ? {} : JSON.parse(json)
  } catch (cause) {
    throw badCommand(text, `: ${(cause as Error).message}`, cause)
  }
  if (name === undefined || typeof input !== 'object' || input === null || Array.isArray(input))
    throw badCommand(text, '')
  return { name, input: input as Record<string, unknown> }
}

const badCommand = (text: string, why: string, cause?: unknown) =>
  accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `${JSON.stringify(text)} is no command${why}. Wanted its name and what it takes as JSON: 'factorial {"n":5}'`,
    { cause },
  )

/** JSON in the types that the codec of a command takes: 64 bits may be a number or text, bytes are hexadecimal or a list of numbers. */
export function requestOf(
  command: Command,
  input: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  return structOf(
    command.in.layout.fields.map(({ name, description }) => ({ name, description })),
    input,
  )
}

function structOf(
  fields: readonly { readonly name: string; readonly description: FieldDescription }[],
  input: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const result: Record<string, unknown> = { ...input }
  for (const { name, description } of fields)
    if (Object.hasOwn(input, name)) result[name] = fieldOf(description, input[name])
  return result
}

/** What fits no type is left to the codec, which says what is wrong with it. */
function fieldOf(description: FieldDescription, value: unknown): unknown {
  switch (description.type) {
    case 'u64':
    case 'i64':
      return (typeof value === 'number' && Number.isInteger(value)) ||
        (typeof value === 'string' && /^(-?\d+|0x[0-9a-f]+)$/i.test(value))
        ? BigInt(value)
        : value
    case 'bytes':
      if (Array.isArray(value)) return Uint8Array.from(value as number[])
      return typeof value === 'string' && /^([0-9a-f]{2})*$/i.test(value)
        ? new Uint8Array(Buffer.from(value, 'hex'))
        : value
    case 'array':
      return Array.isArray(value) ? value.map((each) => fieldOf(description.element, each)) : value
    case 'struct':
      return typeof value === 'object' && value !== null
        ? structOf(
            description.fields.map((field: MemberDescription) => ({ name: field.name, description: field })),
            value as Record<string, unknown>,
          )
        : value
    default:
      return value
  }
}
