import type { FieldDescription, MemberDescription } from '../field.js'
import type { Command, Uapi } from '../schema.js'
import { describeFields, type StructLayout } from '../struct.js'
import { CNames, snake, upper } from './c-names.js'
import { elementsOf, extentOf, gaps, LENGTH_SIZE_BYTES, sizeByVersion } from './extent.js'
import { commandsOf, type Manner, mannerOf, type NamedNumber } from './manner.js'

/**
 * The C11 header of a uAPI, in the manner of the kernel's `include/uapi/drm`: a constant for each command, a structure for
 * what it takes and one for what it answers, and assertions that hold the layout on the compiler that reads it.
 * It needs <assert.h>, <stddef.h> and <stdint.h>, and compiles as C++11 too.
 *
 * Names are `uaccel_UAPI_COMMAND_in`, `_out`, and `UACCEL_UAPI_...`, in snake_case. Where C has the name already, an
 * underscore follows it.
 */
export function cHeader(uapi: Uapi): string {
  return new Header(uapi).text()
}

/** A member of a structure of C. */
interface Member {
  readonly name: string
  readonly type: string
  /** Elements, where it is an array. */
  readonly count?: number
  readonly offset: number
  readonly about: readonly (string | undefined)[]
}

const types = {
  u8: 'uint8_t',
  u16: 'uint16_t',
  u32: 'uint32_t',
  u64: 'uint64_t',
  i8: 'int8_t',
  i16: 'int16_t',
  i32: 'int32_t',
  i64: 'int64_t',
  f32: 'float',
  bool: 'uint8_t',
  flags: 'uint32_t',
  enumeration: 'uint32_t',
  handle: 'uint32_t',
  fd: 'uint32_t',
} as const

class Header {
  readonly #uapi: Uapi
  readonly #manner: Manner
  readonly #tags = new CNames('prefixed')
  readonly #constants = new CNames('prefixed')
  readonly #tag: string
  readonly #constant: string
  readonly #parts: string[] = []

  constructor(uapi: Uapi) {
    this.#uapi = uapi
    this.#manner = mannerOf(uapi)
    this.#tag = `uaccel_${snake(uapi.name)}`
    this.#constant = `UACCEL_${upper(uapi.name)}`
  }

  text(): string {
    const uapi = this.#uapi
    const guard = this.#constants.claim(`${this.#constant}_UAPI_H`)
    this.#parts.push(
      comment([
        `uAPI of ${uapi.name}, version ${uapi.version}. Made from its definition by \`uaccel uapi\`: do not edit.`,
        '',
        'Numbers are little-endian, on every machine. What is reserved or unused is zero, or the structure is refused ' +
          '(ERR_ACCEL_RESERVED). A structure grows at its end: a shorter one of an older version is extended with ' +
          'zeroes, a longer one is taken while what is not known of it is zero.',
      ]),
      `#ifndef ${guard}\n#define ${guard}`,
      '#include <assert.h>\n#include <stddef.h>\n#include <stdint.h>',
      '#if defined(__cplusplus)\nextern "C" {\n#endif',
      this.#about(),
      this.#errors(),
      ...this.#manner.constants.map(({ name, number, doc }) =>
        this.#define(`${this.#constant}_${upper(name)}`, `${number}`, doc),
      ),
      ...this.#manner.numbers.map((entry) => this.#define(this.#name(entry), hex(entry.number), entry.doc)),
    )
    const { header } = this.#manner
    if (header) {
      const fields = describeFields(header)
      const tag = `${this.#tag}_header`
      this.#struct(
        tag,
        `${this.#constant}_HEADER`,
        'what each message begins with; its payload follows',
        fields,
        header.sizeBytes,
      )
    }
    for (const command of commandsOf(uapi)) {
      this.#command(command, 'in', command.in.layout)
      this.#command(command, 'out', command.out.layout)
    }
    this.#parts.push('#if defined(__cplusplus)\n}\n#endif', `#endif /* ${guard} */`)
    return `${this.#parts.filter((part) => part !== '').join('\n\n')}\n`
  }

  #about(): string {
    const { version, digest } = this.#uapi
    const lines = (digest.match(/.{16}/g) ?? []).map((part) => `\t"${part.replace(/../g, '\\x$&')}"`)
    return [
      this.#define(`${this.#constant}_UAPI_VERSION`, `${version}`),
      this.#define(
        `${this.#constant}_UAPI_DIGEST`,
        `\\\n${lines.join(' \\\n')}`,
        'The 32 bytes that a node of the same binary form answers as `digest`.',
      ),
    ].join('\n\n')
  }

  #errors(): string {
    return Object.entries(this.#manner.errors)
      .map(([code, { number, errno, meaning }]) =>
        this.#define(code, `${number}`, `${errno}: ${meaning}`, true),
      )
      .join('\n')
  }

  /** `value` may hold lines, each but the last ending in a backslash. */
  #define(name: string, value: string, about?: string, beside = false): string {
    const line = `#define ${this.#constants.claim(name)} ${value}`
    if (about === undefined) return line
    return beside ? `${line} /* ${plain(about)} */` : `${comment([about])}\n${line}`
  }

  /** The constant of an entry. */
  #name({ name }: Pick<NamedNumber, 'name'>): string {
    return `${this.#constant}_${this.#manner.prefix}_${upper(name)}`
  }

  #command(command: Command, way: 'in' | 'out', layout: StructLayout): void {
    const constant = `${this.#constant}_${upper(command.name)}_${upper(way)}`
    const versions = sizeByVersion(layout)
    if (layout.sizeBytes > 0) {
      this.#struct(
        `${this.#tag}_${snake(command.name)}_${way}`,
        constant,
        this.#manner.role(command, way, this.#name(command)),
        describeFields(layout),
        layout.sizeBytes,
      )
    }
    if (versions.length < 2) return
    const sizes = versions.map(({ version, sizeBytes }) =>
      this.#define(`${constant}_SIZE_V${version}`, `${sizeBytes}`),
    )
    this.#parts.push([comment(['Its bytes in each version that it grew in.']), ...sizes].join('\n'))
  }

  /** Adds a structure, after those within it. Answers its tag. */
  #struct(
    wanted: string,
    constant: string,
    role: string,
    fields: readonly MemberDescription[],
    sizeBytes: number,
  ): string {
    const tag = this.#tags.claim(wanted)
    const names = new CNames('members')
    const members = fields.flatMap((field) =>
      this.#members(field, names, `${tag}_${snake(field.name)}`, `${constant}_${upper(field.name)}`),
    )
    const reserve = ([from, to]: readonly [number, number]): Member => ({
      name: names.claim(`reserved_${from}`),
      type: 'uint8_t',
      count: to - from,
      offset: from,
      about: ['Zero.'],
    })
    const all = [...members, ...gaps(fields, sizeBytes).map(reserve)].sort((a, b) => a.offset - b.offset)
    this.#parts.push(
      [
        kernelDoc(
          `struct ${tag} - ${role}`,
          all.map(({ name, about }) => [name, about.filter(Boolean).join(' ')]),
        ),
        `struct ${tag} {`,
        ...all.map(({ name, type, count }) => `\t${type} ${name}${count === undefined ? '' : `[${count}]`};`),
        '};',
        assertion('size', `sizeof(struct ${tag})`, sizeBytes),
        ...all.map(({ name, offset }) => assertion('offset', `offsetof(struct ${tag}, ${name})`, offset)),
      ].join('\n'),
    )
    return tag
  }

  /** The members of a field: one, or for what has a length that and its room. */
  #members(field: MemberDescription, names: CNames, tag: string, constant: string): Member[] {
    const { offset } = field
    const since = field.since === undefined ? undefined : `Since version ${field.since}.`
    const about = [field.doc, ...this.#values(field, constant), since]
    const name = snake(field.name)
    switch (field.type) {
      case 'bytes':
      case 'string': {
        const room = names.claim(name)
        return [
          {
            name: names.claim(`${name}_length`),
            type: 'uint32_t',
            offset,
            about: [`Bytes of @${room}: at most ${field.max}.`],
          },
          {
            name: room,
            type: field.type === 'string' ? 'char' : 'uint8_t',
            count: field.max,
            offset: offset + LENGTH_SIZE_BYTES,
            about,
          },
        ]
      }
      case 'array': {
        const { startBytes } = elementsOf(field.element)
        const room = names.claim(name)
        const members: Member[] = [
          {
            name: names.claim(`${name}_count`),
            type: 'uint32_t',
            offset,
            about: [`Elements of @${room}: at most ${field.max}.`],
          },
        ]
        if (startBytes > LENGTH_SIZE_BYTES) {
          members.push({
            name: names.claim(`reserved_${offset + LENGTH_SIZE_BYTES}`),
            type: 'uint8_t',
            count: startBytes - LENGTH_SIZE_BYTES,
            offset: offset + LENGTH_SIZE_BYTES,
            about: ['Zero.'],
          })
        }
        const type = this.#element(field.element, tag, constant)
        return [...members, { name: room, type, count: field.max, offset: offset + startBytes, about }]
      }
      default:
        return [{ name: names.claim(name), type: this.#element(field, tag, constant), offset, about }]
    }
  }

  /** The type of a field on its own. What has a length becomes a structure, with the field named `value`. */
  #element(description: FieldDescription, tag: string, constant: string): string {
    const { type } = description
    if (type === 'struct') {
      const { sizeBytes } = extentOf(description)
      return `struct ${this.#struct(tag, constant, 'a part of the structure that follows', description.fields, sizeBytes)}`
    }
    if (type === 'bytes' || type === 'string' || type === 'array') {
      const { strideBytes } = elementsOf(description)
      const field = { ...description, name: 'value', offset: 0 }
      return `struct ${this.#struct(tag, constant, 'an element of the structure that follows', [field], strideBytes)}`
    }
    return types[type]
  }

  /** What a member may hold, in words; constants are added where it has some. */
  #values(description: FieldDescription, constant: string): string[] {
    switch (description.type) {
      case 'flags':
        this.#list(
          `Flags: bits of ${constant}.`,
          constant,
          description.bits,
          (bit) => `(UINT32_C(1) << ${bit})`,
        )
        return [`Bits of ${constant}_*.`]
      case 'enumeration':
        this.#list(`Values of ${constant}.`, constant, description.values, (value) => `UINT32_C(${value})`)
        return [`One of ${constant}_*.`]
      case 'array':
        return [...this.#values(description.element, constant), 'Zero where unused.']
      case 'bytes':
        return ['Zero where unused.']
      case 'string':
        return ['UTF-8, not terminated, zero where unused.']
      case 'bool':
        return ['0 or 1.']
      case 'handle':
        return [`A handle of a ${description.kind}; 0 is none.`]
      case 'fd':
        return ['Place among the descriptors that travel beside the structure, from 1 on; 0 is none.']
      default:
        return 'min' in description ? [`${description.min} to ${description.max}.`] : []
    }
  }

  #list(
    about: string,
    prefix: string,
    numbers: Readonly<Record<string, number>>,
    value: (number: number) => string,
  ): void {
    const lines = Object.entries(numbers).map(([name, number]) =>
      this.#define(`${prefix}_${upper(name)}`, value(number)),
    )
    if (lines.length > 0) this.#parts.push([comment([about]), ...lines].join('\n'))
  }
}

/** Text that ends no comment, begins none, has no trigraph, stays on its line, and names members as C does. */
const plain = (text: string) =>
  text
    .replace(/`([a-z]\w*)`/g, (_, name: string) => `\`${snake(name)}\``)
    .replace(/[\p{C}\s]+/gu, ' ')
    .replace(/\*(?=\/)/g, '* ')
    .replace(/\/(?=\*)/g, '/ ')
    .replace(/\?(?=\?)/g, '? ')
    .trim()

const WIDTH = 96

/** Lines of at most {@link WIDTH} where words allow it. */
function wrap(text: string, first: string, rest: string): string[] {
  const lines: string[] = []
  let line = first
  let empty = true
  for (const word of plain(text).split(' ')) {
    if (!empty && line.length + 1 + word.length > WIDTH) {
      lines.push(line)
      line = rest
      empty = true
    }
    line += empty ? word : ` ${word}`
    empty = false
  }
  return [...lines, line.trimEnd()]
}

function comment(paragraphs: readonly string[]): string {
  const [only] = paragraphs
  if (paragraphs.length === 1 && plain(only).length < WIDTH - 6) return `/* ${plain(only)} */`
  return ['/*', ...paragraphs.flatMap((text) => wrap(text, ' * ', ' * ')), ' */'].join('\n')
}

function kernelDoc(head: string, members: readonly (readonly [name: string, about: string])[]): string {
  return [
    '/**',
    ...wrap(head, ' * ', ' * '),
    ...members.flatMap(([name, about]) => wrap(`@${name}: ${about}`, ' * ', ' *\t')),
    ' */',
  ].join('\n')
}

const assertion = (what: 'size' | 'offset', found: string, wanted: number) =>
  `static_assert(${found} == ${wanted}, "${what}");`

const hex = (number: number) => `0x${number.toString(16).padStart(4, '0')}`
