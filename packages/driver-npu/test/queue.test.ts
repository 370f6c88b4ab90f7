import { type Mmio, openDevice } from '@uaccel/core'
import { loopback } from '@uaccel/model'
import { accelError } from '@uaccel/uapi'
import t from 'tap'
import { npuModel } from '../model/index.js'
import { Npu } from '../src/driver.js'
import { NpuQueue, queueLayout } from '../src/queue.js'

/** A queue whose device is the test: it sees what the driver wrote and forges completions. */
async function forged({ record = true, takenBack = (): boolean => false } = {}) {
  const transport = loopback(npuModel)
  const device = await openDevice(transport)
  const npu = await Npu.start(device, { irq: 'poll' })
  const context = await npu.createContext()
  const written: string[] = []
  const write32 = (offset: number, value: number) => {
    if (record) written.push(`doorbell ${offset} ${value}`)
  }
  const { cq: cqAt, status: statusAt, sizeBytes } = queueLayout(3)
  const words = new Int32Array(sizeBytes / 4)
  const queue = new NpuQueue(0, 3, {
    words,
    doorbells: { write32 } as unknown as Mmio,
    page: 0,
    wake: () => {
      if (record) written.push('wake')
    },
    takenBack,
  })
  const [sq, cq, status] = [
    words.subarray(0, cqAt / 4),
    words.subarray(cqAt / 4),
    words.subarray(statusAt / 4),
  ]
  let posted = 0
  const post = (cid: number, statusCode = 0, step = 0, detail = 0) => {
    const at = (posted & 7) * 4
    cq[at] = step
    cq[at + 1] = detail
    cq[at + 3] = (statusCode << 24) | ((((posted >>> 3) & 1) ^ 1) << 16) | cid
    posted++
  }
  const end = async () => {
    await device.release()
    await transport.close()
  }
  return { context, queue, written, post, sq, cq, status, end }
}

t.test('one doorbell for a batch, WAKE where the device asked, across the turns of the ring', async (t) => {
  const { context, queue, written, post, sq, status, end } = await forged()
  const job = context.encode([{ op: 'nop' }, { op: 'nop', fence: true }])
  let done = 0
  const turn = (wakeAt: number) => {
    status[0] = wakeAt
    queue.push(job, () => done++)
    queue.push(job, () => done++)
    queue.ring()
    const cids = [0, 1, 2, 3].map((i) => sq[((done * 2 + i) & 7) * 16] >>> 16)
    for (const cid of cids.toReversed()) post(cid) // completions out of order
    return queue.poll()
  }
  for (let i = 0; i < 10; i++) {
    written.length = 0
    const tail = 4 * (i + 1)
    // Asked to be woken from just here on in even turns; in odd ones it still works on what came before.
    t.equal(turn(i % 2 === 0 ? tail - 4 : tail - 5), 4)
    t.strictSame(written, [
      // What was consumed is announced with what follows, and before it (5.1).
      ...(i > 0 ? [`doorbell 4 ${tail - 4}`] : []),
      `doorbell 0 ${tail}`,
      ...(i % 2 === 0 ? ['wake'] : []),
    ])
  }
  t.equal(done, 20)
  t.equal(queue.inFlight, 0)
  queue.ring()
  t.equal(written.length, 2, 'nothing new, no doorbell')
  await end()
})

t.test('a completion of nothing that is under way is an error, and what came before it counts', async (t) => {
  for (const forgery of ['CID beyond the ring', 'CID of nothing', 'repeated CID', 'step', 'one too many']) {
    const { context, queue, post, sq, end } = await forged()
    const ends: (string | undefined)[] = []
    const push = (steps: number) => {
      const job = context.encode(Array.from({ length: steps }, () => ({ op: 'nop' }) as const))
      queue.push(job, (error) => ends.push(error?.code))
    }
    push(1)
    push(2)
    queue.ring()
    const [first, second] = [sq[0] >>> 16, sq[16] >>> 16]
    post(first)
    if (forgery === 'CID beyond the ring') post(0xffff)
    else if (forgery === 'CID of nothing') post([0, 1, 2].find((cid) => cid !== first && cid !== second)!)
    else if (forgery === 'repeated CID') post(first)
    else if (forgery === 'step') post(second, 0, 2)
    else for (const step of [0, 1, 1]) post(second, 0, step)
    t.throws(() => queue.poll(), { code: 'ERR_ACCEL_IO', message: /not under way/ }, forgery)
    t.strictSame(ends, forgery === 'one too many' ? [undefined, undefined] : [undefined])
    await end()
  }
})

t.test(
  'memory that was taken back while it was read says nothing: neither a success nor an error',
  async (t) => {
    let gone = false
    const { context, queue, written, post, sq, cq, end } = await forged({ takenBack: () => gone })
    const job = context.encode([{ op: 'nop' }])
    const ends: (string | undefined)[] = []
    const submit = () => {
      queue.push(job, (error) => ends.push(error?.code))
      queue.ring()
    }
    // In every second turn of the ring zeros have the phase of completions.
    for (let i = 0; i < 8; i++) {
      submit()
      post(sq[i * 16] >>> 16)
      t.equal(queue.poll(), 1)
    }
    for (let i = 0; i < 7; i++) submit()
    const before = written.length
    gone = true
    cq.fill(0)
    t.equal(queue.poll(), 0, 'zeros')
    post(sq[0] >>> 16)
    t.equal(queue.poll(), 0, 'a completion')
    t.equal(written.length, before, 'and no doorbell is touched')
    t.strictSame(ends, new Array(8).fill(undefined), 'none was told')
    queue.fail(accelError('ERR_ACCEL_NO_DEVICE', 'gone'))
    t.strictSame(ends.slice(8), new Array(7).fill('ERR_ACCEL_NO_DEVICE'))
    await end()
  },
)

t.test('jobs that are submitted while others end with a failure do not end with it', async (t) => {
  const { context, queue, end } = await forged()
  const job = context.encode([{ op: 'nop' }])
  const ends: string[] = []
  for (const name of ['first', 'second']) {
    queue.push(job, (error) => {
      ends.push(`${name} ${error?.code}`)
      // It has heard of the restart already, of which a callback may learn by a poll.
      queue.reset()
      queue.push(job, (error) => ends.push(`after ${name} ${error?.code}`))
    })
  }
  queue.fail(accelError('ERR_ACCEL_IO', 'reset'))
  t.strictSame(ends.sort(), ['first ERR_ACCEL_IO', 'second ERR_ACCEL_IO'])
  t.equal(queue.inFlight, 2)
  await end()
})

t.test('a callback that throws does not keep other jobs from their end', async (t) => {
  const { context, queue, post, sq, end } = await forged()
  const job = context.encode([{ op: 'nop' }])
  const thrown = new Promise((resolve) => process.once('uncaughtException', resolve))
  let told = 0
  queue.push(job, () => {
    throw new Error('of the caller')
  })
  queue.push(job, () => told++)
  queue.ring()
  post(sq[0] >>> 16)
  post(sq[16] >>> 16)
  t.equal(queue.poll(), 2)
  t.equal(told, 1)
  t.equal(queue.inFlight, 0)
  t.match(await thrown, { message: 'of the caller' })
  await end()
})

t.test('a callback that throws does not keep other jobs from the end of the queue', async (t) => {
  const { context, queue, end } = await forged()
  const job = context.encode([{ op: 'nop' }])
  const thrown = new Promise((resolve) => process.once('uncaughtException', resolve))
  const told: (string | undefined)[] = []
  queue.push(job, () => {
    throw new Error('of the caller')
  })
  queue.push(job, (error) => told.push(error?.code))
  queue.fail(accelError('ERR_ACCEL_IO', 'reset'))
  t.strictSame(told, ['ERR_ACCEL_IO'])
  t.equal(queue.inFlight, 0)
  t.match(await thrown, { message: 'of the caller' })
  await end()
})

t.test(
  'a context that is closed asks for no quiet any more, and stores nothing into its rings later',
  async (t) => {
    const transport = loopback(npuModel)
    const device = openDevice(transport)
    const npu = await Npu.start(device)
    const context = await npu.createContext()
    const job = context.encode([{ op: 'nop' }])
    await context.run(job)
    const running = context.run(job).catch(({ code }) => t.equal(code, 'ERR_ACCEL_ABORTED'))
    // Not asleep: it has just run one.
    t.equal(context.look(), !context.queue.wakes)
    const asked: boolean[] = []
    const quiet = context.queue.quiet.bind(context.queue)
    context.queue.quiet = (on) => {
      asked.push(on)
      quiet(on)
    }
    const closing = context.close()
    t.strictSame(asked, [false])
    t.equal(context.look(), false)
    await closing
    await new Promise(setImmediate)
    t.strictSame(asked, [false])
    await running
    await device.release()
    await transport.close()
  },
)

t.test('a callback gets no more room than there are slots for jobs', async (t) => {
  const { context, queue, post, sq, end } = await forged()
  const job = context.encode([{ op: 'nop' }])
  let told = 0
  let pushed = 0
  const done = () => {
    told++
    for (; told < 20 && queue.free > 0; pushed++) queue.push(job, done)
  }
  const push = (count: number) => {
    for (let i = 0; i < count; i++) queue.push(job, done)
    pushed += count
  }
  push(queue.free)
  t.equal(pushed, 7)
  let slot = 0
  while (told < pushed) {
    queue.ring()
    const under = queue.inFlight
    for (let i = 0; i < under; i++) post(sq[(slot++ & 7) * 16] >>> 16)
    t.equal(queue.poll(), under)
  }
  t.ok(told >= 20)
  t.equal(queue.inFlight, 0, 'none was lost')
  await end()
})

t.test('the ring keeps a descriptor that it holds, and gets it anew once the job was changed', async (t) => {
  const { context, queue, post, sq, end } = await forged()
  const [first, second] = [context.allocate(64), context.allocate(64)]
  const job = context.encode([{ op: 'fill', y: { buffer: first }, length: 8, pattern: 1 }])
  const other = context.encode([{ op: 'nop' }])
  const rest = Array.from({ length: 6 }, (_, i) => i)
  let at = 0
  /** What the ring then holds for a job that goes through it. */
  const through = (what: typeof job) => {
    let ended = false
    queue.push(what, () => {
      ended = true
    })
    queue.ring()
    const words = [...sq.subarray((at & 7) * 16, (at & 7) * 16 + 16)]
    post(words[0] >>> 16)
    at++
    queue.poll()
    t.ok(ended)
    return [words[0] & 0xffff, ...words.slice(1)]
  }
  const before = [...job.words]
  for (let i = 0; i < 8; i++) t.strictSame(through(job), before)
  sq.fill(0)
  t.equal(through(job)[2], 0, 'a second turn writes no more than the CID')
  for (const _ of rest) through(job)
  through(other)
  job.patch(0, 'd', { buffer: second, offset: 16 })
  t.strictNotSame([...job.words], before)
  for (let i = 0; i < 9; i++) t.strictSame(through(job), [...job.words])
  t.strictSame(through(other), [...other.words])
  await end()
})

t.test('cycles are those of the steps that succeeded, and of this job alone', async (t) => {
  const { context, queue, post, sq, end } = await forged()
  const job = context.encode([{ op: 'nop' }, { op: 'nop' }, { op: 'nop' }])
  const ends: unknown[] = []
  let at = 0
  const through = (statuses: readonly number[]) => {
    queue.push(job, (error, cycles) => ends.push([error?.details?.step, cycles]))
    queue.ring()
    for (const [step, status] of statuses.entries()) post(sq[(at & 7) * 16] >>> 16, status, step, 10 ** step)
    at += 3
    t.equal(queue.poll(), 3)
  }
  through([0, 0, 0])
  through([4, 0, 0])
  through([0, 4, 5])
  through([4, 4, 4])
  through([0, 0, 0])
  t.strictSame(ends, [
    [undefined, 111],
    [0, 110],
    [1, 1],
    [0, 0],
    [undefined, 111],
  ])
  await end()
})

t.test('a queue lets go of jobs that have ended', async (t) => {
  const { context, queue, post, sq, end } = await forged()
  const ends: unknown[] = []
  const job = context.encode([{ op: 'nop' }])
  queue.push(job, () => ends.push('first'))
  queue.push(job, (error) => ends.push(error))
  queue.ring()
  post(sq[0] >>> 16)
  queue.poll()
  queue.forget()
  const error = accelError('ERR_ACCEL_IO', 'broken')
  queue.fail(error)
  t.strictSame(ends, ['first', error], 'one that is under way is kept')
  t.equal(queue.inFlight, 0)
  await end()
})

t.test('submission and completion make no objects', async (t) => {
  const { context, queue, cq, sq, end } = await forged({ record: false })
  const job = context.encode([{ op: 'nop' }, { op: 'nop' }, { op: 'nop' }])
  let done = 0
  const ended = () => {
    done++
  }
  let posted = 0
  const turns = (n: number) => {
    for (let i = 0; i < n; i++) {
      queue.push(job, ended)
      queue.push(job, ended)
      queue.ring()
      for (let step = 0; step < 6; step++, posted++) {
        const at = (posted & 7) * 4
        cq[at] = step % 3
        cq[at + 3] = ((((posted >>> 3) & 1) ^ 1) << 16) | (sq[(posted & 7) * 16] >>> 16)
      }
      queue.poll()
    }
  }
  turns(50_000)
  const before = process.memoryUsage().heapUsed
  turns(500_000)
  const grown = process.memoryUsage().heapUsed - before
  t.equal(done, 1_100_000)
  t.ok(grown < 1_000_000, `${grown} bytes for a million jobs`)
  await end()
})

t.test('the first failed step is the error, an unknown status included', async (t) => {
  const { context, queue, post, sq, end } = await forged()
  const job = context.encode([{ op: 'nop' }, { op: 'nop' }, { op: 'nop' }])
  const ends: unknown[] = []
  for (const [code, step] of [
    [0x55, 1],
    [0x10, 2],
  ]) {
    const first = (ends.length * 3) & 7
    queue.push(job, (error) => ends.push(error?.details))
    queue.ring()
    const cid = sq[first * 16] >>> 16
    post(cid)
    post(cid, code, step)
    post(cid, 0x3f, 2)
    t.equal(queue.poll(), 3)
  }
  t.match(ends, [
    { status: '0x55', operation: 'nop', step: 1 },
    { status: 'WINDOW_READ', operation: 'nop', step: 2 },
  ])
  await end()
})
