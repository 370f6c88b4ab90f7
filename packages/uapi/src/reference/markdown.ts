import type { FieldDescription, MemberDescription } from '../field.js'
import type { Command, Uapi } from '../schema.js'
import { describeFields, MAX_TAIL_BYTES, type StructLayout } from '../struct.js'
import { elementsOf, extentOf, gaps, LENGTH_SIZE_BYTES } from './extent.js'
import { commandsOf, type Manner, mannerOf } from './manner.js'

/** The reference page of a uAPI, in Markdown: its commands, where each byte of them lies, and what is refused. */
export function markdownReference(uapi: Uapi): string {
  const manner = mannerOf(uapi)
  const commands = commandsOf(uapi)
  const errors = Object.entries(manner.errors)
  const linked = (name: string) =>
    commands.some((command) => command.name === name) ? `[${name}](#${name.toLowerCase()})` : name
  return `${[
    `# uAPI of ${uapi.name}`,
    `Version ${uapi.version}. Made from its definition by \`uaccel uapi\`: do not edit. For C there is [${uapi.name}.h](${uapi.name}.h).`,
    table(
      ['number', manner.entry, manner.entry === 'command' ? 'what it does' : 'what it says'],
      manner.numbers.map(({ number, name, doc }) => [hex(number), linked(name), doc === name ? '' : doc]),
    ),
    '## Binary form',
    'Numbers are little-endian. Offsets and sizes are in bytes. `bytes` and `string` are a u32 length and room for as many bytes ' +
      'as they may hold, an `array` a u32 count and room for its elements; room that is not used is zero, and counts in the size. ' +
      '`data[].x` is field `x` of element `i` of `data`. SHA-256 of names, numbers and layouts, the `digest` that a node answers:',
    `\`${uapi.digest}\``,
    'A structure grows at its end. One that is shorter, but not shorter than its first version, is extended with zeroes. One that is ' +
      `longer by at most ${MAX_TAIL_BYTES} bytes is taken where they are zero (else \`ERR_ACCEL_RESERVED\`); ` +
      `any other size is \`ERR_ACCEL_BAD_SIZE\`.${manner.entry === 'command' ? ' A number without a command is `ERR_ACCEL_UNKNOWN_COMMAND`.' : ''}`,
    ...(manner.header
      ? ['## header', 'What each message begins with.', ...structure('It has', manner.header)]
      : []),
    ...commands.flatMap((command) => section(command, manner)),
    ...(errors.length > 0
      ? [
          '## Errors',
          'How a refusal or a failure travels between processes.',
          table(
            ['number', 'code', 'errno', 'meaning'],
            errors.map(([code, { number, errno, meaning }]) => [`${number}`, `\`${code}\``, errno, meaning]),
          ),
        ]
      : []),
  ].join('\n\n')}\n`
}

function section({ name, number, doc, concurrent, in: input, out }: Command, manner: Manner): string[] {
  const order = concurrent ? 'It runs beside others of the device.' : 'One at a time for a device.'
  const [takes, answers] =
    manner.entry === 'message'
      ? ['From the client', 'From the server']
      : [manner.entry === 'command' && 'Takes', 'Answers']
  const numbered = manner.numbers.some((entry) => entry.name === name) && `Number ${hex(number)}.`
  return [
    `## ${name}`,
    [numbered, doc && line(doc), manner.ordered && order].filter(Boolean).join(' '),
    ...(takes && (input.layout.sizeBytes > 0 || manner.entry === 'command')
      ? structure(takes, input.layout)
      : []),
    ...structure(answers, out.layout),
  ]
}

function structure(verb: string, layout: StructLayout): string[] {
  const { sizeBytes, minSizeBytes } = layout
  if (sizeBytes === 0) return [`${verb} nothing.`]
  const first = minSizeBytes < sizeBytes ? ` (${minSizeBytes} in the first version)` : ''
  return [
    `${verb} ${sizeBytes} byte${sizeBytes === 1 ? '' : 's'}${first}:`,
    table(
      ['offset', 'size', 'field', 'type', 'since', 'meaning', 'refused'],
      rows(describeFields(layout), sizeBytes, { offset: 0, steps: [], path: '' }),
    ),
  ]
}

/** Where a structure lies within that of its command. */
interface Base {
  readonly offset: number
  /** Bytes between elements of each array around it. */
  readonly steps: readonly number[]
  readonly path: string
}

function rows(fields: readonly MemberDescription[], sizeBytes: number, base: Base): string[][] {
  const reserved = gaps(fields, sizeBytes).map(([from, to]) => ({
    offset: from,
    rows: [reservedRow(base, from, to - from)],
  }))
  const members = fields.map((field) => ({ offset: field.offset, rows: fieldRows(field, base) }))
  return [...members, ...reserved].sort((a, b) => a.offset - b.offset).flatMap((part) => part.rows)
}

function fieldRows(field: MemberDescription, base: Base): string[][] {
  const place: Base = { ...base, offset: base.offset + field.offset, path: `${base.path}${field.name}` }
  const { type, refused } = facts(field)
  const row = [
    at(place),
    `${extentOf(field).sizeBytes}`,
    `\`${place.path}\``,
    type,
    `${field.since ?? 1}`,
    line(field.doc ?? ''),
    refused,
  ]
  return [row, ...inner(field, place)]
}

/** The rows of what a field is made of. */
function inner(description: FieldDescription, place: Base): string[][] {
  if (description.type === 'struct') {
    const { sizeBytes } = extentOf(description)
    return rows(description.fields, sizeBytes, { ...place, path: `${place.path}.` })
  }
  if (description.type !== 'array') return []
  const { element } = description
  const { startBytes, strideBytes } = elementsOf(element)
  const padding =
    startBytes > LENGTH_SIZE_BYTES
      ? [reservedRow(place, LENGTH_SIZE_BYTES, startBytes - LENGTH_SIZE_BYTES)]
      : []
  const first: Base = {
    offset: place.offset + startBytes,
    steps: [...place.steps, strideBytes],
    path: `${place.path}[]`,
  }
  const { sizeBytes } = extentOf(element)
  const { type, refused } = facts(element)
  const row = [at(first), `${sizeBytes}`, `\`${first.path}\``, type, '', line(element.doc ?? ''), refused]
  const end = strideBytes > sizeBytes ? [reservedRow(first, sizeBytes, strideBytes - sizeBytes)] : []
  return [...padding, row, ...inner(element, first), ...end]
}

function reservedRow(base: Base, from: number, sizeBytes: number): string[] {
  const place = at({ ...base, offset: base.offset + from })
  return [place, `${sizeBytes}`, 'reserved', '', '', 'zero', 'not zero: `ERR_ACCEL_RESERVED`']
}

/** `8`, or within arrays `8 + 16 i`. */
const at = ({ offset, steps }: Base) =>
  [`${offset}`, ...steps.map((step, depth) => `${step} ${'ijklmnopqrstuvwxyz'[depth] ?? `i${depth}`}`)].join(
    ' + ',
  )

/** Type and refusals as `compile` of each field has them. */
function facts(description: FieldDescription): { type: string; refused: string } {
  const { type } = description
  switch (type) {
    case 'flags':
      return {
        type: `flags: ${numbers(description.bits, (bit) => `bit ${bit}`)}`,
        refused: 'any other bit: `ERR_ACCEL_BAD_FLAGS`',
      }
    case 'enumeration':
      return {
        type: `enumeration: ${numbers(description.values, String)}`,
        refused: 'any other number: `ERR_ACCEL_OUT_OF_RANGE`',
      }
    case 'bytes':
    case 'string':
      return {
        type: `${type}, at most ${description.max}`,
        refused:
          'a longer one: `ERR_ACCEL_OUT_OF_RANGE`; unused room not zero: `ERR_ACCEL_RESERVED`' +
          (type === 'string' ? '; not UTF-8: `ERR_ACCEL_INVALID_ARGUMENT`' : ''),
      }
    case 'array':
      return {
        type: `array, at most ${description.max}`,
        refused: 'more elements: `ERR_ACCEL_OUT_OF_RANGE`; unused room not zero: `ERR_ACCEL_RESERVED`',
      }
    case 'bool':
      return { type, refused: 'other than 0 and 1: `ERR_ACCEL_OUT_OF_RANGE`' }
    case 'handle':
      return { type: `handle of a ${line(description.kind)}, 0 is none`, refused: '' }
    case 'fd':
      return {
        type: 'fd: place among the descriptors beside, 0 is none',
        refused: 'a place beyond them: `ERR_ACCEL_OUT_OF_RANGE`',
      }
    default:
      return 'min' in description
        ? {
            type: `${type}, ${description.min} to ${description.max}`,
            refused: 'any other number: `ERR_ACCEL_OUT_OF_RANGE`',
          }
        : { type, refused: '' }
  }
}

const numbers = (values: Readonly<Record<string, number>>, show: (number: number) => string) =>
  Object.entries(values)
    .map(([name, number]) => `${show(number)} \`${line(name).replaceAll('`', "'")}\``)
    .join(', ')

/** Text on one line. */
const line = (text: string) => text.replace(/[\p{C}\s]+/gu, ' ').trim()

function table(head: readonly string[], body: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[]) =>
    `| ${cells.map((cell) => line(cell).replaceAll('|', '\\|')).join(' | ')} |`
  return [row(head), row(head.map(() => '---')), ...body.map(row)].join('\n')
}

const hex = (number: number) => `\`0x${number.toString(16).padStart(2, '0')}\``
