import { DmaBuffer, DmaDomain } from '@uaccel/memory'
import t from 'tap'
import { FakeKernel, type FakeKernelOptions } from './fake-kernel.test.support.js'
import { bdf, open, openFds, opening, tree } from './vfio.test.support.js'

t.teardown(tree.remove)

async function opened(options: FakeKernelOptions = {}) {
  const kernel = new FakeKernel(options)
  const transport = await open(kernel, bdf, { iommu: 'iommufd' })
  return { kernel, transport, iommufd: transport.iommufd!, log: () => kernel.log.splice(0) }
}

/** struct iommu_hw_info_vtd: flags, reserved, u64 cap_reg, u64 ecap_reg. */
function vtd(capability: bigint, extended: bigint): Buffer {
  const data = Buffer.alloc(24)
  data.writeBigUInt64LE(capability, 8)
  data.writeBigUInt64LE(extended, 16)
  return data
}

t.test('the registers of an Intel IOMMU', async (t) => {
  // As QEMU 11.1 gives them, in scalable mode with first-stage translation, 20 PASID bits and device IOTLB.
  const data = vtd(0x81_d200_8c22_2f06_86n, 0x8d9a_20f0_0f4en)
  const { iommufd, transport } = await opened({ hardware: { type: 1, data } })
  t.same(iommufd.hardwareInfo(), {
    type: 1,
    name: 'intel-vtd',
    data: Uint8Array.from(data),
    dirtyTracking: false,
    vtd: {
      capability: 0x81_d200_8c22_2f06_86n,
      extendedCapability: 0x8d9a_20f0_0f4en,
      addressBits: 48,
      largePageBytes: [2 ** 21, 2 ** 30],
      scalableMode: true,
      firstStage: true,
      secondStage: false,
      nested: false,
      pasidBits: 20,
      pageRequests: true,
      deviceTlb: true,
      coherent: false,
      dirtyTracking: false,
    },
  })
  await transport.close()
  const plain = await opened({ hardware: { type: 1, data: vtd(0xd2_008c_2226_0286n, 0xf0_0f4an) } })
  t.match(plain.iommufd.hardwareInfo().vtd, { addressBits: 39, scalableMode: false, pasidBits: undefined })
  await plain.transport.close()
})

t.test('other hardware is told of as it is', async (t) => {
  for (const [type, name, data] of [
    [0, 'none', Buffer.alloc(0)],
    [4, 'amd', Buffer.from('0123456789abcdef', 'hex')],
    [99, undefined, Buffer.alloc(1000, 7)],
    [1, 'intel-vtd', Buffer.alloc(8)],
  ] as const) {
    const { iommufd, transport } = await opened({ hardware: { type, data } })
    t.same(iommufd.hardwareInfo(), { type, name, data: Uint8Array.from(data), dirtyTracking: false })
    await transport.close()
  }
  const { iommufd, transport } = await opened({ hardware: { type: 9, data: Buffer.alloc(1 << 20) } })
  t.equal(iommufd.hardwareInfo().data.length, 256, 'an absurd length is not believed')
  await transport.close()
})

t.test('what can work is asked for', async (t) => {
  for (const [options, capabilities] of [
    [{}, { dirtyTracking: false, faultQueue: true }],
    [{ faultQueues: false }, { dirtyTracking: false, faultQueue: false }],
    [
      { pasidBits: 20, dirtyTracking: true },
      { pasidBits: 20, dirtyTracking: true, faultQueue: true },
    ],
  ] as const) {
    const { iommufd, transport, kernel } = await opened(options)
    t.same(iommufd.capabilities(), capabilities)
    t.equal(kernel.iommufd.queues.size, 0, 'the queue that was made to find out is gone')
    await transport.close()
    t.equal(kernel.nodes.size, 0)
  }
})

t.test('page tables: made, attached, closed', async (t) => {
  const { iommufd, transport, kernel, log } = await opened({ dirtyTracking: true })
  t.same(log().slice(0, opening.iommufd.length), opening.iommufd)
  const table = iommufd.createPageTable({ dirtyTracking: true })
  t.same([...kernel.iommufd.tables.values()], [{ space: 7, flags: 2, queue: 0 }])
  iommufd.attach(table)
  t.throws(() => table.close(), { code: 'ERR_ACCEL_BUSY', message: /a page table was to be closed/ })
  table.setDirtyTracking(true)
  t.same(table.takeDirtyPages(0x1000n, 65 * 4096), Buffer.from([5, ...Array(15).fill(0)]))
  table.setDirtyTracking(false)
  iommufd.attach()
  table.close()
  t.same(log(), [
    'page table 8 flags 2',
    'attach',
    'dirty tracking 1',
    'dirty pages at 0x1000',
    'dirty tracking 0',
    'attach',
    'destroy 8',
  ])
  const plain = iommufd.createPageTable()
  t.throws(() => plain.setDirtyTracking(true), {
    code: 'ERR_ACCEL_UNSUPPORTED',
    message: /dirtyTracking: true/,
  })
  t.throws(() => plain.takeDirtyPages(0n, 4096), { code: 'ERR_ACCEL_UNSUPPORTED' })
  await transport.close()
  t.same(log().slice(-4), ['detach', 'close device', 'destroy 9', 'close iommu'], 'it goes with the device')
  t.throws(() => plain.setDirtyTracking(true), { code: 'ERR_ACCEL_CLOSED' })
  t.doesNotThrow(() => plain.close())
  const old = await opened()
  t.throws(() => old.iommufd.createPageTable({ dirtyTracking: true, pasid: true }), {
    code: 'ERR_ACCEL_UNSUPPORTED',
    message: /no page table for PASIDs, with dirty tracking/,
  })
  await old.transport.close()
})

t.test('PASIDs', async (t) => {
  const { iommufd, transport, kernel, log } = await opened({ pasidBits: 4 })
  const space = iommufd.createSpace()
  const tagged = iommufd.createPageTable({ pasid: true }, space)
  t.throws(() => iommufd.attachPasid(3, tagged), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
    message: /attach\(createPageTable/,
  })
  iommufd.attach(iommufd.createPageTable({ pasid: true }))
  t.throws(() => iommufd.attachPasid(3, iommufd.createPageTable()), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  for (const pasid of [0, -1, 1.5, 16, Number.NaN])
    t.throws(() => iommufd.attachPasid(pasid, tagged), { code: 'ERR_ACCEL_OUT_OF_RANGE', message: /1 to 15/ })
  log()
  t.equal(space.dma.ranges().length, 1)
  iommufd.attachPasid(3, tagged)
  t.equal(space.dma.ranges().length, 2, 'the space is narrowed')
  iommufd.attachPasid(15, tagged)
  iommufd.detachPasid(3)
  t.throws(() => iommufd.detachPasid(3), { code: 'ERR_ACCEL_NOT_FOUND' })
  t.same(log(), ['attach pasid 3', 'attach pasid 15', 'detach pasid 3'])
  await transport.close()
  t.match(
    log().filter((line) => /detach|close dev/.test(line)),
    ['detach pasid 15', 'detach', 'close device'],
  )
  t.equal(
    kernel.iommufd.tables.size + kernel.iommufd.spaces.size,
    1,
    'the space of the group goes with the context',
  )
  const without = await opened()
  const table = without.iommufd.createPageTable({ pasid: true })
  t.throws(() => without.iommufd.attachPasid(1, table), { code: 'ERR_ACCEL_UNSUPPORTED', message: /6\.15/ })
  await without.transport.close()
})

t.test('page requests are read and answered', async (t) => {
  const before = openFds()
  const { iommufd, transport, kernel } = await opened({ pageRequests: true })
  const queue = iommufd.createFaultQueue()
  const table = iommufd.createPageTable({ faultQueue: queue })
  iommufd.attach(table)
  t.match([...kernel.iommufd.tables.values()], [{ flags: 4, queue: 8 }])
  t.same(queue.read(), [])
  // struct iommu_hwpt_pgfault: flags, dev_id, pasid, grpid, perm, reserved, u64 addr, length, cookie.
  const records = Buffer.alloc(80)
  for (const [at, value] of [
    [0, 0],
    [4, 77],
    [8, 99],
    [12, 6],
    [16, 1],
    [36, 41],
    [40, 3],
    [44, 77],
    [48, 5],
    [52, 6],
    [56, 14],
    [76, 41],
  ])
    records.writeUInt32LE(value!, at)
  records.writeBigUInt64LE(0x7000n, 24)
  records.writeBigUInt64LE(0xffff_ffff_ffff_f000n, 64)
  kernel.iommufd.queueOf(queue.fd).pending = records
  const requests = queue.read()
  t.same(requests, [
    {
      device: iommufd.id,
      address: 0x7000n,
      access: { read: true, write: false, execute: false, privileged: false },
      group: 6,
      last: false,
      cookie: 41,
    },
    {
      device: iommufd.id,
      pasid: 5,
      address: 0xffff_ffff_ffff_f000n,
      access: { read: false, write: true, execute: true, privileged: true },
      group: 6,
      last: true,
      cookie: 41,
    },
  ])
  t.same(queue.read(), [])
  kernel.iommufd.queueOf(queue.fd).pending = Buffer.alloc(2048 * 40)
  t.equal(queue.read().length, 2048, 'a group as large as a device can make it')
  queue.respond(requests[1]!, true)
  queue.respond({ cookie: 42 }, false)
  t.same(kernel.iommufd.queueOf(queue.fd).answers, ['2900000000000000', '2a00000001000000'])
  await transport.close()
  t.equal(kernel.nodes.size, 0)
  t.equal(openFds(), before)
})

t.test('a fault queue that cannot be had, and one that the device does not fill', async (t) => {
  const old = await opened({ faultQueues: false })
  t.throws(() => old.iommufd.createFaultQueue(), { code: 'ERR_ACCEL_UNSUPPORTED', message: /6\.10/ })
  await old.transport.close()
  const { iommufd, transport, log } = await opened()
  const queue = iommufd.createFaultQueue()
  const table = iommufd.createPageTable({ faultQueue: queue })
  log()
  t.throws(() => iommufd.attach(table), { code: 'ERR_ACCEL_UNSUPPORTED', message: /page requests/ })
  t.same(log(), ['detach', 'attach'], 'as before')
  t.throws(() => queue.close(), { code: 'ERR_ACCEL_BUSY' })
  table.close()
  queue.close()
  await transport.close()
})

t.test('mappings are copied within a context', async (t) => {
  const { iommufd, transport, kernel, log } = await opened()
  const first = new DmaDomain(transport.dma)
  const space = iommufd.createSpace()
  const second = new DmaDomain(space.dma)
  const buffer = DmaBuffer.create(8192)
  second.map(DmaBuffer.create(4096))
  const mapping = first.map(buffer)
  log()
  const copy = second.copy(mapping, { access: 'read' })
  t.same(log(), ['copy flags 5'])
  t.equal(kernel.iommufd.spaces.get(8)!.mappings.get(copy.iova), 8192n)
  const other = await opened()
  t.throws(() => new DmaDomain(other.transport.dma).copy(mapping), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
    message: /another iommufd context/,
  })
  kernel.mappings.clear() // as if it had not been mapped
  t.throws(() => second.copy(mapping), { code: 'ERR_ACCEL_NOT_FOUND' })
  t.equal(second.mappings, 2)
  second.destroy()
  space.close()
  t.throws(() => space.dma.ranges(), { code: 'ERR_ACCEL_NO_DEVICE', message: /space was closed/ })
  await other.transport.close()
  await transport.close()
  t.throws(
    () => transport.dma.ranges(),
    { code: 'ERR_ACCEL_NO_DEVICE' },
    'no request goes to a closed descriptor',
  )
})

t.test('what an attach cannot translate is in its way; what it can narrows later mappings', async (t) => {
  const { iommufd, transport, log } = await opened()
  const space = iommufd.createSpace()
  const domain = new DmaDomain(space.dma)
  const [buffer, other] = [DmaBuffer.create(4096), DmaBuffer.create(4096)]
  const far = domain.map(buffer, { alignBytes: 2 ** 45 })
  domain.map(other)
  log()
  t.throws(() => iommufd.attach(space), {
    code: 'ERR_ACCEL_BUSY',
    message: /attach it before mapping, or unmap/,
  })
  t.same(log(), [], 'the device was left as it was')
  far.unmap()
  iommufd.attach(space)
  t.throws(() => domain.map(buffer, { alignBytes: 2 ** 45 }), { code: 'ERR_ACCEL_NO_IOVA' })
  iommufd.attach()
  t.equal(domain.map(buffer, { alignBytes: 2 ** 45 }).iova, 2n ** 45n)
  domain.destroy()
  await transport.close()
})

t.test('what was closed is not used, as the kernel gives its number to the next', async (t) => {
  const { iommufd, transport, kernel, log } = await opened()
  t.throws(() => iommufd.space.close(), { code: 'ERR_ACCEL_BUSY', message: /the device's own/ })
  const space = iommufd.createSpace()
  const domain = new DmaDomain(space.dma)
  domain.map(DmaBuffer.create(4096))
  const queue = iommufd.createFaultQueue()
  const table = iommufd.createPageTable({ faultQueue: queue }, space)
  for (const used of [queue, space]) t.throws(() => used.close(), { code: 'ERR_ACCEL_BUSY' })
  t.same(queue.read(), [], 'a queue that is refused its end works on')
  log()
  for (const each of [table, space, queue, table, space, queue]) each.close()
  t.same(log(), ['destroy 10', 'destroy 8', 'close queue', 'destroy 9'])
  t.throws(() => iommufd.attach(table), { code: 'ERR_ACCEL_CLOSED' })
  t.throws(() => iommufd.attach(space), { code: 'ERR_ACCEL_CLOSED' })
  t.same(log(), [], 'the device was not touched')
  t.throws(() => iommufd.createPageTable({}, space), { code: 'ERR_ACCEL_CLOSED' })
  t.throws(() => iommufd.createPageTable({ faultQueue: queue }), { code: 'ERR_ACCEL_CLOSED' })
  t.throws(() => queue.read(), { code: 'ERR_ACCEL_CLOSED' })
  t.throws(() => queue.respond({ cookie: 1 }, false), { code: 'ERR_ACCEL_CLOSED' })
  t.throws(() => domain.map(DmaBuffer.create(4096)), { code: 'ERR_ACCEL_NO_DEVICE' })
  t.doesNotThrow(() => domain.destroy(), 'its mappings went with it')
  t.same([...kernel.iommufd.attachments.values()], [new Map([[0, 7]])], 'the device is attached as it was')
  await transport.close()
})

t.test('with type 1 there is none of this', async (t) => {
  const transport = await open(new FakeKernel())
  t.equal(transport.iommufd, undefined)
  t.equal(transport.dma.copy, undefined)
  t.equal(transport.dma.mapDmaBuf, undefined)
  await transport.close()
})

t.test('objects of another context are refused: their numbers mean something else here', async (t) => {
  const kernel = new FakeKernel({ dirtyTracking: true })
  const transport = await open(kernel, bdf, { iommu: 'iommufd' })
  const other = await open(kernel, '0000:00:0b.0', { iommu: 'iommufd' })
  const { iommufd } = transport
  const foreign = other.iommufd!
  const refused = { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /another iommufd context/ }
  const faultQueue = foreign.createFaultQueue()
  kernel.log.length = 0
  t.throws(() => iommufd!.attach(foreign.space), refused)
  t.throws(() => iommufd!.createPageTable({}, foreign.space), refused)
  t.throws(() => iommufd!.createPageTable({ faultQueue }), refused)
  t.same(kernel.log, [], 'and the kernel was not asked')
  await transport.close()
  await other.close()
})

t.test(
  'after its transport is closed a device touches nothing: its descriptor may be somebody else',
  async (t) => {
    const { kernel, transport, iommufd } = await opened({ pasidBits: 20 })
    const neighbour = await open(kernel, '0000:00:06.0', { iommu: 'iommufd' }) // the context stays
    const table = iommufd.createPageTable({ pasid: true })
    await transport.close()
    kernel.log.length = 0
    const gone = { code: 'ERR_ACCEL_NO_DEVICE' }
    t.throws(() => iommufd.attach(), gone)
    t.throws(() => iommufd.attachPasid(1, table), gone)
    t.throws(() => iommufd.hardwareInfo(), gone)
    t.throws(() => iommufd.createSpace(), gone)
    t.throws(() => iommufd.createPageTable(), gone)
    t.throws(() => iommufd.createFaultQueue(), gone)
    t.same(kernel.log, [])
    await neighbour.close()
  },
)

t.test('a fault queue that a neighbour still uses when its device closes goes with the group', async (t) => {
  const fds = openFds()
  const { kernel, transport, iommufd } = await opened({ pageRequests: true })
  const neighbour = await open(kernel, '0000:00:06.0', { iommu: 'iommufd' })
  const queue = iommufd.createFaultQueue()
  neighbour.iommufd!.createPageTable({ faultQueue: queue })
  await transport.close()
  t.ok(kernel.nodes.has(queue.fd), 'it is in use')
  await neighbour.close()
  t.equal(kernel.nodes.size, 0)
  t.equal(openFds(), fds)
})

t.test('dirty pages: what the kernel would write beyond the bitmap is refused', async (t) => {
  const { transport, iommufd } = await opened({ dirtyTracking: true })
  const table = iommufd.createPageTable({ dirtyTracking: true })
  for (const [sizeBytes, pageSizeBytes] of [
    [64 * 12_288, 12_288], // the kernel takes its lowest bit for the page size
    [4096, 0],
    [0, 4096],
    [4097, 4096],
    [Number.NaN, 4096],
    [2 ** 60, 4096],
  ])
    t.throws(() => table.takeDirtyPages(0n, sizeBytes, pageSizeBytes), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  await transport.close()
})
