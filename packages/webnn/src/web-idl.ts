import { types } from 'node:util'

/**
 * Conversions of JavaScript values to the types of Web IDL (https://webidl.spec.whatwg.org/, section 3.2). What cannot be converted is a
 * `TypeError`, as it is in a browser; `what` names it.
 */
export type Converter<T> = (value: unknown, what: string) => T

/** What a value is, for messages. */
const shown = (value: unknown) =>
  typeof value === 'bigint'
    ? `${value}n`
    : typeof value === 'symbol'
      ? 'a symbol'
      : typeof value === 'object' && value !== null
        ? 'an object'
        : String(value)

/** ToNumber: throws of a bigint and of a symbol, as the language does. */
function toNumber(value: unknown, what: string): number {
  if (typeof value === 'bigint' || typeof value === 'symbol')
    throw new TypeError(`${what}: a number is wanted, found ${shown(value)}`)
  return Number(value)
}

function enforceRange(least: number, greatest: number): Converter<number> {
  return (value, what) => {
    const number = Math.trunc(toNumber(value, what))
    if (!(number >= least && number <= greatest))
      throw new TypeError(`${what}: an integer from ${least} to ${greatest} is wanted, found ${shown(value)}`)
    return number + 0 // no -0
  }
}

/** `[EnforceRange] unsigned long`. */
export const unsignedLong = enforceRange(0, 0xffff_ffff)
/** `[EnforceRange] long`. */
export const long = enforceRange(-0x8000_0000, 0x7fff_ffff)
/** `unsigned long`, which wraps. */
export const wrappingUnsignedLong: Converter<number> = (value, what) => toNumber(value, what) >>> 0

/** `double`: finite. */
export const double: Converter<number> = (value, what) => {
  const number = toNumber(value, what)
  if (!Number.isFinite(number))
    throw new TypeError(`${what}: a finite number is wanted, found ${shown(value)}`)
  return number
}

/** `float`: finite as such. */
export const float: Converter<number> = (value, what) => double(Math.fround(toNumber(value, what)), what)

/** `(bigint or unrestricted double)`. */
export const mlNumber: Converter<number | bigint> = (value, what) =>
  typeof value === 'bigint' ? value : toNumber(value, what)

export const boolean: Converter<boolean> = (value) => Boolean(value)

/** `USVString`: lone surrogates are replaced. */
export const usvString: Converter<string> = (value, what) => {
  if (typeof value === 'symbol') throw new TypeError(`${what}: a string is wanted, found a symbol`)
  return String(value).toWellFormed()
}

/** An enumeration. */
export function enumeration<const V extends readonly string[]>(...values: V): Converter<V[number]> {
  return (value, what) => {
    const found = usvString(value, what)
    if (!values.includes(found))
      throw new TypeError(`${what}: one of ${values.join(', ')} is wanted, found ${found}`)
    return found
  }
}

/** `sequence<T>`: anything that can be iterated, but for a string. */
export function sequence<T>(item: Converter<T>): Converter<T[]> {
  return (value, what) => {
    if (!isSequence(value)) throw new TypeError(`${what}: a sequence is wanted, found ${shown(value)}`)
    return Array.from(value, (each, index) => item(each, `${what}[${index}]`))
  }
}

/** True of what a union takes as its sequence. */
export const isSequence = (value: unknown): value is Iterable<unknown> =>
  (typeof value === 'object' || typeof value === 'function') &&
  value !== null &&
  typeof (value as { [Symbol.iterator]?: unknown })[Symbol.iterator] === 'function'

/** A member of a dictionary: how it is converted, and what it is where it is left out. */
export interface Member<T> {
  readonly convert: Converter<T>
  readonly default?: T
  readonly required?: boolean
}

/**
 * A dictionary, and those that it inherits from, which come first. Members of each are read in the order of their names, and `undefined` is as good as
 * none.
 */
export function dictionary(
  ...levels: readonly Readonly<Record<string, Member<unknown>>>[]
): Converter<Record<string, unknown>> {
  const sorted = levels.flatMap((members) => Object.entries(members).sort(([a], [b]) => (a < b ? -1 : 1)))
  return (value, what) => {
    if (value !== undefined && value !== null && typeof value !== 'object' && typeof value !== 'function')
      throw new TypeError(`${what}: a dictionary is wanted, found ${shown(value)}`)
    const found: Record<string, unknown> = {}
    for (const [name, member] of sorted) {
      const given = (value as Record<string, unknown> | null | undefined)?.[name]
      if (given !== undefined) found[name] = member.convert(given, `${what}.${name}`)
      else if (member.required) throw new TypeError(`${what}.${name} is required`)
      else if (member.default !== undefined) found[name] = member.default
    }
    return found
  }
}

/** Of an object's own members. */
const isEnumerable = Object.prototype.propertyIsEnumerable

/** `record<USVString, T>`: own enumerable members, in their order. */
export function record<T>(item: Converter<T>): Converter<Map<string, T>> {
  return (value, what) => {
    if ((typeof value !== 'object' && typeof value !== 'function') || value === null)
      throw new TypeError(`${what}: an object is wanted, found ${shown(value)}`)
    const found = new Map<string, T>()
    for (const key of Reflect.ownKeys(value)) {
      if (!isEnumerable.call(value, key)) continue
      const name = usvString(key, what)
      found.set(name, item((value as Record<PropertyKey, unknown>)[key], `${what}.${name}`))
    }
    return found
  }
}

/** `AllowSharedBufferSource`: shared ones are taken; those whose size can change are not, as it has no `[AllowResizable]`. */
export const bufferSource: Converter<ArrayBuffer | SharedArrayBuffer | ArrayBufferView> = (value, what) => {
  if (!ArrayBuffer.isView(value) && !types.isAnyArrayBuffer(value))
    throw new TypeError(`${what}: an ArrayBuffer or a view of one is wanted, found ${shown(value)}`)
  const buffer = (ArrayBuffer.isView(value) ? value.buffer : value) as {
    resizable?: boolean
    growable?: boolean
  }
  if (buffer.resizable || buffer.growable)
    throw new TypeError(`${what}: a buffer of a fixed length is wanted, found one that can be resized`)
  return value
}

/** What alone makes objects of an interface that has no constructor. */
export const internal = Symbol('internal')

/** The constructor of such an interface begins with this. */
export function checkConstructor(key: unknown, maker: string): void {
  if (key !== internal) throw new TypeError(`Illegal constructor: ${maker} makes them`)
}

/** Gives a class what Web IDL gives an interface (section 3.7) and JavaScript does not: members that are enumerable, and a class string. */
export function exposeInterface({
  prototype,
  name,
}: {
  readonly prototype: object
  readonly name: string
}): void {
  for (const member of Object.getOwnPropertyNames(prototype))
    if (member !== 'constructor') Object.defineProperty(prototype, member, { enumerable: true })
  Object.defineProperty(prototype, Symbol.toStringTag, { value: name, configurable: true })
}
