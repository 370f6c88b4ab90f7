import { Accel } from '@uaccel/accel'
import { type Device, openDevice, openVfio, parseBdf, poll, type VfioTransport } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { parseDevices } from '@uaccel/lab'
import { DmaBuf, DmaBuffer, DmaDomain, dmaBufInfo } from '@uaccel/memory'
import { sys } from '@uaccel/sys'
import { leavesNothing } from '@uaccel/testkit'
import t from 'tap'
import { lanes } from './iommufd-lane.js'

/** Runs in the lab, with two edus and an nvme in groups of their own: what iommufd offers beyond mapping, and dma-bufs. */
const bdfs = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').map(({ bdf }) => parseBdf(bdf))
const [importer, peer, nvme] = bdfs as [string, string, string]
const skip = lanes().find(({ iommu }) => iommu === 'iommufd')!.skip

t.setTimeout(400_000)

/** A device under test, without a driver. */
interface Opened {
  readonly transport: VfioTransport
  readonly device: Device
}

async function open(bdf: string, iommu: 'iommufd' | 'type1' = 'iommufd'): Promise<Opened> {
  const transport = await openVfio(bdf, { iommu })
  const device = openDevice(transport)
  device.setDmaAddressBits(28) // edu's default
  await device.enable({ busMaster: true })
  return { transport, device }
}

async function close(...opened: readonly Opened[]): Promise<void> {
  for (const { device, transport } of opened) {
    await device.release()
    await transport.close()
  }
}

/** Where edu's own memory is, for its DMA engine (docs/specs/edu.rst of QEMU). */
const eduMemory = 0x40000n

/** Has edu move bytes between its own memory and an I/O address. */
async function move(
  { device }: Opened,
  direction: 'in' | 'out',
  iova: bigint,
  sizeBytes: number,
): Promise<void> {
  const bar = await device.mapMemory(0, { trapped: true })
  const [from, to] = direction === 'in' ? [iova, eduMemory] : [eduMemory, iova]
  bar.write64(0x80, from)
  bar.write64(0x88, to)
  bar.write64(0x90, BigInt(sizeBytes))
  bar.write64(0x98, direction === 'in' ? 1n : 3n)
  await poll(
    () => bar.read64(0x98),
    (command) => (command & 1n) === 0n,
    { timeoutMs: 5000, what: 'a transfer' },
  )
}

const fill = (bytes: Uint8Array, seed: number) => bytes.set(Uint8Array.from(bytes, (_, i) => i * 7 + seed))
const filled = (bytes: Uint8Array, seed: number) => bytes.every((byte, i) => byte === ((i * 7 + seed) & 0xff))

t.test('what the IOMMU is and can do', { skip }, async (t) => {
  await leavesNothing(t, async () => {
    const opened = await open(importer)
    const iommufd = opened.transport.iommufd!
    const info = iommufd.hardwareInfo()
    t.match(info, { type: 1, name: 'intel-vtd', dirtyTracking: false })
    t.equal(info.data.length, 24)
    const last = opened.transport.dma.ranges().at(-1)!.last
    // With page tables of the processor's format, half of that: the upper half is negative addresses.
    const { addressBits } = info.vtd!
    t.ok([addressBits, addressBits - 1].includes(last.toString(2).length), 'as wide as the ranges are')
    t.same(iommufd.capabilities(), { dirtyTracking: false, faultQueue: true })
    await close(opened)
  })
})

t.test('INFO names the interface to the IOMMU', { skip }, async (t) => {
  for (const iommu of ['iommufd', 'type1'] as const) {
    const accel = new Accel()
    accel.register(edu)
    await accel.add(await openVfio(importer, { iommu }))
    t.match(await accel.open(eduUapi, 'accel0').info(), { transport: 'vfio', iommu, tainted: '' })
    await accel.close()
  }
})

t.test('a device reaches its memory through a page table of its own', { skip }, async (t) => {
  await leavesNothing(t, async () => {
    const opened = await open(importer)
    const iommufd = opened.transport.iommufd!
    const before = opened.device.dma.alloc(2048)
    const table = iommufd.createPageTable()
    iommufd.attach(table)
    const after = opened.device.dma.alloc(2048, { alignBytes: 8192 })
    fill(before.u8, 1)
    await move(opened, 'in', before.iova, 2048)
    await move(opened, 'out', after.iova, 2048)
    t.ok(filled(after.u8, 1), 'what was mapped before, and after')
    t.throws(() => table.close(), { code: 'ERR_ACCEL_BUSY', message: /still uses it/ })
    iommufd.attach()
    table.close()
    t.throws(() => iommufd.createPageTable({ dirtyTracking: true }), {
      code: 'ERR_ACCEL_UNSUPPORTED',
      message: /dirty tracking/,
    })
    await close(opened)
  })
})

t.test('a mapping is copied into another space, and the device changes over', { skip }, async (t) => {
  await leavesNothing(t, async () => {
    const opened = await open(importer)
    const iommufd = opened.transport.iommufd!
    const [source, target] = [DmaBuffer.create(8192), DmaBuffer.create(8192)]
    fill(source.u8, 3)
    const mapping = opened.device.dma.map(source)
    const space = iommufd.createSpace()
    const domain = new DmaDomain(space.dma, { addressBits: 28 })
    const copy = domain.copy(mapping, { alignBytes: 1 << 20, access: 'read' })
    const result = domain.map(target)
    mapping.unmap()
    iommufd.attach(space)
    await move(opened, 'in', copy.iova, 4000)
    await move(opened, 'out', copy.iova, 4000) // not writable there
    await move(opened, 'out', result.iova, 4000)
    t.ok(filled(target.u8.subarray(0, 4000), 3))
    t.ok(filled(source.u8, 3))
    t.throws(() => space.close(), { code: 'ERR_ACCEL_BUSY' })
    const elsewhere = await open(peer)
    t.throws(() => elsewhere.device.dma.copy(copy), {
      code: 'ERR_ACCEL_INVALID_ARGUMENT',
      message: /context/,
    })
    await close(elsewhere)
    iommufd.attach()
    await move(opened, 'out', result.iova, 4000) // reaches nothing now
    domain.destroy()
    space.close()
    for (const buffer of [source, target]) buffer.destroy()
    await close(opened)
  })
})

t.test('an attach narrows what later mappings get, while others exist', { skip }, async (t) => {
  await leavesNothing(t, async () => {
    const opened = await open(importer)
    const iommufd = opened.transport.iommufd!
    const space = iommufd.createSpace()
    t.same(space.dma.ranges(), [{ first: 0n, last: 2n ** 64n - 1n }])
    const domain = new DmaDomain(space.dma)
    const buffers = Array.from({ length: 4 }, () => DmaBuffer.create(4096))
    const [near, far, msi, later] = buffers as [DmaBuffer, DmaBuffer, DmaBuffer, DmaBuffer]
    domain.map(near)
    const beyond = domain.map(far, { alignBytes: 2 ** 50 })
    t.equal(beyond.iova, 2n ** 50n)
    t.throws(() => iommufd.attach(space), { code: 'ERR_ACCEL_BUSY', message: /cannot translate/ })
    beyond.unmap()
    iommufd.attach(space)
    t.throws(() => domain.map(msi, { alignBytes: 2 ** 50 }), { code: 'ERR_ACCEL_NO_IOVA' })
    t.equal(domain.map(later).iova, 0x2000n)
    iommufd.attach()
    t.equal(domain.map(msi, { alignBytes: 2 ** 50 }).iova, 2n ** 50n, 'and a detach widens it')
    domain.destroy()
    for (const buffer of buffers) buffer.destroy()
    space.close()
    await close(opened)
  })
})

t.test('PASIDs: page tables are made for them, and a device without any is refused', { skip }, async (t) => {
  await leavesNothing(t, async () => {
    const opened = await open(importer)
    const iommufd = opened.transport.iommufd!
    const table = iommufd.createPageTable({ pasid: true })
    iommufd.attach(table)
    t.throws(() => iommufd.attachPasid(1, table), { code: 'ERR_ACCEL_UNSUPPORTED', message: /PASID 1/ })
    t.throws(() => iommufd.detachPasid(1), { code: 'ERR_ACCEL_NOT_FOUND' })
    await close(opened) // closes the table
  })
})

t.test('a fault queue is made, and a device without page requests is refused', { skip }, async (t) => {
  await leavesNothing(t, async () => {
    const opened = await open(importer)
    const iommufd = opened.transport.iommufd!
    const queue = iommufd.createFaultQueue()
    t.same(queue.read(), [])
    t.throws(
      () => queue.respond({ cookie: 5 }, true),
      { code: 'ERR_ACCEL_SYSTEM', message: /EINVAL/ },
      'nobody asked',
    )
    const table = iommufd.createPageTable({ faultQueue: queue })
    t.throws(() => iommufd.attach(table), { code: 'ERR_ACCEL_UNSUPPORTED', message: /page requests/ })
    const region = opened.device.dma.alloc(64)
    fill(region.u8, 5)
    await move(opened, 'in', region.iova, 64)
    region.u8.fill(0)
    await move(opened, 'out', region.iova, 64)
    t.ok(filled(region.u8, 5), 'it is attached as before')
    t.throws(() => queue.close(), { code: 'ERR_ACCEL_BUSY' })
    table.close()
    queue.close()
    iommufd.createFaultQueue() // goes with the device
    await close(opened)
  })
})

t.test('a device writes and reads the BAR of another one', { skip }, async (t) => {
  await leavesNothing(t, async () => {
    const [one, other] = [await open(importer), await open(peer)]
    const registers = await other.device.mapMemory(0, { trapped: true })
    const dmaBuf = other.device.exportBar(0)
    t.match(dmaBuf, { sizeBytes: 1 << 20, exporter: 'vfio_pci_core' })
    const bar = one.device.dma.importDmaBuf(dmaBuf)
    const memory = one.device.dma.alloc(64)
    // ID, and the register that answers the inverse of what was written.
    await move(one, 'in', bar.iova, 4)
    await move(one, 'out', memory.iova, 4)
    t.equal(memory.u32[0], 0x010000ed, 'the ID of the other device came over the bus')
    memory.u32[0] = 0x12345678
    await move(one, 'in', memory.iova, 4)
    await move(one, 'out', bar.iova + 4n, 4)
    t.equal(registers.read32(4), ~0x12345678 >>> 0)

    t.throws(() => dmaBuf.cpuAccess('read', () => 0), { code: 'ERR_ACCEL_UNSUPPORTED', message: /mapMemory/ })
    const part = other.device.exportBar(0, { offset: 0x1000, sizeBytes: 0x2000 })
    t.equal(one.device.dma.importDmaBuf(part, { access: 'write' }).sizeBytes, 0x2000)
    part.close()
    t.equal(one.device.dma.mappings, 2, 'closing it unmapped it: the BAR and the arena are left')
    for (const [options, code] of [
      [{ offset: 8, sizeBytes: 4096 }, 'ERR_ACCEL_OUT_OF_RANGE'],
      [{ sizeBytes: 100 }, 'ERR_ACCEL_OUT_OF_RANGE'],
      [{ sizeBytes: 2 << 20 }, 'ERR_ACCEL_OUT_OF_RANGE'],
    ] as const)
      t.throws(() => other.device.exportBar(0, options), { code })

    await close(other)
    t.equal(one.device.dma.mappings, 1, 'the import was unmapped before its device was closed')
    t.throws(() => dmaBuf.fd, { code: 'ERR_ACCEL_REVOKED' })
    await close(one)
  })
})

t.test('an import reaches nothing once the other device is gone from the bus', { skip }, async (t) => {
  await leavesNothing(t, async () => {
    const [one, other] = [await open(importer), await open(peer)]
    // As another process has it: a descriptor, and no word from the exporter.
    const foreign = () => DmaBuf.adopt(sys.dup(other.device.exportBar(0).fd))
    const dmaBuf = foreign()
    const bar = one.device.dma.importDmaBuf(dmaBuf)
    const registers = await other.device.mapMemory(0, { trapped: true })
    registers.write32(4, 0)
    const memory = one.device.dma.alloc(64)
    memory.u32[0] = 0x12345678
    await move(one, 'in', memory.iova, 4)
    other.device.config.write16(4, other.device.config.read16(4) & ~2)
    t.throws(() => one.device.dma.importDmaBuf(dmaBuf), { code: 'ERR_ACCEL_REVOKED' })
    t.throws(() => other.device.exportBar(0), { code: 'ERR_ACCEL_BUSY' })
    await other.device.enable({ busMaster: true })
    await move(one, 'out', bar.iova + 4n, 4)
    t.equal(registers.read32(4), 0xffff_ffff, 'what was mapped stays dead')
    const anew = one.device.dma.importDmaBuf(dmaBuf)
    await move(one, 'out', anew.iova + 4n, 4)
    t.equal(registers.read32(4), ~0x12345678 >>> 0)
    bar.unmap()

    const disk = await open(nvme)
    const exported = disk.device.exportBar(0)
    const import1 = one.device.dma.importDmaBuf(exported)
    await disk.device.reset()
    import1.unmap()
    const import2 = one.device.dma.importDmaBuf(exported)
    t.equal(import2.sizeBytes, exported.sizeBytes, 'after a reset it can be mapped again')
    await close(disk)

    await close(other)
    t.throws(() => one.device.dma.importDmaBuf(dmaBuf), { code: 'ERR_ACCEL_REVOKED' })
    dmaBuf.close()
    await close(one)
  })
})

t.test('host memory as a dma-buf', { skip }, async (t) => {
  await leavesNothing(t, async () => {
    const buffer = DmaBuffer.create(8192)
    const dmaBuf = buffer.exportDmaBuf()
    t.match(dmaBuf, { sizeBytes: 8192, exporter: 'udmabuf' })
    fill(buffer.u8, 9)
    t.ok(dmaBuf.cpuAccess('read', (bytes) => bytes.length === 8192 && filled(bytes, 9)))
    dmaBuf.cpuAccess('readwrite', (bytes) => bytes.fill(0x5a))
    t.ok(buffer.u8.every((byte) => byte === 0x5a))
    const opened = await open(importer)
    t.throws(() => opened.device.dma.importDmaBuf(dmaBuf), {
      code: 'ERR_ACCEL_UNSUPPORTED',
      message: /only a BAR that VFIO exported/,
    })
    t.equal(opened.device.dma.mappings, 0)
    const copy = DmaBuf.adopt(sys.dup(dmaBuf.fd))
    buffer.destroy()
    dmaBuf.close()
    t.ok(
      copy.cpuAccess('read', (bytes) => bytes.every((byte) => byte === 0x5a)),
      'it outlives the buffer',
    )
    copy.close()
    const large = DmaBuffer.create(65 << 20)
    t.throws(() => large.exportDmaBuf(), { code: 'ERR_ACCEL_OUT_OF_RANGE', message: /size_limit_mb/ })
    large.destroy()
    await close(opened)
  })
})

t.test('buffer objects as dma-bufs', { skip }, async (t) => {
  await leavesNothing(t, async () => {
    const accel = new Accel()
    accel.register(edu)
    await accel.add(await openVfio(importer, { iommu: 'iommufd' }))
    const [a, b] = [accel.open(eduUapi, 'accel0'), accel.open(eduUapi, 'accel0')]
    const { handle } = await a.common('boCreate', { sizeBytes: 8192n, flags: {} })
    const exported = async () => (await a.common('boExport', { handle, kind: 'dmaBuf', flags: {} })).fd!
    const [fd, again] = [await exported(), await exported()]
    t.equal(sys.identify(fd).id, sys.identify(again).id, 'one dma-buf, however often it is exported')
    t.match(dmaBufInfo(fd), { sizeBytes: 8192, exporter: 'udmabuf' })
    t.equal(
      (await a.common('boImport', { fd, flags: {} })).handle,
      handle,
      'its own comes back as what it is',
    )
    const there = await b.common('boImport', { fd: again, flags: {} })
    t.equal(there.sizeBytes, 8192n)
    const view = DmaBuf.adopt(fd)
    view.cpuAccess('readwrite', (bytes) => bytes.fill(0x3c))
    const { fd: memory } = await b.common('boMmap', { handle: there.handle, flags: {} })
    const seen = new Uint8Array(8192)
    sys.pread(memory!, seen, 0)
    sys.close(memory!)
    t.ok(
      seen.every((byte) => byte === 0x3c),
      'and is the same memory in another open',
    )

    const refused = (given: number, exporter: string) =>
      t.rejects(a.common('boImport', { fd: given, flags: {} }), {
        code: 'ERR_ACCEL_UNSUPPORTED',
        details: { exporter },
      })
    const buffer = DmaBuffer.create(4096)
    const foreign = buffer.exportDmaBuf()
    await refused(foreign.fd, 'udmabuf')
    foreign.close()
    buffer.destroy()
    const other = await open(peer)
    const bar = other.device.exportBar(0)
    await refused(bar.fd, 'vfio_pci_core')
    await close(other)

    await a.common('boDestroy', { handle })
    t.equal(
      (await a.common('boImport', { fd: again, flags: {} })).sizeBytes,
      8192n,
      'while another open has it',
    )
    await Promise.all([a.close(), b.close()])
    const late = accel.open(eduUapi, 'accel0')
    await t.rejects(
      late.common('boImport', { fd: again, flags: {} }),
      { code: 'ERR_ACCEL_UNSUPPORTED' },
      'a dma-buf that outlives its buffer object is memory, and no buffer object',
    )
    await late.close()
    view.close()
    sys.close(again)
    await accel.close()
  })
})

t.test('with type 1 a BAR is exported, and nothing is imported', { skip }, async (t) => {
  await leavesNothing(t, async () => {
    const opened = await open(importer, 'type1')
    const dmaBuf = opened.device.exportBar(0)
    t.equal(opened.transport.iommufd, undefined)
    t.throws(() => opened.device.dma.importDmaBuf(dmaBuf), {
      code: 'ERR_ACCEL_UNSUPPORTED',
      message: /iommufd/,
    })
    const other = await open(peer)
    t.equal(other.device.dma.importDmaBuf(dmaBuf).sizeBytes, 1 << 20, 'a device behind iommufd takes it')
    await close(opened, other)
  })
})
