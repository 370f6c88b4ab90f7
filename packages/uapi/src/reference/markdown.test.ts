import fc from 'fast-check'
import t from 'tap'
import {
  added,
  array,
  bool,
  bytes,
  cmd,
  commonUapi,
  doc,
  enumeration,
  errorTable,
  fd,
  flags,
  handle,
  isAccelError,
  range,
  string,
  struct,
  u8,
  u16,
  u32,
  u64,
  uapi,
} from '../index.js'
import { markdownReference } from './index.js'

/** Rows of the tables of a page, by field; those of reserved space by their offset. */
function rowsOf(page: string): Map<string, { offset: string; size: string; type: string; refused: string }> {
  const rows = page
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()))
  return new Map(
    rows.map(([, offset, size, field, type, , , refused]) => [
      field === 'reserved' ? `reserved ${offset}` : field.replaceAll('`', ''),
      { offset, size, type, refused },
    ]),
  )
}

const every = uapi({
  name: 'every',
  version: 2,
  commands: {
    all: cmd(0x40, {
      doc: 'All | of\nthem.',
      in: {
        small: doc('First | of\n all.', u8),
        yes: bool,
        options: flags({ wait: 0, 'a|b': 4 }),
        kind: enumeration({ none: 0, some: 7 }),
        data: bytes(5),
        text: string(6),
        list: array(u64, 2),
        texts: array(string(3), 2),
        pairs: array(
          struct({ tag: u8, value: range(u32, 0, 9), kinds: array(enumeration({ none: 0 }), 1) }),
          2,
        ),
        queue: handle('queue'),
        file: fd,
        inner: struct({ a: bool, b: u64 }),
        later: added(2, u16),
      },
    }),
  },
})
const page = markdownReference(every)
const rows = rowsOf(page)

t.test('each byte of a structure has its row', async (t) => {
  const { layout } = every.commands.all.in
  for (const { name, offset, sizeBytes } of layout.fields) {
    t.match(rows.get(name), { offset: `${offset}`, size: `${sizeBytes}` }, name)
  }
  for (const [from, to] of layout.reserved) {
    t.match(rows.get(`reserved ${from}`), { size: `${to - from}`, refused: /ERR_ACCEL_RESERVED/ })
  }
  const start = Number(rows.get('pairs')!.offset)
  t.equal(rows.get('pairs[]')!.offset, `${start + 4} + 16 i`)
  t.equal(rows.get('pairs[].value')!.offset, `${start + 8} + 16 i`)
  t.equal(rows.get('pairs[].kinds[]')!.offset, `${start + 16} + 16 i + 4 j`)
  t.ok(rows.has(`reserved ${start + 5} + 16 i`), 'padding in an element')
  t.equal(rows.get(`reserved ${Number(rows.get('texts[]')!.offset.split(' ')[0]) + 7} + 8 i`)!.size, '1')
  t.match(page, /\| `pairs\[\]\.value` \| u32, 0 to 9 \| 1 \|/)
  t.match(page, /\| `later` \| u16 \| 2 \|/)
  t.match(page, /First \\\| of all\./)
  t.match(page, /bit 4 `a\\\|b`/)
  t.match(page, new RegExp(every.digest))
})

t.test('what a decoder refuses is in the row of the field that it names', async (t) => {
  const { in: codec } = every.commands.all
  const valid = codec.encode({
    small: 1,
    yes: true,
    options: { wait: true },
    kind: 'some',
    data: Uint8Array.of(1, 2),
    text: 'abc',
    list: [1n],
    texts: ['x'],
    pairs: [{ tag: 1, value: 2, kinds: ['none'] }],
    queue: 1 as never,
    file: null,
    inner: { a: true, b: 1n },
    later: 1,
  })
  const seen = new Set<string>()
  fc.assert(
    fc.property(fc.nat(valid.length - 1), fc.integer({ min: 0, max: 255 }), (offset, byte) => {
      const broken = valid.slice()
      broken[offset] = byte
      try {
        codec.decode(broken)
      } catch (error) {
        if (!isAccelError(error)) throw error
        const field = String(error.details?.field).replace(/^every\.all\.in\.?/, '')
        // Reserved space is named by the structure that it belongs to.
        const row = rows.get(field) ?? { type: '', refused: '' }
        const place = /^(struct)?$/.test(row.type) ? 'padding' : field
        seen.add(`${error.code} ${place}`)
        if (place === 'padding') t.equal(error.code, 'ERR_ACCEL_RESERVED')
        else t.match(row.refused, new RegExp(`\`${error.code}\``), field)
      }
    }),
    { numRuns: 5000, seed: 1 },
  )
  for (const wanted of [
    'OUT_OF_RANGE yes',
    'BAD_FLAGS options',
    'OUT_OF_RANGE kind',
    'RESERVED data',
    'OUT_OF_RANGE data',
    'INVALID_ARGUMENT text',
    'RESERVED list',
    'OUT_OF_RANGE pairs[].value',
    'OUT_OF_RANGE pairs[].kinds[]',
    'OUT_OF_RANGE file',
    'OUT_OF_RANGE inner.a',
    'RESERVED padding',
  ])
    t.ok(seen.has(`ERR_ACCEL_${wanted}`), wanted)
})

t.test('a command that takes nothing, and one that runs beside others', async (t) => {
  const x = uapi({ name: 'x', version: 1, commands: { a: cmd(0x41, { concurrent: true }), b: cmd(0x40) } })
  const text = markdownReference(x)
  t.match(
    text,
    /## b\n\nNumber `0x40`\. One at a time for a device\.\n\nTakes nothing\.\n\nAnswers nothing\.\n\n## a/,
  )
  t.match(text, /Number `0x41`\. It runs beside others of the device\./)
  t.notMatch(text, /## Errors/)
})

t.test('the page of the common commands has the error table', async (t) => {
  const text = markdownReference(commonUapi)
  for (const [code, { number, errno }] of Object.entries(errorTable)) {
    t.ok(text.includes(`| ${number} | \`${code}\` | ${errno} |`), code)
  }
})
