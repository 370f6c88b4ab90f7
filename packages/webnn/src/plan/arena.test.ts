import fc from 'fast-check'
import t from 'tap'
import { aligned, type Lifetime, pack, peakBytes } from './arena.js'

const lifetimes = fc.array(
  fc
    .tuple(fc.integer({ min: 1, max: 5000 }), fc.nat(60), fc.nat(12))
    .map(([sizeBytes, first, more]): Lifetime => ({ sizeBytes, first, last: first + more })),
  { maxLength: 60 },
)

t.test('no two values that live at once overlap', async (t) => {
  let [used, least] = [0, 0]
  fc.assert(
    fc.property(lifetimes, (given) => {
      const { arena, offsets } = pack(given)
      for (const [a, one] of given.entries()) {
        if (offsets[a] % 64 !== 0) return false
        if (offsets[a] + aligned(one.sizeBytes) > arena.sizeBytes) return false
        for (const [b, other] of given.entries()) {
          if (a === b || one.first > other.last || other.first > one.last) continue
          if (
            offsets[a] < offsets[b] + aligned(other.sizeBytes) &&
            offsets[b] < offsets[a] + aligned(one.sizeBytes)
          )
            return false
        }
      }
      const peak = peakBytes(given)
      used += arena.sizeBytes
      least += peak
      return arena.sizeBytes >= peak && arena.sizeBytes <= 2 * peak
    }),
    { numRuns: Number(process.env.UACCEL_RUNS ?? 300) },
  )
  t.ok(used < 1.1 * least, `${used} bytes where ${least} are the least that can be`)
})

t.test('the same values are placed in the same way, and a chain needs two of its largest', async (t) => {
  fc.assert(
    fc.property(lifetimes, (given) => {
      const again = pack(structuredClone(given))
      return pack(given).offsets.every((offset, at) => offset === again.offsets[at])
    }),
    { numRuns: 30 },
  )
  const chain = Array.from({ length: 100 }, (_, first) => ({ sizeBytes: 1000, first, last: first + 1 }))
  t.equal(pack(chain).arena.sizeBytes, 2048)
  t.equal(pack([]).arena.sizeBytes, 0)
})

t.test('what comes later finds room beside what lives', async (t) => {
  const { arena, offsets } = pack([
    { sizeBytes: 640, first: 0, last: 1 },
    { sizeBytes: 64, first: 2, last: 3 },
  ])
  t.strictSame(offsets, [0, 0])
  t.equal(arena.place({ sizeBytes: 100, first: 2, last: 2 }), 64)
  t.equal(arena.sizeBytes, 640, 'in the room of what is over')
  t.equal(arena.place({ sizeBytes: 1, first: 1, last: 1 }), 640, 'behind it where it still lives')
})
