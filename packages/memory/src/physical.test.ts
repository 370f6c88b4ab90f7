import { readFileSync } from 'node:fs'
import t from 'tap'
import { DmaBuffer } from './buffer.js'
import { DmaDomain } from './domain.js'
import { PhysicalMapper, type PhysicalMemory } from './physical.js'
import type { Iova } from './types.js'

/** Memory of huge pages that lie where a test says: pages of 8 KiB, so that a buffer of the test has several. */
class FakeMemory implements PhysicalMemory {
  hugePages: number | undefined = 8192
  /** Physical address of the page that a buffer's first, second, ... is; of the buffer that was seen first. */
  places: (bigint | undefined)[] = []
  #base: bigint | undefined

  hugePageBytes(): number | undefined {
    return this.hugePages
  }
  physicalAddress(address: bigint): bigint | undefined {
    this.#base ??= address
    return this.places[Number((address - this.#base) / 8192n)]
  }
}

const setUp = (addressBits: number) => {
  const memory = new FakeMemory()
  const mapper = new PhysicalMapper({ memory })
  return { memory, mapper, domain: new DmaDomain(mapper, { addressBits }) }
}

t.test('the I/O address is where the memory is', async (t) => {
  const { memory, mapper, domain } = setUp(64)
  // Frame numbers of more than 32 bits: the address is exact.
  const place = 0xf_ffff_ffff_e000n
  memory.places = [place, place + 8192n]
  const buffer = DmaBuffer.create(16_384)
  const mapping = domain.map(buffer)
  t.equal(mapping.iova, place)
  const twice = domain.map(buffer, { alignBytes: 8192 })
  t.equal(twice.iova, place, 'the same again is the same place')
  t.equal(domain.mappings, 2)
  const { address, fd } = buffer
  const request = {
    iova: place as Iova,
    sizeBytes: 16_384,
    access: 'readwrite',
    address,
    fd,
    fdOffset: 0,
  } as const
  mapper.map(request)
  for (const wrong of [
    { iova: (place - 4096n) as Iova },
    { iova: (place + 1n) as Iova },
    { sizeBytes: 0 },
    { sizeBytes: 100 },
  ])
    t.throws(() => mapper.map({ ...request, ...wrong }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  domain.destroy()
  t.equal(domain.mappings, 0)
  buffer.destroy()
})

t.test('memory that the device cannot use is refused, each with what to do', async (t) => {
  const { memory, domain } = setUp(32)
  const buffer = DmaBuffer.create(16_384)
  const refused = (places: (bigint | undefined)[], code: string, message: RegExp) => {
    memory.places = places
    t.throws(() => domain.map(buffer), { code, message })
    t.equal(domain.mappings, 0)
  }
  refused([0x2000n, 0x6000n], 'ERR_ACCEL_NO_IOVA', /do not follow each other/)
  refused([0x4000n, 0x2000n], 'ERR_ACCEL_NO_IOVA', /do not follow each other/)
  refused(
    [0x1_0000_0000n, 0x1_0000_2000n],
    'ERR_ACCEL_NO_IOVA',
    /0x100000000, and was wanted within 32 address bits/,
  )
  refused([0xffff_e000n, 0x1_0000_0000n], 'ERR_ACCEL_NO_IOVA', /within 32 address bits/)
  refused([0n, 0n], 'ERR_ACCEL_PERMISSION', /CAP_SYS_ADMIN/)
  refused([0x2000n, undefined], 'ERR_ACCEL_IO', /pagemap has no page/)
  memory.places = [0xffff_c000n, 0xffff_e000n]
  t.throws(() => domain.map(buffer, { alignBytes: 0x10000 }), {
    code: 'ERR_ACCEL_NO_IOVA',
    message: /aligned to 65536/,
  })
  t.equal(domain.map(buffer).iova, 0xffff_c000n, 'up to the last byte that it reaches')
  domain.destroy()
  buffer.destroy()
})

t.test('ordinary memory is refused', async (t) => {
  const domain = new DmaDomain(new PhysicalMapper())
  const buffer = DmaBuffer.create(8192)
  t.throws(() => domain.map(buffer), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
    message: /domain\.createBuffer\(sizeBytes\)/,
  })
  buffer.destroy()
})

t.test('a device that reaches no memory', async (t) => {
  const domain = new DmaDomain(new PhysicalMapper({ blocked: 'an IOMMU is in the way' }))
  const buffer = DmaBuffer.create(8192)
  t.throws(() => domain.map(buffer), { code: 'ERR_ACCEL_UNSUPPORTED', message: 'an IOMMU is in the way' })
  buffer.destroy()
})

t.test('more huge pages than there are', async (t) => {
  const count = (name: string) =>
    Number(readFileSync(`/sys/kernel/mm/hugepages/hugepages-2048kB/${name}`, 'latin1'))
  const [free, reserved] = [count('free_hugepages'), count('nr_hugepages')]
  // One for each 2 MiB of 2 GiB at most: what can be viewed at once.
  const wanted = Math.min(free + 1, 1024)
  const holders = Array.from({ length: Math.max(0, free - wanted + 1) }, () =>
    DmaBuffer.create(1, { hugePages: true }),
  )
  const more = `echo ${Math.max(64, reserved + wanted)} > /proc/sys/vm/nr_hugepages`
  const attempts = [
    () => DmaBuffer.create(wanted * 0x20_0000, { hugePages: true }),
    () => new DmaDomain(new PhysicalMapper()).createBuffer((wanted - 1) * 0x20_0000 + 1),
  ]
  for (const attempt of attempts) {
    t.throws(attempt, {
      code: 'ERR_ACCEL_NO_MEMORY',
      message: more,
      details: { wanted, reserved },
    })
  }
  for (const holder of holders) holder.destroy()
  t.equal(count('free_hugepages'), free, 'nothing is left of what failed')
})
