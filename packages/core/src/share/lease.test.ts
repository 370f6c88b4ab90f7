import { accelError } from '@uaccel/uapi'
import t from 'tap'
import { openDevice } from '../device.js'
import { FakeTransport } from '../fake-transport.test.support.js'
import { attachDevice } from './borrower.js'
import { DeviceLease, LeaseHolder } from './lease.js'

const broken = accelError('ERR_ACCEL_IO', 'it broke')

/** A lease and its other side, in one thread: what happened, in order. */
async function bench() {
  const transport = new FakeTransport()
  const device = openDevice(transport)
  const share = device.share()
  const seen: string[] = []
  const lease: DeviceLease = new DeviceLease(share, {
    close: () => lease.end(accelError('ERR_ACCEL_CLOSED', 'taken back')),
    said: (value) => seen.push(`said ${value}`),
  })
  const holder = new LeaseHolder(attachDevice(share.token))
  holder.serve({
    pause: () => seen.push('paused'),
    fail: ({ code }) => seen.push(code),
    revive: () => seen.push('revived'),
  })
  const end = async () => {
    await lease.close()
    await device.release()
    await transport.close()
  }
  return { lease, holder, seen, end }
}

const timed = async (work: Promise<unknown>) => {
  const start = performance.now()
  await work
  return performance.now() - start
}

t.test('two who pause at once are both answered', async (t) => {
  const { lease, seen, end } = await bench()
  const ms = await timed(Promise.all([lease.pause(), lease.pause()]))
  t.ok(ms < 900, `${ms} ms: the limit is for a worker that does not answer`)
  t.ok(seen.includes('paused'))
  await end()
})

t.test('a pause right after a failure waits until the worker has heard of that', async (t) => {
  const { lease, seen, end } = await bench()
  lease.fail(broken)
  t.ok((await timed(lease.pause())) < 900)
  t.same(seen, ['ERR_ACCEL_IO'], 'it may have been about to ring a doorbell')
  await lease.restart(async () => void seen.push('started'))
  await lease.settled()
  t.equal(lease.failure, undefined)
  await lease.pause()
  t.same(seen, ['ERR_ACCEL_IO', 'started', 'revived', 'paused'])
  await end()
})

t.test('a start that is overtaken by a pause revives nothing', async (t) => {
  const { lease, seen, end } = await bench()
  lease.fail(broken)
  await lease.pause()
  let started = () => {}
  await lease.restart(
    () =>
      new Promise((resolve) => {
        started = resolve
      }),
  )
  await lease.pause()
  started()
  await lease.settled()
  t.equal(lease.failure, broken)
  t.same(seen, ['ERR_ACCEL_IO'])
  await end()
})

t.test('a lease has ended when its worker has let go, and hears no more of it', async (t) => {
  const { lease, holder, seen, end } = await bench()
  holder.say('before')
  while (!seen.includes('said before')) await new Promise(setImmediate)
  let detached = false
  void lease.detached.then(() => {
    detached = true
  })
  const closing = lease.close()
  holder.say('too late')
  t.ok((await timed(closing)) < 900)
  t.ok(detached)
  t.notMatch(seen.join(), /too late/)
  await end()
})
