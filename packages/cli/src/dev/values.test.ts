import { array, bytes, cmd, i64, string, struct, u8, u32, u64, uapi } from '@uaccel/uapi'
import t from 'tap'
import { isFromProcess } from './messages.js'
import { answerJson, parseCommand, requestOf, showValue } from './values.js'

const { commands } = uapi({
  name: 'all',
  version: 1,
  commands: {
    all: cmd(0x40, {
      in: {
        small: u32,
        wide: u64,
        signed: i64,
        data: bytes(16),
        text: string(16),
        list: array(u64, 4),
        inner: struct({ wide: u64, small: u8 }),
      },
    }),
  },
})

t.test('JSON becomes what the codec takes, and comes back', async (t) => {
  const { name, input } = parseCommand(
    'all {"small":1,"wide":"0xffffffffffffffff","signed":-2,"data":"c0ffee","text":"12","list":[1,"2"],"inner":{"wide":3,"small":4}}',
  )
  t.equal(name, 'all')
  const request = requestOf(commands.all, input)
  const decoded = commands.all.in.decode(commands.all.in.encode(request as never))
  t.same(decoded, {
    small: 1,
    wide: (1n << 64n) - 1n,
    signed: -2n,
    data: Uint8Array.of(0xc0, 0xff, 0xee),
    text: '12',
    list: [1n, 2n],
    inner: { wide: 3n, small: 4 },
  })
  t.equal(
    answerJson(decoded),
    '{"small":1,"wide":"18446744073709551615","signed":-2,"data":"c0ffee","text":"12","list":[1,2],"inner":{"wide":3,"small":4}}',
  )
  t.same(requestOf(commands.all, { data: [1, 2] }), { data: Uint8Array.of(1, 2) })
})

t.test('what fits nothing is left to the codec, which names the field', async (t) => {
  const whole = { small: 1, wide: 1, signed: 1, data: '', text: '', list: [], inner: { wide: 1, small: 1 } }
  for (const [wrong, message] of [
    [{ wide: 'many' }, /wide: wants a bigint/],
    [{ data: 'xyz' }, /data/],
    [{ small: -1 }, /small/],
    [{ inner: 5 }, /inner/],
  ] as const)
    t.throws(() => commands.all.in.encode(requestOf(commands.all, { ...whole, ...wrong }) as never), {
      message,
    })
  for (const text of ['', '{', 'all [1]', 'all {', 'all null', 'all 5'])
    t.throws(() => parseCommand(text), { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /is no command/ }, text)
})

t.test('a line has room for part of a value', async (t) => {
  t.equal(
    showValue({ data: new Uint8Array(64), wide: 5n }),
    `{"data":"${'00'.repeat(16)}... (64 bytes)","wide":5}`,
  )
  t.ok(showValue({ text: 'x'.repeat(500) }).length <= 100)
})

t.test('what a process says is looked at', async (t) => {
  const line = { atMs: 1, source: 'device', text: 'x', count: 1, level: 'plain', trace: true }
  t.ok(isFromProcess({ type: 'lines', lines: [line], dropped: 0 }))
  t.ok(isFromProcess({ type: 'failed', code: 'ERR_ACCEL_IO', message: '', stack: '' }))
  t.ok(isFromProcess({ type: 'attributes', shown: [['a', 'b', '']], state: 'operational', opens: 0 }))
  for (const wrong of [
    null,
    5,
    'watch',
    {},
    { type: 'toString' },
    { type: 'lines', lines: [{ ...line, source: 'else' }], dropped: 0 },
    { type: 'lines', lines: [{ ...line, text: 5 }], dropped: 0 },
    { type: 'lines', lines: {}, dropped: 0 },
    { type: 'failed', code: 'EIO', message: '', stack: '' },
    { type: 'attributes', shown: [['a', 'b']], state: '', opens: 0 },
    { type: 'ready', name: 5, socket: '' },
  ])
    t.notOk(isFromProcess(wrong), JSON.stringify(wrong))
})
