import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { real, VirtualTime } from './virtual-time.js'

const time = new VirtualTime()
time.install()

t.test('a limit of a minute passes in no time, in its order', async (t) => {
  time.pass({ quietTurns: 8 })
  const began = [real.now(), performance.now(), process.hrtime.bigint()] as const
  const order: string[] = []
  const late = new Promise((resolve) => setTimeout(resolve, 60_000)).then(() => order.push('a minute'))
  await Promise.all([late, sleep(30_000).then(() => order.push('half a minute'))])
  t.same(order, ['half a minute', 'a minute'])
  t.ok(real.now() - began[0] < 5000)
  t.ok(performance.now() - began[1] >= 60_000)
  t.ok(process.hrtime.bigint() - began[2] >= 60_000_000_000n)
  await t.rejects(
    new Promise((_resolve, reject) => {
      const signal = AbortSignal.timeout(10_000)
      signal.addEventListener('abort', () => reject(signal.reason))
    }),
    { name: 'TimeoutError' },
  )
  time.pass('real')
})

t.test('what happens in the event loop comes before any timer', async (t) => {
  time.pass({ quietTurns: 8 })
  const order: string[] = []
  const limit = new Promise<void>((resolve) =>
    setTimeout(() => {
      order.push('limit')
      resolve()
    }, 1000),
  )
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
  order.push('turns')
  await limit
  t.same(order, ['turns', 'limit'])
  time.pass('real')
})

t.test('who never rests does not hold time up for ever', async (t) => {
  time.pass({ quietTurns: 8 })
  let over = false
  setTimeout(() => {
    over = true
  }, 60_000)
  while (!over) await new Promise((resolve) => setImmediate(resolve))
  t.pass('the limit came')
  time.pass('real')
})

t.test(
  'timers that nobody cleared are known by their place; a sleep that is aborted leaves none',
  async (t) => {
    const before = time.pending.length
    const interval = setInterval(() => {}, 5000)
    t.match(time.pending.at(-1), /^5000 ms, .*virtual-time\.test/)
    clearInterval(interval)
    const controller = new AbortController()
    const sleeping = sleep(5000, undefined, { signal: controller.signal })
    controller.abort()
    await t.rejects(sleeping, { name: 'AbortError' })
    t.equal(time.pending.length, before)
  },
)

t.test('in real time a timer takes its time', async (t) => {
  const began = real.now()
  await sleep(30)
  t.ok(real.now() - began >= 29)
})
