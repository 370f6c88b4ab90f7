import fc from 'fast-check'
import t from 'tap'
import {
  added,
  array,
  bool,
  bytes,
  cmd,
  commonUapi,
  enumeration,
  f32,
  fd,
  flags,
  type Handle,
  handle,
  i8,
  i16,
  i32,
  i64,
  queryUapi,
  range,
  string,
  struct,
  u8,
  u16,
  u32,
  u64,
  uapi,
} from './index.js'

/** One command with a field of each type, in an order that needs padding everywhere. */
const every = uapi({
  name: 'every',
  version: 1,
  commands: {
    all: cmd(0x40, {
      in: {
        small: u8,
        wide: u64,
        half: u16,
        word: u32,
        signedByte: i8,
        signedHalf: i16,
        signedWord: i32,
        signedWide: i64,
        real: f32,
        yes: bool,
        options: flags({ wait: 0, urgent: 31 }),
        kind: enumeration({ none: 0, some: 7 }),
        data: bytes(13),
        text: string(9),
        list: array(u64, 3),
        pairs: array(struct({ tag: u8, value: u32 }), 2),
        queue: handle('queue'),
        file: fd,
        inner: struct({ a: u8, b: u64 }),
        limited: range(u32, 1, 4095),
      },
    }),
  },
}).commands.all.in

const value = fc.record({
  small: fc.integer({ min: 0, max: 255 }),
  wide: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  half: fc.integer({ min: 0, max: 65535 }),
  word: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  signedByte: fc.integer({ min: -128, max: 127 }),
  signedHalf: fc.integer({ min: -32768, max: 32767 }),
  signedWord: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  signedWide: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  real: fc.float(),
  yes: fc.boolean(),
  options: fc.record({ wait: fc.boolean(), urgent: fc.boolean() }),
  kind: fc.constantFrom('none' as const, 'some' as const),
  data: fc.uint8Array({ maxLength: 13 }),
  text: fc.string({ unit: 'grapheme', maxLength: 9 }).filter((s) => Buffer.byteLength(s) <= 9),
  list: fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { maxLength: 3 }),
  pairs: fc.array(
    fc.record({ tag: fc.integer({ min: 0, max: 255 }), value: fc.integer({ min: 0, max: 2 ** 32 - 1 }) }),
    { maxLength: 2 },
  ),
  queue: fc.integer({ min: 0, max: 2 ** 32 - 1 }).map((n) => n as Handle<'queue'>),
  file: fc.option(fc.integer({ min: 0, max: 1000 })),
  inner: fc.record({
    a: fc.integer({ min: 0, max: 255 }),
    b: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  }),
  limited: fc.integer({ min: 1, max: 4095 }),
})

const simple: Parameters<typeof every.encode>[0] = {
  small: 1,
  wide: 2n,
  half: 3,
  word: 4,
  signedByte: -1,
  signedHalf: -2,
  signedWord: -3,
  signedWide: -4n,
  real: 0.5,
  yes: true,
  options: { wait: true },
  kind: 'some',
  data: Uint8Array.of(1, 2, 3),
  text: 'edu',
  list: [1n],
  pairs: [{ tag: 1, value: 2 }],
  queue: 1 as Handle<'queue'>,
  file: null,
  inner: { a: 1, b: 2n },
  limited: 1,
}

const offsetOf = (name: string) => every.layout.fields.find((field) => field.name === name)!.offset

t.test('what was encoded is decoded', async (t) => {
  fc.assert(
    fc.property(value, (given) => {
      const fds: number[] = []
      t.same(every.decode(every.encode(given, fds), fds), given)
    }),
  )
})

t.test('decoding any bytes gives a value or one of the refusals, never something else', async (t) => {
  const refusals = new Set(
    ['BAD_SIZE', 'RESERVED', 'BAD_FLAGS', 'OUT_OF_RANGE', 'INVALID_ARGUMENT'].map((c) => `ERR_ACCEL_${c}`),
  )
  const valid = every.encode(simple)
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(valid.length - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
      (pokes) => {
        const broken = valid.slice()
        for (const [at, byte] of pokes) broken[at] = byte
        try {
          // What is accepted is canonical: every byte of it has a meaning. NaN has several encodings.
          const decoded = every.decode(broken)
          if (!Number.isNaN(decoded.real)) t.same(every.encode(decoded), broken)
        } catch (error) {
          t.ok(refusals.has((error as { code: string }).code), String(error))
        }
      },
    ),
    { numRuns: 500 },
  )
})

t.test('layout: natural alignment, what is between fields is reserved', async (t) => {
  const layout = uapi({
    name: 'x',
    version: 1,
    commands: { c: cmd(0x40, { in: { a: u8, b: u64, c: u16, d: u32, e: u8 } }) },
  }).commands.c.in.layout
  t.same(
    layout.fields.map(({ name, offset }) => [name, offset]),
    [
      ['a', 0],
      ['b', 8],
      ['c', 16],
      ['d', 20],
      ['e', 24],
    ],
  )
  t.equal(layout.sizeBytes, 32, 'a multiple of 64 bits because it holds one')
  t.same(layout.reserved, [
    [1, 8],
    [18, 20],
    [25, 32],
  ])
  const { in: codec } = uapi({
    name: 'x',
    version: 1,
    commands: { c: cmd(0x40, { in: { n: u32 } }) },
  }).commands.c
  t.same([...codec.encode({ n: 0x01020304 })], [4, 3, 2, 1], 'little-endian')
})

t.test('each refusal of an encoder names its field', async (t) => {
  const refuses = (change: object, code: string, field: string) =>
    t.throws(() => every.encode({ ...simple, ...change }), {
      code,
      details: { field: `every.all.in.${field}` },
    })
  for (const name of ['small', 'half', 'word', 'signedByte', 'signedHalf', 'signedWord', 'limited']) {
    refuses({ [name]: '1' }, 'ERR_ACCEL_INVALID_ARGUMENT', name)
    refuses({ [name]: 1n }, 'ERR_ACCEL_INVALID_ARGUMENT', name)
    refuses({ [name]: 2 ** 32 }, 'ERR_ACCEL_OUT_OF_RANGE', name)
    refuses({ [name]: 1.5 }, 'ERR_ACCEL_OUT_OF_RANGE', name)
    refuses({ [name]: Number.NaN }, 'ERR_ACCEL_OUT_OF_RANGE', name)
  }
  refuses({ small: -1 }, 'ERR_ACCEL_OUT_OF_RANGE', 'small')
  refuses({ signedByte: -129 }, 'ERR_ACCEL_OUT_OF_RANGE', 'signedByte')
  refuses({ limited: 0 }, 'ERR_ACCEL_OUT_OF_RANGE', 'limited')
  refuses({ limited: 4096 }, 'ERR_ACCEL_OUT_OF_RANGE', 'limited')
  refuses({ wide: 1 }, 'ERR_ACCEL_INVALID_ARGUMENT', 'wide')
  refuses({ wide: 2n ** 64n }, 'ERR_ACCEL_OUT_OF_RANGE', 'wide')
  refuses({ wide: -1n }, 'ERR_ACCEL_OUT_OF_RANGE', 'wide')
  refuses({ signedWide: 2n ** 63n }, 'ERR_ACCEL_OUT_OF_RANGE', 'signedWide')
  refuses({ real: '1' }, 'ERR_ACCEL_INVALID_ARGUMENT', 'real')
  refuses({ real: 1e300 }, 'ERR_ACCEL_OUT_OF_RANGE', 'real')
  refuses({ yes: 1 }, 'ERR_ACCEL_INVALID_ARGUMENT', 'yes')
  refuses({ options: 3 }, 'ERR_ACCEL_INVALID_ARGUMENT', 'options')
  refuses({ options: { wait: 1 } }, 'ERR_ACCEL_INVALID_ARGUMENT', 'options.wait')
  refuses({ options: { never: true } }, 'ERR_ACCEL_BAD_FLAGS', 'options')
  refuses({ options: { toString: true } }, 'ERR_ACCEL_BAD_FLAGS', 'options')
  refuses({ kind: 'other' }, 'ERR_ACCEL_INVALID_ARGUMENT', 'kind')
  refuses({ kind: 'toString' }, 'ERR_ACCEL_INVALID_ARGUMENT', 'kind')
  refuses({ kind: 7 }, 'ERR_ACCEL_INVALID_ARGUMENT', 'kind')
  refuses({ data: [1] }, 'ERR_ACCEL_INVALID_ARGUMENT', 'data')
  refuses({ data: new Uint8Array(14) }, 'ERR_ACCEL_OUT_OF_RANGE', 'data')
  refuses({ text: 1 }, 'ERR_ACCEL_INVALID_ARGUMENT', 'text')
  refuses({ text: '\ud800' }, 'ERR_ACCEL_INVALID_ARGUMENT', 'text')
  refuses({ text: '0123456789' }, 'ERR_ACCEL_OUT_OF_RANGE', 'text')
  refuses({ list: { length: 1 } }, 'ERR_ACCEL_INVALID_ARGUMENT', 'list')
  refuses({ list: [1n, 2n, 3n, 4n] }, 'ERR_ACCEL_OUT_OF_RANGE', 'list')
  refuses({ list: [1] }, 'ERR_ACCEL_INVALID_ARGUMENT', 'list[]')
  refuses({ pairs: [{ tag: 256, value: 0 }] }, 'ERR_ACCEL_OUT_OF_RANGE', 'pairs[].tag')
  refuses({ queue: null }, 'ERR_ACCEL_INVALID_ARGUMENT', 'queue')
  refuses({ file: -1 }, 'ERR_ACCEL_OUT_OF_RANGE', 'file')
  refuses({ file: 'a' }, 'ERR_ACCEL_INVALID_ARGUMENT', 'file')
  refuses({ inner: null }, 'ERR_ACCEL_INVALID_ARGUMENT', 'inner')
  refuses({ inner: { a: 1 } }, 'ERR_ACCEL_INVALID_ARGUMENT', 'inner.b')
  refuses({ small: undefined }, 'ERR_ACCEL_INVALID_ARGUMENT', 'small')
  refuses({ extra: 1 }, 'ERR_ACCEL_INVALID_ARGUMENT', 'extra')
  t.throws(() => every.encode(null as never), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
})

t.test('each refusal of a decoder names its field', async (t) => {
  const valid = every.encode(simple)
  t.same(every.decode(valid).text, 'edu')
  const refuses = (field: string, at: number, patch: readonly number[], code: string) => {
    const broken = valid.slice()
    broken.set(patch, offsetOf(field) + at)
    t.throws(
      () => every.decode(broken),
      { code, details: { field: `every.all.in.${field}` } },
      `${field}+${at}`,
    )
  }
  refuses('limited', 0, [0, 0, 0, 0], 'ERR_ACCEL_OUT_OF_RANGE')
  refuses('limited', 0, [0, 16, 0, 0], 'ERR_ACCEL_OUT_OF_RANGE')
  refuses('yes', 0, [2], 'ERR_ACCEL_OUT_OF_RANGE')
  refuses('options', 0, [2], 'ERR_ACCEL_BAD_FLAGS')
  refuses('kind', 0, [1], 'ERR_ACCEL_OUT_OF_RANGE')
  refuses('data', 0, [14], 'ERR_ACCEL_OUT_OF_RANGE')
  refuses('data', 0, [255, 255, 255, 255], 'ERR_ACCEL_OUT_OF_RANGE')
  refuses('data', 4 + 3, [1], 'ERR_ACCEL_RESERVED')
  refuses('text', 4, [0xff], 'ERR_ACCEL_INVALID_ARGUMENT')
  refuses('list', 0, [4], 'ERR_ACCEL_OUT_OF_RANGE')
  refuses('list', 4, [1], 'ERR_ACCEL_RESERVED')
  refuses('list', 8 + 8, [1], 'ERR_ACCEL_RESERVED')
  refuses('file', 0, [1], 'ERR_ACCEL_OUT_OF_RANGE')
  refuses('inner', 1, [1], 'ERR_ACCEL_RESERVED')
  for (const [from, to] of every.layout.reserved) {
    for (const at of [from, to - 1]) {
      const broken = valid.slice()
      broken[at] = 1
      t.throws(() => every.decode(broken), { code: 'ERR_ACCEL_RESERVED' }, `padding at ${at}`)
    }
  }
  const short = valid.subarray(0, valid.length - 1)
  t.throws(() => every.decode(short), { code: 'ERR_ACCEL_BAD_SIZE', details: { field: 'every.all.in' } })
  t.throws(() => every.decode(new Uint8Array(0)), { code: 'ERR_ACCEL_BAD_SIZE' })
  t.throws(() => every.decode(new Uint8Array(valid.length + 4097)), { code: 'ERR_ACCEL_BAD_SIZE' })
  t.throws(() => every.decode('x' as never), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  const longer = new Uint8Array(valid.length + 8)
  longer.set(valid)
  t.same(every.decode(longer), every.decode(valid), 'an unknown tail of zeroes is accepted')
  longer[valid.length + 7] = 1
  t.throws(() => every.decode(longer), { code: 'ERR_ACCEL_RESERVED' })
})

t.test('older and newer structures meet', async (t) => {
  const first = { a: u64, b: u8 }
  const v1 = uapi({ name: 'x', version: 1, commands: { c: cmd(0x40, { in: first }) } }).commands.c.in
  const v3 = uapi({
    name: 'x',
    version: 3,
    commands: {
      c: cmd(0x40, { in: { ...first, c: added(2, u32), d: added(3, u64), e: added(3, string(4)) } }),
    },
  }).commands.c.in
  t.equal(v1.layout.sizeBytes, 16)
  t.equal(v3.layout.minSizeBytes, 16)
  t.same(v3.decode(v1.encode({ a: 1n, b: 2 })), { a: 1n, b: 2, c: 0, d: 0n, e: '' }, 'older to newer')
  t.same(v1.decode(v3.encode({ a: 1n, b: 2 })), { a: 1n, b: 2 }, 'newer to older, nothing new used')
  t.throws(() => v1.decode(v3.encode({ a: 1n, b: 2, d: 1n })), { code: 'ERR_ACCEL_RESERVED' })
  // c took padding of the first version, which that version checks.
  t.throws(() => v1.decode(v3.encode({ a: 1n, b: 2, c: 1 })), { code: 'ERR_ACCEL_RESERVED' })
  t.throws(() => v3.decode(new Uint8Array(15)), { code: 'ERR_ACCEL_BAD_SIZE' })
  t.same(v3.decode(new Uint8Array(16)), { a: 0n, b: 0, c: 0, d: 0n, e: '' })
})

t.test('decoded bytes do not change with their source', async (t) => {
  const { in: codec } = uapi({
    name: 'x',
    version: 1,
    commands: { c: cmd(0x40, { in: { d: bytes(4) } }) },
  }).commands.c
  // What comes through a socket is a Buffer, whose slices are views.
  const encoded = codec.encode({ d: Uint8Array.of(1, 2) })
  for (const source of [encoded, Buffer.from(encoded)]) {
    const { d } = codec.decode(source)
    source.fill(0)
    t.same([...d], [1, 2], source.constructor.name)
    t.notOk(Buffer.isBuffer(d))
  }
  const shifted = new Uint8Array(encoded.length + 3)
  shifted.set(codec.encode({ d: Uint8Array.of(3) }), 3)
  t.same([...codec.decode(shifted.subarray(3)).d], [3], 'at any offset of its buffer')
})

t.test('a definition that cannot work is refused when it is made', async (t) => {
  const refused = (make: () => unknown, about: RegExp) =>
    t.throws(make, { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: about })
  const define = (commands: Parameters<typeof uapi>[0]['commands'], version = 1) =>
    uapi({ name: 'x', version, commands })
  refused(() => define({ a: cmd(0x40), b: cmd(0x40) }), /same number/)
  refused(() => define({ a: cmd(0x3f) }), /0x40/)
  refused(() => define({ a: cmd(0x10000) }), /0xffff/)
  refused(() => define({ a: cmd(64.5) }), /64\.5/)
  refused(() => define({ Bad: cmd(0x40) }), /camelCase/)
  refused(() => define({ a: cmd(0x40, { in: { b_c: u8 } }) }), /camelCase/)
  refused(() => uapi({ name: 'Bad name', version: 1, commands: {} }), /name/)
  refused(() => uapi({ name: 'x', version: 0, commands: {} }), /version/)
  refused(() => define({ a: cmd(0x40, { in: { b: added(2, u8), c: u8 } }) }, 2), /appended/)
  refused(() => define({ a: cmd(0x40, { in: { b: added(3, u8), c: added(2, u8) } }) }, 3), /appended/)
  refused(() => define({ a: cmd(0x40, { in: { b: added(2, u8) } }) }), /version/)
  refused(() => define({ a: cmd(0x40, { in: { b: added(2, range(u8, 1, 2)) } }) }, 2), /zero/)
  refused(() => added(1, u8), /version 2/)
  refused(() => bytes(0), /maximum/)
  refused(() => array(u8, -1), /maximum/)
  refused(() => array(added(2, u8), 2), /later/)
  refused(() => struct({}), /fields/)
  refused(() => struct({ a: added(2, u8) }), /grow/)
  refused(() => flags({ a: 0, b: 0 }), /bit/)
  refused(() => flags({ a: 32 }), /bit/)
  refused(() => enumeration({ a: 1 }), /0/)
  refused(() => enumeration({ a: 0, b: 0 }), /own/)
  refused(() => range(u8, 0, 256), /within/)
})

t.test('commands by name and number', async (t) => {
  const x = uapi({ name: 'x', version: 1, commands: { a: cmd(0x40), b: cmd(0x41, { concurrent: true }) } })
  t.equal(x.byNumber(0x41), x.commands.b)
  t.equal(x.byName('a'), x.commands.a)
  t.equal(x.commands.b.concurrent, true)
  t.throws(() => x.byNumber(0x42), { code: 'ERR_ACCEL_UNKNOWN_COMMAND', message: /0x42/ })
  t.throws(() => x.byName('toString'), { code: 'ERR_ACCEL_UNKNOWN_COMMAND', message: /toString/ })
})

t.test('the digest follows the binary form and nothing else', async (t) => {
  const digest = (n: typeof u32, doc: string) =>
    uapi({ name: 'x', version: 1, commands: { a: cmd(0x40, { in: { n }, doc }) } }).digest
  t.equal(digest(u32, 'one'), digest(u32, 'two'))
  t.not(digest(u32, 'one'), digest(i32, 'one'))
  t.not(digest(u32, 'one'), digest(range(u32, 0, 5), 'one'))
  // Written down: peers of other releases compare against it.
  t.equal(commonUapi.digest, 'b693e45b1a3d1785e553ac920ef83cc1f98755418298c053fba6e5ccd35f86f2')
  t.equal(queryUapi.digest, '9c2443e3af46af9ad9c0b0b3e345749d8267330e61bbbce3ff47cc6257515553')
})

t.test('every device answers version and info', async (t) => {
  t.equal(commonUapi.byNumber(0).name, 'version')
  t.equal(commonUapi.byNumber(1).name, 'info')
  const given = { uapi: 'edu', version: 1, commonVersion: 1, digest: new Uint8Array(32).fill(7) }
  const { version } = commonUapi.commands
  t.same(version.out.decode(version.out.encode(given)), given)
})
