import fc from 'fast-check'
import t from 'tap'
import {
  decodeRecord,
  EventKind,
  encodeRecord,
  kindName,
  monotonicNs,
  RECORD_BYTES,
  RecordArray,
} from './event.js'

const u = (bits: number) => fc.integer({ min: 0, max: 2 ** bits - 1 })
const safe = fc.maxSafeNat()
const wide = fc.oneof(safe, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }))

t.test('what is put is what is read, and nothing beside it is touched', async (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 2 }),
      fc.tuple(safe, u(8), u(8), u(16), u(32), wide, wide),
      (slot, [timeNs, kind, width, index, id, a, b]) => {
        const bytes = new Uint8Array(8 + 3 * RECORD_BYTES).fill(0xa5)
        new RecordArray(bytes.buffer, 8, 3).put(slot, timeNs, kind, width, index, id, a, b)
        const at = 8 + slot * RECORD_BYTES
        const event = decodeRecord(bytes, at)
        const expected = { timeNs: BigInt(timeNs), kind, width, index, id, a: BigInt(a), b: BigInt(b) }
        t.same(event, expected)
        const again = new Uint8Array(RECORD_BYTES + 1).fill(0xa5)
        encodeRecord(event, again, 1)
        t.same(again.subarray(1), bytes.subarray(at, at + RECORD_BYTES), 'both encoders agree')
        t.equal(again[0], 0xa5)
        const others = [...bytes.subarray(0, at), ...bytes.subarray(at + RECORD_BYTES)]
        t.ok(others.every((byte) => byte === 0xa5))
      },
    ),
    { numRuns: 50 },
  )
})

t.test('the layout is fixed', async (t) => {
  const bytes = new Uint8Array(RECORD_BYTES)
  encodeRecord(
    {
      timeNs: 0x0807_0605_0403_0201n,
      kind: EventKind.irq,
      width: 0x0a,
      index: 0x0c0b,
      id: 0x100f_0e0d,
      a: 0x1817_1615_1413_1211n,
      b: 0x201f_1e1d_1c1b_1a19n,
    },
    bytes,
  )
  const expected = Uint8Array.from({ length: 32 }, (_, i) => i + 1)
  expected[8] = 3
  t.same(bytes, expected)
})

t.test('kinds are numbers that last', async (t) => {
  t.same(EventKind, {
    mmioRead: 1,
    mmioWrite: 2,
    irq: 3,
    dmaMap: 4,
    dmaUnmap: 5,
    commandBegin: 6,
    commandEnd: 7,
    submit: 8,
    start: 9,
    complete: 10,
    reset: 11,
  })
  t.equal(kindName(10), 'complete')
  t.equal(kindName(0), undefined)
  t.equal(kindName(200), undefined)
})

t.test('time is CLOCK_MONOTONIC', async (t) => {
  for (let i = 0; i < 100; i++) {
    const before = Number(process.hrtime.bigint())
    const now = monotonicNs()
    const after = Number(process.hrtime.bigint())
    t.ok(now >= before - 1e6 && now <= after + 1e6, `${now} is between ${before} and ${after}`)
  }
})
