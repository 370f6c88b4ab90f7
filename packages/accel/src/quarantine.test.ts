import { setTimeout as sleep } from 'node:timers/promises'
import { DmaDomain } from '@uaccel/memory'
import { accelError } from '@uaccel/uapi'
import t from 'tap'
import { Accel, accelDriver } from './index.js'
import { MemoryTransport } from './memory-transport.test.helper.js'
import { Open } from './open.js'
import { DEFAULT_QUOTAS } from './quota.js'
import { NodeRecord } from './record.js'
import { NodeWork } from './work.js'
import {
  bo,
  codeOf,
  createBo,
  fence,
  held,
  inMs,
  jobOf,
  send,
  toy,
  toyUapi,
  turn,
  waitFor,
} from './work.test.helper.js'

t.test('memory that is destroyed under a job stays the device until the job has ended', async (t) => {
  const before = held()
  const { open, taken, transport, node } = await toy(t)
  const client = open()
  const handle = await createBo(client)
  const { handle: done } = await send(client, 'fenceCreate', { initialValue: 0n, flags: {} })
  await send(client, 'submit', jobOf([[handle]], [], [done, 1]))
  await send(client, 'submit', jobOf([[handle]], [], [done, 2]))
  await send(client, 'boDestroy', { handle })
  await send(client, 'fenceDestroy', { handle: done })
  const { iova } = taken[0]!.ranges[0]!
  t.ok(transport.mapped.has(iova))
  t.equal(node.work.quarantinedBytes, 4096)
  taken[0]!.finish()
  await turn()
  t.ok(transport.mapped.has(iova), 'the second holds it, too')
  t.equal(taken[1]!.ranges[0]!.iova, iova)
  t.notOk(taken[1]!.ranges[0]!.memory.destroyed)
  taken[1]!.finish()
  await turn()
  t.equal(transport.mapped.size, 0)
  t.equal(node.work.quarantinedBytes, 0)
  t.equal(held().buffers, before.buffers)
})

t.test(
  'an open that dies under its jobs: those that wait never start, memory of the others is kept',
  async (t) => {
    const { open, taken, transport, node, log } = await toy(t)
    const [dying, other] = [open(), open()]
    const handle = await createBo(dying)
    for (let i = 0; i < 3; i++) await send(dying, 'submit', jobOf([[handle]]))
    const waiting = createBo(other).then(async (own) => {
      await send(other, 'submit', jobOf([[own]]))
      return own
    })
    const own = await waiting
    await dying.close()
    t.ok(taken[0]!.signal.aborted, 'the driver hears of it')
    const late = taken[0]!.ranges[0]!
    t.ok(transport.mapped.has(late.iova))
    // The device writes now, and finds the memory that it was given.
    late.memory.u8.fill(0xdd)
    const fresh = await createBo(other)
    const job = send(other, 'submit', jobOf([[fresh]]))
    taken[0]!.finish()
    await turn()
    t.equal(transport.mapped.size, 2)
    t.equal(node.work.quarantinedBytes, 0)
    taken[1]!.finish()
    await job
    await turn()
    t.equal(taken.length, 3, 'two of the other open; none more of the dead one')
    t.notOk(taken[2]!.ranges[0]!.memory.u8.includes(0xdd))
    taken[2]!.finish()
    await send(other, 'boWait', { handle: own, deadlineNs: inMs(20_000) })
    t.same(log, ['probe'])
  },
)

t.test(
  'a job of which the driver cannot say that it has ended: recovered first, others go on after it',
  async (t) => {
    const { open, taken, transport, log, onRecover } = await toy(t, { depth: 2 })
    const client = open()
    const handle = await createBo(client)
    const { handle: done } = await send(client, 'fenceCreate', { initialValue: 0n, flags: {} })
    for (const [i, error] of [
      accelError('ERR_ACCEL_TIMEOUT', 'no interrupt came'),
      accelError('ERR_ACCEL_IO', 'a queue is in error', { details: { idle: false } }),
      new Error('a bug'),
    ].entries()) {
      let idle = () => {}
      onRecover(
        () =>
          new Promise((resolve) => {
            idle = resolve
          }),
      )
      const first = taken.length
      await send(client, 'submit', jobOf([[handle]], [], [done, 2 * i + 1]))
      await send(client, 'submit', jobOf([], [[done, 2 * i]], [done, 2 * i + 2])).catch(() => {})
      taken[first]!.fail(error)
      await turn()
      t.equal(log.at(-1), 'recover')
      t.equal(await codeOf(waitFor(client, [[done, 2 * i + 1]], { ms: 5 })), 'ERR_ACCEL_TIMEOUT')
      const { length } = taken
      await send(client, 'submit', jobOf())
      t.equal(taken.length, length, 'none begins meanwhile')
      idle()
      const code = i === 0 ? 'ERR_ACCEL_TIMEOUT' : 'ERR_ACCEL_IO'
      t.equal(await codeOf(waitFor(client, [[done, 2 * i + 1]])), code)
      for (let at = first + 1; at < taken.length; at++) taken[at]!.finish()
      await turn()
      for (let at = first + 1; at < taken.length; at++) taken[at]!.finish()
      await turn()
    }
    t.ok(transport.mapped.size === 1)
    t.equal(transport.resetCount, 0)
  },
)

t.test('a driver that never answers: the job times out, is recovered, and its memory is free', async (t) => {
  const { open, taken, log, transport } = await toy(t, { limits: { jobMs: 30 } })
  const client = open()
  const handle = await createBo(client)
  await send(client, 'submit', jobOf([[handle]]))
  await send(client, 'submit', jobOf())
  t.equal(await codeOf(send(client, 'boWait', { handle, deadlineNs: inMs(20_000) })), 'ERR_ACCEL_TIMEOUT')
  t.match(taken[0]!.signal.reason, { code: 'ERR_ACCEL_TIMEOUT' })
  t.same(log, ['probe', 'recover'])
  t.equal(taken.length, 2)
  await send(client, 'boDestroy', { handle })
  t.equal(transport.mapped.size, 0)
  taken[1]!.finish()
})

t.test('where recover fails, the device is reset; buffers and what waits last over it', async (t) => {
  const { open, taken, log, transport, onRecover } = await toy(t)
  const client = open()
  const handle = await createBo(client)
  const { handle: done } = await send(client, 'fenceCreate', { initialValue: 0n, flags: {} })
  onRecover(() => Promise.reject(accelError('ERR_ACCEL_IO', 'it does not listen')))
  await send(client, 'submit', jobOf([[handle]], [], [done, 1]))
  await send(client, 'submit', jobOf([[handle]], [], [done, 2]))
  taken[0]!.ranges[0]!.memory.u8[0] = 7
  taken[0]!.fail(accelError('ERR_ACCEL_TIMEOUT', 'no interrupt came'))
  t.equal(await codeOf(waitFor(client, [[done, 1]])), 'ERR_ACCEL_IO')
  t.equal(transport.resetCount, 1)
  while (taken.length < 2) await sleep(1)
  t.match(log, ['probe', 'recover', /did not recover after job 1/, 'probe'])
  t.equal(taken[1]!.ranges[0]!.memory.u8[0], 7, 'the same memory, mapped anew')
  t.equal(transport.mapped.size, 1)
  taken[1]!.finish()
  t.same(await waitFor(client, [[done, 2]]), { index: 0 })
})

t.test(
  'a reset of the node ends what is under way, and what a lost device had is freed with it',
  async (t) => {
    const before = held()
    const { open, taken, transport, node, accel, onProbe } = await toy(t)
    const client = open()
    const handle = await createBo(client)
    const { handle: done } = await send(client, 'fenceCreate', { initialValue: 0n, flags: {} })
    await send(client, 'submit', jobOf([[handle]], [], [done, 1]))
    await send(client, 'submit', jobOf([], [], [done, 2]))
    let up = () => {}
    const probing = new Promise<void>((begun) => {
      onProbe(() => {
        begun()
        return new Promise((resolve) => {
          up = resolve
        })
      })
    })
    const resetting = node.reset({ reason: 'the test wants it' })
    await probing
    t.equal(await codeOf(createBo(client)), 'ERR_ACCEL_AGAIN', 'which memory it can reach is not known')
    await send(client, 'submit', jobOf([[handle]], [], [done, 3]))
    t.equal(taken.length, 1)
    up()
    await resetting
    t.match(await waitFor(client, [[done, 1]]).catch((error) => error), {
      code: 'ERR_ACCEL_IO',
      message: /the test wants it/,
    })
    t.equal(taken.length, 2)
    await send(client, 'submit', jobOf([[handle]]))
    const { fd } = await send(client, 'fenceEvent', { handle: fence(done), value: 9n, flags: {} })
    transport.vanish()
    await node.lost
    await new Promise<void>((resolve) => {
      if (accel.nodes.length === 0) resolve()
      else accel.once('removed', () => resolve())
    })
    t.equal(await codeOf(createBo(client)), 'ERR_ACCEL_NO_DEVICE')
    t.equal(transport.mapped.size, 0)
    const { closeSync } = await import('node:fs')
    closeSync(fd!)
    t.same(held(), before)
  },
)

/** The work of a device whose jobs never end. */
function endless() {
  const { dma } = new MemoryTransport()
  const domain = new DmaDomain(dma)
  const reports: string[] = []
  const work = new NodeWork({
    name: 'accel0',
    limits: { jobMs: 20_000, settleMs: 5, recoverMs: 100 },
    quotas: DEFAULT_QUOTAS,
    record: new NodeRecord(),
    takesJobs: true,
    takesQueues: false,
    queueOffer: () => undefined,
    opens: () => [],
    domain: () => domain,
    target: () => ({ domain, depth: 1, submit: () => new Promise(() => {}) }),
    recover: async () => false,
    report: (what) => reports.push(what),
  })
  return { work, domain, reports }
}

for (const [what, refused, destroyed, kept] of [
  ['was reset', false, false, 0],
  ['was let go and kept from memory, as its reset was refused', true, true, 0],
  ['was let go, and neither reset nor kept from memory', true, false, 1],
] as const) {
  t.test(`memory of a job, of a device that ${what}`, async (t) => {
    const before = held()
    const { work, domain, reports } = endless()
    const mine = work.of(new Open(1))
    const { handle } = mine.boCreate({ sizeBytes: 4096n, flags: {} })
    mine.submit(jobOf([[handle]]) as never)
    mine.boDestroy({ handle })
    if (destroyed) domain.destroy()
    work.wasReset(accelError('ERR_ACCEL_IO', 'a reset'), { refused })
    t.equal(held().buffers, before.buffers + kept)
    t.equal(reports.length, kept)
  })
}

t.test('what nothing took from a device stays with it', async (t) => {
  const before = held()
  const { work, reports } = endless()
  const open = new Open(1)
  const mine = work.of(open)
  const [used, unused] = [1, 2].map(() => mine.boCreate({ sizeBytes: 4096n, flags: {} }).handle)
  mine.submit(jobOf([[used!]]) as never)
  await work.close(open, accelError('ERR_ACCEL_CLOSED', 'gone'))
  t.not(unused, used)
  t.equal(held().buffers, before.buffers + 1)
  work.destroy(accelError('ERR_ACCEL_NO_DEVICE', 'it does not stop'))
  t.equal(held().buffers, before.buffers + 1, 'for ever')
  t.match(reports, ['4096 bytes that accel0 may still touch are not used again'])
  t.equal(await codeOf(Promise.resolve().then(() => mine.boInfo({ handle: bo(1) }))), 'ERR_ACCEL_CLOSED')
})

t.test('sessions that end in any way leave nothing', async (t) => {
  const { open, taken } = await toy(t, { depth: 4 })
  const session = async (kill: boolean) => {
    const client = open()
    const handle = await createBo(client)
    const { handle: done } = await send(client, 'fenceCreate', { initialValue: 0n, flags: {} })
    const { fd } = await send(client, 'boMmap', { handle, flags: {} })
    const event = await send(client, 'fenceEvent', { handle: done, value: 7n, flags: {} })
    for (const [value, use] of [1, 2, 3].entries()) {
      await send(client, 'submit', jobOf(use === 2 ? [] : [[handle]], [], [done, value + 1]))
    }
    const { closeSync } = await import('node:fs')
    for (const each of [fd!, event.fd!]) closeSync(each)
    if (!kill) {
      for (let at = 0; at < taken.length; at++) {
        taken[at]!.finish()
        await turn()
      }
      await waitFor(client, [[done, 3]])
      await send(client, 'boDestroy', { handle })
    }
    const closing = client.close()
    for (const job of taken.splice(0)) job.finish()
    await closing
  }
  await session(true)
  const before = held()
  for (let i = 0; i < 40; i++) await session(i % 2 === 0)
  t.same(held(), before)
})

t.test('a command that holds the device does not hold up what jobs need', async (t) => {
  const accel = new Accel({ limits: { settleMs: 30, recoverMs: 150, jobMs: 30 } })
  t.teardown(() => accel.close())
  accel.on('error', () => {})
  const began: string[] = []
  accel.register(
    accelDriver({
      name: 'toy',
      uapi: toyUapi,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      probe(dev) {
        void dev.dma.mappings
        return {
          commands: {
            nothing: (_request, { signal }) =>
              new Promise<never>((_resolve, reject) => {
                signal.addEventListener('abort', () => reject(signal.reason), { once: true })
              }),
          },
          submit: ({ label }) => {
            began.push(label)
            return began.length > 1 ? undefined : new Promise(() => {})
          },
          recover: () => {},
        }
      },
    }),
  )
  await accel.add(new MemoryTransport())
  const [holder, worker] = [accel.open(toyUapi, 'accel0'), accel.open(toyUapi, 'accel0')]
  const holding = codeOf(holder.call('nothing', { id: 1 }, { timeoutMs: 100_000 }))
  const { handle: fence } = await send(worker, 'fenceCreate', { initialValue: 0n, flags: {} })
  await send(worker, 'submit', jobOf([], [], [fence, 1]))
  await send(worker, 'submit', jobOf([], [], [fence, 2]))
  t.equal(await codeOf(waitFor(worker, [[fence, 2]])), 'accepted')
  t.equal(
    await holding,
    'ERR_ACCEL_IO',
    'whoever has the device for longer than a recovery may take is in a reset',
  )
  t.same(began, ['job 1 of open 2 of accel0', 'job 2 of open 2 of accel0'])
})
