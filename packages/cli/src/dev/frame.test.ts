import fc from 'fast-check'
import pc from 'picocolors'
import t from 'tap'
import { width } from '../text.js'
import { type Choices, frame, lineText, matches } from './frame.js'
import type { Line } from './messages.js'
import { type DevState, initialState, showAttributes } from './state.js'

const colors = pc.createColors(false)
const choices: Choices = { help: false, filter: '', typing: undefined, scroll: 0 }
const title = { name: 'my-npu', path: '/run/uaccel/accel0' }
const nowMs = new Date(2026, 0, 1, 12, 0, 5).getTime()
const line = (text: string, more: Partial<Line> = {}): Line => ({
  ...{ atMs: nowMs - 1000, source: 'device', text, count: 1, level: 'plain', trace: true },
  ...more,
})

function running(): DevState {
  const state = initialState(true)
  state.build = { state: 'ok', atMs: nowMs, ms: 210, errors: [] }
  state.model = { ...state.model, state: 'running', name: 'npu', pid: 41, sinceMs: nowMs - 60_000 }
  state.driver = {
    ...state.driver,
    state: 'running',
    name: 'npu',
    pid: 42,
    sinceMs: nowMs - 3000,
    reloads: 2,
    tookMs: 400,
  }
  state.status = { state: 'operational', opens: 1, atMs: nowMs }
  return state
}

const lines = (state: DevState, journal: readonly Line[] = [], chosen: Partial<Choices> = {}, rows = 16) =>
  frame(title, state, journal, { ...choices, ...chosen }, { columns: 90, rows, colors, nowMs })

t.test('what runs, and for how long', async (t) => {
  const [first, driver, model, build] = lines(running())
  t.match(first, /^uaccel dev {2}my-npu {2}\/run\/uaccel\/accel0 +12:00:05$/)
  t.equal(driver, 'driver running  npu for 00:00:03  process 42  reloaded 2 x, last start 400 ms  1 client')
  t.equal(model, 'model  running  npu for 00:01:00  process 41  started anew 0 x')
  t.equal(build, 'build  ok  12:00:05, took 210 ms')
  const silent = running()
  silent.status = { state: 'operational', opens: 0, atMs: nowMs - 5000 }
  t.match(lines(silent)[1], /^driver running {2}does not answer: its event loop is blocked {2}npu/)
})

t.test('errors of the compiler and of the driver stand above', async (t) => {
  const state = running()
  state.build = {
    ...state.build,
    state: 'errors',
    errors: ['1', '2', '3', '4', '5'].map((n) => `src/a.ts:${n}:1 wrong`),
  }
  state.driver = { ...state.driver, problem: 'its probe failed: no box' }
  const shown = lines(state).join('\n')
  t.match(shown, /^driver .*\n {7}its probe failed: no box\n/m)
  t.match(shown, /^build {2}errors .*\n {7}src\/a\.ts:1:1 wrong\n(.*\n){3} {7}and 1 more$/m)
})

t.test(
  "attributes: the driver's first, those of the node where they say something; what changed is marked",
  async (t) => {
    const state = running()
    const told = (value: string) =>
      [
        ['counters/commands', '3', ''],
        ['counters/errors/X', '0', ''],
        ['identity/vendor', '0x1234', ''],
        ['clock', value, 'Hz'],
        ['enabled', '0', ''],
      ] as const
    showAttributes(state, told('5'))
    const shown = lines(state).filter((each) => each.includes('='))
    t.equal(shown.join(' ').replace(/ +/g, ' ').trim(), 'clock = 5 Hz enabled = 0 counters/commands = 3')
    t.equal(state.attributes.get('clock')?.changedMs, 0)
    showAttributes(state, told('6'))
    t.ok(state.attributes.get('clock')!.changedMs > 0)
    t.equal(state.attributes.get('enabled')?.changedMs, 0)
  },
)

t.test('lines: the latest, filtered, scrolled, with their counts', async (t) => {
  const journal = Array.from({ length: 50 }, (_, i) => line(`read STATUS ${i}`))
  const shown = (chosen: Partial<Choices>) =>
    lines(running(), journal, chosen).filter((each) => each.includes('STATUS'))
  t.match(shown({}).at(-1), /12:00:04\.000 {2}device {3}read STATUS 49$/)
  t.equal(shown({ filter: 'status 4' }).length, 10)
  t.match(shown({ scroll: 5 }).at(-1), /STATUS 44$/)
  t.match(shown({ scroll: 999 }).at(-1), /STATUS \d$/, 'the first ones stay in sight')
  t.ok(
    lines(running(), journal, { scroll: 5, filter: 'read' }).some((each) =>
      / filter "read" {2}5 more below/.test(each),
    ),
  )
  t.match(lines(running(), journal, { typing: 'abc' }).at(-1), /^filter: abc_$/)
  t.match(lineText(line('x', { count: 7 }), { columns: 40, colors }), /device {3}x {2}x 7$/)
  t.ok(matches(line('x', { source: 'command' }), 'COMMAND'))
})

t.test('a screen fits its terminal, whatever is said', async () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 140 }),
      fc.integer({ min: 1, max: 50 }),
      fc.array(fc.string({ unit: 'binary', maxLength: 80 }), { maxLength: 20 }),
      fc.record({
        help: fc.boolean(),
        scroll: fc.nat(60),
        typing: fc.option(fc.string({ unit: 'binary' }), { nil: undefined }),
        filter: fc.constantFrom('', 'a'),
      }),
      (columns, rows, texts, chosen) => {
        const state = running()
        state.build.errors = texts
        state.driver.problem = texts[0] ?? ''
        showAttributes(
          state,
          texts.map((text, i) => [`${text}${i}`, text, text] as const),
        )
        const screen = frame(
          title,
          state,
          texts.map((text) => line(text)),
          chosen,
          { columns, rows, colors, nowMs },
        )
        return (
          screen.length === rows && screen.every((each) => width(each) <= columns && !/\p{Cc}/u.test(each))
        )
      },
    ),
    { numRuns: 60 },
  )
})
