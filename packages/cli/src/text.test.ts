import fc from 'fast-check'
import t from 'tap'
import { clean, clip, grid, pad, width, wrap } from './text.js'
import { clock, duration, human, machine, moment } from './units.js'

const words = fc.string({ unit: 'grapheme', maxLength: 40 }).map(clean)
const columns = fc.integer({ min: 1, max: 60 })

t.test('nothing is wider than it may be', async () => {
  fc.assert(
    fc.property(words, columns, (text, room) => {
      if (width(clip(text, room)) > room) return false
      return wrap(text, Math.max(2, room)).every((line) => width(line) <= Math.max(2, room))
    }),
  )
  const row = fc.tuple(words, words, words)
  fc.assert(
    fc.property(fc.array(row, { maxLength: 6 }), columns, (rows, room) => {
      const lines = grid(
        [{ head: 'NAME' }, { head: 'N', align: 'right' }, { head: 'TEXT', flexible: true }],
        rows,
        room,
      )
      return lines.length === rows.length + 1 && lines.every((line) => width(line) <= room)
    }),
  )
})

t.test('text of others', async (t) => {
  t.equal(clean('a\x1b[2J\nb\u202ec\x9b'), 'a [2J b c ')
  t.equal(width('ab\u0301\u6f22\u{1f600}'), 6)
  t.equal(clip('\u6f22\u6f22\u6f22', 4), '\u6f22~')
  t.equal(clip('abc', 3), 'abc')
  t.equal(pad('\u6f22', 4, 'right'), '  \u6f22')
  t.same(wrap('one two three', 7), ['one two', 'three'])
  t.same(wrap('abcdefgh', 3), ['abc', 'def', 'gh'])
  t.same(wrap('', 3), [''])
  for (const room of [1, 0, -1, -100]) t.same(wrap('ab', room), ['a', 'b'])
})

t.test('a table gives way where it may, and then at its end', async (t) => {
  const head = [{ head: 'A' }, { head: 'LONG', flexible: true }, { head: 'N', align: 'right' as const }]
  t.same(grid(head, [['x', 'abcdefghij', '12']], 80), ['A  LONG         N', 'x  abcdefghij  12'])
  t.same(grid(head, [['x', 'abcdefghij', '12']], 12), ['A  LONG    N', 'x  abcd~  12'])
  t.same(grid(head, [['x', 'abcdefghij', '12']], 6), ['A  LO~', 'x  ab~'])
  const red = (text: string) => `<${text}>`
  t.same(grid([{ head: 'A', paint: red }], [['x'], ['yy']], 80), ['A', '<x>', '<yy>'])
})

t.test('values for people and for programs', async (t) => {
  for (const [value, unit, shown, told] of [
    [0n, 'bytes', '0 B', 0],
    [1023n, 'bytes', '1023 B', 1023],
    [1536n, 'bytes', '1.5 KiB', 1536],
    [2n ** 40n, 'bytes', '1 TiB', 2 ** 40],
    [1.25e9, 'Hz', '1.25 GHz', 1.25e9],
    [0.5, 'W', '0.5 W', 0.5],
    [12, '', '12', 12],
    [12, 'rpm', '12 rpm', 12],
    [true, '', 'yes', true],
    ['text', '', 'text', 'text'],
    [1_500_000n, 'ns', '1.5 ms', 1_500_000],
    [0n, 'time', undefined, '1970-01-01T00:00:00.000Z'],
    [2n ** 64n - 1n, 'time', undefined, '2554-07-21T23:34:33.709Z'],
  ] as const) {
    if (shown !== undefined) t.equal(human(value, unit), shown)
    t.equal(machine(value, unit), told)
  }
  t.equal(moment(-(2n ** 80n)), undefined)
  t.same([5, 2500, 59e9, 61e9].map(duration), ['5 ns', '2.5 us', '59 s', '00:01:01'])
  t.same([-5, 3.6e12, 90_061e9].map(clock), ['00:00:00', '01:00:00', '1 d 01:01:01'])
})
