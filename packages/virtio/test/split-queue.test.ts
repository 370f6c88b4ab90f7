import fc from 'fast-check'
import t from 'tap'
import { SplitQueue, splitLayout } from '../src/split-queue.js'

/** Where the queue lies for its device: not at 0, and across 4 GiB. */
const IOVA = 0xffff_f000n

interface Shape {
  entries: number
  maxSegments: number
  indirect: boolean
  eventIndex: boolean
}

/** The device's side by hand: it reads and writes memory at the offsets of virtio 1.2, 2.7, and nothing of the queue's own. */
class Peer {
  readonly memory: ArrayBuffer
  readonly view: DataView
  readonly avail: number
  readonly used: number
  readonly shape: Shape
  seen = 0
  done = 0
  notified: [number, number][] = []

  constructor(shape: Shape) {
    const { entries, maxSegments, indirect } = shape
    this.shape = shape
    this.memory = new ArrayBuffer(splitLayout(entries, indirect ? maxSegments : 0).sizeBytes)
    this.view = new DataView(this.memory)
    this.avail = 16 * entries
    this.used = Math.ceil((18 * entries + 6) / 64) * 64
  }

  queue(): SplitQueue {
    const { memory } = this
    return new SplitQueue({
      index: 3,
      ...this.shape,
      memory: { i32: new Int32Array(memory), u16: new Uint16Array(memory), iova: IOVA },
      notifier: { write16: (offset, value) => this.notified.push([offset, value]) },
      notifyAt: 0x3006,
    })
  }

  /** Heads that were made available since the last call. */
  take(): number[] {
    const heads: number[] = []
    const end = this.view.getUint16(this.avail + 2, true)
    for (; this.seen !== end; this.seen = (this.seen + 1) % 65536)
      heads.push(this.view.getUint16(this.avail + 4 + 2 * (this.seen % this.shape.entries), true))
    if (this.shape.eventIndex) this.view.setUint16(this.used + 4 + 8 * this.shape.entries, this.seen, true)
    return heads
  }

  /** A chain as [address, length, writable]. */
  chain(head: number): [bigint, number, boolean][] {
    const segments: [bigint, number, boolean][] = []
    let base = 0
    let at = head
    for (;;) {
      const address = this.view.getBigUint64(base + 16 * at, true)
      const length = this.view.getUint32(base + 16 * at + 8, true)
      const flags = this.view.getUint16(base + 16 * at + 12, true)
      if ((flags & 4) !== 0) {
        base = Number(address - IOVA)
        at = 0
        continue
      }
      segments.push([address, length, (flags & 2) !== 0])
      if ((flags & 1) === 0) return segments
      at = this.view.getUint16(base + 16 * at + 14, true)
    }
  }

  /** Answers true where the driver wants an interrupt for it. */
  use(head: number, written: number): boolean {
    const { entries, eventIndex } = this.shape
    const at = this.used + 4 + 8 * (this.done % entries)
    this.view.setUint32(at, head, true)
    this.view.setUint32(at + 4, written, true)
    const before = this.done
    this.done = (this.done + 1) % 65536
    this.view.setUint16(this.used + 2, this.done, true)
    if (!eventIndex) return (this.view.getUint16(this.avail, true) & 1) === 0
    return this.view.getUint16(this.avail + 4 + 2 * entries, true) === before
  }
}

const shapes: Shape[] = [true, false].flatMap((indirect) =>
  [true, false].map((eventIndex) => ({ entries: 8, maxSegments: 4, indirect, eventIndex })),
)

function put(queue: SplitQueue, segments: readonly [bigint, number, boolean][]): number {
  const slot = queue.begin(segments.length)
  if (slot < 0) return slot
  for (const [address, length, writable] of segments)
    queue.add(Number(address & 0xffff_ffffn), Number(address >> 32n), length, writable)
  queue.end()
  return slot
}

for (const shape of shapes) {
  const name = `${shape.indirect ? 'indirect' : 'direct'}, ${shape.eventIndex ? 'event index' : 'flags'}`

  t.test(`any sequence of chains, answered in any order: ${name}`, async () => {
    const step = fc.oneof(
      fc.record({
        do: fc.constant('put' as const),
        reads: fc.integer({ min: 0, max: 3 }),
        writes: fc.integer({ min: 0, max: 3 }),
      }),
      fc.record({ do: fc.constant('flush' as const) }),
      fc.record({
        do: fc.constant('use' as const),
        which: fc.nat(100),
        part: fc.double({ min: 0, max: 1, noNaN: true }),
      }),
      fc.record({ do: fc.constant('drain' as const) }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300, size: 'max' }), (steps) => {
        const peer = new Peer(shape)
        const queue = peer.queue()
        const published = new Map<number, [bigint, number, boolean][]>()
        const unpublished = new Map<number, [bigint, number, boolean][]>()
        const withDevice: number[] = []
        const answered: [number, number][] = []
        let serial = 1
        for (const each of steps) {
          if (each.do === 'put') {
            const segments = [...Array(each.reads).fill(false), ...Array(each.writes).fill(true)]
              .slice(0, shape.maxSegments)
              .map((writable): [bigint, number, boolean] => [
                BigInt(serial) * 0x1_2345_6781n,
                serial++,
                writable,
              ])
            if (segments.length === 0) continue
            const fits = queue.fits(segments.length)
            const slot = put(queue, segments)
            if (slot >= 0 !== fits) throw new Error('fits() was wrong')
            if (slot < 0) continue
            if (published.has(slot) || unpublished.has(slot)) throw new Error(`slot ${slot} was given twice`)
            unpublished.set(slot, segments)
          } else if (each.do === 'flush') {
            peer.notified = []
            const rang = queue.flush()
            if (peer.notified.length !== Number(rang)) throw new Error('rang more than it said')
            if (rang !== unpublished.size > 0) throw new Error('the device waits for a notification')
            for (const [slot, segments] of unpublished) published.set(slot, segments)
            unpublished.clear()
            for (const head of peer.take()) {
              withDevice.push(head)
              const found = peer.chain(head)
              const wanted = published.get(head)!
              if (found.length !== wanted.length) throw new Error('another chain')
              for (const [i, [address, length, writable]] of found.entries()) {
                const [a, l, w] = wanted[i]!
                if (address !== a || length !== l || writable !== w) throw new Error('another segment')
              }
            }
          } else if (each.do === 'use') {
            if (withDevice.length === 0) continue
            const [head] = withDevice.splice(each.which % withDevice.length, 1)
            const room = published
              .get(head!)!
              .reduce((sum, [, length, writable]) => sum + (writable ? length : 0), 0)
            const written = Math.floor(room * each.part)
            const wanted = peer.use(head!, written)
            if (answered.length === 0 && !wanted) throw new Error('no interrupt for the first')
            answered.push([head!, written])
          } else {
            for (const [head, written] of answered.splice(0)) {
              const slot = queue.next()
              if (slot !== head || queue.written !== written)
                throw new Error(`${slot} in the place of ${head}`)
              published.delete(slot)
              queue.release(slot)
            }
            if (queue.next() !== -1) throw new Error('more than the device answered')
          }
          if (queue.inFlight !== withDevice.length + answered.length) throw new Error('miscounted')
        }
      }),
      { numRuns: 300 },
    )
  })

  t.test(`indices wrap at 65,536: ${name}`, async (t) => {
    const peer = new Peer(shape)
    const queue = peer.queue()
    let interrupts = 0
    for (let i = 0; i < 140_000; i++) {
      const slot = put(queue, [
        [BigInt(i), 4, false],
        [BigInt(i) << 20n, 4, true],
      ])
      if (!queue.flush()) t.fail(`chain ${i}: not notified`)
      const [head, ...more] = peer.take()
      if (head !== slot || more.length > 0) t.fail(`chain ${i}: ${head}`)
      if (peer.use(head!, 4)) interrupts++
      if (queue.next() !== slot || queue.next() !== -1) t.fail(`answer ${i}`)
      queue.release(slot)
      if (!t.passing()) return
    }
    t.equal(interrupts, 140_000)
    t.same(peer.notified[0], [0x3006, 3])
  })
}

t.test('one notification for all that were put in, and none where the device wants none', async (t) => {
  for (const shape of shapes) {
    const peer = new Peer(shape)
    const queue = peer.queue()
    t.equal(queue.flush(), false, 'nothing to tell')
    for (let i = 0; i < 8; i++) put(queue, [[1n, 1, false]])
    t.equal(put(queue, [[1n, 1, false]]), -1, 'full')
    t.equal(queue.flush(), true)
    t.equal(peer.notified.length, 1)
    const heads = peer.take()
    t.equal(heads.length, 8)
    for (const head of heads) peer.use(head, 0)
    for (let slot = queue.next(); slot >= 0; slot = queue.next()) queue.release(slot)
    if (shape.eventIndex) peer.view.setUint16(peer.used + 4 + 8 * 8, 20, true)
    else peer.view.setUint16(peer.used, 1, true)
    put(queue, [[1n, 1, false]])
    t.equal(queue.flush(), false, 'it looks by itself')
  }
})

t.test('a polled queue asks for no interrupts', async (t) => {
  for (const shape of shapes) {
    const peer = new Peer(shape)
    const queue = peer.queue()
    queue.interrupts = false
    const turn = () => {
      const slot = put(queue, [[1n, 1, false]])
      queue.flush()
      const wanted = peer.use(peer.take()[0]!, 0)
      t.equal(queue.next(), slot)
      queue.release(slot)
      t.equal(queue.next(), -1)
      return wanted
    }
    for (let i = 0; i < 20; i++) t.equal(turn(), false)
    queue.interrupts = true
    t.equal(queue.next(), -1)
    for (let i = 0; i < 20; i++) t.equal(turn(), true)
  }
})

t.test('what a hostile device says breaks the queue, and a reset mends it', async (t) => {
  const lies: [string, (peer: Peer, head: number) => unknown][] = [
    ['a descriptor that there is not', (peer) => peer.use(8, 0)],
    ['a negative one', (peer) => peer.use(0xffff_ffff, 0)],
    ['one that is not under way', (peer, head) => peer.use((head + 4) % 8, 0)],
    ['more bytes than there is room for', (peer, head) => peer.use(head, 17)],
    ['more chains than are under way', (peer, head) => [peer.use(head, 0), peer.use(head, 0)]],
    ['an index that goes back', (peer) => peer.view.setUint16(peer.used + 2, 65_535, true)],
  ]
  for (const shape of shapes) {
    for (const [what, lie] of lies) {
      const peer = new Peer(shape)
      const queue = peer.queue()
      const slot = put(queue, [
        [1n, 16, false],
        [2n, 16, true],
      ])
      queue.flush()
      peer.take()
      lie(peer, slot)
      t.throws(() => queue.next(), { code: 'ERR_ACCEL_IO' }, what)
      t.throws(() => queue.begin(1), { code: 'ERR_ACCEL_IO' }, 'it stays broken')
      queue.reset()
      t.equal(queue.next(), -1)
      t.equal(queue.inFlight, 0)
      t.ok(put(queue, [[1n, 16, false]]) >= 0)
    }
    const early = new Peer(shape)
    const untold = early.queue()
    put(untold, [[1n, 1, true]])
    untold.flush()
    const held = put(untold, [[1n, 1, true]])
    early.use(held, 1)
    t.throws(() => untold.next(), { code: 'ERR_ACCEL_IO' }, 'one that it was not told of')

    const peer = new Peer(shape)
    const queue = peer.queue()
    const slots = [put(queue, [[1n, 1, true]]), put(queue, [[1n, 1, true]])]
    queue.flush()
    peer.take()
    peer.use(slots[0]!, 1)
    peer.use(slots[0]!, 1)
    t.equal(queue.next(), slots[0])
    t.throws(() => queue.next(), { code: 'ERR_ACCEL_IO' }, 'the same twice, before it was given back')
  }
})

t.test('misuse', async (t) => {
  const queue = new Peer(shapes[0]!).queue()
  const bad = { code: 'ERR_ACCEL_INVALID_ARGUMENT' }
  t.throws(() => queue.begin(0), bad)
  t.throws(() => queue.begin(5), bad)
  t.throws(() => queue.end(), bad)
  t.throws(() => queue.add(0, 0, 1, false), bad)
  t.throws(() => queue.release(0), bad)
  queue.begin(2)
  t.throws(() => queue.begin(1), bad)
  t.throws(() => queue.end(), bad)
  t.throws(() => queue.add(0, 0, 0, false), bad)
  queue.add(0, 0, 1, true)
  t.throws(() => queue.add(0, 0, 1, false), bad, 'to be read, behind one to be written')
  t.throws(() => splitLayout(3, 0), bad)
  t.throws(() => splitLayout(65_536, 0), bad)
})
