import { DmaBuffer, DmaDomain, type DmaMapper, type DmaMapRequest, type Iova } from '@uaccel/memory'
import t from 'tap'
import { type DmaReport, type DmaTester, testDma } from './dma-test.js'

/** An IOMMU of 40 bits and what it maps, as a device's copy sees it. */
class Bus {
  readonly #mapped = new Map<bigint, DmaBuffer>()
  readonly mapper: DmaMapper = {
    pageSizeBytes: 4096,
    maxMappings: Number.POSITIVE_INFINITY,
    locksMemory: false,
    ranges: () => [{ first: 0n, last: (1n << 40n) - 1n }],
    map: ({ iova, fd }: DmaMapRequest) => void this.#mapped.set(iova, DmaBuffer.import(fd)),
    unmap: (iova) => {
      this.#mapped.get(iova)?.destroy()
      this.#mapped.delete(iova)
    },
  }

  get mappings(): number {
    return this.#mapped.size
  }

  /** The byte at an address; 0 where nothing is mapped, as after a fault. */
  read(iova: bigint): number {
    const [bytes, at] = this.#find(iova)
    return bytes?.[at] ?? 0
  }

  write(iova: bigint, value: number): void {
    const [bytes, at] = this.#find(iova)
    if (bytes !== undefined) bytes[at] = value
  }

  #find(iova: bigint): [Uint8Array | undefined, number] {
    for (const [start, { u8 }] of this.#mapped)
      if (iova >= start && iova < start + BigInt(u8.length)) return [u8, Number(iova - start)]
    return [undefined, 0]
  }
}

/** A device that copies well, but for what `wrong` makes of it. */
function device(bus: Bus, wrong: Partial<Flaws> = {}): DmaTester {
  const { bits = 64, extra = 0, skipAfterPage = false, dirtySource = false, misses = () => false } = wrong
  const on = (iova: bigint) => iova & ((1n << BigInt(bits)) - 1n)
  return {
    maxBytes: 5000,
    async copy(from, to, sizeBytes) {
      if (wrong.fails?.(to)) throw new Error('the engine stopped')
      for (let i = 0; i < sizeBytes + extra; i++) {
        const [source, target] = [from + BigInt(i), to + BigInt(i)]
        if (skipAfterPage && (on(target) & 0xfffn) < BigInt(i)) break
        if (!misses(target)) bus.write(on(target), bus.read(on(source)))
      }
      if (dirtySource) bus.write(on(from), 0x42)
    },
  }
}

interface Flaws {
  bits: number
  extra: number
  skipAfterPage: boolean
  dirtySource: boolean
  misses: (iova: bigint) => boolean
  fails: (iova: bigint) => boolean
}

async function run(
  wrong?: Partial<Flaws>,
  tester?: Partial<DmaTester>,
): Promise<{ report: DmaReport; bus: Bus }> {
  const bus = new Bus()
  const domain = new DmaDomain(bus.mapper)
  const report = await testDma({ ...device(bus, wrong), ...tester }, domain)
  if (!wrong?.fails) t.equal(bus.mappings, 0, 'nothing stays mapped')
  domain.destroy()
  return { report, bus }
}

t.test('a device that copies well, of all address bits', async (t) => {
  const { report } = await run()
  t.notOk(report.fault)
  t.ok(report.copies > 40 && report.bytes > 20_000)
  t.same(report.width, { bits: 40, exact: false }, 'what the IOMMU translates')
})

t.test('the first address bit that is dropped', async (t) => {
  for (const bits of [20, 28, 32, 39]) {
    const { width } = (await run({ bits })).report
    t.match(width, { bits, exact: true, beyond: { access: 'read', outcome: 'aliased' } })
    t.equal(width!.beyond!.alias, width!.beyond!.iova - (1n << BigInt(bits)))
  }
  const lost = await run({ misses: (iova) => iova >= 1n << 30n })
  t.match(lost.report.width, { bits: 30, exact: true, beyond: { access: 'write', outcome: 'lost' } })
  const failed = await run({ fails: (iova) => iova >= 1n << 30n })
  t.match(failed.report.width, {
    bits: 30,
    exact: true,
    beyond: { outcome: 'failed', message: 'the engine stopped' },
  })
})

t.test('wrong bytes are found where they are', async (t) => {
  t.match((await run({ extra: 1 })).report.fault, { where: 'outside', sizeBytes: 1, at: 1 })
  t.match((await run({ dirtySource: true })).report.fault, { where: 'source', at: 0, found: 0x42 })
  const { fault } = (await run({ skipAfterPage: true })).report
  t.match(fault, { where: 'inside' })
  t.equal((fault!.to + BigInt(fault!.at!)) % 4096n, 0n, 'at the page that it did not cross')
  t.match((await run({ fails: () => true })).report, {
    copies: 1,
    fault: { where: 'failed', message: 'the engine stopped' },
  })
})

t.test('alignment, limits and an end', async (t) => {
  const seen: [bigint, bigint, number][] = []
  const bus = new Bus()
  const { copy } = device(bus)
  const domain = new DmaDomain(bus.mapper)
  const aligned: DmaTester = {
    maxBytes: 1000,
    alignBytes: 16,
    copy(from, to, sizeBytes, context) {
      seen.push([from, to, sizeBytes])
      return copy(from, to, sizeBytes, context)
    },
  }
  t.notOk((await testDma(aligned, domain)).fault)
  for (const [from, to, size] of seen) {
    t.ok(from % 16n === 0n && to % 16n === 0n && size % 16 === 0 && size > 0 && size <= 1000)
  }
  for (const bad of [
    { maxBytes: 0 },
    { alignBytes: 0 },
    { maxBytes: 8, alignBytes: 16 },
    { maxBytes: Number.NaN },
    // addresses would not be multiples of these
    { alignBytes: 3 },
    { alignBytes: 2.5 },
    { maxBytes: 1 << 16, alignBytes: 8192 },
  ])
    await t.rejects(testDma({ ...aligned, ...bad }, domain), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  const stop = new AbortController()
  const onCopy = (done: number) => done === 3 && stop.abort(new Error('enough'))
  await t.rejects(
    testDma(aligned, domain, { signal: stop.signal, onCopy: (done) => void onCopy(done) }),
    /enough/,
  )
  domain.destroy()
})

t.test('without an IOMMU no addresses are tried', async (t) => {
  const bus = new Bus()
  const domain = new DmaDomain({ ...bus.mapper, locate: () => 0x100_0000n as Iova })
  t.equal(domain.translates, false)
  domain.destroy()
})
