import { accelError } from '@uaccel/uapi'
import { type Field, type Fields, fieldNumber } from './fields.js'

type Value = boolean | string | number

/** A field with everything that conversion needs worked out. */
interface CompiledField {
  readonly name: string
  readonly field: Field
  readonly lo: number
  /** The field's bits, moved to bit 0. Meaningful for fields that lie within 32 bits. */
  readonly mask: number
  /** Names of a choice's values. */
  readonly names: ReadonlyMap<number, string> | undefined
}

/** Converts between a register's raw value and its fields. Made once per definition, so that conversions are cheap. */
export class FieldCodec {
  readonly #register: string
  readonly #fields: readonly CompiledField[]
  readonly #byName: Readonly<Record<string, CompiledField | undefined>>
  /** Has every field already: a copy of it is one allocation, and filling it changes no hidden class. */
  readonly #template: Readonly<Record<string, Value>>

  constructor(register: string, fields: Fields) {
    this.#register = register
    this.#fields = Object.entries(fields).map(([name, field]) => compile(name, field))
    const byName: Record<string, CompiledField> = Object.create(null)
    for (const field of this.#fields) byName[field.name] = field
    this.#byName = byName
    this.#template = Object.fromEntries(this.#fields.map(({ name }) => [name, 0]))
  }

  decode(raw: number): Record<string, Value> {
    const values = { ...this.#template }
    for (let i = 0; i < this.#fields.length; i++) {
      const field = this.#fields[i]
      values[field.name] = readAs(field, ((raw >>> field.lo) & field.mask) >>> 0)
    }
    return values
  }

  decode64(raw: bigint): Record<string, Value> {
    const values = { ...this.#template }
    for (const field of this.#fields) values[field.name] = readAs(field, bits64(raw, field))
    return values
  }

  /** One field of a raw value, without an object for all. */
  extract(raw: number, name: string): Value {
    const field = this.#find(name)
    return readAs(field, ((raw >>> field.lo) & field.mask) >>> 0)
  }

  extract64(raw: bigint, name: string): Value {
    const field = this.#find(name)
    return readAs(field, bits64(raw, field))
  }

  /** The raw value with these fields replaced in `base`. */
  encode(values: Readonly<Record<string, unknown>>, base = 0): number {
    let raw = base
    for (const name in values) {
      const value = values[name]
      if (value === undefined) continue
      const field = this.#find(name)
      raw = (raw & ~(field.mask << field.lo)) | (fieldNumber(name, field.field, value) << field.lo)
    }
    return raw >>> 0
  }

  encode64(values: Readonly<Record<string, unknown>>, base = 0n): bigint {
    let raw = base
    for (const name in values) {
      const value = values[name]
      if (value === undefined) continue
      const { field } = this.#find(name)
      const mask = ((1n << BigInt(field.hi - field.lo + 1)) - 1n) << BigInt(field.lo)
      raw = (raw & ~mask) | (BigInt(fieldNumber(name, field, value)) << BigInt(field.lo))
    }
    return raw
  }

  #find(name: string): CompiledField {
    return this.#byName[name] ?? this.#refuse(name)
  }

  #refuse(name: string): never {
    const known = this.#fields.map((field) => field.name).join(', ') || 'none'
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `register ${this.#register} has no field ${name}; it has ${known}`,
    )
  }
}

function compile(name: string, field: Field): CompiledField {
  const width = field.hi - field.lo + 1
  const names =
    field.kind === 'choice'
      ? new Map(Object.entries(field.choices).map(([key, value]) => [value, key]))
      : undefined
  return { name, field, lo: field.lo, mask: width >= 32 ? -1 : (1 << width) - 1, names }
}

function readAs({ field, names }: CompiledField, number: number): Value {
  if (field.kind === 'flag') return number !== 0
  return names?.get(number) ?? number
}

function bits64(raw: bigint, { field }: CompiledField): number {
  return Number(BigInt.asUintN(field.hi - field.lo + 1, raw >> BigInt(field.lo)))
}
