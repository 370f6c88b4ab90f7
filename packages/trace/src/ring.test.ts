import { fork } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { choice, flag, reg32, reg64, regArray, registers } from '@uaccel/core'
import { accelError, isAccelError } from '@uaccel/uapi'
import fc from 'fast-check'
import t from 'tap'
import { EventKind } from './event.js'
import { TraceFile } from './file.js'
import { at, HEADER_BYTES, MAGIC } from './layout.js'
import { JOB_QUEUE, TraceRing } from './ring.js'
import { TraceStory } from './story.js'
import { TraceWriter } from './writer.js'

const Registers = registers({
  CTRL: reg32(0x0, 'rw', { go: flag(0), mode: choice(2, 1, { fast: 1, slow: 2 }) }),
  STATUS: reg32(0x4, 'ro'),
  KICK: reg32(0x4, 'wo'),
  QUEUE: regArray(2, 0x20, { BASE: reg64(0x40, 'rw') }),
})

/** All that a file has. */
function readAll(path: string) {
  using file = TraceFile.open(path)
  const events = []
  let lost = 0
  for (;;) {
    const batch = file.read()
    lost += batch.lost
    if (batch.events.length === 0) return { events, lost, names: file.names, writer: file.writer }
    events.push(...batch.events)
  }
}

const told = (path: string) => {
  const { events, names } = readAll(path)
  const story = new TraceStory(names)
  return events.map((event) => story.tell(event))
}

/** Says everything that there is to be said. */
function fill(ring: TraceRing) {
  ring.name({ device: 'accel0', driver: 'test' })
  ring.name({ commands: { factorial: 0x40 } })
  ring.named(0, Registers)
  ring.named(0, Registers)
  ring.write(0, 0, 4, 0x5)
  ring.read(0, 4, 4, 7)
  ring.write(0, 4, 4, 8)
  ring.write(0, 0x60, 8, 2n ** 64n - 1n)
  ring.read(2, 0x10, 2, 0xffff)
  ring.copied('host', 2, 0x1000, 4096)
  ring.irq(3, 2)
  ring.dmaMapped(2n ** 63n, 4096, 'read')
  ring.dmaUnmapped(2n ** 63n, 4096)
  ring.commandBegan(1, 0x40, 9, 1500)
  ring.commandEnded(1, 0x40, 9, accelError('ERR_ACCEL_TIMEOUT', 'late'))
  ring.queued(JOB_QUEUE, 5, 1, 64)
  ring.started(JOB_QUEUE, 5, 1)
  ring.completed(JOB_QUEUE, 5, undefined, 1)
  ring.completed(2, 6, accelError('ERR_ACCEL_IO', 'broken'))
  ring.reset(undefined)
}

t.test('what is told is read again, in words', async (t) => {
  const path = join(t.testdir(), 'a.trace')
  const ring = TraceRing.create(path)
  fill(ring)
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.equal(readAll(path).writer, process.pid)
  const words = told(path).map(({ lane, text }) => `${lane}: ${text.replace(/\([^)]*\)/, '()')}`)
  t.same(words, [
    'host: CTRL <- 0x00000005 go=true mode=slow',
    'host: STATUS -> 0x00000007',
    'host: KICK <- 0x00000008',
    'host: QUEUE[1].BASE <- 0xffffffffffffffff',
    'host: BAR 2 0x10 -> 0xffff',
    'host: BAR 2 0x1000 -> 4096 bytes',
    'device: vector 3, 2 times',
    'host: map 4096 bytes at IOVA 0x8000000000000000, device reads',
    'host: unmap 4096 bytes at IOVA 0x8000000000000000',
    'host: factorial of open 1 begins, waited 1.500 us',
    'host: factorial of open 1 fails: ERR_ACCEL_TIMEOUT ()',
    'jobs: job 5 of open 1 submitted',
    'jobs: job 5 of open 1 given to the device ()',
    'jobs: job 5 of open 1 completed ()',
    'queue 2: job 6 failed: ERR_ACCEL_IO',
    'device: reset',
  ])
  const [done] = told(path).filter(({ kind, lane }) => kind === 'complete' && lane === 'jobs')
  const { totalNs, queuedNs, deviceNs } = done.latency!
  t.equal(totalNs, queuedNs! + deviceNs!)
  t.ok(totalNs! > 0)
  ring.close()
  ring.close()
  ring.irq(0, 1)
  t.equal(readAll(path).writer, 0)
  t.equal(readAll(path).events.length, 16, 'what comes after the end is dropped')

  const again = TraceRing.create(path)
  t.equal(readAll(path).events.length, 0, 'an earlier trace gives way')
  again.close({ remove: true })
  t.notOk(existsSync(path))
})

t.test('what is refused', async (t) => {
  const folder = t.testdir({ other: 'somebody needs this', empty: '' })
  const at = (name: string) => join(folder, name)
  for (const records of [0, 100, 64, 2 ** 27, 1.5, Number.NaN])
    t.throws(() => TraceRing.create(at('x'), { records }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  symlinkSync(at('other'), at('link'))
  for (const name of ['other', 'empty', 'link', '.'])
    t.throws(() => TraceRing.create(at(name)), { code: 'ERR_ACCEL_BUSY' })
  t.equal(readFileSync(at('other'), 'utf8'), 'somebody needs this')
  t.throws(() => TraceRing.create(at('none/x')), { code: 'ERR_ACCEL_NOT_FOUND' })
  t.throws(() => TraceFile.open(at('none')), { code: 'ERR_ACCEL_NOT_FOUND' })
  for (const name of ['other', 'empty'])
    t.throws(() => TraceFile.open(at(name)), { code: 'ERR_ACCEL_BAD_SIZE' })
})

t.test('the oldest give way, and are counted', async (t) => {
  const path = join(t.testdir(), 'a.trace')
  using ring = TraceRing.create(path, { records: 128 })
  using file = TraceFile.open(path)
  for (let n = 0; n < 128; n++) ring.irq(0, n)
  t.equal(file.read().events.length, 127, 'the oldest may be half overwritten')
  for (let n = 0; n < 10; n++) ring.irq(0, n)
  t.match(file.read(), { events: { length: 10 }, lost: 0 })
  for (let n = 0; n < 1000; n++) ring.irq(0, n)
  const { events, lost } = file.read()
  t.equal(lost + events.length, 1000)
  t.equal(events.length, 127)
  t.same(
    events.map(({ b }) => Number(b)),
    Array.from({ length: 127 }, (_, i) => 1000 - 127 + i),
  )
  t.same(file.read(), { events: [], lost: 0 })
})

t.test('names that have no room are counted, and the others stay', async (t) => {
  const path = join(t.testdir(), 'a.trace')
  using ring = TraceRing.create(path, { records: 128 })
  ring.name({ device: 'x'.repeat(2 ** 20) })
  ring.name({ device: 'accel0' })
  t.equal(readAll(path).names.device, 'accel0')
  t.equal(readFileSync(path).readUInt32LE(at.namesLost), 1)
})

t.test('a ring that is written while it is read, and one whose writer was killed', async (t) => {
  const path = join(t.testdir(), 'a.trace')
  const program = fileURLToPath(new URL('ring.test.process.js', import.meta.url))
  const child = fork(program, [path, '1024'])
  await once(child, 'message')
  const file = TraceFile.open(path)
  let next = 0
  let seen = 0
  const look = () => {
    const { events, lost } = file.read()
    next += lost
    for (const { kind, a, b } of events) {
      // One that was being overwritten would be of two halves.
      if (kind !== EventKind.mmioWrite || a !== BigInt(next) || Number(b) !== next)
        t.fail(`record ${next} is ${kind} ${a} ${b}`)
      next++
    }
    seen += events.length
    return events.length
  }
  for (let i = 0; i < 300; i++) {
    look()
    if (i % 10 === 0) await sleep(1)
  }
  t.ok(seen > 1024, `${seen} of ${next}`)
  t.ok(next > seen, 'some were lost')
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
  while (look() > 0);
  t.equal(file.writer, child.pid)
  t.equal(file.names.device, 'a device')
  file.close()
  const after = readAll(path)
  t.equal(after.events.length, 1023)
  t.same(
    after.events.map(({ a }) => Number(a)),
    Array.from({ length: 1023 }, (_, i) => next - 1023 + i),
    'the latest are there, in order',
  )
  TraceRing.create(path).close()
  t.equal(readAll(`${path}.old`).events.length, 1023, 'and kept when there is another')
  TraceRing.create(path).close({ remove: true })
  t.notOk(existsSync(path))
})

t.test('a file of what was read is read as the ring was', async (t) => {
  const folder = t.testdir()
  const [ring, copy] = [TraceRing.create(join(folder, 'ring')), join(folder, 'copy.uatrace')]
  fill(ring)
  const { events, names } = readAll(ring.path)
  const writer = new TraceWriter(copy)
  writer.add(events.slice(0, 5), 7, names.lines.slice(0, 1), 3n)
  t.equal(readAll(copy).events.length, 5, 'also between two writes')
  writer.add(events.slice(5), 0, names.lines, 3n)
  writer.close()
  const again = readAll(copy)
  t.same(again.events, events)
  t.equal(again.lost, 7)
  t.same(told(copy), told(ring.path))
  using file = TraceFile.open(copy)
  t.equal(file.realtimeNs, 3n)
  ring.close()
})

t.test('a file that says anything is refused or read, and nothing else', async (t) => {
  const folder = t.testdir()
  const [good, bad] = [join(folder, 'good'), join(folder, 'bad')]
  const ring = TraceRing.create(good, { records: 128 })
  fill(ring)
  for (let n = 0; n < 300; n++) ring.irq(n, n)
  ring.close()
  const size = statSync(good).size
  /** Reads a file and puts it into words; answers the code of what it is refused with. */
  const outcome = () => {
    try {
      return told(bad).length
    } catch (error) {
      if (isAccelError(error)) return error.code
      throw error
    }
  }
  const poke = (offset: number, bytes: Uint8Array) => {
    copyFileSync(good, bad)
    const fd = openSync(bad, 'r+')
    writeSync(fd, bytes, 0, bytes.length, offset)
    closeSync(fd)
  }
  const u32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer)
  const f64 = (value: number) => new Uint8Array(Float64Array.of(value).buffer)
  for (const [offset, bytes, expected] of [
    [0, Buffer.from('X'), 'ERR_ACCEL_BAD_SIZE'],
    [at.version, u32(2), 'ERR_ACCEL_VERSION'],
    [at.recordBytes, u32(64), 'ERR_ACCEL_VERSION'],
    [at.names, u32(0), 'ERR_ACCEL_BAD_SIZE'],
    [at.namesRoom, u32(0xffff_ffff), 'ERR_ACCEL_BAD_SIZE'],
    [at.capacity, u32(0), 'ERR_ACCEL_BAD_SIZE'],
    [at.capacity, u32(129), 'ERR_ACCEL_BAD_SIZE'],
    [at.capacity, u32(0xffff_ffff), 'ERR_ACCEL_BAD_SIZE'],
    [at.written, f64(Number.NaN), 0],
    [at.written, f64(Number.POSITIVE_INFINITY), 0],
    [at.written, f64(-5), 0],
    [at.written, f64(1.5), 0],
    [at.written, f64(Number.MAX_SAFE_INTEGER), 127],
    [at.namesBytes, u32(0xffff_ffff), 127],
  ] as const) {
    poke(offset, bytes)
    t.equal(outcome(), expected, `${Buffer.from(bytes).toString('hex')} at ${offset}`)
  }
  for (const cut of [0, 4, HEADER_BYTES - 1, HEADER_BYTES, size - 1]) {
    copyFileSync(good, bad)
    truncateSync(bad, cut)
    t.equal(outcome(), 'ERR_ACCEL_BAD_SIZE', `cut to ${cut} bytes`)
  }
  copyFileSync(good, bad)
  using file = TraceFile.open(bad)
  truncateSync(bad, 100)
  t.throws(() => file.read(), { code: 'ERR_ACCEL_IO' }, 'cut while it is read')

  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(size - 16), fc.uint8Array({ minLength: 1, maxLength: 16 })), { maxLength: 8 }),
      fc.boolean(),
      (pokes, early) => {
        copyFileSync(good, bad)
        const fd = openSync(bad, 'r+')
        for (const [offset, bytes] of pokes)
          writeSync(fd, bytes, 0, bytes.length, early ? MAGIC.length + (offset % 2000) : offset)
        closeSync(fd)
        outcome()
      },
    ),
    { numRuns: 60 },
  )
})

t.test('names that cannot be are as if they were not there', async (t) => {
  const folder = t.testdir()
  const path = join(folder, 'bad')
  const register = { kind: 'register', width: 32, access: 'rw', offset: 0, fields: {} }
  const lines = [
    'not JSON',
    '[]',
    'null',
    '{"device":5}',
    JSON.stringify({ region: 0, registers: { A: { ...register, width: 33 } } }),
    JSON.stringify({ region: 0, registers: { A: { ...register, offset: 1 } } }),
    JSON.stringify({ region: 0, registers: { A: { ...register, offset: -4 } } }),
    JSON.stringify({
      region: 0,
      registers: { A: { ...register, fields: { x: { kind: 'bits', hi: 99, lo: 0 } } } },
    }),
    JSON.stringify({
      region: 0,
      registers: { A: { ...register, fields: { x: { kind: 'bits', hi: 40, lo: 0 } } } },
    }),
    JSON.stringify({
      region: 0,
      registers: { A: { kind: 'array', count: 1e9, strideBytes: 4, element: register } },
    }),
    JSON.stringify({ region: 0, registers: nested(20, register) }),
    JSON.stringify({ region: 'x', registers: { A: register } }),
  ]
  const writer = new TraceWriter(path)
  const event = { timeNs: 1n, kind: EventKind.mmioWrite, width: 4, index: 0, id: 0, a: 0n, b: 1n }
  const good = JSON.stringify({ region: 0, registers: { GOOD: register } })
  writer.add([event, { ...event, kind: 200 }], 0, [...lines, good], 0n)
  writer.close()
  const { names, events } = readAll(path)
  t.equal(names.unknown, lines.length)
  t.same(
    told(path).map(({ text }) => text),
    ['GOOD <- 0x00000001', 'record of kind 200: 4 0 0 0x0 0x1'],
  )
  t.equal(events.length, 2)
})

function nested(depth: number, register: object): object {
  return depth === 0
    ? { A: register }
    : { A: { kind: 'array', count: 1, strideBytes: 4, element: nested(depth - 1, register) } }
}

t.test('a map with resets of 64 bits, which JSON has not, is named, and its docs take no room', async (t) => {
  const path = join(t.testdir(), 'ring')
  const ring = TraceRing.create(path)
  const map = registers({
    reset: reg64(
      0,
      'rw',
      { doc: flag(0) },
      { reset: 2n ** 64n - 1n, resetMask: 1n, doc: 'x'.repeat(100_000) },
    ),
    LANE: regArray(2, 16, { HEAD: reg32(8, 'rw', { reset: choice(1, 0, { reset: 1 }) }, { reset: 1 }) }),
  })
  ring.named(0, map)
  ring.read(0, 0, 8, 1n)
  ring.write(0, 24, 4, 1)
  ring.close()
  t.same(
    told(path).map(({ text }) => text),
    ['reset -> 0x0000000000000001 doc=true', 'LANE[1].HEAD <- 0x00000001 reset=reset'],
  )
  t.ok(readAll(path).names.lines.every((line) => line.length < 1000))
})

t.test('a file in the place of a ring that is being written leaves that to its writer', async (t) => {
  const path = join(t.testdir(), 'ring')
  const ring = TraceRing.create(path)
  ring.irq(1, 1)
  using before = TraceFile.open(path)
  const writer = new TraceWriter(path)
  writer.add([], 0, [], 0n)
  writer.close()
  ring.irq(2, 1) // ends the process with SIGBUS where the file was cut
  ring.close()
  t.same(
    before.read().events.map(({ index }) => index),
    [1, 2],
  )
  t.same(readAll(path).events, [])
  t.throws(() => new TraceWriter(join(path, 'none')), { code: 'ERR_ACCEL_IO' })
  t.throws(() => new TraceWriter(join(path, '..', 'none', 'none')), { code: 'ERR_ACCEL_NOT_FOUND' })
})

t.test('what is no file is no trace', async (t) => {
  t.throws(() => TraceFile.open(t.testdir()), { code: 'ERR_ACCEL_BAD_SIZE' })
  t.throws(() => TraceFile.open('/dev/zero'), { code: 'ERR_ACCEL_BAD_SIZE' })
})
