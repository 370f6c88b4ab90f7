import {
  badDefinition,
  type Field,
  type FieldCodec,
  type FieldDescription,
  type IntDescription,
  refuse,
  show,
} from './field.js'

function field<I, O = I>(
  sizeBytes: number,
  description: FieldDescription,
  compile: (path: string) => FieldCodec<I, O>,
): Field<I, O> {
  return { sizeBytes, alignBytes: sizeBytes, since: undefined, description, compile }
}

/** An integer field that fits a JavaScript number, and the values it takes. */
export interface IntField extends Field<number> {
  readonly description: IntDescription
  readonly min: number
  readonly max: number
}

type IntName = 'Uint8' | 'Uint16' | 'Uint32' | 'Int8' | 'Int16' | 'Int32'

function checkInt(value: number, min: number, max: number, path: string): void {
  if (typeof value !== 'number') {
    throw refuse('ERR_ACCEL_INVALID_ARGUMENT', path, `wants a number, found ${show(value)}`)
  }
  if (!Number.isInteger(value) || value < min || value > max) {
    throw refuse('ERR_ACCEL_OUT_OF_RANGE', path, `wants an integer from ${min} to ${max}, found ${value}`)
  }
}

function int(
  type: IntDescription['type'],
  name: IntName,
  sizeBytes: number,
  min: number,
  max: number,
): IntField {
  const compile = (path: string): FieldCodec<number, number> => ({
    write({ view }, offset, value) {
      checkInt(value, min, max, path)
      view[`set${name}`](offset, value, true)
    },
    read: ({ view }, offset) => view[`get${name}`](offset, true),
  })
  return { ...field(sizeBytes, { type }, compile), description: { type }, min, max }
}

function bigInt(type: 'u64' | 'i64', signed: boolean): Field<bigint> {
  const min = signed ? -(1n << 63n) : 0n
  const max = signed ? (1n << 63n) - 1n : (1n << 64n) - 1n
  return field(8, { type }, (path) => ({
    write({ view }, offset, value) {
      if (typeof value !== 'bigint') {
        throw refuse('ERR_ACCEL_INVALID_ARGUMENT', path, `wants a bigint, found ${show(value)}`)
      }
      if (value < min || value > max) {
        throw refuse('ERR_ACCEL_OUT_OF_RANGE', path, `wants ${min} to ${max}, found ${value}`)
      }
      view.setBigInt64(offset, BigInt.asIntN(64, value), true)
    },
    read: ({ view }, offset) => (signed ? view.getBigInt64(offset, true) : view.getBigUint64(offset, true)),
  }))
}

export const u8 = int('u8', 'Uint8', 1, 0, 0xff)
export const u16 = int('u16', 'Uint16', 2, 0, 0xffff)
export const u32 = int('u32', 'Uint32', 4, 0, 0xffff_ffff)
export const i8 = int('i8', 'Int8', 1, -0x80, 0x7f)
export const i16 = int('i16', 'Int16', 2, -0x8000, 0x7fff)
export const i32 = int('i32', 'Int32', 4, -0x8000_0000, 0x7fff_ffff)
/** 64 bits, unsigned: a bigint in JavaScript. */
export const u64 = bigInt('u64', false)
/** 64 bits, signed: a bigint in JavaScript. */
export const i64 = bigInt('i64', true)

/** IEEE 754 single precision. A number is rounded to the nearest; a finite one beyond its range is refused. */
export const f32: Field<number> = field(4, { type: 'f32' }, (path) => ({
  write({ view }, offset, value) {
    if (typeof value !== 'number') {
      throw refuse('ERR_ACCEL_INVALID_ARGUMENT', path, `wants a number, found ${show(value)}`)
    }
    if (Number.isFinite(value) && !Number.isFinite(Math.fround(value))) {
      throw refuse('ERR_ACCEL_OUT_OF_RANGE', path, `${value} does not fit single precision`)
    }
    view.setFloat32(offset, value, true)
  },
  read: ({ view }, offset) => view.getFloat32(offset, true),
}))

/** An integer narrowed to `min`..`max`, both allowed. Zero must be allowed for a field that is {@link added} later. */
export function range(base: IntField, min: number, max: number): IntField {
  if (!Number.isInteger(min) || !Number.isInteger(max) || min > max || min < base.min || max > base.max) {
    throw badDefinition(`range ${min}..${max} is not within ${base.description.type}`)
  }
  const compile = (path: string): FieldCodec<number, number> => {
    const inner = base.compile(path)
    return {
      write(sink, offset, value) {
        checkInt(value, min, max, path)
        inner.write(sink, offset, value)
      },
      read(source, offset) {
        const value = inner.read(source, offset)
        checkInt(value, min, max, path)
        return value
      },
    }
  }
  return { ...base, description: { ...base.description, min, max }, min, max, compile }
}

/** One byte, 0 or 1. */
export const bool: Field<boolean> = field(1, { type: 'bool' }, (path) => ({
  write({ view }, offset, value) {
    if (typeof value !== 'boolean') {
      throw refuse('ERR_ACCEL_INVALID_ARGUMENT', path, `wants true or false, found ${show(value)}`)
    }
    view.setUint8(offset, value ? 1 : 0)
  },
  read({ view }, offset) {
    const value = view.getUint8(offset)
    if (value > 1) throw refuse('ERR_ACCEL_OUT_OF_RANGE', path, `wants 0 or 1, found ${value}`)
    return value === 1
  },
}))

/**
 * 32 flag bits, by name: `flags({ wait: 0, urgent: 1 })`. A bit that is not named here is refused
 * with `ERR_ACCEL_BAD_FLAGS`, so that it can get a meaning later.
 */
export function flags<N extends string>(
  bits: Readonly<Record<N, number>>,
): Field<Readonly<Partial<Record<N, boolean>>>, Readonly<Record<N, boolean>>> {
  const entries = Object.entries<number>(bits) as [N, number][]
  const seen = new Set<number>()
  for (const [name, bit] of entries) {
    if (!Number.isInteger(bit) || bit < 0 || bit > 31 || seen.has(bit)) {
      throw badDefinition(`flag ${name} wants a bit of its own from 0 to 31, found ${bit}`)
    }
    seen.add(bit)
  }
  const known = entries.reduce((mask, [, bit]) => (mask | (1 << bit)) >>> 0, 0)
  return field(4, { type: 'flags', bits: { ...bits } }, (path) => ({
    write({ view }, offset, value) {
      if (typeof value !== 'object' || value === null) {
        throw refuse('ERR_ACCEL_INVALID_ARGUMENT', path, `wants an object of flags, found ${show(value)}`)
      }
      let raw = 0
      for (const name of Object.keys(value) as N[]) {
        if (!Object.hasOwn(bits, name)) {
          throw refuse('ERR_ACCEL_BAD_FLAGS', path, `no flag ${name}; known: ${Object.keys(bits).join(', ')}`)
        }
        const on = value[name]
        if (on !== undefined && typeof on !== 'boolean') {
          throw refuse(
            'ERR_ACCEL_INVALID_ARGUMENT',
            `${path}.${name}`,
            `wants true or false, found ${show(on)}`,
          )
        }
        if (on) raw |= 1 << bits[name]
      }
      view.setUint32(offset, raw >>> 0, true)
    },
    read({ view }, offset) {
      const raw = view.getUint32(offset, true)
      const unknown = (raw & ~known) >>> 0
      if (unknown !== 0) {
        throw refuse('ERR_ACCEL_BAD_FLAGS', path, `unknown flag bits 0x${unknown.toString(16)}`)
      }
      return Object.fromEntries(entries.map(([name, bit]) => [name, (raw & (1 << bit)) !== 0])) as Record<
        N,
        boolean
      >
    },
  }))
}

/** One of several names, 32 bits wide: `enumeration({ int8: 0, uint8: 1 })`. One of them must be 0. */
export function enumeration<N extends string>(values: Readonly<Record<N, number>>): Field<N> {
  const names = new Map<number, N>()
  for (const [name, number] of Object.entries<number>(values)) {
    if (!Number.isInteger(number) || number < 0 || number > u32.max || names.has(number)) {
      throw badDefinition(`enumeration value ${name} wants a u32 of its own, found ${number}`)
    }
    names.set(number, name as N)
  }
  if (!names.has(0)) throw badDefinition('an enumeration wants a name for 0: it is what older peers send')
  const choices = Object.keys(values).join(', ')
  return field(4, { type: 'enumeration', values: { ...values } }, (path) => ({
    write({ view }, offset, value) {
      if (typeof value !== 'string' || !Object.hasOwn(values, value)) {
        throw refuse('ERR_ACCEL_INVALID_ARGUMENT', path, `wants one of ${choices}; found ${show(value)}`)
      }
      view.setUint32(offset, values[value], true)
    },
    read({ view }, offset) {
      const number = view.getUint32(offset, true)
      const name = names.get(number)
      if (name === undefined) {
        throw refuse('ERR_ACCEL_OUT_OF_RANGE', path, `wants one of ${choices}; found number ${number}`)
      }
      return name
    },
  }))
}

declare const handleBrand: unique symbol

/** The number of an object that belongs to one open of a device; 0 is none. Kinds do not mix. */
export type Handle<K extends string> = number & { readonly [handleBrand]: K }

/** A {@link Handle} to an object of that kind. Whether it exists is for the driver's table to say. */
export function handle<K extends string>(kind: K): Field<Handle<K>> {
  const inner = u32 as Field<number> as unknown as Field<Handle<K>>
  return { ...inner, description: { type: 'handle', kind } }
}

/** What stands in the place of a descriptor that a field took. */
export const TAKEN = -1

/**
 * A file descriptor, or `null`. The bytes hold its place, counted from 1, among the descriptors that travel
 * beside them (SCM_RIGHTS between processes); 0 is none. Reading takes it out of them: a descriptor has one place.
 */
export const fd: Field<number | null> = field(4, { type: 'fd' }, (path) => ({
  write({ view, fds }, offset, value) {
    if (value === null) return view.setUint32(offset, 0, true)
    checkInt(value, 0, i32.max, path)
    view.setUint32(offset, fds.push(value), true)
  },
  read({ view, fds }, offset) {
    const place = view.getUint32(offset, true)
    if (place === 0) return null
    const value = fds[place - 1]
    if (value === undefined) {
      throw refuse('ERR_ACCEL_OUT_OF_RANGE', path, `names descriptor ${place}, but ${fds.length} came along`)
    }
    if (value === TAKEN) throw refuse('ERR_ACCEL_OUT_OF_RANGE', path, `names descriptor ${place} once more`)
    fds[place - 1] = TAKEN
    return value
  },
}))
