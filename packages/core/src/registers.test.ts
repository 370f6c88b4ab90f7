import fc from 'fast-check'
import t from 'tap'
import { makeAccessor } from './accessors.js'
import { bits, choice, flag } from './fields.js'
import { buildBar } from './mmio.js'
import { type Bar, reg8, reg16, reg32, reg64, regArray, registers } from './registers.js'

const Map0 = registers({
  ID: reg32(0x00, 'ro', { major: bits(31, 24), tag: bits(7, 0) }, { doc: 'Identification' }),
  DATA: reg32(0x04, 'rw'),
  STATUS: reg32(0x08, 'rw', {
    computing: flag(0),
    mode: choice(3, 1, { idle: 0, run: 1, halt: 4 }),
    level: bits(31, 4),
  }),
  CAUSE: reg32(0x0c, 'w1c', { done: flag(0), error: flag(31) }),
  ACK: reg32(0x10, 'wo'),
  COUNT: reg16(0x14, 'rc'),
  FLAGS: reg8(0x16, 'rw', { a: flag(0), b: flag(7) }),
  ADDRESS: reg64(0x18, 'rw', { valid: flag(0), page: bits(63, 12) }),
  DOORBELL: regArray(4, 4, reg32(0x20, 'wo')),
  QUEUE: regArray(2, 0x20, { HEAD: reg32(0x40, 'ro'), BASE: reg64(0x48, 'rw') }),
})

// A bus that remembers what happened on it.
function bench() {
  const memory = new Uint8Array(0x100)
  const window = {
    u8: memory,
    u16: new Uint16Array(memory.buffer),
    u32: new Uint32Array(memory.buffer),
    u64: new BigUint64Array(memory.buffer),
    region: 0,
    tap: undefined,
  }
  return { window, u32: window.u32, bar: buildBar(Map0, () => ({ window, windowOffset: 0 })) }
}

// Compiled, never run: each line that a datasheet forbids must not compile.
export function typesHold(bar: Bar<typeof Map0>): void {
  // @ts-expect-error a read-only register has no write
  bar.ID.write(1)
  // @ts-expect-error nor an update
  bar.ID.update({ tag: 1 })
  // @ts-expect-error a write-only register has no read
  bar.ACK.read()
  // @ts-expect-error nor an update, which would read
  bar.ACK.update({})
  // @ts-expect-error flags that are cleared by a one are not written
  bar.CAUSE.write(1)
  // @ts-expect-error a register that reading clears is not written
  bar.COUNT.write(1)
  // @ts-expect-error no such field
  bar.STATUS.update({ compting: true })
  // @ts-expect-error a flag is a boolean
  bar.STATUS.update({ computing: 1 })
  // @ts-expect-error no such choice
  bar.STATUS.write({ mode: 'running' })
  // @ts-expect-error never one of the choices
  if (bar.STATUS.get().mode === 'running') return
  // @ts-expect-error a register without fields takes a number only
  bar.DATA.write({})
  // @ts-expect-error 32 bits are a number
  bar.DATA.write(1n)
  // @ts-expect-error 64 bits are a bigint
  const wrong: number = bar.ADDRESS.read()
  // @ts-expect-error elements of an array keep their access kind
  bar.DOORBELL[0].read()
  // @ts-expect-error blocks in an array too
  bar.QUEUE[0].HEAD.write(wrong)
  const raw: number = bar.ID.read()
  const major: number = bar.ID.decode(raw).major
  const computing: boolean = bar.STATUS.extract(major, 'computing')
  bar.CAUSE.clear({ done: computing })
}

t.test('reads and writes of each width', async (t) => {
  const { bar, u32, window } = bench()
  u32[0] = 0x0100_00ed
  t.equal(bar.ID.read(), 0x0100_00ed)
  t.same(bar.ID.get(), { major: 1, tag: 0xed })
  bar.DATA.write(0xffff_ffff)
  t.equal(u32[1], 0xffff_ffff)
  t.equal(bar.DATA.read(), 0xffff_ffff, 'unsigned')
  bar.DATA.write(~0x1234)
  t.equal(bar.DATA.read(), 0xffff_edcb)
  bar.FLAGS.write({ b: true })
  t.equal(window.u8[0x16], 0x80)
  window.u16[0x14 / 2] = 0xbeef
  t.equal(bar.COUNT.read(), 0xbeef)
  bar.ADDRESS.write(0xfedc_ba98_7654_3210n)
  t.equal(bar.ADDRESS.read(), 0xfedc_ba98_7654_3210n)
  bar.ADDRESS.write(-1)
  t.equal(bar.ADDRESS.read(), 0xffff_ffff_ffff_ffffn)
  bar.ADDRESS.write({ valid: true, page: 0xf_ffff_ffff_ffff })
  t.equal(bar.ADDRESS.read(), 0xffff_ffff_ffff_f001n)
  t.same(bar.ADDRESS.get(), { valid: true, page: 0xf_ffff_ffff_ffff })
  bar.ADDRESS.update({ valid: false })
  t.equal(bar.ADDRESS.extract(bar.ADDRESS.read(), 'page'), 0xf_ffff_ffff_ffff)
  t.equal(bar.ADDRESS.encode({ page: 1 }), 0x1000n)
  bar.DOORBELL[3].write(7)
  t.equal(u32[0x2c / 4], 7)
  bar.QUEUE[1].BASE.write(5n)
  t.equal(window.u64[0x68 / 8], 5n)
})

t.test('fields: update keeps the rest, write zeroes it, w1c clears only what is named', async (t) => {
  const { bar, u32 } = bench()
  bar.STATUS.write({ mode: 'halt', level: 0xfff_ffff })
  t.equal(u32[2], 0xffff_fff8)
  bar.STATUS.update({ computing: true, mode: 'run' })
  t.same(bar.STATUS.get(), { computing: true, mode: 'run', level: 0xfff_ffff })
  bar.STATUS.write({ mode: 5 })
  t.equal(bar.STATUS.get().mode, 5, 'a value without a name stays a number')
  u32[3] = 0xffff_ffff
  bar.CAUSE.clear({ error: true })
  t.equal(u32[3], 0x8000_0000, 'one write, no read-modify-write')
  t.equal(bar.CAUSE.extract(0x8000_0000, 'error'), true)
  t.equal(bar.STATUS.encode({ computing: true, mode: 'halt' }), 9)
})

t.test('values that fit no field are refused before anything is written', async (t) => {
  const { bar, u32 } = bench()
  const untyped = bar.STATUS as unknown as { write(v: object): void }
  t.throws(() => bar.STATUS.write({ level: 0x1000_0000 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.throws(() => bar.STATUS.write({ level: -1 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.throws(() => bar.STATUS.write({ level: 1.5 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.throws(() => untyped.write({ mode: 'toString' }), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
    message: /idle, run, halt/,
  })
  t.throws(() => untyped.write({ computing: 1 }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.throws(() => untyped.write({ nothing: 1 }), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
    message: /has no field nothing/,
  })
  t.equal(u32[2], 0)
})

t.test('the map lists every register by name', async (t) => {
  t.equal(Map0.sizeBytes, 0x70)
  t.equal(Map0.find('QUEUE[1].BASE').offset, 0x68)
  t.equal(Map0.find('DOORBELL[2]').access, 'wo')
  t.equal(Map0.find('ID').doc, 'Identification')
  t.throws(() => Map0.find('STATE'), { code: 'ERR_ACCEL_NOT_FOUND', message: /ID, DATA, STATUS/ })
  t.same(
    Map0.entries.map((e) => e.offset),
    Map0.entries.map((e) => e.offset).toSorted((a, b) => a - b),
  )
})

t.test('definitions that contradict themselves', async (t) => {
  const refused = (name: string, define: () => unknown, message: RegExp) =>
    t.throws(define, { code: 'ERR_ACCEL_INVALID_ARGUMENT', message }, name)
  refused('overlap', () => registers({ A: reg32(0, 'rw'), B: reg16(2, 'ro') }), /A and B overlap/)
  refused(
    'overlap in an array',
    () => registers({ A: regArray(2, 4, reg32(0, 'rw')), B: reg32(4, 'rw') }),
    /A\[1\]|B/,
  )
  refused('stride below the width', () => registers({ A: regArray(2, 4, reg64(0, 'rw')) }), /aligned/)
  refused(
    'stride below the block',
    () => registers({ A: regArray(2, 4, { X: reg32(0, 'rw'), Y: reg32(4, 'rw') }) }),
    /overlap/,
  )
  refused('misaligned', () => registers({ A: reg32(2, 'rw') }), /not naturally aligned/)
  refused('negative', () => registers({ A: reg32(-4, 'rw') }), /not naturally aligned/)
  refused('field beyond the width', () => registers({ A: reg8(0, 'rw', { f: flag(8) }) }), /field f/)
  refused('hi below lo', () => registers({ A: reg8(0, 'rw', { f: bits(0, 3) }) }), /field f/)
  refused(
    'fields that overlap',
    () => registers({ A: reg8(0, 'rw', { f: bits(3, 0), g: flag(3) }) }),
    /f and g share bit 3/,
  )
  refused('a field too wide for a number', () => registers({ A: reg64(0, 'rw', { f: bits(60, 0) }) }), /53/)
  refused(
    'a choice that does not fit',
    () => registers({ A: reg8(0, 'rw', { f: choice(1, 0, { a: 4 }) }) }),
    /choice 4/,
  )
  refused(
    'a choice twice',
    () => registers({ A: reg8(0, 'rw', { f: choice(1, 0, { a: 1, b: 1 }) }) }),
    /choice 1/,
  )
  refused('no elements', () => registers({ A: regArray(0, 4, reg32(0, 'rw')) }), /0 elements/)
  t.doesNotThrow(
    () => registers({ STATUS: reg32(0, 'ro'), COMMAND: reg32(0, 'wo') }),
    'one place, read as one and written as another',
  )
})

t.test('trapped and traced accessors make exactly the accesses that mapped ones make', async (t) => {
  const log: string[] = []
  const trap = {
    read: (offset: number, width: number) => (log.push(`r${width} ${offset}`) ? 0xff : 0),
    write: (offset: number, width: number, value: number) => void log.push(`w${width} ${offset} ${value}`),
    read64: (offset: number) => (log.push(`r8 ${offset}`) ? 0xffn : 0n),
    write64: (offset: number, value: bigint) => void log.push(`w8 ${offset} ${value}`),
  }
  const traced: string[] = []
  const bar = buildBar(
    Map0,
    () => ({ trap }),
    (op, entry, value) => void traced.push(`${op} ${entry.name} ${value}`),
  )
  bar.STATUS.update({ computing: false })
  bar.FLAGS.write(-1)
  bar.DATA.write(-1)
  bar.ADDRESS.write(-1n)
  bar.COUNT.read()
  t.same(log, ['r4 8', 'w4 8 254', 'w1 22 255', 'w4 4 4294967295', 'w8 24 18446744073709551615', 'r2 20'])
  t.equal(traced.length, 6)
  t.equal(traced[0], 'read STATUS 255')
})

t.test('property: fields survive encode and decode in 32 and 64 bits', async () => {
  const cut = (width: number) =>
    fc
      .uniqueArray(fc.integer({ min: 1, max: width - 1 }), { maxLength: 6 })
      .map((cuts) => [0, ...cuts.sort((a, b) => a - b), width])
  const check = (width: 32 | 64) =>
    fc.property(
      cut(width),
      fc.infiniteStream(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })),
      (edges, random) => {
        const ranges = edges.slice(1).map((end, i) => [edges[i], Math.min(end, edges[i] + 53)] as const)
        const fields = Object.fromEntries(ranges.map(([lo, end], i) => [`f${i}`, bits(end - 1, lo)]))
        const values = Object.fromEntries(
          ranges.map(([lo, end], i) => [`f${i}`, Math.floor(random.next().value * 2 ** (end - lo))]),
        )
        const map = registers({ R: width === 32 ? reg32(0, 'rw', fields) : reg64(0, 'rw', fields) })
        const memory = new ArrayBuffer(8)
        const window = {
          u8: new Uint8Array(memory),
          u16: new Uint16Array(memory),
          u32: new Uint32Array(memory),
          u64: new BigUint64Array(memory),
          region: 0,
          tap: undefined,
        }
        const register = makeAccessor(map.find('R'), { window, windowOffset: 0 }) as unknown as {
          write(v: object): void
          get(): object
        }
        register.write(values)
        const read = register.get()
        if (JSON.stringify(read) !== JSON.stringify(values))
          throw new Error(`${JSON.stringify(values)} came back as ${JSON.stringify(read)}`)
      },
    )
  fc.assert(check(32))
  fc.assert(check(64))
})

t.test('reset values', async (t) => {
  const map = registers({
    A: reg32(0, 'rw', {}, { reset: 0xdead_beef }),
    B: reg64(8, 'rw', {}, { reset: 2n ** 64n - 1n, resetMask: 0xff00n }),
    C: reg8(16, 'ro'),
    D: regArray(2, 4, reg16(0x20, 'rw', {}, { reset: 3, resetMask: 1 })),
  })
  t.same(map.find('A').reset, { value: 0xdead_beefn, mask: 0xffff_ffffn })
  t.same(map.find('B').reset, { value: 0xff00n, mask: 0xff00n }, 'only what is known')
  t.equal(map.find('C').reset, undefined)
  t.same(map.find('D[1]').reset, { value: 1n, mask: 1n })
  const refused = (options: object) =>
    t.throws(() => registers({ A: reg8(0, 'rw', {}, options) }), {
      code: 'ERR_ACCEL_INVALID_ARGUMENT',
      message: /register A: reset .* is no value of 8 bits/,
    })
  for (const reset of [256, -1, 1.5, 256n, Number.NaN]) refused({ reset })
  refused({ resetMask: 1 })
  refused({ reset: 1, resetMask: 0x100 })
})
