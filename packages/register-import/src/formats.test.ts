import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { type Access, bits, choice, flag, type RegisterEntry, type RegisterMap } from '@uaccel/core'
import fc from 'fast-check'
import t from 'tap'
import { planBlock, readRegisterText, toRegisterMap, writeTypeScript } from './index.js'
import {
  asIpxact,
  asRdl,
  asSvd,
  type RandomField,
  type RandomMap,
  type RandomRegister,
} from './written.test.support.js'

const numRuns = Number(process.env.UACCEL_REGISTER_RUNS ?? 40)

// what a description may hold: markup, quotes, comment ends and letters beyond ASCII
const doc = fc
  .array(
    fc.constantFrom(
      'a',
      'word',
      '*/',
      '/*',
      '"',
      "'",
      '\\',
      '<b>',
      '&',
      ']]>',
      '`',
      '$' + '{x}',
      'ä',
      'end.',
      '%',
    ),
    {
      maxLength: 6,
    },
  )
  .map((words) => words.join(' '))

const fieldsOf = (width: number): fc.Arbitrary<RandomField[]> =>
  fc
    .array(
      fc.record({
        size: fc.integer({ min: 1, max: Math.min(width, 20) }),
        gap: fc.integer({ min: 0, max: 3 }),
        doc,
        named: fc.boolean(),
        reset: fc.bigInt({ min: 0n, max: 0xfffffn }),
      }),
      { minLength: 1, maxLength: 8 },
    )
    .map((list) => {
      const fields: RandomField[] = []
      let next = 0
      for (const { size, gap, doc, named, reset } of list) {
        const lo = next + gap
        const hi = lo + size - 1
        if (hi >= width) continue
        next = hi + 1
        fields.push({
          name: `f${fields.length}_part`,
          hi,
          lo,
          doc,
          values:
            named && size <= 8
              ? [
                  { name: 'first', value: 0 },
                  { name: 'last_one', value: 2 ** size - 1 },
                ]
              : [],
          reset: reset & ((1n << BigInt(size)) - 1n),
        })
      }
      return fields.length > 0 ? fields : [{ name: 'f0_part', hi: 0, lo: 0, doc: '', values: [], reset: 0n }]
    })

const registersOf = (prefix: string): fc.Arbitrary<RandomRegister[]> =>
  fc
    .array(
      fc.constantFrom(8 as const, 16 as const, 32 as const, 64 as const).chain((width) =>
        fc.record({
          width: fc.constant(width),
          access: fc.constantFrom<Access>('ro', 'wo', 'rw', 'w1c', 'rc'),
          gap: fc.integer({ min: 0, max: 4 }),
          count: fc.constantFrom(1, 1, 2, 5),
          doc,
          fields: fieldsOf(width),
        }),
      ),
      { minLength: 1, maxLength: 6 },
    )
    .map((list) => {
      let next = 0
      return list.map(({ gap, ...register }, i) => {
        const bytes = register.width / 8
        const offset = (Math.ceil(next / bytes) + gap) * bytes
        next = offset + bytes * register.count
        return { ...register, name: `${prefix}${i}_REG`, offset }
      })
    })

const endOf = (registers: readonly RandomRegister[]): number =>
  Math.max(...registers.map(({ offset, width, count }) => offset + (width / 8) * count))
const roundUp = (value: number): number => Math.ceil(value / 8) * 8

/** A map of which all three formats can say everything. */
const randomMap: fc.Arbitrary<RandomMap> = fc
  .record({
    registers: registersOf('R'),
    inner: registersOf('B'),
    count: fc.integer({ min: 1, max: 4 }),
    gap: fc.integer({ min: 0, max: 3 }),
  })
  .map(({ registers, inner, count, gap }) => ({
    registers,
    inner,
    block: { offset: roundUp(endOf(registers)) + 8 * gap, count, stride: roundUp(endOf(inner)) + 8 * gap },
  }))

function imported(file: string, text: string): RegisterMap {
  const { blocks } = readRegisterText(file, text)
  const maps = planBlock(blocks[0]!, ({ message }) => {
    throw new Error(`not expected: ${message}`)
  })
  return toRegisterMap(maps[0]!)
}

/** What an import of the map has to be, without what this package does in between. */
function expected({ registers, inner, block }: RandomMap): object[] {
  const entries = (register: RandomRegister, prefix: string, base: number): object[] =>
    Array.from({ length: register.count }, (_, i) => {
      const mask = register.fields.reduce(
        (sum, { hi, lo }) => sum | (((1n << BigInt(hi - lo + 1)) - 1n) << BigInt(lo)),
        0n,
      )
      const value = register.fields.reduce((sum, { reset, lo }) => sum | (reset << BigInt(lo)), 0n)
      return {
        name: `${prefix}${register.name}${register.count > 1 ? `[${i}]` : ''}`,
        offset: base + register.offset + (i * register.width) / 8,
        width: register.width,
        access: register.access,
        fields: Object.fromEntries(
          register.fields.map(({ name, hi, lo, values: named }) => [
            name.replace('_part', 'Part'),
            // a bit has no room for two names of one value
            named.length > 0
              ? choice(hi, lo, { first: 0, lastOne: named[1]!.value })
              : hi === lo
                ? flag(lo)
                : bits(hi, lo),
          ]),
        ),
        reset: register.access === 'wo' ? undefined : { value, mask },
      }
    })
  return [
    ...registers.flatMap((register) => entries(register, '', 0)),
    ...Array.from({ length: block.count }, (_, i) =>
      inner.flatMap((register) => entries(register, `BLOCK[${i}].`, block.offset + i * block.stride)),
    ).flat(),
  ]
}

const found = ({ name, offset, width, access, fields, reset }: RegisterEntry): object => ({
  name,
  offset,
  width,
  access,
  fields,
  reset,
})

for (const [name, file, write] of [
  ['CMSIS-SVD', 'm.svd', asSvd],
  ['IP-XACT 2009', 'm.xml', (map: RandomMap) => asIpxact(map, 2009)],
  ['IP-XACT 2014', 'm.xml', (map: RandomMap) => asIpxact(map, 2014)],
  ['SystemRDL', 'm.rdl', asRdl],
] as const)
  t.test(`${name}: random maps come back as they were written`, async (t) => {
    fc.assert(
      fc.property(randomMap, (map) => {
        const { entries } = imported(file, write(map))
        assert.deepEqual(entries.map(found), expected(map))
      }),
      { numRuns },
    )
    t.pass(`${numRuns} maps`)
  })

t.test('what is written is what would be declared, whatever descriptions hold', async (t) => {
  // what it writes has no types in it, so that Node runs it as it is
  const folder = mkdtempSync(fileURLToPath(new URL('written-', import.meta.url)))
  t.teardown(() => rmSync(folder, { recursive: true }))
  let n = 0
  await fc.assert(
    fc.asyncProperty(randomMap, async (map) => {
      const description = readRegisterText('m.svd', asSvd(map))
      const planned = planBlock(description.blocks[0]!, () => undefined)
      const file = join(folder, `${n++}.mjs`)
      writeFileSync(file, writeTypeScript(description, 'm.svd */ throw 1\n//', planned))
      const module = (await import(pathToFileURL(file).href)) as Record<string, RegisterMap>
      const entries = (one: RegisterMap) => one.entries.map((entry) => ({ ...found(entry), doc: entry.doc }))
      assert.deepEqual(entries(module.MRegisters!), entries(toRegisterMap(planned[0]!)))
    }),
    { numRuns: 20 },
  )
  t.equal(n >= 20, true)
})
