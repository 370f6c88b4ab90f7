import { type AccessWidth, irqTypes, PciRegion, type Transport } from '@uaccel/core'
import { DmaBuffer, type DmaMapRequest, type Iova } from '@uaccel/memory'
import { createSealedMemory, EventFd, Mapping, sys } from '@uaccel/sys'
import type { Test } from 'tap'
import { leavesNothing } from './resources.js'

/** What the suite must know of the device behind the transport. */
export interface TransportContractOptions {
  readonly vendor: number
  readonly device: number
  /** A register with a known value, to be read with that width. */
  readonly register: {
    readonly region: number
    readonly offset: number
    readonly width: AccessWidth
    readonly value: number
  }
}

/** Offset of the command register and its memory and bus-master bits (PCI 3.0, 6.2.2). */
const COMMAND = 0x04
const MEMORY_AND_BUS_MASTER = 0b110

/** What every transport must do, whatever device is behind it. `open` connects anew; the suite closes what it gets. */
export function transportContract(
  t: Test,
  open: () => Promise<Transport>,
  { vendor, device, register }: TransportContractOptions,
): void {
  const test = (name: string, work: (t: Test, transport: Transport) => Promise<void> | void) =>
    t.test(name, async (t) => {
      const transport = await open()
      try {
        await work(t, transport)
      } finally {
        await transport.close()
      }
    })
  const refuses = (t: Test, code: string, name: string, call: () => unknown) => t.throws(call, { code }, name)

  test('regions and config space', async (t, transport) => {
    t.ok(transport.identity.address, 'an address')
    t.ok(transport.regions.length > PciRegion.CONFIG)
    for (const [index, region] of transport.regions.entries()) {
      t.equal(region.index, index)
      let end = 0
      for (const { offset, sizeBytes } of region.mappable) {
        t.ok(offset >= end && sizeBytes > 0 && offset % 4096 === 0, 'areas ascend, on pages')
        end = offset + sizeBytes
      }
      t.ok(end <= Math.ceil(region.sizeBytes / 4096) * 4096, 'areas lie within the region')
    }
    const config = transport.regions[PciRegion.CONFIG]
    t.ok(config.readable && config.sizeBytes >= 256)
    t.equal(transport.read(PciRegion.CONFIG, 0, 2), vendor)
    t.equal(transport.read(PciRegion.CONFIG, 2, 2), device)
    t.equal(transport.read(PciRegion.CONFIG, 0, 4), ((device << 16) | vendor) >>> 0)
    const bytes = Buffer.alloc(64)
    transport.readBytes(PciRegion.CONFIG, 0, bytes)
    t.equal(bytes.readUInt16LE(0), vendor)
    transport.write(PciRegion.CONFIG, COMMAND, 2, MEMORY_AND_BUS_MASTER)
    t.equal(transport.read(PciRegion.CONFIG, COMMAND, 2) & MEMORY_AND_BUS_MASTER, MEMORY_AND_BUS_MASTER)
    t.equal(transport.read(register.region, register.offset, register.width), register.value)
  })

  test('accesses beyond a region are refused', async (t, transport) => {
    transport.write(PciRegion.CONFIG, COMMAND, 2, MEMORY_AND_BUS_MASTER)
    const lacking = transport.regions.findIndex(({ sizeBytes }) => sizeBytes === 0)
    const places = [register.region, PciRegion.CONFIG].flatMap((region) => {
      const { sizeBytes } = transport.regions[region]
      return [sizeBytes, sizeBytes - 3, -4, 2 ** 40].map((offset) => [region, offset] as const)
    })
    for (const [region, offset] of [...places, [lacking, 0], [99, 0], [-1, 0]] as const) {
      const at = `region ${region} at ${offset}`
      const refused = (what: string, call: () => unknown) =>
        refuses(t, 'ERR_ACCEL_OUT_OF_RANGE', `${what} ${at}`, call)
      refused('read', () => transport.read(region, offset, 4))
      refused('write', () => transport.write(region, offset, 4, 0))
      refused('read64', () => transport.read64(region, offset))
      refused('write64', () => transport.write64(region, offset, 0n))
      refused('readBytes', () => transport.readBytes(region, offset, new Uint8Array(4)))
      refused('writeBytes', () => transport.writeBytes(region, offset, new Uint8Array(4)))
      refused('map', () =>
        transport.map(region, { offset: Math.trunc(offset / 4096) * 4096, sizeBytes: 2 ** 30 }),
      )
    }
    t.equal(
      transport.read(register.region, register.offset, register.width),
      register.value,
      'and do no harm',
    )
  })

  test('what may be mapped is mapped', async (t, transport) => {
    transport.write(PciRegion.CONFIG, COMMAND, 2, MEMORY_AND_BUS_MASTER)
    for (const { index, mappable } of transport.regions) {
      for (const area of mappable) {
        const mapping = transport.map(index, area)
        t.equal(mapping.sizeBytes, area.sizeBytes)
        mapping.revoke()
        t.throws(() => mapping.window.u32[0], { code: 'ERR_ACCEL_REVOKED' })
        if (area.sizeBytes < 8192) continue
        transport.map(index, { offset: area.offset + 4096, sizeBytes: 4096 }).revoke()
      }
    }
  })

  test('interrupts are armed and taken back', async (t, transport) => {
    const event = new EventFd()
    try {
      for (const type of irqTypes) {
        const { count } = transport.irqs[type]
        t.equal(transport.irqs[type].type, type)
        if (count === 0) continue
        if (type === 'err' || type === 'req') {
          refuses(t, 'ERR_ACCEL_BUSY', `${type} is the transport's own`, () =>
            transport.setIrqs(type, [event.fd]),
          )
          transport.disableIrqs(type) // no harm
          continue
        }
        transport.setIrqs(type, [event.fd])
        transport.setIrqs(type, [-1])
        transport.disableIrqs(type)
        transport.disableIrqs(type)
        const tooMany = Array.from({ length: count + 1 }, () => event.fd)
        refuses(t, 'ERR_ACCEL_OUT_OF_RANGE', `${count + 1} of ${type}`, () =>
          transport.setIrqs(type, tooMany),
        )
        transport.disableIrqs(type)
      }
      const armed = irqTypes.find(
        (type) => transport.irqs[type].count > 0 && type !== 'err' && type !== 'req',
      )
      if (armed) transport.setIrqs(armed, [event.fd]) // left for close
    } finally {
      await transport.close()
      event.close()
    }
  })

  test('memory is mapped for the device, and nothing else is', async (t, transport) => {
    const { dma } = transport
    const ranges = dma.ranges()
    t.ok(ranges.length > 0)
    for (const [i, { first, last }] of ranges.entries()) {
      t.ok(first <= last && (i === 0 || first > ranges[i - 1].last), 'ranges ascend')
    }
    if (dma.locate !== undefined) return
    const page = dma.pageSizeBytes
    const sizeBytes = 4 * page
    const { fd } = createSealedMemory('transport-contract', sizeBytes)
    const memory = Mapping.map({ fd, offset: 0, sizeBytes })
    const base = BigInt(Math.max(0x10_0000, page))
    const request = (iova: bigint, pages: number, more: Partial<DmaMapRequest> = {}): DmaMapRequest => ({
      iova: iova as Iova,
      sizeBytes: pages * page,
      access: 'readwrite',
      address: memory.address,
      fd,
      fdOffset: 0,
      ...more,
    })
    try {
      dma.map(request(base, 2))
      // With which code depends on who notices: the transport, the kernel or the peer.
      const refused = (name: string, call: () => unknown) =>
        t.throws(
          call,
          {
            name: 'AccelError',
            code: /^ERR_ACCEL_(BUSY|INVALID_ARGUMENT|OUT_OF_RANGE|NOT_FOUND|IO|SYSTEM)$/,
          },
          name,
        )
      refused('the same again', () => dma.map(request(base, 2)))
      refused('one that overlaps', () => dma.map(request(base + BigInt(page), 2)))
      const free = base + 0x10_0000n
      refused('an address within a page', () => dma.map(request(free + 16n, 1)))
      refused('part of a page', () => dma.map(request(free, 1, { sizeBytes: 100 })))
      refused('nothing', () => dma.map(request(free, 0)))
      const beyond = ranges[ranges.length - 1].last + 1n
      if (beyond < 1n << 64n) refused('beyond the aperture', () => dma.map(request(beyond, 1)))
      dma.unmap(base as Iova, 2 * page)
      dma.map(request(base, 4))
      dma.unmap(base as Iova, 4 * page)
      dma.map(request(base, 1)) // left for close
    } finally {
      await transport.close()
      memory.revoke()
      sys.close(fd)
    }
  })

  test('without an IOMMU memory is where it is, in huge pages', async (t, { dma }) => {
    if (dma.locate === undefined) return
    const [ordinary, huge] = [false, true].map((hugePages) => DmaBuffer.create(4096, { hugePages }))
    try {
      refuses(t, 'ERR_ACCEL_INVALID_ARGUMENT', 'ordinary memory', () => dma.locate!(ordinary))
      const iova = dma.locate(huge)
      t.equal(iova % BigInt(huge.sizeBytes), 0n)
      const { address, fd, sizeBytes } = huge
      const request = { iova, sizeBytes, access: 'readwrite', address, fd, fdOffset: 0 } as const
      dma.map(request)
      dma.unmap(iova, sizeBytes)
      refuses(t, 'ERR_ACCEL_INVALID_ARGUMENT', 'another address', () =>
        dma.map({ ...request, iova: (iova + 0x20_0000n) as Iova }),
      )
    } finally {
      ordinary.destroy()
      huge.destroy()
    }
  })

  test('an interrupt that is fired without the device arrives where it is armed', async (t, transport) => {
    if (transport.triggerIrq === undefined) return
    const type = (['msix', 'msi', 'intx'] as const).find((kind) => transport.irqs[kind].count > 0)
    if (type === undefined) return
    refuses(t, 'ERR_ACCEL_INVALID_ARGUMENT', 'one that is not armed', () => transport.triggerIrq!(type, 0))
    const event = new EventFd()
    t.teardown(() => event.close())
    transport.setIrqs(type, [event.fd])
    event.drain()
    for (let i = 0; i < 3; i++) transport.triggerIrq(type, 0)
    t.equal(event.waitSync(1000, 0) + event.drain(), 3)
    transport.disableIrqs(type)
    refuses(t, 'ERR_ACCEL_INVALID_ARGUMENT', 'after it was disarmed', () => transport.triggerIrq!(type, 0))
  })

  test('a closed transport answers that the device is gone', async (t, transport) => {
    let lost = 0
    transport.onLost(() => lost++)
    await transport.close()
    await transport.close()
    const event = new EventFd()
    t.teardown(() => event.close())
    const calls: Record<string, () => unknown> = {
      read: () => transport.read(register.region, register.offset, register.width),
      write: () => transport.write(PciRegion.CONFIG, COMMAND, 2, 0),
      read64: () => transport.read64(register.region, 0x80),
      readBytes: () => transport.readBytes(PciRegion.CONFIG, 0, new Uint8Array(4)),
      writeBytes: () => transport.writeBytes(PciRegion.CONFIG, COMMAND, new Uint8Array(2)),
      setIrqs: () => transport.setIrqs('msi', [event.fd]),
      maskIrq: () => transport.maskIrq('msi', 0),
    }
    for (const [name, call] of Object.entries(calls)) refuses(t, 'ERR_ACCEL_NO_DEVICE', name, call)
    await t.rejects(transport.reset(), { code: 'ERR_ACCEL_NO_DEVICE' })
    t.equal(lost, 0, 'nobody is told of a loss that was asked for')
  })

  t.test('nothing is left of a transport that was closed', async (t) => {
    await leavesNothing(t, async () => {
      const transport = await open()
      transport.write(PciRegion.CONFIG, COMMAND, 2, MEMORY_AND_BUS_MASTER)
      transport.read(register.region, register.offset, register.width)
      await transport.close()
    })
  })
}
