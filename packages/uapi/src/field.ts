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

/** Plain data that says all about a field's layout: what the digest and generated headers are made of. */
export type FieldDescription = Readonly<Record<string, unknown>> & { readonly type: string }

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

/** Marks `field` as appended in `version` of the uAPI. Such fields stand last, in order of their versions. */
export function added<I, O>(version: number, field: Field<I, O>): AddedField<I, O> {
  if (!Number.isInteger(version) || version < 2) {
    throw badDefinition(`a field is added in version 2 or later, not ${version}`)
  }
  return { ...field, since: version }
}
