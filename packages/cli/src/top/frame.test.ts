import fc from 'fast-check'
import pc from 'picocolors'
import t from 'tap'
import type { Snapshot } from '../nodes/ask.js'
import { width } from '../text.js'
import { type Choices, frame, orders } from './frame.js'
import type { NodeView } from './watch.js'

const colors = pc.createColors(false)
const choices: Choices = {
  order: 'busy',
  reversed: false,
  paused: false,
  help: false,
  scroll: 0,
  intervalS: 1,
}

interface Told {
  readonly atNs: bigint
  /** What the engine worked, in all and for each client. */
  readonly busyNs: bigint
  readonly clients: readonly bigint[]
}

/** What a node with an engine of two instances, and some clients, says at one time. */
function snapshot({ atNs, busyNs, clients }: Told, name = 'Device'): Snapshot {
  const usage = clients.map((ns, open) => ({
    open,
    self: false,
    text: `drm-driver:\tx\ndrm-engine-main:\t${ns} ns\ndrm-engine-capacity-main:\t2\ndrm-total-card:\t${open + 1} KiB\ndrm-total-b:\t0\n`,
  }))
  const contexts = clients.map((ns, id) => ({
    ...{ id, self: false, known: { peer: false }, pid: 0, uid: 0, gid: 0 },
    rights: { reset: false, owner: false, group: false },
    ...{ openedNs: 0n, busyNs: ns, submissions: 0n, completions: ns / 1_000_000n, failures: 0n },
  }))
  const engine = { name: 'main', instances: 2, known: { busy: true, utilisation: false, heartbeat: false } }
  return {
    node: 'accel0',
    atNs,
    realtimeNs: atNs,
    answers: {
      identity: { name, driver: 'x' },
      status: { state: 'operational', opens: 1, reason: '' },
      engines: { total: 1, entries: [{ ...engine, utilisationPermille: 0, busyNs, heartbeat: 0n, atNs }] },
      contexts: { total: contexts.length, entries: contexts },
      usage: { total: usage.length, entries: usage },
    } as unknown as Snapshot['answers'],
    attributes: new Map(),
    failures: [],
  }
}

const second = 1_000_000_000n
const view = (before: Told, now: Told, name?: string): NodeView => ({
  target: 'accel0',
  before: snapshot(before, name),
  now: snapshot(now, name),
  error: undefined,
})
const lines = (views: readonly NodeView[], chosen: Partial<Choices> = {}) =>
  frame(views, { ...choices, ...chosen }, { columns: 80, rows: Number.POSITIVE_INFINITY, colors })

t.test('shares and rates are of what is between two moments', async (t) => {
  const shown = lines([
    view(
      { atNs: 0n, busyNs: 7n * second, clients: [0n, 5n * second] },
      { atNs: 2n * second, busyNs: 8n * second, clients: [second, 5n * second] },
    ),
  ])
  t.ok(shown.includes('accel0  Device  25.0%       -  operational'), shown.join('\n'))
  t.ok(shown.includes(`accel0  main x 2  25.0%  [${'|'.repeat(8).padEnd(30)}]`))
  t.match(shown.at(-2), /^accel0 +- +- +25\.0% +500 +1 KiB /)
  t.match(shown.at(-1), /^accel0 +- +- +0\.0% +0 +2 KiB /)
})

t.test('what is new, was cleared or does not answer has no rate', async (t) => {
  const now = { atNs: 2n * second, busyNs: second, clients: [second] }
  const fresh: NodeView = { ...view(now, now), before: undefined }
  t.match(lines([fresh]).join('\n'), /^accel0 {2}Device +- +- {2}operational$/m)
  const cleared = view({ atNs: 0n, busyNs: 9n * second, clients: [9n * second] }, now)
  t.match(lines([cleared]).join('\n'), /^accel0 {2}Device +- +- {2}operational$/m)
  const gone: NodeView = { target: 'accel9', now: undefined, before: undefined, error: undefined }
  t.match(lines([gone]).join('\n'), /^accel9 {2}- .*\n(.*\n)*no client but this one$/m)
})

t.test('clients are sorted, and reversed', async (t) => {
  const clients = [1n, 3n, 2n]
  const views = [
    view(
      { atNs: 0n, busyNs: 0n, clients: [0n, 0n, 0n] },
      { atNs: second, busyNs: 0n, clients: clients.map((ns) => ns * 100_000_000n) },
    ),
  ]
  const memories = (chosen: Partial<Choices>) =>
    lines(views, chosen)
      .slice(-3)
      .map((line) => /(\d) KiB/.exec(line)![1])
  t.same(memories({ order: 'busy' }), ['2', '3', '1'])
  t.same(memories({ order: 'memory' }), ['3', '2', '1'])
  t.same(memories({ order: 'memory', reversed: true }), ['1', '2', '3'])
})

t.test('a screen fits its terminal, whatever its size, names and choices', async () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 140 }),
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 0, max: 40 }),
      fc.array(fc.string({ unit: 'binary', maxLength: 64 }), { maxLength: 12 }),
      fc.record({
        order: fc.constantFrom(...orders),
        help: fc.boolean(),
        paused: fc.boolean(),
        scroll: fc.nat(60),
      }),
      (columns, rows, clients, names, chosen) => {
        const told = { atNs: second, busyNs: second, clients: Array.from({ length: clients }, () => second) }
        const screen = frame(
          names.map((name) => view({ ...told, atNs: 0n }, told, name)),
          { ...choices, ...chosen },
          { columns, rows, colors },
        )
        return (
          screen.length === rows && screen.every((line) => width(line) <= columns && !/\p{Cc}/u.test(line))
        )
      },
    ),
    { numRuns: 200 },
  )
})
