import t from 'tap'
import {
  added,
  array,
  type CommandDefinitions,
  cmd,
  commonUapi,
  doc,
  enumeration,
  type Fields,
  fd,
  flags,
  handle,
  range,
  string,
  struct,
  u8,
  u16,
  u32,
  uapi,
} from '../index.js'
import { type Abi, abiOf, compareAbi, requireCompatible } from './index.js'

const abi = (commands: CommandDefinitions, version = 1): Abi => abiOf(uapi({ name: 'x', version, commands }))

/** Changes as `breaks where what`. */
const changes = (before: Abi, now: Abi) =>
  compareAbi(before, now).map(({ breaks, where, what }) => `${breaks ? 'BREAKS' : 'grows'} ${where} ${what}`)

t.test('commands', async (t) => {
  const before = abi({ a: cmd(0x40, { in: { n: u32 } }), b: cmd(0x41) })
  const compare = (commands: CommandDefinitions, version = 2) => changes(before, abi(commands, version))
  const a = cmd(0x40, { in: { n: u32 } })
  t.same(compare({ a, b: cmd(0x41) }), [])
  t.same(compare({ b: cmd(0x41), a }, 1), [], 'the order of the definition is nothing')
  t.same(
    compare({ a: cmd(0x40, { in: { n: doc('n', u32) }, doc: 'a', concurrent: true }), b: cmd(0x41) }, 1),
    [],
    'what is for people, and when a command runs, is no ABI',
  )
  t.same(compare({ a, b: cmd(0x41), c: cmd(0x50) }), ['grows x.c is new, as 0x50'])
  t.same(compare({ a, b: cmd(0x41), c: cmd(0x50) }, 1), [
    'grows x.c is new, as 0x50',
    'BREAKS x changed and is still version 1: make it 2',
  ])
  t.same(compare({ a }), ['BREAKS x.b (0x41) is gone'])
  t.same(compare({ a, b: cmd(0x42) }), ['BREAKS x.b had number 0x41 and has 0x42'])
  t.same(compare({ a, c: cmd(0x41) }), ['BREAKS x.b (0x41) is now named c'])
  t.same(compare({ a: cmd(0x41), b: cmd(0x40) }), [
    'BREAKS x.a had number 0x40 and has 0x41',
    'BREAKS x.b had number 0x41 and has 0x40',
  ])
  const other = uapi({ name: 'y', version: 2, commands: { a, b: cmd(0x41) } })
  t.same(changes(before, abiOf(other)), ['BREAKS x is now named y'])
  const second = abi({ a, b: cmd(0x41) }, 2)
  t.same(changes(second, before), ['BREAKS x went back from version 2 to 1'])
  t.same(changes(before, second), [])
})

const inner = struct({ a: u8, b: u32 })

/** Fields before, fields now, and what is found in `in` and in `out`. Version 1 before, 2 now. */
const fields: readonly [string, Fields, Fields, readonly string[], (readonly string[])?][] = [
  ['equal', { n: u32 }, { n: u32 }, []],
  ['appended', { n: u32 }, { n: u32, m: added(2, u32) }, ['grows .m is new in version 2']],
  ['appended to none', {}, { m: added(2, u32) }, ['grows .m is new in version 2']],
  [
    'appended where padding was',
    { n: u32, a: u8 },
    { n: u32, a: u8, b: added(2, u16), m: added(2, u32) },
    ['grows .b is new in version 2', 'grows .m is new in version 2'],
    [
      'BREAKS .b is new at byte 6, within the 8 bytes that version 1 has: older clients refuse the answer',
      'grows .m is new in version 2',
    ],
  ],
  [
    'appended without a version',
    { n: u32 },
    { n: u32, m: u32 },
    ['BREAKS .m is new, but not by added(2, ...): version 1 did not have it'],
  ],
  [
    'put into padding',
    { a: u8, n: u32 },
    { a: u8, b: u8, n: u32 },
    ['BREAKS .b is new, but not by added(2, ...): version 1 did not have it'],
  ],
  ['gone', { n: u32, m: u32 }, { n: u32 }, ['BREAKS .m is gone']],
  ['renamed', { n: u32 }, { m: u32 }, ['BREAKS .n is now named m']],
  [
    'moved',
    { n: u32, m: u32 },
    { m: u32, n: u32 },
    ['BREAKS .n moved from byte 0 to 4', 'BREAKS .m moved from byte 4 to 0'],
  ],
  ['resized', { n: u16 }, { n: u32 }, ['BREAKS .n was u16 and is u32']],
  ['retyped', { n: u32 }, { n: fd }, ['BREAKS .n was u32 and is fd']],
  [
    'another handle',
    { n: handle('a') },
    { n: handle('b') },
    ["BREAKS .n was handle('a') and is handle('b')"],
  ],
  ['no longer there at first', { n: u32 }, { n: added(2, u32) }, ['BREAKS .n was of version 1 and is of 2']],
  ['longer text', { n: string(4) }, { n: string(8) }, ['BREAKS .n held at most 4 and holds 8']],
  ['another element', { n: array(u8, 4) }, { n: array(u16, 4) }, ['BREAKS .n[] was u8 and is u16']],
  ['fewer elements', { n: array(u8, 4) }, { n: array(u8, 3) }, ['BREAKS .n held at most 4 and holds 3']],
  [
    'wider range',
    { n: range(u32, 1, 5) },
    { n: range(u32, 0, 5) },
    ['grows .n took 1 to 5 and takes 0 to 5'],
    ['BREAKS .n took 1 to 5 and takes 0 to 5'],
  ],
  [
    'no range',
    { n: range(u32, 1, 5) },
    { n: u32 },
    ['grows .n took 1 to 5 and takes any u32'],
    ['BREAKS .n took 1 to 5 and takes any u32'],
  ],
  [
    'narrower range',
    { n: u32 },
    { n: range(u32, 0, 5) },
    ['BREAKS .n took any u32 and takes 0 to 5'],
    ['grows .n took any u32 and takes 0 to 5'],
  ],
  [
    'shifted range',
    { n: range(u32, 0, 5) },
    { n: range(u32, 1, 6) },
    ['BREAKS .n took 0 to 5 and takes 1 to 6'],
  ],
  [
    'value changed',
    { n: enumeration({ a: 0, b: 1 }) },
    { n: enumeration({ a: 0, b: 2 }) },
    ['BREAKS .n value b was 1 and is 2'],
  ],
  [
    'value gone',
    { n: enumeration({ a: 0, toString: 1 }) },
    { n: enumeration({ a: 0 }) },
    ['BREAKS .n value toString (1) is gone'],
  ],
  [
    'value new',
    { n: enumeration({ a: 0 }) },
    { n: enumeration({ a: 0, b: 1 }) },
    ['grows .n value b (1) is new'],
    ['BREAKS .n value b (1) is new, which older clients refuse in an answer'],
  ],
  ['flag moved', { n: flags({ a: 0 }) }, { n: flags({ a: 1 }) }, ['BREAKS .n flag a was 0 and is 1']],
  [
    'flag new, in an array',
    { n: array(flags({ a: 0 }), 2) },
    { n: array(flags({ a: 0, b: 1 }), 2) },
    ['grows .n[] flag b (1) is new'],
    ['BREAKS .n[] flag b (1) is new, which older clients refuse in an answer'],
  ],
  [
    'structure within another',
    { n: array(inner, 2) },
    { n: array(struct({ a: u8, c: u32 }), 2) },
    ['BREAKS .n[].b is now named c'],
  ],
  [
    'padding within another',
    { n: inner },
    { n: struct({ a: u8, c: u8, b: u32 }) },
    ['BREAKS .n.c is new in a structure within another, which cannot grow'],
  ],
]

for (const [name, before, now, inChanges, outChanges = inChanges] of fields) {
  t.test(`fields: ${name}`, async (t) => {
    for (const [way, wanted] of [
      ['in', inChanges],
      ['out', outChanges],
    ] as const) {
      const found = changes(
        abi({ a: cmd(0x40, { [way]: before }) }),
        abi({ a: cmd(0x40, { [way]: now }) }, 2),
      )
      t.same(
        found,
        wanted.map((change) => change.replace(' .', ` x.a.${way}.`)),
        way,
      )
    }
  })
}

t.test('a field of a later version is appended after those of the version before', async (t) => {
  const grown = { n: u32, m: added(2, u32) }
  const before = abi({ a: cmd(0x40, { in: grown }) }, 2)
  const later = abi({ a: cmd(0x40, { in: { ...grown, k: added(3, u8) } }) }, 3)
  t.same(changes(before, later), ['grows x.a.in.k is new in version 3'])
  const again = abi({ a: cmd(0x40, { in: { ...grown, k: added(2, u8) } }) }, 2)
  t.same(changes(before, again), [
    'BREAKS x.a.in.k is new, but not by added(3, ...): version 2 did not have it',
  ])
})

t.test('errors of the table', async (t) => {
  const common = abiOf(commonUapi)
  const errors = common.errors!
  const { ERR_ACCEL_BUSY: busy, ...others } = errors
  t.equal(busy, 5)
  t.same(changes(common, { ...common, errors: others }), ['BREAKS ERR_ACCEL_BUSY (error 5) is gone'])
  t.same(changes({ ...common, errors: others }, common), ['grows ERR_ACCEL_BUSY is new, as error 5'])
  t.same(changes(common, { ...common, errors: { ...errors, ERR_ACCEL_BUSY: 99 } }), [
    'BREAKS ERR_ACCEL_BUSY was error 5 and is 99',
  ])
})

t.test('the refusal names what changed and what to do', async (t) => {
  const before = abi({ a: cmd(0x40, { in: { n: u32, m: u32 } }), b: cmd(0x47) })
  const now = abi({ a: cmd(0x40, { in: { n: u16 } }), c: cmd(0x41) })
  t.doesNotThrow(() => requireCompatible(before, before, 'rewrite'))
  t.doesNotThrow(() => requireCompatible(before, abi(grownCommands, 2), 'rewrite'))
  t.throws(() => requireCompatible(before, now, 'npx rewrite'), {
    code: 'ERR_ACCEL_VERSION',
    message:
      /uAPI x .* version 1, .*\n {2}x\.a\.in\.n was u32 and is u16\n {2}x\.a\.in\.m is gone\n {2}x\.b \(0x47\) is gone\n.*0x48 is free.*added\(2, \.\.\.\).*: npx rewrite --force$/,
    details: { changes: [{ breaks: true, where: 'x.a.in.n', what: 'was u32 and is u16' }, {}, {}] },
  })
})

const grownCommands = { a: cmd(0x40, { in: { n: u32, m: u32 } }), b: cmd(0x47), c: cmd(0x41) }
