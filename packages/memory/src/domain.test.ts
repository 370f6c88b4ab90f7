import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { abi, Mapping, sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import fc from 'fast-check'
import t from 'tap'
import { arenaBytes } from './arena.js'
import { DmaBuffer } from './buffer.js'
import type { DmaBuf } from './dma-buf.js'
import { DmaDomain } from './domain.js'
import type { DmaBufMapRequest, DmaCopy, DmaMapper, DmaMapRequest, Iova, IovaRange } from './types.js'

/** A mapper that does what an IOMMU driver checks. */
class FakeMapper implements DmaMapper {
  readonly pageSizeBytes = 4096
  maxMappings = 8
  locksMemory = false
  apertures: IovaRange[] = [{ first: 0n, last: 0xff_ffff_ffffn }]
  rangesVersion = 0
  fail: Error | undefined
  readonly live = new Map<bigint, DmaMapRequest>()

  ranges(): readonly IovaRange[] {
    return this.apertures
  }
  map(request: DmaMapRequest): void {
    if (this.fail !== undefined) throw this.fail
    const end = request.iova + BigInt(request.sizeBytes)
    for (const other of this.live.values()) {
      if (request.iova < other.iova + BigInt(other.sizeBytes) && other.iova < end) throw new Error('EEXIST')
    }
    if (request.iova % 4096n !== 0n || request.sizeBytes % 4096 !== 0) throw new Error('EINVAL')
    this.live.set(request.iova, request)
  }
  unmap(iova: Iova, sizeBytes: number): void {
    if (this.fail !== undefined) throw this.fail
    if (this.live.get(iova)?.sizeBytes !== sizeBytes) throw new Error('ENOENT')
    this.live.delete(iova)
  }
}

const openFds = () => readdirSync('/proc/self/fd').length

t.test('a buffer is not a mapping: one buffer in two domains', async (t) => {
  const [a, b] = [new FakeMapper(), new FakeMapper()]
  const [first, second] = [new DmaDomain(a), new DmaDomain(b)]
  const other = DmaBuffer.create(4096)
  first.map(other)
  const buffer = DmaBuffer.create(5000, { name: 'shared' })
  t.equal(buffer.sizeBytes, 8192, 'whole pages')
  const one = first.map(buffer, { access: 'read' })
  const two = second.map(buffer)
  t.not(one.iova, two.iova)
  t.match(a.live.get(one.iova), {
    access: 'read',
    fd: buffer.fd,
    address: buffer.address,
    fdOffset: 0,
    sizeBytes: 8192,
  })
  one.unmap()
  one.unmap()
  t.equal(first.mappings, 1, 'the other buffer')
  t.equal(second.mappedBytes, 8192)
  buffer.destroy()
  t.equal(b.live.size, 0, 'destroying the buffer unmaps it everywhere')
  t.equal(second.mappings, 0)
  t.throws(() => second.map(buffer), { code: 'ERR_ACCEL_REVOKED', message: /shared was destroyed/ })
  t.same([b.live.size, second.mappings, second.mappedBytes], [0, 0, 0], 'and nothing was mapped in its place')
  first.destroy()
  other.destroy()
})

t.test('views of all types, over memory that others can map and nobody can shrink', async (t) => {
  const fds = openFds()
  const buffer = DmaBuffer.create(4096)
  buffer.u32[0] = 0x8000_0001
  buffer.f64[1] = 1.5
  t.same(
    [buffer.u8[0], buffer.i8[3], buffer.u16[1], buffer.i16[1], buffer.i32[0]],
    [1, -128, 0x8000, -0x8000, -0x7fff_ffff],
  )
  t.equal(buffer.u64[0], 0x8000_0001n)
  t.equal(buffer.f32.length, 1024)
  t.equal(buffer.f64[1], 1.5)
  t.equal(buffer.i32, buffer.i32, 'one object per type')
  const other = Mapping.map({ fd: buffer.fd, offset: 0, sizeBytes: 4096 })
  other.window.u8[100] = 7
  t.equal(buffer.u8[100], 7)
  t.throws(() => sys.ftruncate(buffer.fd, 0), { code: 'ERR_ACCEL_PERMISSION' })
  t.not(sys.getSeals(buffer.fd) & abi.F_SEAL_SHRINK, 0)
  const stale = buffer.u8
  buffer.destroy()
  buffer.destroy()
  t.throws(() => buffer.u8, { code: 'ERR_ACCEL_REVOKED' })
  t.throws(() => buffer.i32, { code: 'ERR_ACCEL_REVOKED' }, 'also a view that was made before')
  stale[100] = 9
  t.equal(other.window.u8[100], 7, 'a stale view reaches inert memory')
  other.revoke()
  t.equal(openFds(), fds)
  for (const size of [0, -1, 1.5])
    t.throws(() => DmaBuffer.create(size), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
})

t.test('small regions share an arena, zeroed, in lines of their own', async (t) => {
  const mapper = new FakeMapper()
  const domain = new DmaDomain(mapper)
  const regions = Array.from({ length: 1000 }, (_, i) => domain.alloc(1 + (i % 300), { name: `r${i}` }))
  t.equal(mapper.live.size, 1)
  for (const region of regions) {
    t.equal(region.iova, (mapper.live.keys().next().value as bigint) + BigInt(region.offset))
    t.equal(region.offset % 64, 0)
    region.u8.fill(0xff)
  }
  const lines = new Set(
    regions.flatMap((r) => Array.from({ length: Math.ceil(r.sizeBytes / 64) }, (_, i) => r.offset / 64 + i)),
  )
  t.equal(
    lines.size,
    regions.reduce((n, r) => n + Math.ceil(r.sizeBytes / 64), 0),
    'no line twice',
  )
  const [region] = regions
  region.free()
  region.free()
  t.throws(() => region.u8, { code: 'ERR_ACCEL_REVOKED', message: /r0/ })
  const again = domain.alloc(8)
  t.equal(again.offset, region.offset)
  t.same([...again.u8], [0, 0, 0, 0, 0, 0, 0, 0])
  const page = domain.alloc(100, { alignBytes: 4096 })
  t.equal(page.iova % 4096n, 0n)
  t.equal((BigInt(page.iovaHigh) << 32n) | BigInt(page.iovaLow), page.iova)
  domain.destroy()
  t.equal(mapper.live.size, 0)
  t.throws(() => page.u32, { code: 'ERR_ACCEL_REVOKED' })
  t.throws(() => domain.alloc(8), { code: 'ERR_ACCEL_NO_DEVICE' })
})

t.test('large regions have a buffer of their own, arenas grow and shrink', async (t) => {
  const fds = openFds()
  const mapper = new FakeMapper()
  const domain = new DmaDomain(mapper)
  const large = domain.alloc(3 * 2 ** 20)
  t.equal(large.offset, 0)
  t.equal(large.iova % BigInt(arenaBytes), 0n, '2 MiB alignment helps here')
  const aligned = domain.alloc(64, { alignBytes: 2 ** 16 })
  t.equal(aligned.iova % 0x1_0000n, 0n)
  const halves = Array.from({ length: 5 }, () => domain.alloc(arenaBytes / 2))
  t.equal(mapper.live.size, 2 + 3)
  for (const region of [...halves, large, aligned]) region.free()
  t.equal(mapper.live.size, 1, 'one empty arena is kept')
  t.equal(domain.mappedBytes, arenaBytes)
  domain.destroy()
  domain.destroy()
  t.equal(openFds(), fds)
  for (const bad of [0, -1, 0.5])
    t.throws(() => new DmaDomain(mapper).alloc(bad), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.throws(() => new DmaDomain(mapper).alloc(8, { alignBytes: 3 }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
})

t.test('limits are known before the kernel says no, and a failed map leaves nothing', async (t) => {
  const mapper = new FakeMapper()
  mapper.maxMappings = 1
  const domain = new DmaDomain(mapper)
  const fds = openFds()
  const one = domain.alloc(2 ** 21)
  t.throws(() => domain.alloc(2 ** 21), {
    code: 'ERR_ACCEL_MAPPING_LIMIT',
    message: /1 exist, of 1.*dma_entry_limit/,
  })
  one.free()
  mapper.fail = new Error('EIO')
  t.throws(() => domain.alloc(8), mapper.fail)
  mapper.fail = undefined
  t.same([mapper.live.size, domain.mappings, domain.mappedBytes, openFds() - fds], [0, 0, 0, 0])
  t.equal(domain.alloc(2 ** 21).iova, 0x20_0000n, 'the address came back')
  domain.destroy()
})

t.test('locked memory: the limit, what is locked, and who is exempt', async (t) => {
  const mapper = new FakeMapper()
  mapper.locksMemory = true
  const state = { limitBytes: 8 * 2 ** 20, lockedBytes: 7 * 2 ** 20, exempt: false }
  const domain = new DmaDomain(mapper, { memlock: () => state })
  t.throws(() => domain.alloc(2 ** 21), {
    code: 'ERR_ACCEL_MEMLOCK',
    message: /2097152 bytes.*9216 KiB in all.*8192 KiB.*ulimit -l.*LimitMEMLOCK.*limits\.conf/,
  })
  t.equal(mapper.live.size, 0)
  const small = domain.alloc(8)
  t.equal(domain.mappedBytes, 4096, 'where no arena fits, a small region has a page of its own')
  small.free()
  state.lockedBytes = 8 * 2 ** 20
  t.throws(() => domain.alloc(8), { code: 'ERR_ACCEL_MEMLOCK', message: /4096 bytes/ })
  t.equal(mapper.live.size, 0)
  state.lockedBytes = 6 * 2 ** 20
  domain.alloc(8)
  domain.destroy()
  const exempt = new DmaDomain(mapper, { memlock: () => ({ ...state, limitBytes: 0, exempt: true }) })
  exempt.alloc(8)
  exempt.destroy()
  mapper.fail = accelError('ERR_ACCEL_NO_MEMORY', 'ioctl: ENOMEM')
  const late = new DmaDomain(mapper, { memlock: () => ({ ...state, exempt: true }) })
  t.throws(
    () => late.alloc(8),
    { code: 'ERR_ACCEL_MEMLOCK', cause: mapper.fail },
    'the kernel counted differently',
  )
  const unlimited = { ...state, limitBytes: Number.POSITIVE_INFINITY }
  const full = new DmaDomain(mapper, { memlock: () => unlimited })
  t.throws(() => full.alloc(8), mapper.fail, 'no limit to raise: there is no memory')
})

t.test(
  'locked memory of a real process',
  { skip: process.getuid?.() !== 0 && 'lowering capabilities needs root' },
  async (t) => {
    const module = new URL('./memlock.js', import.meta.url).href
    const script = `import(${JSON.stringify(module)}).then((m) => console.log(JSON.stringify(m.readMemlock())))`
    const node = [process.execPath, '-e', script]
    const limited = spawnSync(
      'prlimit',
      ['--memlock=65536:65536', 'setpriv', '--bounding-set=-ipc_lock', '--inh-caps=-ipc_lock', ...node],
      { encoding: 'utf8' },
    )
    t.match(JSON.parse(limited.stdout), { limitBytes: 65536, lockedBytes: 0, exempt: false })
    const root = spawnSync('prlimit', ['--memlock=65536:65536', ...node], { encoding: 'utf8' })
    const capable =
      (BigInt(`0x${/CapEff:\s*(\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]}`) >> 14n) & 1n
    t.equal(JSON.parse(root.stdout).exempt, capable === 1n)
  },
)

t.test('domains on one mapper share its addresses, each within its own bits', async (t) => {
  const mapper = new FakeMapper()
  const [narrow, wide] = [new DmaDomain(mapper, { addressBits: 23 }), new DmaDomain(mapper)]
  const iovas = [narrow, wide, narrow].map((d) => d.alloc(arenaBytes).iova)
  t.same(iovas, [0x20_0000n, 0x40_0000n, 0x60_0000n])
  t.throws(() => narrow.alloc(arenaBytes), { code: 'ERR_ACCEL_NO_IOVA' })
  t.equal(wide.alloc(arenaBytes).iova, 0x80_0000n)
  narrow.destroy()
  mapper.apertures = [{ first: 0x80_0000n, last: 0x1fff_ffffn }]
  t.equal(wide.alloc(arenaBytes).iova, 0x20_0000n, 'a change that was not announced')
  mapper.rangesVersion++
  t.equal(wide.alloc(arenaBytes).iova, 0xa0_0000n, 'apertures are asked for anew, while mappings exist')
  wide.destroy()
  const later = new DmaDomain(mapper)
  t.equal(later.alloc(8).iova, 0x80_0000n, 'what lies outside does not come back')
  later.destroy()
})

t.test('a mapping is copied within one kind of mapper, and goes with its memory', async (t) => {
  const copies: unknown[] = []
  class Copying extends FakeMapper {
    copy(request: DmaCopy, source: DmaMapper, sourceIova: Iova): void {
      copies.push([request.access, source, sourceIova])
      this.map({ ...request, address: 0n, fd: -1, fdOffset: 0 })
    }
  }
  const [from, to, plain] = [new Copying(), new Copying(), new FakeMapper()]
  to.locksMemory = true
  const memlock = () => ({ limitBytes: 0, lockedBytes: 0, exempt: false })
  const [one, two, three] = [new DmaDomain(from), new DmaDomain(to, { memlock }), new DmaDomain(plain)]
  const buffer = DmaBuffer.create(8192)
  const original = one.map(buffer, { access: 'read' })
  t.throws(() => two.map(DmaBuffer.create(4096)), { code: 'ERR_ACCEL_MEMLOCK' })
  const copy = two.copy(original, { alignBytes: 0x10000 })
  t.same(copies, [['read', from, original.iova]], 'with the access of the original, and without locking anew')
  t.match(copy, { iova: 0x10000n, sizeBytes: 8192, access: 'read', buffer })
  t.equal(two.mappedBytes, 8192)
  t.throws(() => three.copy(original), { code: 'ERR_ACCEL_UNSUPPORTED', message: /iommufd/ })
  original.unmap()
  t.equal(to.live.size, 1)
  t.throws(() => two.copy(original), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  buffer.destroy()
  t.equal(to.live.size, 0)
})

t.test('a dma-buf is mapped where the transport can, without being locked, until it is closed', async (t) => {
  class Importing extends FakeMapper {
    mapDmaBuf(request: DmaBufMapRequest): void {
      this.map({ ...request, address: 0n, fdOffset: 0 })
    }
  }
  const mapper = new Importing()
  mapper.locksMemory = true
  const memlock = () => ({ limitBytes: 0, lockedBytes: 0, exempt: false })
  const domain = new DmaDomain(mapper, { memlock })
  // As DmaBuf is: a real one needs a kernel that makes some, which the lab's does.
  const unmaps = new Set<() => void>()
  const dmaBuf = {
    fd: 5,
    sizeBytes: 0x3000,
    onDestroy(unmap: () => void) {
      unmaps.add(unmap)
      return () => void unmaps.delete(unmap)
    },
  } as unknown as DmaBuf
  const mapping = domain.importDmaBuf(dmaBuf, { access: 'read', alignBytes: 0x8000 })
  t.match(mapping, { iova: 0x8000n, sizeBytes: 0x3000, access: 'read', dmaBuf })
  t.match([...mapper.live.values()], [{ fd: 5, access: 'read', iova: 0x8000n, sizeBytes: 0x3000 }])
  t.equal(unmaps.size, 1)
  for (const unmap of unmaps) unmap()
  t.same([mapper.live.size, domain.mappings, domain.mappedBytes, unmaps.size], [0, 0, 0, 0])
  mapper.fail = accelError('ERR_ACCEL_NO_MEMORY', 'no tables')
  t.throws(() => domain.importDmaBuf(dmaBuf), { code: 'ERR_ACCEL_NO_MEMORY' })
  mapper.fail = undefined
  t.equal(domain.importDmaBuf(dmaBuf).iova, 0x1000n, 'a failure leaves nothing behind')
  domain.destroy()
  t.equal(unmaps.size, 0)
  const plain = new DmaDomain(new FakeMapper())
  t.throws(() => plain.importDmaBuf(dmaBuf), { code: 'ERR_ACCEL_UNSUPPORTED', message: /iommu: 'iommufd'/ })
  t.throws(() => domain.importDmaBuf(dmaBuf), { code: 'ERR_ACCEL_NO_DEVICE' })
})

t.test('an unmap that fails keeps its address taken; a device that is gone needs none', async (t) => {
  const mapper = new FakeMapper()
  const domain = new DmaDomain(mapper)
  const buffer = DmaBuffer.create(4096)
  const mapping = domain.map(buffer)
  mapper.fail = new Error('EIO')
  t.throws(() => mapping.unmap(), mapper.fail)
  mapper.fail = undefined
  t.not(domain.map(buffer).iova, mapping.iova)
  mapper.fail = accelError('ERR_ACCEL_NO_DEVICE', 'unplugged')
  t.doesNotThrow(() => domain.destroy())
  buffer.destroy()
})

t.test('property: regions never overlap and all comes back', async () => {
  const step = fc.oneof(
    fc.record({
      sizeBytes: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 3_000_000 })),
      alignBytes: fc.constantFrom(8, 64, 256, 4096, 65536),
    }),
    fc.nat(1000),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const mapper = new FakeMapper()
      mapper.maxMappings = 1000
      const domain = new DmaDomain(mapper)
      const live: ReturnType<typeof domain.alloc>[] = []
      for (const s of steps) {
        if (typeof s === 'number') {
          live.splice(s % (live.length || 1), 1)[0]?.free()
          continue
        }
        const region = domain.alloc(s.sizeBytes, s)
        if (region.iova % BigInt(s.alignBytes) !== 0n || region.u8.length !== s.sizeBytes)
          throw new Error('misaligned or short')
        if (region.u8[0] !== 0 || region.u8[s.sizeBytes - 1] !== 0) throw new Error('not zeroed')
        region.u8[0] = region.u8[s.sizeBytes - 1] = 0xff
        const end = region.iova + BigInt(s.sizeBytes)
        if (live.some((o) => region.iova < o.iova + BigInt(o.sizeBytes) && o.iova < end))
          throw new Error('overlap')
        live.push(region)
      }
      for (const region of live) region.free()
      if (mapper.live.size > 1) throw new Error(`${mapper.live.size} mappings are left`)
      domain.destroy()
      if (mapper.live.size !== 0) throw new Error('the last arena is left')
    }),
    { numRuns: 60 },
  )
})
