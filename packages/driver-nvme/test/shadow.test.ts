import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import t from 'tap'
import { bareQueue, DOORBELL, indifferent, QUEUE_ID } from './bare.js'
import type { ShadowController } from './shadow.worker.js'

const PAGE_WORDS = 1024
const [SQ, CQ] = [DOORBELL.submission / 4, DOORBELL.completion / 4]

/** A queue with shadow doorbells. */
function shadowed(entries?: number) {
  const bare = bareQueue(entries === undefined ? {} : { entries })
  const shadow = { doorbells: new Int32Array(PAGE_WORDS), eventIndexes: new Int32Array(PAGE_WORDS) }
  bare.queue.useShadow(shadow)
  const submit = () => bare.queue.submit(0, 1, 0, 0, 0, 0, 0, 0, indifferent)
  return { ...bare, ...shadow, submit }
}

t.test('the register is written where the event index asks for it, and not otherwise', async (t) => {
  const { queue, submit, rung, doorbells, eventIndexes, complete } = shadowed()
  const cid = submit()
  queue.ring()
  t.equal(doorbells[SQ], 1)
  t.same(rung, [[24, 1]], 'the first one: the controller sleeps')
  submit()
  submit()
  queue.ring()
  t.equal(doorbells[SQ], 3)
  t.equal(rung.length, 1, 'it has not said that it wants more')
  eventIndexes[SQ] = 3
  submit()
  queue.ring()
  t.same(rung.at(-1), [24, 4], 'it had seen 3, and wants to know')
  eventIndexes[SQ] = 2
  submit()
  queue.ring()
  t.equal(rung.length, 2, 'an index that was passed before')

  complete(cid, 1)
  queue.poll()
  t.equal(doorbells[CQ], 1)
  t.same(rung.at(-1), [28, 1], 'the same for completions')
  complete(1, 2)
  queue.poll()
  t.equal(doorbells[CQ], 2)
  t.equal(rung.length, 3)
})

t.test('the end of the ring: slots wrap, the comparison is modulo 2^16', async (t) => {
  const { queue, submit, rung, doorbells, eventIndexes, complete } = shadowed(8)
  for (let i = 0, head = 0; i < 6; i++) {
    eventIndexes[SQ] = head // it has seen all
    const cid = submit()
    queue.ring()
    head = (head + 1) % 8
    complete(cid, head)
    queue.poll()
  }
  rung.length = 0
  const cids = [submit(), submit(), submit(), submit()] // slots 6, 7, 0, 1
  queue.ring()
  t.equal(doorbells[SQ], 2)
  t.same(rung, [], 'index 5 was passed')
  for (const cid of cids) complete(cid, 2)
  queue.poll()
  for (const [index, wanted] of [
    [2, true],
    [3, true],
    [1, false],
    [7, false],
  ] as const) {
    const b = shadowed(8)
    for (let i = 0; i < 2; i++) b.submit()
    b.queue.ring()
    b.rung.length = 0
    b.submit()
    b.submit()
    b.eventIndexes[SQ] = index
    b.queue.ring()
    t.equal(b.rung.length === 1, wanted, `index ${index} from 2 to 4`)
  }
})

t.test('a controller that sleeps as the specification has it misses nothing', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 99 }), { maxLength: 300 }), (steps) => {
      const { queue, submit, rung, doorbells, eventIndexes, complete, sq } = shadowed(8)
      let [head, seen, awake, rereads] = [0, 0, false, false]
      let taken = 0
      // One step of the controller: takes a command, or says up to where it looked and looks once more, or sleeps.
      const controller = () => {
        if (rung.some(([offset]) => offset === DOORBELL.submission)) awake = true
        rung.length = 0
        if (!awake) return
        seen = doorbells[SQ]!
        if (head !== seen) {
          const cid = sq[head * 16]! >>> 16
          head = (head + 1) % 8
          taken++
          complete(cid, head)
          rereads = false
        } else if (!rereads) {
          eventIndexes[SQ] = head
          rereads = true
        } else {
          awake = false
          rereads = false
        }
      }
      let submitted = 0
      for (const step of steps) {
        if (step < 30) {
          for (let i = 0; i <= step % 3; i++) if (submit() >= 0) submitted++
        } else if (step < 50) queue.ring()
        else if (step < 60) queue.poll()
        else controller()
      }
      queue.ring()
      for (let i = 0; i < 40; i++) controller()
      queue.poll()
      if (taken !== submitted || queue.inFlight !== 0) throw new Error(`${taken} of ${submitted} taken`)
    }),
    { numRuns: 2000 },
  )
  t.pass('none was left')
})

t.test('a controller in another thread, which sleeps as soon as it may, misses nothing', async (t) => {
  const { queue, sq, cq, rung } = bareQueue({ shared: true })
  const words = (count: number) => new Int32Array(new SharedArrayBuffer(count * 4))
  const [doorbells, eventIndexes, register] = [words(PAGE_WORDS), words(PAGE_WORDS), words(2)]
  queue.useShadow({ doorbells, eventIndexes })
  const shared: ShadowController = { sq, cq, doorbells, eventIndexes, register, index: SQ, queue: QUEUE_ID }
  const controller = new Worker(new URL('shadow.worker.js', import.meta.url), { workerData: shared })
  const ended = once(controller, 'exit')
  // The register is the memory that the controller sleeps on.
  rung.push = (...writes) => {
    for (const [offset] of writes) {
      if (offset !== DOORBELL.submission) continue
      Atomics.add(register, 0, 1)
      Atomics.notify(register, 0)
    }
    return 0
  }
  const ROUNDS = 20_000
  for (let round = 0; round < ROUNDS; round++) {
    for (let i = 0; i <= round % 3; i++) queue.submit(0, 1, 0, 0, 0, 0, 0, 0, indifferent)
    queue.ring()
    // Mostly the next one comes while the controller is about to sleep.
    const until = performance.now() + 5_000
    while (queue.inFlight > round % 5) {
      queue.spin(1_000)
      if (performance.now() > until)
        throw new Error(`round ${round}: the controller sleeps, and was not woken`)
    }
  }
  t.ok(register[0]! <= ROUNDS, `${register[0]} doorbells in ${ROUNDS} rounds`)
  register[1] = 1
  Atomics.add(register, 0, 1)
  Atomics.notify(register, 0)
  await ended
})

t.test('when it may be given, and when it ends', async (t) => {
  const { queue, rung, doorbells, submit, complete, ...shadow } = shadowed()
  const cid = submit()
  // Of a program that submits during a reset, and whose `kick` is refused then.
  queue.useShadow({ doorbells, eventIndexes: shadow.eventIndexes })
  queue.ring()
  t.equal(doorbells[SQ], 1, 'what was not announced is announced in memory')
  t.throws(() => queue.useShadow({ doorbells, eventIndexes: shadow.eventIndexes }), {
    code: 'ERR_ACCEL_BUSY',
  })
  complete(cid, 1)
  queue.poll()
  t.throws(() => queue.useShadow({ doorbells, eventIndexes: shadow.eventIndexes }), {
    code: 'ERR_ACCEL_BUSY',
  })
  t.throws(
    () => bareQueue().queue.useShadow({ doorbells: new Int32Array(7), eventIndexes: new Int32Array(7) }),
    {
      code: 'ERR_ACCEL_OUT_OF_RANGE',
    },
  )
  queue.fail(() => t.fail('nothing is under way') as never)
  rung.length = 0
  submit()
  queue.ring()
  submit()
  queue.ring()
  t.same(
    rung,
    [
      [24, 1],
      [24, 2],
    ],
    'after a reset each doorbell is a write of the register',
  )
  t.equal(doorbells[SQ], 1, 'and the memory is left alone')
})
