import { type AccelError, accelError, type ErrorCode } from './errors.js'

/** What a field writes into. `fds` collects descriptors that travel beside the bytes. */
export interface Sink {
  readonly bytes: Uint8Array
  readonly view: DataView
  readonly fds: number[]
}

/** What a field is read from. Comes from another process: hostile until checked. */
export interface Source {
  readonly bytes: Uint8Array
  readonly view: DataView
  /** What came beside the bytes. Fields take out theirs. */
  readonly fds: number[]
}

/** A field's reader and writer, specialised for one place in one structure: errors name that place. */
export interface FieldCodec<I, O> {
  write(sink: Sink, offset: number, value: I): void
  read(source: Source, offset: number): O
}

/** A small integer; `min` and `max` are there where a range narrows what its width allows. */
export interface IntDescription {
  readonly type: 'u8' | 'u16' | 'u32' | 'i8' | 'i16' | 'i32'
  readonly min?: number
  readonly max?: number
  readonly doc?: string
}

/**
 * Plain data that says all about a field: what the digest, snapshots, headers and pages are made of.
 * All but `doc` is its binary form.
 */
export type FieldDescription =
  | IntDescription
  | { readonly type: 'u64' | 'i64' | 'f32' | 'bool' | 'fd'; readonly doc?: string }
  | { readonly type: 'flags'; readonly bits: Readonly<Record<string, number>>; readonly doc?: string }
  | { readonly type: 'enumeration'; readonly values: Readonly<Record<string, number>>; readonly doc?: string }
  | { readonly type: 'handle'; readonly kind: string; readonly doc?: string }
  | { readonly type: 'bytes' | 'string'; readonly max: number; readonly doc?: string }
  | {
      readonly type: 'array'
      readonly element: FieldDescription
      readonly max: number
      readonly doc?: string
    }
  | { readonly type: 'struct'; readonly fields: readonly MemberDescription[]; readonly doc?: string }

/** A field in its structure. `offset` counts from the beginning of that structure. */
export type MemberDescription = FieldDescription & {
  readonly name: string
  readonly offset: number
  readonly since?: number
}

/**
 * A field type. `I` is what an encoder takes, `O` what a decoder gives.
 * An all-zero field must be a valid value: a structure from an older peer is extended with zeroes.
 */
export interface Field<I, O = I> {
  readonly sizeBytes: number
  /** Natural alignment: 1, 2, 4 or 8. */
  readonly alignBytes: number
  /** The version of the uAPI that appended this field; `undefined` for fields that were always there. */
  readonly since: number | undefined
  readonly description: FieldDescription
  compile(path: string): FieldCodec<I, O>
}

/** A {@link Field} that a later version appended: optional for callers, zero where an older peer does not send it. */
export interface AddedField<I, O = I> extends Field<I, O> {
  readonly since: number
}

/** Any field, for maps of them. */
export type AnyField = Field<never, unknown>

/** A refusal that names the field. */
export function refuse(code: ErrorCode, path: string, problem: string): AccelError {
  return accelError(code, `${path}: ${problem}`, { details: { field: path } })
}

/** A value for a message: short, and of its type. */
export function show(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value)
  if (typeof value === 'object' && value !== null) return value.constructor?.name ?? 'object'
  return String(value)
}

/** Refuses bytes that this version does not know and that are not zero (botching-up-ioctls: check all padding). */
export function requireZero(bytes: Uint8Array, from: number, to: number, path: string, what: string): void {
  for (let i = from; i < to; i++) {
    if (bytes[i] !== 0) {
      throw refuse('ERR_ACCEL_RESERVED', path, `${what} at byte ${i} must be zero, found ${bytes[i]}`)
    }
  }
}

/** A definition that cannot work; thrown while the schema is built, so at import time. */
export function badDefinition(problem: string, cause?: unknown): AccelError {
  return accelError('ERR_ACCEL_INVALID_ARGUMENT', `uAPI definition: ${problem}`, cause ? { cause } : {})
}

/**
 * Says what `field` means, in a sentence, for the reference page and the C header: `doc('Bytes to move.', u32)`.
 * It is no part of the binary form.
 */
export function doc<F extends AnyField>(text: string, field: F): F {
  return { ...field, description: { ...field.description, doc: text } }
}

/** A description without what is only for people: equal where the binary form is. */
export function binaryForm<D extends FieldDescription>(description: D): D {
  const { doc: _, ...form } = description as FieldDescription
  if (form.type === 'array') return { ...form, element: binaryForm(form.element) } as FieldDescription as D
  if (form.type === 'struct') {
    return { ...form, fields: form.fields.map(binaryForm) } as FieldDescription as D
  }
  return form as D
}

/** Marks `field` as appended in `version` of the uAPI. Such fields stand last, in order of their versions. */
export function added<I, O>(version: number, field: Field<I, O>): AddedField<I, O> {
  if (!Number.isInteger(version) || version < 2) {
    throw badDefinition(`a field is added in version 2 or later, not ${version}`)
  }
  return { ...field, since: version }
}
