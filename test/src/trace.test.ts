import { execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openAccel } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import {
  type ChromeEvent,
  EventKind,
  PerfettoTrace,
  type TraceEvent,
  TraceFile,
  TraceNames,
  TraceRing,
  TraceWriter,
} from '@uaccel/trace'
import { commonUapi } from '@uaccel/uapi'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { checkChromeTrace } from './chrome-trace.js'
import { eventually, nodeFolder } from './nodes.js'
import { start, uaccel, uaccelBin } from './uaccel.js'

t.setTimeout(200_000)

interface Picture {
  readonly traceEvents: readonly ChromeEvent[]
  readonly otherData: Readonly<Record<string, string>>
}

/** What Perfetto shows, by lane. */
function lanesOf({ traceEvents }: Picture): Map<string, ChromeEvent[]> {
  const lanes = new Map<number, { name: string; events: ChromeEvent[] }>()
  for (const event of traceEvents)
    if (event.name === 'thread_name' && event.ph === 'M')
      lanes.set(event.tid, { name: event.args.name, events: [] })
  for (const event of traceEvents)
    if (event.ph === 'X' || event.ph === 'i') lanes.get(event.tid)?.events.push(event)
  return new Map([...lanes.values()].map(({ name, events }) => [name, events]))
}

t.test('the checker of the format finds what is wrong', async (t) => {
  const base = { name: 'a', ph: 'X', ts: 1, dur: 2, pid: 1, tid: 1 }
  const name = { name: 'thread_name', ph: 'M', pid: 1, tid: 1, args: { name: 'host' } }
  const check = (...traceEvents: object[]) => checkChromeTrace({ traceEvents: [name, ...traceEvents] })
  t.same(check(base, { ...base, ts: 1.5, dur: 1 }), [])
  for (const wrong of [
    { ...base, ph: 'Z' },
    { ...base, ts: '1' },
    { ...base, ts: Number.NaN },
    { ...base, dur: -1 },
    { ...base, dur: undefined },
    { ...base, tid: 1.5 },
    { ...base, tid: 2 },
    { ...base, pid: undefined },
    { ...base, name: '' },
    { ...base, args: 5 },
    { ...base, colour: 'red' },
    { ...base, ph: 'i' },
    { name: 'a', ph: 'i', ts: 1, pid: 1, tid: 1, s: 'x' },
    { name: 'a', ph: 'C', ts: 1, pid: 1, tid: 1, args: { bytes: 'many' } },
    { ...name, args: {} },
    { ...name, name: 'thread_colour' },
  ])
    t.ok(check(wrong).length > 0, JSON.stringify(wrong))
  t.equal(check(base, { ...base, ts: 2, dur: 2 }).length, 1, 'slices that overlap')
  t.equal(checkChromeTrace({}).length, 1)
  t.equal(checkChromeTrace({ traceEvents: [], what: 1 }).length, 1)
})

t.test('property: whatever the records say, the picture keeps to the format', async () => {
  const kind = fc.constantFrom(0, 77, ...Object.values(EventKind))
  const event = fc.record({
    timeNs: fc.bigInt({ min: 0n, max: 5000n }),
    kind,
    width: fc.constantFrom(0, 1, 2, 3, 4, 8, 255),
    index: fc.constantFrom(0, 1, 5, 0xffff),
    id: fc.nat(4),
    a: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    b: fc.constantFrom(0n, 1n, 5n, 2n ** 64n - 1n),
  })
  const { commandBegin, commandEnd } = EventKind
  const endsBeforeItBegins = [
    { kind: 77, timeNs: 0n },
    { kind: commandBegin, timeNs: 1n },
    { kind: commandEnd, timeNs: 0n },
  ].map((each) => ({ width: 0, index: 0, id: 2, a: 0n, b: 0n, ...each }))
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), fc.boolean(), (events: TraceEvent[], sorted) => {
      const picture = new PerfettoTrace(new TraceNames())
      if (sorted) events.sort((a, b) => Number(a.timeNs - b.timeNs))
      picture.add(events, 3)
      const problems = checkChromeTrace(JSON.parse(JSON.stringify(picture)))
      if (problems.length > 0) throw new Error(problems.join('\n'))
    }),
    { numRuns: 300, examples: [[endsBeforeItBegins, false]] },
  )
})

t.test('a trace of the digits example has lanes of host, queue and device', async (t) => {
  const folder = t.testdir()
  const [path, output] = [join(folder, 'digits.uatrace'), join(folder, 'digits.json')]
  const program = fileURLToPath(new URL('../../examples/digits/dist/main.js', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [program, '--json'], {
    env: { ...process.env, UACCEL_TRACE: path },
  })
  t.equal(JSON.parse(stdout).mismatches, 0)
  t.equal(statSync(path).mode & 0o777, 0o600)

  const made = await uaccel(['trace', '--file', path, '--output', output])
  t.equal(made.code, 0, made.stderr)
  const picture = JSON.parse(readFileSync(output, 'utf8')) as Picture
  t.same(checkChromeTrace(picture), [])
  t.equal(picture.otherData.lostRecords, '0')
  t.match(picture.otherData.device, /^accel0: pci acce:0001/)
  const lanes = lanesOf(picture)
  const jobs = [...lanes].flatMap(([name, events]) => (name.startsWith('queue 0') ? events : []))
  const running = [...lanes].flatMap(([name, events]) => (name.startsWith('device') ? events : []))
  t.ok(jobs.length > 100, `${jobs.length} jobs`)
  t.equal(running.filter(({ ph }) => ph === 'X').length, jobs.length, 'each was at the device')
  for (const job of jobs) {
    if (job.ph !== 'X') throw new Error('a job without its beginning')
    const { totalNs, queuedNs, deviceNs } = job.args as Record<string, number>
    if (!(totalNs > 0 && totalNs === queuedNs + deviceNs)) throw new Error(JSON.stringify(job))
  }
  t.ok(running.some(({ ph, name }) => ph === 'i' && name.startsWith('vector 1')))
  const host = lanes.get('host')!.map(({ name }) => name)
  for (const wanted of [
    'CC <- 0x00000001 enable=true',
    'QUEUE[0].QSTS -> 0x00000002 state=running cause=none',
  ])
    t.ok(host.includes(wanted), wanted)
  t.ok(host.some((name) => /^map \d+ bytes at IOVA 0x[0-9a-f]+, device reads and writes$/.test(name)))
})

/** A server of an edu. */
async function serve(t: Test, folder: string) {
  const server = fork(uaccelBin, ['serve', '--folder', folder, '--model', 'edu'], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  server.stderr!.resume()
  t.teardown(() => server.kill('SIGKILL'))
  await once(server, 'message')
  return server
}

async function factorial(folder: string): Promise<void> {
  const client = await openAccel(eduUapi, 'accel0', { folder })
  try {
    t.same(await client.call('factorial', { n: 5 }), { value: 120 })
  } finally {
    await client.close()
  }
}

t.test('uaccel trace follows a node, and it is traced no longer than somebody does', async (t) => {
  const folder = nodeFolder(t)
  await serve(t, folder)
  const ring = join(folder, 'accel0.trace')
  await factorial(folder)
  t.notOk(existsSync(ring), 'nobody traces')

  const lines: Record<string, unknown>[] = []
  const tracer = start(['trace', 'accel0', '--json', '--folder', folder])
  let rest = ''
  tracer.stdout!.on('data', (data) => {
    rest += data
    const ended = rest.split('\n')
    rest = ended.pop()!
    for (const line of ended) lines.push(JSON.parse(line))
  })
  t.ok(await eventually(() => existsSync(ring)))
  t.equal(statSync(ring).mode & 0o777, 0o600)
  await factorial(folder)
  t.ok(await eventually(() => lines.some(({ kind }) => kind === 'commandEnd')))
  t.match(lines.filter(({ kind }) => kind !== 'dmaMap').slice(0, 5), [
    { kind: 'commandBegin', command: 'factorial' },
    { kind: 'mmioWrite', register: 'FACTORIAL', value: '0x5' },
    { kind: 'irq', vector: 0, count: 1 },
    { kind: 'mmioRead', register: 'IRQ_STATUS', fields: { factorial: true } },
    { kind: 'mmioWrite', register: 'IRQ_ACK' },
  ])
  t.ok((lines.find(({ kind }) => kind === 'commandEnd') as { totalNs: number }).totalNs > 0)

  const other = start(['trace', 'accel0', '--folder', folder, '--irq', '--count', '1'])
  let code: number | null | undefined
  other.once('exit', (ended) => {
    code = ended
  })
  // It begins to look at some moment.
  t.ok(
    await eventually(async () => {
      await factorial(folder)
      return code !== undefined
    }),
  )
  t.equal(code, 0, 'a second one, which ends by itself')
  t.ok(existsSync(ring), 'the first one still traces')
  const exited = once(tracer, 'exit')
  tracer.kill('SIGKILL')
  await exited
  t.ok(await eventually(() => !existsSync(ring)))
  await factorial(folder)
  t.notOk(existsSync(ring))
})

t.test('a server that is killed leaves what it did', async (t) => {
  const folder = nodeFolder(t)
  await serve(t, folder)
  const client = await openAccel(commonUapi, 'accel0', { folder })
  const { fd, path } = await client.common('trace', { flags: {} })
  using file = new TraceFile(fd!, path)
  await factorial(folder)
  process.kill(file.writer, 'SIGKILL')
  await client.lost
  await client.close()
  const shown = await uaccel(['trace', '--file', join(folder, 'accel0.trace'), '--commands'])
  t.equal(shown.code, 0, shown.stderr)
  t.match(shown.stdout, /factorial of open \d+ begins.*\n.*factorial of open \d+ ends/)
})

t.test('who follows a node whose server is stopped is told that it is gone', async (t) => {
  const folder = nodeFolder(t)
  const server = await serve(t, folder)
  const output = join(folder, 'x.json')
  const tracer = start(['trace', 'accel0', '--folder', folder, '--output', output])
  const said = text(tracer.stderr!)
  const exited = once(tracer, 'exit')
  t.ok(await eventually(() => existsSync(join(folder, 'accel0.trace'))))
  await factorial(folder)
  server.kill('SIGTERM')
  t.equal((await exited)[0], 4)
  t.match(await said, /stopped/)
  const picture = JSON.parse(readFileSync(output, 'utf8')) as Picture
  t.same(checkChromeTrace(picture), [])
  t.ok(
    lanesOf(picture)
      .get('host')!
      .some(({ name }) => name === 'factorial'),
  )
})

t.test('a picture of more events than are written at once is whole', async (t) => {
  const folder = t.testdir()
  const [path, output] = [join(folder, 'long.uatrace'), join(folder, 'long.json')]
  const writer = new TraceWriter(path)
  const [kind, length] = [EventKind.irq, 25_000]
  const events = Array.from({ length }, (_, i) => {
    return { timeNs: BigInt(i), kind, width: 0, index: i % 7, id: 0, a: 0n, b: 1n }
  })
  writer.add(events, 0, [], 0n)
  writer.close()
  t.equal((await uaccel(['trace', '--file', path, '--output', output])).code, 0)
  const picture = JSON.parse(readFileSync(output, 'utf8')) as Picture
  t.same(checkChromeTrace(picture), [])
  t.equal(picture.traceEvents.filter(({ ph }) => ph === 'i').length, events.length)
})

t.test('names that had no room are told of', async (t) => {
  const path = join(t.testdir(), 'ring.uatrace')
  const ring = TraceRing.create(path)
  ring.name({ device: 'x'.repeat(2 ** 20) })
  ring.irq(0, 1)
  ring.close()
  const { code, stdout, stderr } = await uaccel(['trace', '--file', path])
  t.equal(code, 0)
  t.match(stdout, /vector 0/)
  t.match(stderr, /^1 lines of names had no room in the trace/)
})

t.test('what uaccel trace refuses', async (t) => {
  const folder = t.testdir({ text: 'none' })
  const file = join(folder, 'text')
  for (const [args, code, said] of [
    [[], 1, /name one of them/],
    [['accel0', '--file', file], 1, /name one of them/],
    [['--file', file], 1, /is not a trace/],
    [['--file', `${file}.none`], 3, /cannot be read/],
    [['--file', file, '--output', 'x.txt'], 1, /FILE\.json/],
    [['accel99', '--folder', folder], 3, /accel99/],
  ] as const) {
    const ended = await uaccel(['trace', ...args])
    t.equal(ended.code, code, args.join(' '))
    t.match(ended.stderr, said)
    t.equal(ended.stdout, '')
  }
})

t.test('a file to write is made at once, and never the trace that is read', async (t) => {
  const folder = nodeFolder(t)
  await serve(t, folder)
  const none = await uaccel([
    'trace',
    'accel0',
    '--folder',
    folder,
    '--output',
    join(folder, 'none', 'x.json'),
  ])
  t.equal(none.code, 3, 'and not when the trace is over')
  t.match(none.stderr, /cannot be written: .*\(ERR_ACCEL_NOT_FOUND\)/)
  t.notMatch(none.stderr, 'Tracing')

  const path = join(folder, 'own.uatrace')
  const writer = new TraceWriter(path)
  writer.add([{ timeNs: 1n, kind: EventKind.irq, width: 0, index: 3, id: 0, a: 0n, b: 1n }], 0, [], 0n)
  writer.close()
  const before = readFileSync(path)
  const same = await uaccel(['trace', '--file', path, '--mmio', '--output', path])
  t.equal(same.code, 1)
  t.match(same.stderr, /would be overwritten/)
  t.same(readFileSync(path), before)
})
