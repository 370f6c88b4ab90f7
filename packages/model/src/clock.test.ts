import fc from 'fast-check'
import t from 'tap'
import { AutoClock, ManualClock } from './clock.js'

t.test('work runs in the order of its time, and never before a step', async (t) => {
  const clock = new ManualClock()
  const ran: string[] = []
  clock.after(20, () => ran.push(`b${clock.now()}`))
  clock.after(10, () => {
    ran.push(`a${clock.now()}`)
    clock.after(5, () => ran.push(`c${clock.now()}`))
  })
  clock.after(20, () => ran.push(`d${clock.now()}`))
  t.same(ran, [])
  t.equal(clock.step(9), 0)
  t.equal(clock.step(11), 4)
  t.same(ran, ['a10', 'c15', 'b20', 'd20'])
  t.equal(clock.now(), 20)
  t.equal(clock.pending, 0)
})

t.test('cancelled work does not run', async (t) => {
  const clock = new ManualClock()
  const cancel = clock.after(1, () => t.fail('ran'))
  cancel()
  cancel()
  t.equal(clock.runUntilIdle(), 0)
})

t.test('a device that never rests is told apart from one that does', async (t) => {
  const clock = new ManualClock()
  const poll = () => clock.after(1, poll)
  poll()
  t.throws(() => clock.runUntilIdle(1000), { code: 'ERR_ACCEL_TIMEOUT' })
  t.throws(() => clock.after(-1, poll), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.throws(() => clock.after(Number.NaN, poll), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
})

t.test('work cannot step the clock that runs it, and its error reaches who steps', async (t) => {
  const clock = new ManualClock()
  clock.after(1, () => clock.step(1))
  t.throws(() => clock.step(1), { code: 'ERR_ACCEL_DEADLOCK' })
  t.equal(clock.step(1), 0, 'and the clock goes on')
})

t.test('a spread shuffles what would run in order, the same way for the same seed', async (t) => {
  const order = (seed: number, spreadNs: number) => {
    const clock = new ManualClock({ seed, spreadNs })
    const ran: number[] = []
    for (let i = 0; i < 20; i++) clock.after(10, () => ran.push(i))
    clock.runUntilIdle()
    return ran
  }
  const sorted = Array.from({ length: 20 }, (_, i) => i)
  t.same(order(1, 0), sorted)
  t.not(order(1, 100).join(), sorted.join())
  t.same(order(1, 100), order(1, 100))
  t.not(order(1, 100).join(), order(2, 100).join())
  t.same(
    order(3, 100).sort((a, b) => a - b),
    sorted,
  )
})

t.test('any work runs once, in order, at its time', async () => {
  fc.assert(
    fc.property(fc.array(fc.nat(1000)), fc.array(fc.nat(400)), (delays, steps) => {
      const clock = new ManualClock()
      const ran: number[] = []
      for (const delay of delays) {
        clock.after(delay, () => {
          if (clock.now() !== delay) throw new Error(`ran at ${clock.now()}, not ${delay}`)
          ran.push(delay)
        })
      }
      for (const step of steps) clock.step(step)
      clock.runUntilIdle()
      return ran.join() === [...delays].sort((a, b) => a - b).join()
    }),
  )
})

t.test('on real time, work runs in a later turn, in order', async (t) => {
  const clock = new AutoClock()
  const ran: string[] = []
  await new Promise<void>((done) => {
    clock.after(0, () => ran.push('now'))
    clock.after(900_000, () => ran.push('later'))
    clock.after(3e6, () => {
      ran.push('3 ms')
      done()
    })
    clock.after(100, () => t.fail('cancelled'))()
    t.same(ran, [], 'not within the call')
  })
  t.same(ran, ['now', 'later', '3 ms'])
  t.equal(clock.pending, 0)
})

t.test('on real time, a device that polls lets the event loop breathe', async (t) => {
  const clock = new AutoClock()
  let polls = 0 // a clock that never lets go, or never runs, hangs this test
  let cancel = () => {}
  const poll = () => {
    polls++
    cancel = clock.after(10, poll)
  }
  poll()
  for (let turns = 0; turns < 5 || polls < 5; turns++) await new Promise(setImmediate)
  cancel()
  t.equal(clock.pending, 0)
})

t.test('on real time, what nobody announces is looked for', async (t) => {
  const clock = new AutoClock()
  let looks = 0
  const ran: string[] = []
  const look = () => looks++ === 1000
  clock.poll(1e9, look, () => ran.push('found'))
  clock.poll(
    2e6,
    () => false,
    () => ran.push('in vain'),
  )
  clock.poll(
    1e9,
    () => true,
    () => t.fail('cancelled'),
  )()
  t.same([looks, ran], [0, []], 'not within the call')
  while (clock.pending > 0) await new Promise(setImmediate)
  t.same(ran.sort(), ['found', 'in vain'])

  const cancel = clock.poll(
    1e12,
    () => false,
    () => t.fail('1000 s'),
  )
  for (let turns = 0; turns < 5; turns++) await new Promise(setImmediate)
  cancel()
  t.equal(clock.pending, 0, 'meanwhile the event loop had its turns')
})

t.test('work that a look finds may ask for more, which runs soon and in order', async (t) => {
  const clock = new AutoClock()
  const ran: string[] = []
  clock.poll(
    1e9,
    () => true,
    () => {
      // Far enough apart for time that passes between the two, and too near to be waited for.
      clock.after(500_000, () => ran.push('second'))
      clock.after(0, () => {
        ran.push('first')
        clock.after(900_000, () => ran.push('third'))
      })
    },
  )
  while (clock.pending > 0) await new Promise(setImmediate)
  t.same(ran, ['first', 'second', 'third'])
})

t.test('work that a look finds and that looks again lets the event loop breathe', async (t) => {
  const clock = new AutoClock()
  let [found, cancel] = [0, () => {}]
  const again = () => {
    // Without a limit nothing else would ever run: then it ends here, and fails below.
    if (++found < 1e6) cancel = clock.poll(1e9, () => true, again)
  }
  again()
  for (let turns = 0; turns < 3; turns++) await new Promise(setImmediate)
  t.ok(found > 1 && found < 1e6, `${found} times in 3 turns`)
  cancel()
})
