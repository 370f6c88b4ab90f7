import { readFileSync } from 'node:fs'
import t from 'tap'
import { listBytes } from '../src/prp.js'
import type { CommandListener } from '../src/queue.js'
import { bareQueue } from './bare.js'

const ENTRIES = 64
const LISTS = 0x10_0000
const WRAP = 0x7_ffff_f000n // its next page is in the next 4 GiB

const ended: [number, number, number][] = []
const listener: CommandListener = {
  completed: (cid, status, result) => void ended.push([cid, status, result]),
  failed: (cid, error) => {
    throw new Error(`${cid}: ${error.message}`)
  },
}

t.test('words of a command, PRP1 and PRP2, and lists', async (t) => {
  const { queue, sq, lists, rung } = bareQueue()
  const address = (at: number) => (BigInt(sq[at + 1]!) << 32n) | BigInt(sq[at]! >>> 0)
  const submit = (at: bigint, bytes: number) =>
    queue.submit(2, 1, Number(BigInt.asIntN(32, at)), Number(at >> 32n), bytes, 5, 6, 7, listener)
  for (const [i, [at, bytes, second]] of (
    [
      [0x1000n, 4096, 0n],
      [0x1004n, 4092, 0n],
      [0x1004n, 4096, 0x2000n],
      [0x1000n, 8192, 0x2000n],
      [WRAP, 8192, 0x8_0000_0000n],
    ] as const
  ).entries()) {
    const cid = submit(at, bytes)
    t.same([...sq.subarray(16 * i, 16 * i + 6)], [2 | (cid << 16), 1, 0, 0, 0, 0])
    t.equal(address(16 * i + 6), at)
    t.equal(address(16 * i + 8), second)
    t.same([...sq.subarray(16 * i + 10, 16 * i + 16)], [5, 6, 7, 0, 0, 0])
  }
  const cid = submit(WRAP + 4n, 4 * 4096)
  const words = listBytes(128 * 1024) / 4
  t.equal(address(5 * 16 + 8), BigInt(LISTS + cid * words * 4))
  t.same(
    [...lists.subarray(cid * words, cid * words + 8)],
    [0, 8, 0x1000, 8, 0x2000, 8, 0x3000, 8],
    'the list goes over a border of 4 GiB',
  )
  t.same(rung, [])
  queue.ring()
  queue.ring()
  t.same(rung, [[24, 6]], 'one doorbell for all')
})

t.test('completions in any order, over many turns', async (t) => {
  const { queue, complete, rung } = bareQueue()
  let head = 0
  for (let round = 0; round < 20; round++) {
    const cids: number[] = []
    while (queue.free > 0) cids.push(queue.submit(0, 1, 0, 0, 0, 0, 0, 0, listener))
    t.equal(queue.submit(0, 1, 0, 0, 0, 0, 0, 0, listener), -1, 'full')
    t.equal(new Set(cids).size, ENTRIES - 1)
    queue.ring()
    head = (head + cids.length) % ENTRIES
    for (const cid of cids.reverse()) complete(cid, head, 1, -1)
    rung.length = ended.length = 0
    t.equal(queue.poll(), ENTRIES - 1)
    t.equal(rung.length, 1)
    t.same(ended[0], [cids[0], 1, -1])
    t.equal(queue.inFlight, 0)
  }
})

t.test('hostile completions', async (t) => {
  for (const [name, lie] of [
    ['CID of nothing', (b: ReturnType<typeof bareQueue>) => b.complete(1, 1)],
    ['CID out of range', (b: ReturnType<typeof bareQueue>) => b.complete(0xffff, 1)],
    ['another queue', (b: ReturnType<typeof bareQueue>, cid: number) => b.complete(cid, 1, 0, 0, 4)],
    ['head of what nobody wrote', (b: ReturnType<typeof bareQueue>, cid: number) => b.complete(cid, 2)],
    ['head beyond the ring', (b: ReturnType<typeof bareQueue>, cid: number) => b.complete(cid, 0xffff)],
  ] as const) {
    const b = bareQueue()
    const cid = b.queue.submit(0, 1, 0, 0, 0, 0, 0, 0, listener)
    lie(b, cid)
    t.throws(() => b.queue.poll(), { code: 'ERR_ACCEL_IO' }, name)
    t.equal(b.queue.inFlight, 1, 'it is still under way')
  }
  const b = bareQueue()
  const cid = b.queue.submit(0, 1, 0, 0, 0, 0, 0, 0, listener)
  b.complete(cid, 1)
  b.complete(cid, 1)
  t.throws(() => b.queue.poll(), { code: 'ERR_ACCEL_IO' }, 'twice the same')
  t.same(b.rung, [[28, 1]], 'the true one was taken')
})

t.test('a listener that submits: its doorbell comes after that of the completions', async (t) => {
  const { queue, complete, rung } = bareQueue()
  const again: CommandListener = {
    completed() {
      queue.submit(0, 1, 0, 0, 0, 0, 0, 0, listener)
      queue.ring()
      t.equal(queue.poll(), 0, 'no poll in a poll')
    },
    failed() {},
  }
  const cid = queue.submit(0, 1, 0, 0, 0, 0, 0, 0, again)
  queue.ring()
  complete(cid, 1)
  queue.poll()
  t.same(rung, [
    [24, 1],
    [28, 1],
    [24, 2],
  ])
})

t.test('a poll ends, however fast the device is', async (t) => {
  const { queue, complete, rung } = bareQueue()
  let [head, left] = [0, 1000]
  const again: CommandListener = {
    completed() {
      if (left-- > 0) follow()
    },
    failed() {},
  }
  const follow = () => {
    const cid = queue.submit(0, 1, 0, 0, 0, 0, 0, 0, again)
    head = (head + 1) % ENTRIES
    complete(cid, head)
  }
  follow()
  for (let polls = 1; polls < 10; polls++) {
    t.equal(queue.poll(), ENTRIES - 1, 'as many as can be under way')
    t.same(rung.at(-1), [28, (polls * (ENTRIES - 1)) % ENTRIES], 'the device sees the head move')
  }
})

t.test('spinning', async (t) => {
  const { queue, complete } = bareQueue()
  t.equal(queue.spin(100), 0)
  complete(queue.submit(0, 1, 0, 0, 0, 0, 0, 0, listener), 1)
  t.equal(queue.spin(0), 0, 'no look')
  t.equal(queue.spin(1), 1)
})

t.test('a listener that fails the queue it is called by', async (t) => {
  const { queue, complete } = bareQueue()
  let thrown: unknown
  const cid = queue.submit(0, 1, 0, 0, 0, 0, 0, 0, {
    completed() {
      t.equal(queue.inFlight, 1, 'the other one')
      try {
        queue.fail(() => t.fail('nobody is told') as never)
      } catch (error) {
        thrown = error
      }
    },
    failed: () => t.fail('nobody is told'),
  })
  queue.submit(0, 1, 0, 0, 0, 0, 0, 0, listener)
  complete(cid, 1)
  t.equal(queue.poll(), 1)
  t.match(thrown, { code: 'ERR_ACCEL_BUSY' })
  t.equal(queue.inFlight, 1)
})

t.test('a listener that throws: the others are told, and it is reported', async (t) => {
  const { queue, complete, rung } = bareQueue()
  const reported = new Promise((resolve) => process.once('uncaughtException', resolve))
  const bad: CommandListener = {
    completed() {
      throw new Error('a mistake')
    },
    failed() {},
  }
  const cids = [bad, listener, listener].map((each) => queue.submit(0, 1, 0, 0, 0, 0, 0, 0, each))
  for (const cid of cids) complete(cid, 3)
  ended.length = 0
  t.equal(queue.poll(), 3)
  t.same(
    ended.map(([cid]) => cid),
    cids.slice(1),
  )
  t.same(rung, [[28, 3]], 'one doorbell')
  t.match(await reported, { message: 'a mistake' })
})

t.test('a doorbell for 32 commands, one for 32 completions, over many turns', async (t) => {
  const { queue, complete, rung } = bareQueue()
  const BATCH = 32
  let head = 0
  ended.length = 0
  for (let round = 1; round <= 50; round++) {
    const cids = Array.from({ length: BATCH }, (_, i) =>
      queue.submit(2, 1, -4096, 7, 16384, -1 - i, 0, 7, listener),
    )
    queue.ring()
    head = (head + BATCH) % ENTRIES
    for (const cid of cids) complete(cid, head)
    t.equal(queue.poll(), BATCH)
    t.equal(rung.length, 2 * round)
  }
  t.equal(ended.length, 50 * BATCH)
})

t.test('the driver knows nothing of its model', async (t) => {
  for (const file of ['queue', 'prp', 'nvme', 'jobs', 'identify', 'command', 'driver'])
    t.notMatch(readFileSync(new URL(`../../src/${file}.ts`, import.meta.url), 'utf8'), /model\//, file)
})
