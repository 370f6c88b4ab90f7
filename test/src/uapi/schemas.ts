import {
  type AnyField,
  added,
  array,
  bool,
  bytes,
  type CommandDefinitions,
  cmd,
  doc,
  enumeration,
  type Fields,
  f32,
  fd,
  flags,
  handle,
  i8,
  i16,
  i32,
  i64,
  range,
  string,
  struct,
  type Uapi,
  u8,
  u16,
  u32,
  u64,
  uapi,
} from '@uaccel/uapi'
import fc, { type Arbitrary } from 'fast-check'

/** Names that differ in snake_case too, and are no words of C. */
const memberNames = 'a b sizeBytes x86 dataURL reserved reserved4 value1 kind n0 longName length count'.split(
  ' ',
)

/** Names of flags and values may be anything. */
const numberNames = ['none', 'some', 'camelCase', 'camel_case', '1st', 'a|b', '*/', '', 'é', 'INT8', 'int8']

const text = fc.oneof(fc.string(), fc.constantFrom('*/ int x;', '/* more', '??/', '| a | b |', '\\', 'x\ny'))

const simple: Arbitrary<AnyField> = fc.oneof(
  fc.constantFrom<AnyField>(u8, u16, u32, u64, i8, i16, i32, i64, f32, bool, fd),
  fc.constantFrom<AnyField>(range(u8, 0, 200), range(i16, -5, 5), range(u32, 0, 4095)),
  fc.constantFrom('queue', 'buffer object').map((kind) => handle(kind)),
  fc
    .uniqueArray(fc.tuple(fc.constantFrom(...numberNames), fc.nat(31)), {
      selector: ([name]) => name,
      comparator: 'IsStrictlyEqual',
    })
    .filter((pairs) => new Set(pairs.map(([, bit]) => bit)).size === pairs.length)
    .map((pairs) => flags(Object.fromEntries(pairs))),
  fc
    .uniqueArray(fc.integer({ min: 1, max: 2 ** 32 - 1 }), { maxLength: numberNames.length - 1 })
    .map((numbers) => enumeration(Object.fromEntries([0, ...numbers].map((n, i) => [numberNames[i], n])))),
  fc.integer({ min: 1, max: 33 }).map((max) => bytes(max)),
  fc.integer({ min: 1, max: 33 }).map((max) => string(max)),
)

const { field } = fc.letrec<{ field: AnyField }>((tie) => ({
  field: fc
    .tuple(
      fc.oneof(
        { maxDepth: 3, depthSize: 'small' },
        simple,
        fc.tuple(tie('field'), fc.integer({ min: 1, max: 5 })).map(([inner, max]) => array(inner, max)),
        fieldsOf(tie('field'), 1, 4).map((fields) => struct(fields)),
      ),
      fc.option(text),
    )
    .map(([inner, about]) => (about === null ? inner : doc(about, inner))),
}))

function fieldsOf(inner: Arbitrary<AnyField>, minLength: number, maxLength: number): Arbitrary<Fields> {
  return fc
    .uniqueArray(fc.tuple(fc.constantFrom(...memberNames), inner), {
      minLength,
      maxLength,
      selector: ([name]) => name,
    })
    .map((entries) => Object.fromEntries(entries))
}

/** The last fields of some structures are of later versions. */
const grown: Arbitrary<Fields> = fc
  .tuple(fieldsOf(field, 0, 7), fc.nat(7), fc.nat(7))
  .map(([fields, second, third]) =>
    Object.fromEntries(
      Object.entries(fields).map(([name, one], i) => {
        if (i >= second + third) return [name, added(3, one)]
        return [name, i >= second ? added(2, one) : one]
      }),
    ),
  )

const commandNames = ['run', 'getInfo', 'x', 'in', 'xIn', 'for']

/** uAPIs of all kinds of fields. */
export const anyUapi: Arbitrary<Uapi> = fc
  .uniqueArray(fc.record({ name: fc.constantFrom(...commandNames), in: grown, out: grown, doc: text }), {
    minLength: 1,
    maxLength: 4,
    selector: ({ name }) => name,
  })
  .map((commands) => {
    const definitions: CommandDefinitions = Object.fromEntries(
      commands.map(({ name, ...options }, i) => [name, cmd(0x40 + i, options)]),
    )
    return uapi({ name: 'some-device', version: 3, commands: definitions })
  })
