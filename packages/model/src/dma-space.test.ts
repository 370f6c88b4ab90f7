import type { DmaAccess, Iova } from '@uaccel/memory'
import { abi, createSealedMemory, Mapping, sys } from '@uaccel/sys'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { DmaSpace, type DmaSpaceOptions } from './dma-space.js'
import { Violations } from './violations.js'

const PAGE = 4096
const iova = (address: number | bigint) => BigInt(address) as Iova

function open(t: Test, options?: DmaSpaceOptions, addressBits = 64) {
  const violations = new Violations()
  const device = { name: 'dev', addressBits, violations, checkPresent() {}, checkMayTransfer() {} }
  const space = new DmaSpace(device, options)
  t.teardown(() => space.clear())
  return { space, violations }
}

/** Sealed memory of some pages, and a view of it. */
function memory(t: Test, pages: number) {
  const sizeBytes = pages * PAGE
  const { fd } = createSealedMemory('dma-test', sizeBytes)
  const mapping = Mapping.map({ fd, offset: 0, sizeBytes })
  t.teardown(() => {
    mapping.revoke()
    sys.close(fd)
  })
  const request = (address: number | bigint, access: DmaAccess = 'readwrite', page = 0, count = pages) => ({
    iova: iova(address),
    sizeBytes: count * PAGE,
    access,
    address: mapping.address,
    fd,
    fdOffset: page * PAGE,
  })
  return { bytes: mapping.window.u8, request, fd }
}

t.test('adjacent mappings make one range, in the order of their addresses', async (t) => {
  const { space, violations } = open(t)
  const { bytes, request } = memory(t, 2)
  space.map(request(0x11000, 'readwrite', 0, 1))
  space.map(request(0x10000, 'readwrite', 1, 1))
  space.write(0x10ffen, Uint8Array.of(1, 2, 3, 4))
  t.same(bytes.subarray(2 * PAGE - 2), Uint8Array.of(1, 2))
  t.same(bytes.subarray(0, 2), Uint8Array.of(3, 4))
  const back = new Uint8Array(4)
  space.read(0x10ffen, back)
  t.same(back, Uint8Array.of(1, 2, 3, 4))
  t.equal(space.view(0x10ffen, 4, 'read'), undefined, 'no one view of two mappings')
  t.same(space.view(0x10ffen, 2, 'readwrite'), Uint8Array.of(1, 2))
  violations.assertClean()
})

t.test('the device sees the memory itself, until it is unmapped', async (t) => {
  const { space } = open(t)
  const { bytes, request } = memory(t, 1)
  space.map(request(0))
  const view = space.view(0n, 4, 'readwrite')!
  bytes[1] = 7
  t.equal(view[1], 7)
  view[2] = 9
  t.equal(bytes[2], 9)
  space.unmap(iova(0), PAGE)
  view[2] = 1
  t.equal(bytes[2], 9, 'a stale view reaches nothing')
  t.throws(() => space.view(0n, 4, 'read'), { code: 'ERR_ACCEL_DMA_FAULT' })
})

t.test('what cannot be mapped', async (t) => {
  const { space } = open(t, { ranges: [{ first: 0x1000n, last: 0xfffffn }], maxMappings: 3 })
  const { request, fd } = memory(t, 4)
  const code = 'ERR_ACCEL_INVALID_ARGUMENT'
  t.throws(() => space.map(request(0x1001)), { code })
  t.throws(() => space.map({ ...request(0x1000), sizeBytes: 100 }), { code })
  t.throws(() => space.map({ ...request(0x1000), sizeBytes: 0 }), { code })
  t.throws(() => space.map(request(0)), { code: 'ERR_ACCEL_OUT_OF_RANGE', message: /0x1000-0xfffff/ })
  t.throws(() => space.map(request(0xfd000)), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.throws(
    () => space.map(request(0x1000, 'read', 1, 4)),
    { code: 'ERR_ACCEL_OUT_OF_RANGE' },
    'beyond the file',
  )
  space.map(request(0x5000))
  for (const [address, pages] of [
    [0x5000, 4],
    [0x2000, 4],
    [0x8000, 1],
    [0x4000, 2],
  ] as const) {
    t.throws(() => space.map(request(address, 'read', 0, pages)), {
      code: 'ERR_ACCEL_BUSY',
      message: /overlaps the readwrite mapping 0x5000-0x8fff/,
    })
  }
  space.map(request(0x9000, 'read', 0, 1))
  space.map(request(0x4000, 'read', 0, 1))
  t.throws(() => space.map(request(0x20000)), {
    code: 'ERR_ACCEL_MAPPING_LIMIT',
    details: { maxMappings: 3 },
  })
  t.equal(space.size, 3)
  t.throws(() => space.unmap(iova(0x5000), PAGE), { code: 'ERR_ACCEL_NOT_FOUND' })
  t.throws(() => space.unmap(iova(0x6000), PAGE), { code: 'ERR_ACCEL_NOT_FOUND' })
  space.unmap(iova(0x5000), 4 * PAGE)
  t.equal(space.size, 2)
  t.ok(fd > 0)
})

t.test('memory that its owner could shrink is refused, unless told otherwise', async (t) => {
  const fd = sys.memfdCreate('unsealed', abi.MFD_ALLOW_SEALING)
  t.teardown(() => sys.close(fd))
  sys.ftruncate(fd, PAGE)
  const request = {
    iova: iova(0),
    sizeBytes: PAGE,
    access: 'readwrite',
    address: 0n,
    fd,
    fdOffset: 0,
  } as const
  t.throws(() => open(t).space.map(request), { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /sealed/ })
  const { space } = open(t, { requireSealed: false })
  space.map(request)
  space.write(0n, Uint8Array.of(5))
  t.throws(() => space.map({ ...request, iova: iova(PAGE), fdOffset: PAGE }), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
  })
})

t.test('a fault names both sides, is kept, and moves nothing', async (t) => {
  const { space, violations } = open(t, {}, 40)
  t.throws(() => space.read(0n, new Uint8Array(1)), {
    code: 'ERR_ACCEL_DMA_FAULT',
    message: /nothing is mapped at all/,
  })
  const { bytes, request } = memory(t, 1)
  space.map(request(0x10000, 'write'))
  space.map(request(0x20000, 'read'))
  t.throws(() => space.write(0x10ffen, Uint8Array.of(1, 2, 3)), {
    code: 'ERR_ACCEL_DMA_FAULT',
    message:
      /^dev: DMA write of 3 bytes at IOVA 0x10ffe: nothing is mapped at 0x11000; the nearest mapping is the write mapping 0x10000-0x10fff/,
    details: { device: 'dev', iova: 0x10ffen, sizeBytes: 3, access: 'write' },
  })
  t.same(bytes, new Uint8Array(PAGE))
  t.throws(() => space.read(0x10000n, new Uint8Array(1)), {
    message: /the write mapping 0x10000-0x10fff does not allow it/,
  })
  t.throws(() => space.write(0x20000n, new Uint8Array(1)), { message: /does not allow it/ })
  t.throws(() => space.view(0x20000n, 1, 'readwrite'), { message: /does not allow it/ })
  t.throws(() => space.read(0x1f000n, new Uint8Array(1)), { message: /nearest mapping is the read mapping/ })
  t.throws(() => space.read((1n << 40n) - 1n, new Uint8Array(2)), { message: /40 address bits/ })
  t.throws(() => space.read(-1n, new Uint8Array(1)), { code: 'ERR_ACCEL_DMA_FAULT' })
  t.equal(violations.length, 8)
})

t.test('memory behind messages', async (t) => {
  const { space } = open(t)
  const { bytes, request } = memory(t, 1)
  const far = new Uint8Array(PAGE)
  const log: string[] = []
  space.map(request(0x1000))
  space.addRemote(iova(0x2000), PAGE, 'readwrite', {
    read(at, into) {
      log.push(`read ${at} ${into.length}`)
      into.set(far.subarray(Number(at) - 0x2000, Number(at) - 0x2000 + into.length))
    },
    write(at, from) {
      log.push(`write ${at} ${from.length}`)
      far.set(from, Number(at) - 0x2000)
    },
  })
  space.write(0x1ffen, Uint8Array.of(1, 2, 3))
  t.same([bytes[PAGE - 2], bytes[PAGE - 1], far[0]], [1, 2, 3])
  const back = new Uint8Array(3)
  space.read(0x1ffen, back)
  t.same(back, Uint8Array.of(1, 2, 3))
  t.same(log, [`write ${0x2000} 1`, `read ${0x2000} 1`])
  t.equal(space.view(0x2000n, 1, 'read'), undefined)
  t.throws(() => space.map(request(0x2000)), { code: 'ERR_ACCEL_BUSY' })
  space.unmap(iova(0x2000), PAGE)
  t.equal(space.size, 1)
})

t.test('equals a naive map of pages, whatever is mapped, unmapped and moved', async (t) => {
  const PAGES = 12
  const { bytes, request } = memory(t, PAGES)
  const page = fc.nat(PAGES - 1)
  const step = fc.oneof(
    fc.record({
      op: fc.constant('map' as const),
      at: page,
      page,
      count: fc.integer({ min: 1, max: 4 }),
      access: fc.constantFrom<DmaAccess>('read', 'write', 'readwrite'),
    }),
    fc.record({ op: fc.constant('unmap' as const), at: page, count: fc.integer({ min: 1, max: 4 }) }),
    fc.record({
      op: fc.constantFrom('read' as const, 'write' as const),
      at: fc.nat(PAGES * PAGE),
      length: fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 3 * PAGE })),
      seed: fc.nat(255),
    }),
  )
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 40 }),
      fc.constantFrom(0n, 0xffff_ffff_ffff_0000n),
      (steps, base) => {
        const { space } = open(t)
        bytes.fill(0)
        const naive = new Uint8Array(PAGES * PAGE)
        /** Page of the device to the page of memory behind it. */
        const table = new Map<number, { page: number; access: DmaAccess; start: number; count: number }>()
        const attempt = (work: () => void): boolean => {
          try {
            work()
            return true
          } catch {
            return false
          }
        }
        for (const it of steps) {
          if (it.op === 'map') {
            const pages = Array.from({ length: it.count }, (_, i) => i)
            const fits = base + BigInt((it.at + it.count) * PAGE) <= 1n << 64n && it.page + it.count <= PAGES
            const expected = fits && pages.every((i) => !table.has(it.at + i))
            const start = base + BigInt(it.at * PAGE)
            const done = attempt(() => space.map(request(start, it.access, it.page, it.count)))
            if (done !== expected) return false
            if (!done) continue
            for (const i of pages) {
              table.set(it.at + i, { page: it.page + i, access: it.access, start: it.at, count: it.count })
            }
          } else if (it.op === 'unmap') {
            const entry = table.get(it.at)
            const expected = entry?.start === it.at && entry.count === it.count
            const done = attempt(() => space.unmap(iova(base + BigInt(it.at * PAGE)), it.count * PAGE))
            if (done !== expected) return false
            if (done) for (let i = 0; i < it.count; i++) table.delete(it.at + i)
          } else {
            const at = Array.from({ length: it.length }, (_, i) => it.at + i)
            const expected = at.every((byte) => {
              const entry = table.get(Math.floor(byte / PAGE))
              return entry !== undefined && (entry.access === 'readwrite' || entry.access === it.op)
            })
            const data = new Uint8Array(it.length).map((_, i) => it.seed + i)
            const start = base + BigInt(it.at)
            const done = attempt(() =>
              it.op === 'read' ? space.read(start, data) : space.write(start, data),
            )
            if (done !== expected) return false
            if (!done) continue
            for (const [i, byte] of at.entries()) {
              const behind = table.get(Math.floor(byte / PAGE))!.page * PAGE + (byte % PAGE)
              if (it.op === 'write') naive[behind] = it.seed + i
              else if (data[i] !== naive[behind]) return false
            }
          }
        }
        space.clear()
        return Buffer.compare(bytes, naive) === 0
      },
    ),
    { numRuns: 150 },
  )
})

t.test('violations are kept up to a number, and counted beyond it', (t) => {
  const violations = new Violations()
  for (let i = 0; i < 5000; i++) violations.record('ERR_ACCEL_BAD_ACCESS', `number ${i}`)
  t.equal(violations.length, 1000)
  t.equal(violations.dropped, 4000)
  t.throws(() => violations.assertClean(), { message: /^5000 violation/ })
  t.equal(violations.take()[0]?.message, 'number 0', 'the first ones say what went wrong')
  t.equal(violations.dropped, 0)
  violations.assertClean()
  t.end()
})
