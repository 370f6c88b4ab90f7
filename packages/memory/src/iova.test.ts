import { isAccelError } from '@uaccel/uapi'
import fc from 'fast-check'
import t from 'tap'
import { IovaAllocator } from './iova.js'
import type { Iova } from './types.js'

const page = 4096

t.test('addresses start above 0, lowest first, and come back', async (t) => {
  const iova = new IovaAllocator({ ranges: [{ first: 0n, last: 0xffffn }], pageSizeBytes: page })
  t.equal(iova.alloc(1), 0x1000n)
  t.equal(iova.alloc(page + 1), 0x2000n)
  iova.free(0x1000n as Iova, 1)
  t.equal(iova.alloc(page), 0x1000n)
  t.equal(iova.alloc(page, { alignBytes: 0x8000 }), 0x8000n)
})

t.test(
  'the top of a 64-bit space can be used, and no page that an aperture holds only in part',
  async (t) => {
    const iova = new IovaAllocator({
      ranges: [
        { first: 0x1800n, last: 0x2ffen },
        { first: 0xffff_ffff_ffff_e001n, last: 0xffff_ffff_ffff_ffffn },
      ],
      pageSizeBytes: page,
    })
    t.equal(iova.alloc(page), 0xffff_ffff_ffff_f000n)
    t.throws(() => iova.alloc(page), { code: 'ERR_ACCEL_NO_IOVA' })
  },
)

t.test('reserved ranges and the address width of the device are kept', async (t) => {
  const iova = new IovaAllocator({
    ranges: [{ first: 0n, last: 0xffff_ffffn }],
    reserved: [{ first: 0x2000n, last: 0x0fff_dfffn }],
    pageSizeBytes: page,
  })
  t.equal(iova.alloc(2 * page, { addressBits: 28 }), 0x0fff_e000n)
  t.equal(iova.alloc(page, { addressBits: 28 }), 0x1000n)
  t.throws(() => iova.alloc(page, { addressBits: 28 }), {
    code: 'ERR_ACCEL_NO_IOVA',
    message: /28 address bits/,
  })
  t.equal(iova.alloc(page), 0x1000_0000n)
})

t.test('2 MiB alignment where the size makes it help, and none where it does not fit', async (t) => {
  const iova = new IovaAllocator({ ranges: [{ first: 0n, last: 0x5f_ffffn }], pageSizeBytes: page })
  t.equal(iova.alloc(0x20_0000), 0x20_0000n)
  t.equal(iova.alloc(0x1f_f000), 0x1000n)
  t.equal(iova.alloc(0x1000), 0x40_0000n)
  t.equal(iova.alloc(0x1f_f000), 0x40_1000n, 'an odd address rather than none')
})

t.test('new ranges apply to what is handed out later', async (t) => {
  const iova = new IovaAllocator({
    ranges: [{ first: 0n, last: 0xffffn }],
    reserved: [{ first: 0x3000n, last: 0x3fffn }],
    pageSizeBytes: page,
  })
  t.same([iova.alloc(2 * page), iova.alloc(page)], [0x1000n, 0x4000n])
  iova.setRanges([{ first: 0x2000n, last: 0x6fffn }])
  t.same([iova.alloc(page), iova.alloc(page)], [0x5000n, 0x6000n], 'what is reserved stays so')
  t.throws(() => iova.alloc(page), { code: 'ERR_ACCEL_NO_IOVA', message: /0x2000-0x6fff/ })
  iova.free(0x1000n as Iova, 2 * page)
  t.equal(iova.alloc(page), 0x2000n, 'of a range that lies across the end, the part inside')
  t.throws(() => iova.alloc(page), { code: 'ERR_ACCEL_NO_IOVA' })
  for (const [at, pages] of [
    [0x1000n, 1],
    [0x1000n, 2],
    [0x7000n, 1],
  ] as const)
    t.throws(() => iova.free(at as Iova, pages * page), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  iova.setRanges([{ first: 0n, last: 0xffffn }])
  t.equal(iova.alloc(page), 0x1000n)
})

t.test('bad input', async (t) => {
  const iova = new IovaAllocator({ ranges: [{ first: 0n, last: 0xffffn }], pageSizeBytes: page })
  for (const size of [0, -1, 1.5, Number.NaN])
    t.throws(() => iova.alloc(size), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.throws(() => iova.alloc(page, { alignBytes: 3 }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.throws(() => iova.free(0x4000n as Iova, page), { code: 'ERR_ACCEL_INVALID_ARGUMENT' }, 'never allocated')
  t.throws(() => new IovaAllocator({ ranges: [], pageSizeBytes: 100 }), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
  })
})

t.test('property: agrees with a naive page map', async () => {
  const pages = 64
  const range = fc.tuple(fc.nat(pages - 1), fc.nat(pages - 1)).map(([a, b]) => ({
    first: BigInt(Math.min(a, b) * page),
    last: BigInt((Math.max(a, b) + 1) * page - 1),
  }))
  const step = fc.oneof(
    fc.record({
      op: fc.constant('alloc' as const),
      n: fc.integer({ min: 1, max: 9 }),
      align: fc.constantFrom(1, 2, 4, 8),
      bits: fc.integer({ min: 13, max: 20 }),
    }),
    fc.record({ op: fc.constant('free' as const), pick: fc.nat(1000) }),
    fc.record({ op: fc.constant('ranges' as const), ranges: fc.array(range, { maxLength: 4 }) }),
  )
  fc.assert(
    fc.property(
      fc.array(range, { maxLength: 4 }),
      fc.array(range, { maxLength: 2 }),
      fc.array(step, { maxLength: 60 }),
      (ranges, reserved, steps) => {
        const iova = new IovaAllocator({ ranges, reserved, pageSizeBytes: page })
        const holds = (list: typeof ranges, p: number) =>
          list.some((r) => BigInt(p * page) >= r.first && BigInt(p * page) <= r.last)
        let apertures = ranges
        const usable = (p: number) => p > 0 && holds(apertures, p) && !holds(reserved, p)
        const taken = new Set<number>()
        const live: { start: number; n: number }[] = []
        for (const s of steps) {
          if (s.op === 'free') {
            const gone = live.splice(s.pick % (live.length || 1), 1)[0]
            if (gone === undefined) continue
            iova.free(BigInt(gone.start * page) as Iova, gone.n * page)
            for (let p = gone.start; p < gone.start + gone.n; p++) taken.delete(p)
            continue
          }
          if (s.op === 'ranges') {
            apertures = s.ranges
            iova.setRanges(apertures)
            continue
          }
          const free = Array.from({ length: pages }, (_, p) => usable(p) && !taken.has(p))
          const fits = (start: number) =>
            start % s.align === 0 &&
            (start + s.n) * page <= 2 ** s.bits &&
            start + s.n <= pages &&
            free.slice(start, start + s.n).every(Boolean)
          const expected = free.findIndex((_, start) => fits(start))
          let got: number | undefined
          try {
            got = Number(iova.alloc(s.n * page, { alignBytes: s.align * page, addressBits: s.bits })) / page
          } catch (error) {
            if (!isAccelError(error, 'ERR_ACCEL_NO_IOVA')) throw error
            got = -1
          }
          if (got !== expected) throw new Error(`allocated page ${got}, the page map says ${expected}`)
          if (got >= 0) {
            for (let p = got; p < got + s.n; p++) taken.add(p)
            live.push({ start: got, n: s.n })
          }
        }
      },
    ),
    { numRuns: 500 },
  )
})
