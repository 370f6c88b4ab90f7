import type { FieldDescription, StructCodec } from '@uaccel/uapi'
import fc, { type Arbitrary } from 'fast-check'

/**
 * Values of a schema, in two languages: for the codec, and as statements of C over the members that the header is to have.
 * Nothing here knows an offset or a size: those are the compiler's on one side and the codec's on the other.
 */

/** Values that a field takes, as the codec wants them. */
export function valuesOf(description: FieldDescription): Arbitrary<unknown> {
  switch (description.type) {
    case 'u8':
    case 'u16':
    case 'u32': {
      const bits = Number(description.type.slice(1))
      return fc.integer({ min: description.min ?? 0, max: description.max ?? 2 ** bits - 1 })
    }
    case 'i8':
    case 'i16':
    case 'i32': {
      const bits = Number(description.type.slice(1))
      return fc.integer({
        min: description.min ?? -(2 ** (bits - 1)),
        max: description.max ?? 2 ** (bits - 1) - 1,
      })
    }
    case 'u64':
      return fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
    case 'i64':
      return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
    case 'f32':
      return fc.float({ noNaN: true, noDefaultInfinity: true })
    case 'bool':
      return fc.boolean()
    case 'flags':
      return fc.record(Object.fromEntries(Object.keys(description.bits).map((name) => [name, fc.boolean()])))
    case 'enumeration':
      return fc.constantFrom(...Object.keys(description.values))
    case 'handle':
      return fc.integer({ min: 0, max: 2 ** 32 - 1 })
    case 'fd':
      return fc.option(fc.integer({ min: 0, max: 1023 }))
    case 'bytes':
      return fc.uint8Array({ maxLength: description.max })
    case 'string':
      return fc
        .string({ unit: 'grapheme', maxLength: description.max })
        .filter((text) => Buffer.byteLength(text) <= description.max)
    case 'array':
      return fc.array(valuesOf(description.element), { maxLength: description.max })
    case 'struct':
      return recordOf(description.fields)
  }
}

interface Named {
  readonly name: string
}

const recordOf = (fields: readonly (FieldDescription & Named)[]) =>
  fc.record(Object.fromEntries(fields.map((field) => [field.name, valuesOf(field)])))

/** Values of a whole structure. */
export const structValues = ({ layout }: StructCodec<never>): Arbitrary<Readonly<Record<string, unknown>>> =>
  recordOf(layout.fields.map(({ name, description }) => ({ ...description, name })))

/** One member of a structure and what it is to hold: a number as C writes it, or bytes. */
interface Leaf {
  readonly member: string
  readonly value: string | Uint8Array
}

/** How many descriptors came before, since a field holds the place of its own among them. */
interface Places {
  next: number
}

function leavesOf(description: FieldDescription, member: string, value: unknown, places: Places): Leaf[] {
  switch (description.type) {
    case 'struct':
      return description.fields.flatMap((field) =>
        leavesOf(
          field,
          `${member}.${cName(field.name)}`,
          (value as Readonly<Record<string, unknown>>)[field.name],
          places,
        ),
      )
    case 'array': {
      const elements = value as readonly unknown[]
      const wrapped = /^(bytes|string|array)$/.test(description.element.type) ? '.value' : ''
      return [
        { member: suffixed(member, 'count'), value: `${elements.length}` },
        ...elements.flatMap((element, i) =>
          leavesOf(description.element, `${member}[${i}]${wrapped}`, element, places),
        ),
      ]
    }
    case 'bytes':
    case 'string': {
      const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : (value as Uint8Array)
      return [
        { member: suffixed(member, 'length'), value: `${bytes.length}` },
        { member, value: bytes },
      ]
    }
    case 'u64':
      return [{ member, value: `UINT64_C(${value})` }]
    case 'i64':
      return [{ member, value: `(int64_t)(UINT64_C(${BigInt.asUintN(64, value as bigint)}))` }]
    case 'f32':
      return [{ member, value: Object.is(value, -0) ? '-0.0f' : `${(value as number).toExponential(9)}f` }]
    case 'bool':
      return [{ member, value: value ? '1' : '0' }]
    case 'flags': {
      const on = Object.entries(value as Record<string, boolean>).filter(([, set]) => set)
      return [{ member, value: `(0u${on.map(([name]) => ` | 1u << ${description.bits[name]}`).join('')})` }]
    }
    case 'enumeration':
      return [{ member, value: `${description.values[value as string]}u` }]
    case 'handle':
      return [{ member, value: `${value}u` }]
    case 'fd':
      return [{ member, value: `${value === null ? 0 : places.next++}u` }]
    default:
      return [{ member, value: `(${value})` }]
  }
}

const cName = (name: string) =>
  // errno(3) is a macro: the header puts an underscore after it.
  name === 'errno' ? 'errno_' : name.replace(/(?<=[a-z0-9])[A-Z]/g, (letter) => `_${letter}`).toLowerCase()

/** A member beside the one of a field with room: `a.data` -> `a.data_length`. */
const suffixed = (member: string, what: string) => `${member.replace(/\.errno_$/, '.errno')}_${what}`

/** A structure of the header by its tag, the codec of the same, and a value. */
export interface CCase {
  readonly tag: string
  readonly codec: StructCodec<never>
  readonly value: Readonly<Record<string, unknown>>
}

/**
 * A program that, for each case, sets every member and writes the structure to stdout, then reads one from stdin and
 * compares every member. It ends with 1 and says where.
 */
export function programOf(cases: readonly CCase[]): string {
  const functions = cases.map(({ tag, codec, value }, i) => {
    const places = { next: 1 }
    const leaves = codec.layout.fields.flatMap(({ name, description }) =>
      leavesOf(description, `v.${cName(name)}`, value[name], places),
    )
    return `static void case_${i}(void)
{
	static struct ${tag} v;
${leaves.map((leaf) => `\t${assign(leaf)}\n`).join('')}	put(&v, sizeof(v));
	get(&v, sizeof(v));
${leaves.map((leaf) => `\t${check(leaf)}\n`).join('')}}
`
  })
  return `${prelude}
${functions.join('\n')}
int main(void)
{
${cases.map((_, i) => `\tcase_${i}();\n`).join('')}	return 0;
}
`
}

const literal = (bytes: Uint8Array) => `(const uint8_t[]){${bytes.join(',')}}`

const assign = ({ member, value }: Leaf) =>
  typeof value === 'string'
    ? `${member} = ${value};`
    : value.length === 0
      ? ''
      : `memcpy(${member}, ${literal(value)}, ${value.length});`

const check = ({ member, value }: Leaf) =>
  typeof value === 'string'
    ? `CHECK(${member} == ${value});`
    : value.length === 0
      ? ''
      : `CHECK(memcmp(${member}, (${literal(value)}), ${value.length}) == 0);`

const prelude = `#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(...) \\
	do { \\
		if (!(__VA_ARGS__)) { \\
			fprintf(stderr, "%s, line %d\\n", __func__, __LINE__); \\
			exit(1); \\
		} \\
	} while (0)

static inline void put(const void *v, size_t size)
{
	if (fwrite(v, 1, size, stdout) != size)
		exit(2);
}

/* Memory that held something else before. */
static inline void get(void *v, size_t size)
{
	memset(v, 0xa5, size);
	if (fread(v, 1, size, stdin) != size)
		exit(3);
}
`
