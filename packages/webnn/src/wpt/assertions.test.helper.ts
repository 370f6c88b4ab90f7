import { inspect } from 'node:util'

/** What a test is told that does not hold. */
export class AssertionError extends Error {}
/** What a test says of something that need not be there. */
export class OptionalFeatureUnsupported extends Error {}

export const fail = (message: string): never => {
  throw new AssertionError(message)
}
export const shown = (value: unknown): string =>
  value instanceof Error
    ? `${value.name}: ${value.message}`
    : inspect(value, { depth: 2, breakLength: Number.POSITIVE_INFINITY })
const check = (holds: boolean, message: () => string, more?: string): void => {
  if (!holds) fail(more === undefined ? message() : `${more}: ${message()}`)
}

function thrownBy(work: () => unknown, more?: string): unknown {
  try {
    work()
  } catch (error) {
    return error
  }
  return fail(`${more ?? 'the call'} throws nothing`)
}

async function rejectionOf(promise: unknown, more?: string): Promise<unknown> {
  try {
    await promise
  } catch (error) {
    return error
  }
  return fail(`${more ?? 'the promise'} was fulfilled`)
}

const isOf = (error: unknown, wanted: new (...given: never[]) => unknown, more?: string) =>
  check(
    error instanceof Error && (error.constructor as unknown) === wanted,
    () => `${wanted.name} is wanted, found ${shown(error)}`,
    more,
  )
/** By its name, or by its legacy code (https://webidl.spec.whatwg.org/#idl-DOMException-error-names). */
const isNamed = (error: unknown, name: string | number, more?: string) =>
  check(
    error instanceof DOMException && (typeof name === 'number' ? error.code : error.name) === name,
    () => `a DOMException ${name} is wanted, found ${shown(error)}`,
    more,
  )

/** A binary assertion that compares two numbers. */
const comparing =
  (sign: string, holds: (a: number, b: number) => boolean) => (a: number, b: number, more?: string) =>
    check(holds(a, b), () => `${shown(a)} ${sign} ${shown(b)} does not hold`, more)

const sameArrays = (
  a: ArrayLike<unknown>,
  b: ArrayLike<unknown>,
  same: (a: unknown, b: unknown) => boolean,
) => a.length === b.length && Array.from(a).every((each, at) => same(each, b[at]))

/** Whether two have the same members, and those of members, whatever their prototypes. */
const sameMembers = (a: unknown, b: unknown): boolean => {
  if (Object.is(a, b)) return true
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false
  const [keys, others] = [Object.keys(a), Object.keys(b)]
  return (
    keys.length === others.length &&
    keys.every((key) => Object.hasOwn(b, key) && sameMembers(Reflect.get(a, key), Reflect.get(b, key)))
  )
}

/** Where the prototypes of an object have a member; the object itself does not. */
const inherits = (object: object, name: string): boolean => !Object.hasOwn(object, name) && name in object

/** The name of an error, and perhaps whose it is, before the call. */
type ThrowsDom = [name: string | number, work: () => unknown, more?: string | undefined]
type ThrowsDomOf = [name: string | number, constructor: unknown, work: () => unknown, more?: string]
const throwsDom = (given: ThrowsDom | ThrowsDomOf): ThrowsDom =>
  typeof given[2] === 'function' ? [given[0], given[2], given[3]] : (given as ThrowsDom)
type RejectsDom = [t: unknown, name: string | number, promise: unknown, more?: string]

/** The assertions of testharness.js (https://web-platform-tests.org/writing-tests/testharness-api.html#list-of-assertions), by their names there. */
export const assertions = {
  assert_true: (value: unknown, more?: string) =>
    check(value === true, () => `${shown(value)} is not true`, more),
  assert_false: (value: unknown, more?: string) =>
    check(value === false, () => `${shown(value)} is not false`, more),
  assert_equals: (a: unknown, b: unknown, more?: string) =>
    check(Object.is(a, b), () => `${shown(b)} is wanted, found ${shown(a)}`, more),
  assert_not_equals: (a: unknown, b: unknown, more?: string) =>
    check(!Object.is(a, b), () => `another than ${shown(b)} is wanted`, more),
  assert_array_equals: (a: ArrayLike<unknown>, b: ArrayLike<unknown>, more?: string) =>
    check(sameArrays(a, b, Object.is), () => `${shown(b)} is wanted, found ${shown(a)}`, more),
  assert_array_approx_equals: (a: ArrayLike<number>, b: ArrayLike<number>, epsilon: number, more?: string) =>
    check(
      sameArrays(a, b, (x, y) => Object.is(x, y) || Math.abs((x as number) - (y as number)) <= epsilon),
      () => `${shown(b)} is wanted within ${epsilon}, found ${shown(a)}`,
      more,
    ),
  assert_approx_equals: (a: number, b: number, epsilon: number, more?: string) =>
    check(
      Object.is(a, b) || Math.abs(a - b) <= epsilon,
      () => `${b} is wanted within ${epsilon}, found ${a}`,
      more,
    ),
  assert_object_equals: (a: unknown, b: unknown, more?: string) =>
    check(sameMembers(a, b), () => `${shown(b)} is wanted, found ${shown(a)}`, more),
  assert_less_than: comparing('<', (a, b) => a < b),
  assert_less_than_equal: comparing('<=', (a, b) => a <= b),
  assert_greater_than: comparing('>', (a, b) => a > b),
  assert_greater_than_equal: comparing('>=', (a, b) => a >= b),
  assert_between_exclusive: (value: number, least: number, greatest: number, more?: string) =>
    check(value > least && value < greatest, () => `${value} is not between ${least} and ${greatest}`, more),
  assert_between_inclusive: (value: number, least: number, greatest: number, more?: string) =>
    check(value >= least && value <= greatest, () => `${value} is not from ${least} to ${greatest}`, more),
  assert_in_array: (value: unknown, list: unknown[], more?: string) =>
    check(list.includes(value), () => `${shown(value)} is none of ${shown(list)}`, more),
  assert_regexp_match: (text: string, wanted: RegExp, more?: string) =>
    check(wanted.test(text), () => `${wanted} does not match ${shown(text)}`, more),
  assert_class_string: (object: unknown, name: string, more?: string) =>
    check(
      Object.prototype.toString.call(object) === `[object ${name}]`,
      () => `a ${name} is wanted, found ${Object.prototype.toString.call(object)}`,
      more,
    ),
  assert_own_property: (object: object, name: string, more?: string) =>
    check(Object.hasOwn(object, name), () => `there is no own property ${name}`, more),
  assert_not_own_property: (object: object, name: string, more?: string) =>
    check(!Object.hasOwn(object, name), () => `there is an own property ${name}`, more),
  assert_inherits: (object: object, name: string, more?: string) =>
    check(inherits(object, name), () => `no prototype has ${name}`, more),
  assert_idl_attribute: (object: object, name: string, more?: string) =>
    check(inherits(object, name), () => `no interface of it has ${name}`, more),
  assert_readonly: (object: object, name: string, more?: string) => {
    const before = Reflect.get(object, name)
    Reflect.set(object, name, `${before}a`)
    check(Object.is(Reflect.get(object, name), before), () => `${name} can be written`, more)
  },
  assert_unreached: (more?: string) => fail(more ?? 'this is not to be reached'),
  assert_throws_js: (wanted: new () => unknown, work: () => unknown, more?: string) =>
    isOf(thrownBy(work, more), wanted, more),
  assert_throws_dom: (...given: ThrowsDom | ThrowsDomOf) => {
    const [name, work, more] = throwsDom(given)
    isNamed(thrownBy(work, more), name, more)
  },
  assert_throws_exactly: (wanted: unknown, work: () => unknown, more?: string) =>
    check(Object.is(thrownBy(work, more), wanted), () => `${shown(wanted)} is to be thrown`, more),
  promise_rejects_js: async (_: unknown, wanted: new () => unknown, promise: unknown, more?: string) =>
    isOf(await rejectionOf(promise, more), wanted, more),
  promise_rejects_dom: async (...given: RejectsDom | [...RejectsDom, string?]) => {
    // As assert_throws_dom, it may be told whose the error is.
    const of = typeof given[2] === 'function'
    const [promise, more] = (of ? [given[3], given[4]] : [given[2], given[3]]) as [unknown, string?]
    isNamed(await rejectionOf(promise, more), given[1], more)
  },
  promise_rejects_exactly: async (_: unknown, wanted: unknown, promise: unknown, more?: string) =>
    check(Object.is(await rejectionOf(promise, more), wanted), () => `${shown(wanted)} is wanted`, more),
  assert_implements: (value: unknown, more?: string) =>
    check(Boolean(value), () => 'this is not implemented', more),
  assert_implements_optional: (value: unknown, more = 'an optional feature is not there') => {
    if (!value) throw new OptionalFeatureUnsupported(more)
  },
  assert_any: (
    assert: (...given: unknown[]) => void,
    actual: unknown,
    list: unknown[],
    ...more: unknown[]
  ) => {
    for (const each of list) {
      try {
        return assert(actual, each, ...more)
      } catch {}
    }
    fail(`${shown(actual)} is none of ${shown(list)}`)
  },
  format_value: shown,
}
