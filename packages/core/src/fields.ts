import { accelError } from '@uaccel/uapi'

/** An unsigned number in bits `hi` to `lo` of a register, both included. */
export interface BitsField {
  readonly kind: 'bits'
  readonly hi: number
  readonly lo: number
}

/** One bit, as a boolean. */
export interface FlagField {
  readonly kind: 'flag'
  readonly hi: number
  readonly lo: number
}

/** A number whose values have names. A value without a name decodes to the number. */
export interface ChoiceField<Name extends string = string> {
  readonly kind: 'choice'
  readonly hi: number
  readonly lo: number
  readonly choices: Readonly<Record<Name, number>>
}

export type Field = BitsField | FlagField | ChoiceField
export type Fields = Readonly<Record<string, Field>>
/** A register without fields. */
export type NoFields = Readonly<Record<never, never>>

/** What a field reads as and is written with. */
export type FieldValue<F> = F extends FlagField
  ? boolean
  : F extends ChoiceField<infer Name>
    ? Name | number
    : number
/** All fields of a register, decoded. */
export type FieldValues<F> = { readonly [K in keyof F]: FieldValue<F[K]> }
/** Some fields of a register. */
export type FieldInputs<F> = { readonly [K in keyof F]?: FieldValue<F[K]> }

/** Bits `hi` to `lo`, both included, as a number: at most 53 bits, which is what a JavaScript number holds. */
export function bits(hi: number, lo: number): BitsField {
  return { kind: 'bits', hi, lo }
}

/** Bit `n` as a boolean. */
export function flag(n: number): FlagField {
  return { kind: 'flag', hi: n, lo: n }
}

/** Bits `hi` to `lo`, both included, whose values have names: `choice(2, 0, { idle: 0, running: 1 })`. */
export function choice<const Name extends string>(
  hi: number,
  lo: number,
  choices: Readonly<Record<Name, number>>,
): ChoiceField<Name> {
  return { kind: 'choice', hi, lo, choices }
}

/**
 * Checks the fields of a register of `width` bits: within the register, apart from each other, at most 53 bits, choices
 * that fit and differ. Throws `ERR_ACCEL_INVALID_ARGUMENT` with both names.
 */
export function checkFields(register: string, width: number, fields: Fields): void {
  const wrong = (what: string) => accelError('ERR_ACCEL_INVALID_ARGUMENT', `register ${register}: ${what}`)
  const taken: string[] = []
  for (const [name, field] of Object.entries(fields)) {
    const { hi, lo } = field
    if (!Number.isInteger(hi) || !Number.isInteger(lo) || lo < 0 || hi < lo || hi >= width) {
      throw wrong(`field ${name} is bits ${hi}:${lo}, wanted ${width - 1} >= hi >= lo >= 0`)
    }
    if (hi - lo >= 53)
      throw wrong(`field ${name} has ${hi - lo + 1} bits, and 53 fit a number: read the register as a bigint`)
    for (let bit = lo; bit <= hi; bit++) {
      if (taken[bit] !== undefined) throw wrong(`fields ${taken[bit]} and ${name} share bit ${bit}`)
      taken[bit] = name
    }
    if (field.kind !== 'choice') continue
    const values = Object.values<number>(field.choices)
    const bad = values.find((value, i) => !fits(value, field) || values.indexOf(value) !== i)
    if (bad !== undefined)
      throw wrong(
        `field ${name} has the choice ${bad}, which is not in 0..${maximum(field)} or is there twice`,
      )
  }
}

/** The number that stands for a field's value. `ERR_ACCEL_OUT_OF_RANGE` or `ERR_ACCEL_INVALID_ARGUMENT` where none does. */
export function fieldNumber(name: string, field: Field, value: unknown): number {
  if (field.kind === 'flag')
    return typeof value === 'boolean' ? Number(value) : refuse(name, 'a boolean', value)
  let number = value
  if (field.kind === 'choice' && typeof value === 'string' && Object.hasOwn(field.choices, value))
    number = field.choices[value]
  if (typeof number !== 'number') {
    return refuse(
      name,
      field.kind === 'choice' ? `one of ${Object.keys(field.choices).join(', ')}` : 'a number',
      value,
    )
  }
  if (!fits(number, field)) {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `field ${name}: wanted an integer in 0..${maximum(field)}, found ${number}`,
    )
  }
  return number
}

function refuse(name: string, wanted: string, found: unknown): never {
  throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `field ${name}: wanted ${wanted}, found ${String(found)}`)
}

function maximum(field: Field): number {
  return 2 ** (field.hi - field.lo + 1) - 1
}

function fits(value: number, field: Field): boolean {
  return Number.isInteger(value) && value >= 0 && value <= maximum(field)
}
