import { accelError } from '@uaccel/uapi'
import t from 'tap'
import { Scope } from './scope.js'
import { Completion, poll } from './wait.js'

t.test('a completion before the wait is not lost, reinit forgets it', async (t) => {
  const done = new Completion('the answer')
  done.complete()
  await done.wait({ timeoutMs: 1 })
  await done.wait({ timeoutMs: 1 })
  done.reinit()
  await t.rejects(done.wait({ timeoutMs: 5 }), { code: 'ERR_ACCEL_TIMEOUT', message: /the answer.*5 ms/ })
})

t.test('complete wakes all who wait', async (t) => {
  const done = new Completion()
  const waits = [done.wait({ timeoutMs: 1000 }), done.wait()]
  setImmediate(() => done.complete())
  await Promise.all(waits)
  t.equal(done.done, true)
})

t.test('a wait ends with its signal: the reason of a lost device, or aborted', async (t) => {
  const done = new Completion()
  const lost = new AbortController()
  const wait = done.wait({ signal: lost.signal, timeoutMs: 1000 })
  const gone = accelError('ERR_ACCEL_NO_DEVICE', 'pulled out')
  lost.abort(gone)
  await t.rejects(wait, { code: 'ERR_ACCEL_NO_DEVICE', cause: gone })
  await t.rejects(done.wait({ signal: lost.signal }), { code: 'ERR_ACCEL_NO_DEVICE' }, 'aborted before')
  const user = new AbortController()
  const aborted = done.wait({ signal: user.signal })
  user.abort()
  await t.rejects(aborted, { code: 'ERR_ACCEL_ABORTED' })
  const failing = done.wait()
  done.fail(gone)
  await t.rejects(failing, { code: 'ERR_ACCEL_NO_DEVICE' })
})

t.test('poll answers the value, or names the last one', async (t) => {
  let reads = 0
  t.equal(
    await poll(
      () => ++reads,
      (n) => n === 40,
      { timeoutMs: 1000 },
    ),
    40,
  )
  t.equal(reads, 40)
  const late = performance.now() + 12
  t.equal(await poll(() => performance.now() > late, Boolean, { timeoutMs: 2000 }), true)
  await t.rejects(
    poll(
      () => 0xdead,
      (n) => n === 0,
      { timeoutMs: 10, what: 'CSTS.RDY' },
    ),
    { code: 'ERR_ACCEL_TIMEOUT', message: /CSTS\.RDY.*10 ms.*0xdead/ },
  )
  const user = new AbortController()
  setTimeout(() => user.abort(), 5)
  await t.rejects(
    poll(
      () => 1,
      (n) => n === 0,
      { timeoutMs: 1000, signal: user.signal },
    ),
    { code: 'ERR_ACCEL_ABORTED' },
  )
  const broken = new Error('no bus')
  await t.rejects(
    poll(
      () => {
        throw broken
      },
      () => true,
      { timeoutMs: 10 },
    ),
    broken,
  )
})

t.test('limits that are none are refused', async (t) => {
  for (const timeoutMs of [Number.NaN, -1, 2 ** 31, Number.POSITIVE_INFINITY]) {
    const refused = { code: 'ERR_ACCEL_OUT_OF_RANGE', message: /timeoutMs/ }
    await t.rejects(new Completion().wait({ timeoutMs }), refused)
    await t.rejects(
      poll(
        () => 1,
        () => false,
        { timeoutMs },
      ),
      refused,
    )
  }
})

t.test('poll notices its signal while it rests', async (t) => {
  const signal = AbortSignal.timeout(20)
  const start = performance.now()
  await t.rejects(
    poll(
      () => 1,
      () => false,
      { timeoutMs: 20_000, intervalMs: 10_000, signal },
    ),
    {
      code: 'ERR_ACCEL_ABORTED',
    },
  )
  t.ok(performance.now() - start < 5_000)
})

t.test('poll reads once more after its limit', async (t) => {
  let ready = false
  const wait = poll(() => ready, Boolean, { timeoutMs: 500 })
  await new Promise((resolve) => setTimeout(resolve, 5))
  const end = performance.now() + 600
  while (performance.now() < end) ready = true // the process was busy past the limit
  t.equal(await wait, true)
})

t.test('a scope gives back in reverse order, once, whatever fails', async (t) => {
  const order: number[] = []
  const scope = new Scope('the scope')
  const first = new Error('first')
  const second = new Error('second')
  scope.defer(() => void order.push(1))
  scope.defer(async () => {
    order.push(2)
    throw first
  })
  const forget = scope.defer(() => void order.push(3))
  scope.defer(() => {
    order.push(4)
    throw second
  })
  forget()
  const released = scope.release()
  t.equal(scope.release(), released)
  t.throws(() => scope.defer(() => {}), { code: 'ERR_ACCEL_CLOSED' })
  await t.rejects(released, { name: 'AggregateError', errors: [second, first] })
  t.same(order, [4, 2, 1])
})
