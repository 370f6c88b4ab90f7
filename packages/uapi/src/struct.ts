import {
  type AnyField,
  badDefinition,
  type Field,
  type FieldCodec,
  type FieldDescription,
  type MemberDescription,
  refuse,
  requireZero,
  type Sink,
  type Source,
  show,
} from './field.js'

/** Fields by name, in the order of the layout. */
export type Fields = Readonly<Record<string, AnyField>>

/** What an encoder takes for field `F`. */
export type Input<F> = F extends Field<infer I, infer _O> ? I : never
/** What a decoder gives for field `F`. */
export type Output<F> = F extends Field<infer _I, infer O> ? O : never

type AddedNames<F extends Fields> = { [K in keyof F]: F[K]['since'] extends number ? K : never }[keyof F]
type Flatten<T> = { readonly [K in keyof T]: T[K] }

/** What callers give: every field, except that those {@link added} later may be left out. */
export type StructInput<F extends Fields> = string extends keyof F
  ? Readonly<Record<string, unknown>>
  : Flatten<{ [K in Exclude<keyof F, AddedNames<F>>]: Input<F[K]> } & { [K in AddedNames<F>]?: Input<F[K]> }>
/** What a decoder gives: every field. */
export type StructOutput<F extends Fields> = string extends keyof F
  ? Readonly<Record<string, unknown>>
  : { readonly [K in keyof F]: Output<F[K]> }

/** Where a field lies. */
export interface FieldLayout {
  readonly name: string
  readonly offset: number
  readonly sizeBytes: number
  readonly alignBytes: number
  readonly since: number | undefined
  readonly description: FieldDescription
}

/** Where everything lies. What no field covers is reserved and zero. */
export interface StructLayout {
  readonly fields: readonly FieldLayout[]
  readonly sizeBytes: number
  /** Size of the first version: what the shortest accepted structure has. */
  readonly minSizeBytes: number
  readonly alignBytes: number
  /** Reserved ranges, as [from, to). */
  readonly reserved: readonly (readonly [from: number, to: number])[]
}

export const alignUp = (offset: number, alignBytes: number) => Math.ceil(offset / alignBytes) * alignBytes

/** An older peer sends nothing for an added field, which is read as zero. */
function requireZeroIsValid(field: AnyField, path: string): void {
  const bytes = new Uint8Array(field.sizeBytes)
  try {
    field.compile(path).read({ bytes, view: new DataView(bytes.buffer), fds: [] }, 0)
  } catch (cause) {
    throw badDefinition(`${path} is added later, so zero must be a valid value of it`, cause)
  }
}

/** Places fields one after the other at their natural alignment; the whole is padded to the largest of them. */
export function layOut(fields: Fields, path: string): StructLayout {
  const placed: FieldLayout[] = []
  const reserved: [number, number][] = []
  let end = 0
  let alignBytes = 1
  let minSizeBytes: number | undefined
  let version = 1
  for (const [name, field] of Object.entries(fields)) {
    if (!/^[a-z][A-Za-z0-9]*$/.test(name)) {
      throw badDefinition(`${path}.${name} is not a camelCase name`)
    }
    const since = field.since ?? 1
    if (since < version)
      throw badDefinition(`${path}.${name}: a field can only be appended after the older ones`)
    if (since > 1 && minSizeBytes === undefined) minSizeBytes = alignUp(end, alignBytes)
    version = since
    if (since > 1) requireZeroIsValid(field, `${path}.${name}`)
    alignBytes = Math.max(alignBytes, field.alignBytes)
    const offset = alignUp(end, field.alignBytes)
    if (offset > end) reserved.push([end, offset])
    placed.push({
      name,
      offset,
      sizeBytes: field.sizeBytes,
      alignBytes: field.alignBytes,
      since: field.since,
      description: field.description,
    })
    end = offset + field.sizeBytes
  }
  const sizeBytes = alignUp(end, alignBytes)
  if (sizeBytes > end) reserved.push([end, sizeBytes])
  return { fields: placed, sizeBytes, minSizeBytes: minSizeBytes ?? sizeBytes, alignBytes, reserved }
}

function compileStruct<F extends Fields>(
  fields: F,
  layout: StructLayout,
  path: string,
): FieldCodec<StructInput<F>, StructOutput<F>> {
  const members = layout.fields.map(({ name, offset, since }) => ({
    name,
    offset,
    optional: since !== undefined,
    codec: fields[name].compile(`${path}.${name}`) as FieldCodec<unknown, unknown>,
  }))
  const names = new Set(members.map(({ name }) => name))
  return {
    write(sink, base, value) {
      if (typeof value !== 'object' || value === null) {
        throw refuse('ERR_ACCEL_INVALID_ARGUMENT', path, `wants an object, found ${show(value)}`)
      }
      for (const name of Object.keys(value)) {
        if (!names.has(name)) {
          const known = [...names].join(', ') || 'none'
          throw refuse('ERR_ACCEL_INVALID_ARGUMENT', `${path}.${name}`, `no such field; fields: ${known}`)
        }
      }
      const given = value as Readonly<Record<string, unknown>>
      for (const { name, offset, optional, codec } of members) {
        if (optional && given[name] === undefined) continue
        codec.write(sink, base + offset, given[name])
      }
    },
    read(source, base) {
      for (const [from, to] of layout.reserved) {
        requireZero(source.bytes, base + from, base + to, path, 'reserved space')
      }
      const value: Record<string, unknown> = {}
      for (const { name, offset, codec } of members) value[name] = codec.read(source, base + offset)
      return value as StructOutput<F>
    },
  }
}

/** A structure within another. It cannot grow: only a command's own structures do. */
export function struct<F extends Fields>(fields: F): Field<StructInput<F>, StructOutput<F>> {
  const layout = layOut(fields, 'struct')
  if (layout.fields.length === 0) throw badDefinition('a nested structure has fields')
  if (layout.fields.some(({ since }) => since !== undefined)) {
    throw badDefinition('a nested structure cannot grow: append to the structure of the command')
  }
  return {
    sizeBytes: layout.sizeBytes,
    alignBytes: layout.alignBytes,
    since: undefined,
    description: { type: 'struct', fields: describeFields(layout) },
    compile: (path) => compileStruct(fields, layout, path),
  }
}

/** A layout's fields as plain data, in order. */
export function describeFields(layout: StructLayout): readonly MemberDescription[] {
  return layout.fields.map(({ name, offset, since, description }) => ({
    ...description,
    name,
    offset,
    ...(since === undefined ? {} : { since }),
  }))
}

/** How much longer than this version's a structure may be, so that its unknown tail is looked at in bounded time. */
export const MAX_TAIL_BYTES = 4096

/** Binary form of one of a command's structures: little-endian, fixed-width, extensible by size. */
export interface StructCodec<F extends Fields> {
  readonly layout: StructLayout
  /** Descriptors are appended to `fds`. */
  encode(value: StructInput<F>, fds?: number[]): Uint8Array
  /**
   * As the kernel's copy_struct_from_user: a longer structure is accepted while what this version does not know is
   * zero (else `ERR_ACCEL_RESERVED`), a shorter one is extended with zeroes down to the size of the first version
   * (else `ERR_ACCEL_BAD_SIZE`). Descriptors that a field names are taken out of `fds`, where -1 stands in their place; the
   * others are the caller's to close.
   */
  decode(bytes: Uint8Array, fds?: number[]): StructOutput<F>
}

/** Specialises encoder and decoder for the structure of `fields`. */
export function structCodec<F extends Fields>(fields: F, path: string): StructCodec<F> {
  const layout = layOut(fields, path)
  const codec = compileStruct(fields, layout, path)
  const { sizeBytes, minSizeBytes } = layout
  return {
    layout,
    encode(value, fds = []) {
      const bytes = new Uint8Array(sizeBytes)
      const sink: Sink = { bytes, view: new DataView(bytes.buffer), fds }
      codec.write(sink, 0, value)
      return bytes
    },
    decode(given, fds = []) {
      if (!(given instanceof Uint8Array)) {
        throw refuse('ERR_ACCEL_INVALID_ARGUMENT', path, `wants a Uint8Array, found ${show(given)}`)
      }
      if (given.length < minSizeBytes || given.length > sizeBytes + MAX_TAIL_BYTES) {
        const wanted = minSizeBytes === sizeBytes ? `${sizeBytes}` : `${minSizeBytes} to ${sizeBytes}`
        throw refuse('ERR_ACCEL_BAD_SIZE', path, `wants ${wanted} bytes, found ${given.length}`)
      }
      requireZero(given, sizeBytes, given.length, path, 'what this version does not know')
      let bytes = given
      if (given.length < sizeBytes) {
        bytes = new Uint8Array(sizeBytes)
        bytes.set(given)
      }
      const source: Source = {
        bytes,
        view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
        fds,
      }
      return codec.read(source, 0)
    },
  }
}
