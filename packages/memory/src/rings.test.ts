import fc from 'fast-check'
import t from 'tap'
import { CompletionRing, memoryFence, ProducerRing } from './rings.js'

const words = (entries: number, entryBytes: number) => new Int32Array((entries * entryBytes) / 4)

t.test('a producer ring holds one entry less than it has slots', async (t) => {
  const ring = new ProducerRing({ words: words(4, 64), entries: 4, entryBytes: 64 })
  t.equal(ring.free, 3)
  const at: number[] = []
  for (let next = ring.next(); next >= 0; next = ring.next()) {
    at.push(next)
    ring.push()
  }
  t.same(at, [0, 16, 32])
  t.same([ring.free, ring.pending, ring.tail, ring.next()], [0, 3, 3, -1])
  ring.consumed(2)
  t.same([ring.free, ring.pending, ring.next()], [2, 1, 48])
  ring.push()
  t.equal(ring.tail, 0, 'wraps')
  for (const bad of [1, 4, -1])
    t.throws(() => ring.consumed(bad), { code: 'ERR_ACCEL_IO' }, `head ${bad} from a hostile device`)
  ring.consumed(0)
  t.equal(ring.pending, 0)
  ring.reset()
  t.same([ring.head, ring.tail], [0, 0])
})

t.test('a completion ring knows new entries by their phase', async (t) => {
  const memory = words(4, 16)
  const ring = new CompletionRing({ words: memory, entries: 4, entryBytes: 16, phaseWord: 3, phaseBit: 16 })
  let slot = 0
  let phase = 1 << 16
  const complete = (id: number) => {
    memory[slot * 4] = id
    memory[slot * 4 + 3] = phase
    slot = (slot + 1) % 4
    if (slot === 0) phase ^= 1 << 16
  }
  t.equal(ring.peek(), -1)
  for (let id = 0; id < 11; id++) {
    complete(id)
    const at = ring.peek()
    t.equal(memory[at], id)
    ring.advance()
    t.equal(ring.peek(), -1)
  }
  complete(11)
  complete(12)
  t.same([ring.head, ring.peekAhead(1), ring.peekAhead(2)], [3, true, false], 'ahead across the turn')
  ring.reset()
  t.equal(ring.peek(), -1)
  t.equal(
    memory.every((w) => w === 0),
    true,
  )
})

t.test('several entries at once, across the turn of both rings', async (t) => {
  const sq = new ProducerRing({ words: words(8, 64), entries: 8, entryBytes: 64 })
  const memory = words(8, 24)
  const cq = new CompletionRing({ words: memory, entries: 8, entryBytes: 24, phaseWord: 5, phaseBit: 31 })
  let completed = 0
  const complete = (n: number) => {
    for (let i = 0; i < n; i++, completed++)
      memory[(completed & 7) * 6 + 5] = (completed & 8) === 0 ? 1 << 31 : 0
  }
  t.equal(cq.ready(8), 0)
  for (let turn = 0; turn < 9; turn++) {
    const first = (turn * 5) % 8
    t.same([sq.at(0), sq.at(4)], [first * 16, ((first + 4) % 8) * 16])
    t.equal(sq.push(5), first)
    t.same([sq.pending, sq.free, sq.tail], [5, 2, (first + 5) % 8])
    complete(5)
    t.same([cq.ready(3), cq.ready(5), cq.ready(8)], [3, 5, 5], 'no more than there are, nor than the limit')
    t.same([cq.at(0), cq.at(4)], [first * 6, ((first + 4) % 8) * 6])
    cq.advance(2)
    t.equal(cq.ready(8), 3)
    cq.advance(3)
    t.same([cq.head, cq.peek(), cq.ready(8)], [sq.tail, -1, 0])
    sq.consumed(cq.head)
  }
  complete(8)
  t.equal(cq.ready(9), 8, 'a ring that is full of new entries')
  cq.advance(8)
  t.equal(cq.ready(8), 0)
})

t.test('layouts that do not work', async (t) => {
  const bad = [
    { words: words(3, 64), entries: 3, entryBytes: 64 },
    { words: words(4, 64), entries: 1, entryBytes: 64 },
    { words: words(4, 64), entries: 4, entryBytes: 62 },
    { words: words(4, 64), entries: 4, entryBytes: 0 },
  ]
  for (const layout of bad) t.throws(() => new ProducerRing(layout), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.throws(() => new ProducerRing({ words: words(4, 16), entries: 4, entryBytes: 64 }), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
  })
  t.throws(
    () => new CompletionRing({ words: words(4, 16), entries: 4, entryBytes: 16, phaseWord: 4, phaseBit: 0 }),
    { code: 'ERR_ACCEL_INVALID_ARGUMENT' },
  )
  t.doesNotThrow(memoryFence)
})

t.test('property: what one side pushes the other takes, in order', async () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 6 }),
      fc.array(fc.integer({ min: -9, max: 9 }), { maxLength: 200 }),
      (bits, steps) => {
        const entries = 2 ** bits
        const ring = new ProducerRing({ words: words(entries, 8), entries, entryBytes: 8 })
        const queue: number[] = []
        let pushed = 0
        let head = 0
        for (const n of steps) {
          for (let i = 0; i < n; i++) {
            const at = ring.next()
            if (at < 0 !== (queue.length === entries - 1))
              throw new Error(`full is ${at < 0} with ${queue.length} of ${entries}`)
            if (at < 0) break
            ring.words[at] = ++pushed
            ring.push()
            queue.push(pushed)
          }
          for (let i = 0; i > n && queue.length > 0; i--) {
            if (ring.words[head * 2] !== queue.shift()) throw new Error('out of order')
            head = (head + 1) % entries
            ring.consumed(head)
          }
          if (ring.pending !== queue.length || ring.free !== entries - 1 - queue.length)
            throw new Error('wrong counts')
        }
      },
    ),
  )
})

t.test('no allocation in steady state', async (t) => {
  const producer = new ProducerRing({ words: words(256, 64), entries: 256, entryBytes: 64 })
  const memory = words(256, 16)
  const completions = new CompletionRing({
    words: memory,
    entries: 256,
    entryBytes: 16,
    phaseWord: 3,
    phaseBit: 0,
  })
  let phase = 1
  const run = (n: number) => {
    let sum = 0
    for (let i = 0; i < n; i++) {
      const at = producer.next()
      producer.words[at] = i
      const slot = producer.push()
      memory[slot * 4 + 3] = phase
      if (slot === 255) phase ^= 1
      const done = completions.peek()
      sum = (sum + producer.words[at] + done) | 0
      completions.advance()
      producer.consumed(completions.head)
    }
    return sum
  }
  run(300_000)
  const before = process.memoryUsage().heapUsed
  const sum = run(1_000_000)
  const grown = process.memoryUsage().heapUsed - before
  t.type(sum, 'number')
  t.ok(grown < 1_000_000, `${grown} bytes for a million entries`)
})
