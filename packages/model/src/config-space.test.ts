import { PciRegion } from '@uaccel/core'
import type { Iova } from '@uaccel/memory'
import { EventFd } from '@uaccel/sys'
import t, { type Test } from 'tap'
import { ManualClock } from './clock.js'
import { createFunction } from './function.js'
import type { ModelContext, ModelDefinition } from './types.js'

const definition: ModelDefinition & { context?: ModelContext } = {
  identity: { name: 'probe', vendor: 0x1af4, device: 0x1234, revision: 3, classCode: 0x120000, subsystem: 9 },
  bars: [
    { index: 0, sizeBytes: 0x10000, kind: 'mem32' },
    { index: 2, sizeBytes: 2 ** 33, kind: 'mem64', prefetchable: true },
    { index: 5, sizeBytes: 16, kind: 'mem32' },
  ],
  interrupts: { intx: true, msi: 8, msix: { vectors: 4, bar: 0, tableOffset: 0x8000, pbaOffset: 0x9000 } },
  capabilities: { powerManagement: true, express: true },
  create: () => ({ read: () => 0, write: () => true, reset() {} }),
}

function open(t: Test, from: ModelDefinition = definition) {
  const device = createFunction(from, {}, { clock: new ManualClock() })
  t.teardown(() => device.close())
  const read = (offset: number, width: 1 | 2 | 4): number => {
    const bytes = Buffer.alloc(width)
    device.regionRead(PciRegion.CONFIG, offset, bytes)
    return bytes.readUIntLE(0, width)
  }
  const write = (offset: number, width: 1 | 2 | 4, value: number): void => {
    const bytes = Buffer.alloc(width)
    bytes.writeUIntLE(value, 0, width)
    device.regionWrite(PciRegion.CONFIG, offset, bytes)
  }
  const capability = (id: number): number => {
    let at = read(0x34, 1)
    while (at !== 0 && read(at, 1) !== id) at = read(at + 1, 1)
    return at
  }
  return { device, read, write, capability }
}

t.test('identity, and bits that cannot be written', async (t) => {
  const { device, read, write, capability } = open(t)
  const startsReset = capability(0x10) + 8
  t.equal(device.regions[PciRegion.CONFIG]?.sizeBytes, 4096)
  for (const [offset, value] of [
    [0x00, 0x12341af4],
    [0x08, 0x12000003],
    [0x0c, 0],
    [0x2c, 0x00090000],
    [0x3c, 0x00000100],
    [0x100, 0],
  ] as const) {
    t.equal(read(offset, 4), value)
  }
  for (let offset = 0; offset < 4096; offset += 4) {
    if (offset !== 4 && offset !== startsReset) write(offset, 4, 0xffffffff)
  }
  t.equal(read(0x00, 4), 0x12341af4)
  t.equal(read(0x08, 4), 0x12000003)
  t.equal(read(0x0c, 4), 0x0000ffff, 'cache line size and latency timer are scratch')
  t.equal(read(0x3c, 4), 0x000001ff, 'the interrupt line is scratch, the pin is not')
  t.equal(read(0x100, 4), 0)
  write(4, 2, 0xffff)
  t.equal(read(4, 2), 0x0546, 'memory, bus master, parity, SERR, INTx disable; no I/O')
  t.equal(read(6, 2), 0x0010, 'capabilities')
})

t.test('BARs are sized by writing ones', async (t) => {
  const { read, write } = open(t)
  const before = [0, 1, 2, 3, 4, 5].map((bar) => read(0x10 + 4 * bar, 4))
  t.same(before, [0, 0, 0b1100, 0, 0, 0])
  for (let bar = 0; bar < 6; bar++) write(0x10 + 4 * bar, 4, 0xffffffff)
  const sizes = [0, 1, 2, 3, 4, 5].map((bar) => read(0x10 + 4 * bar, 4))
  t.same(sizes, [0xffff0000, 0, 0b1100, 0xfffffffe, 0, 0xfffffff0])
  write(0x10, 4, 0xfebf1234)
  t.equal(read(0x10, 4), 0xfebf0000)
  write(0x12, 1, 0x12)
  t.equal(read(0x10, 4), 0xfe120000, 'a byte by itself')
})

t.test('the capability list', async (t) => {
  const { read, write, capability } = open(t)
  const ids: number[] = []
  for (let at = read(0x34, 1); at !== 0; at = read(at + 1, 1)) {
    t.equal(at % 4, 0)
    ids.push(read(at, 1))
  }
  t.same(ids, [0x01, 0x05, 0x11, 0x10])
  const msi = capability(0x05)
  t.equal(read(msi + 2, 2), 0x0186, '8 vectors, 64 bits, maskable')
  write(msi + 2, 2, 0xffff)
  t.equal(read(msi + 2, 2), 0x01f7)
  write(msi + 0x10, 4, 0xffffffff)
  t.equal(read(msi + 0x10, 4), 0xff, 'a mask bit for each vector')
  const msix = capability(0x11)
  t.equal(read(msix + 2, 2), 3)
  t.equal(read(msix + 4, 4), 0x8000)
  t.equal(read(msix + 8, 4), 0x9000)
  write(msix + 2, 2, 0xffff)
  t.equal(read(msix + 2, 2), 0xc003)
})

t.test('a conventional function has 256 bytes, and no list where there is nothing to list', async (t) => {
  const { device, read } = open(t, { ...definition, interrupts: {}, capabilities: {} })
  t.equal(device.regions[PciRegion.CONFIG]?.sizeBytes, 256)
  t.equal(read(0x34, 1), 0)
  t.equal(read(6, 2), 0)
  t.throws(() => read(254, 4), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
})

t.test('reset, by call and by the function-level reset of PCI Express', async (t) => {
  const { device, read, write, capability } = open(t)
  const express = capability(0x10)
  t.equal(read(express + 4, 4) >>> 28, 1, 'capable of it')
  for (const reset of [() => device.reset(), () => write(express + 8, 2, 0x8000)]) {
    write(4, 2, 6)
    write(0x10, 4, 0xfe000000)
    write(capability(0x05) + 2, 2, 1)
    reset()
    t.equal(read(4, 2), 0)
    t.equal(read(0x10, 4), 0)
    t.equal(read(capability(0x05) + 2, 2), 0x0186)
    t.equal(read(express + 8, 2), 0)
  }
})

t.test(
  'a reset that is asked for while the device waits for memory comes when its work has ended',
  async (t) => {
    const clock = new ManualClock()
    const log: string[] = []
    const device = createFunction(
      {
        ...definition,
        create: (context) => ({
          read: () => 0,
          write() {
            context.clock.after(0, () => {
              context.dma.read(0x1000n, new Uint8Array(8))
              log.push('read')
              context.dma.write(0x1000n, new Uint8Array(8))
              log.push('wrote')
            })
            return true
          },
          reset: () => log.push('reset'),
        }),
      },
      {},
      { clock },
    )
    t.teardown(() => device.close())
    const config = (offset: number, value: number) =>
      device.regionWrite(PciRegion.CONFIG, offset, Buffer.from([value & 0xff, value >> 8]))
    const link = Buffer.alloc(1)
    let express = 0x34
    do {
      device.regionRead(PciRegion.CONFIG, express === 0x34 ? express : express + 1, link)
      express = link[0]!
      device.regionRead(PciRegion.CONFIG, express, link)
    } while (link[0] !== 0x10)
    const flr = () => config(express + 8, 0x8000)
    device.dma.addRemote(0x1000n as Iova, 0x1000, 'readwrite', {
      read: flr,
      write: () => t.fail('after a reset'),
    })
    config(4, 6)
    device.writeBar(0, 0, 4, 1)
    clock.runUntilIdle()
    t.same(log, ['read', 'reset'])
    device.assertClean()
    flr()
    t.same(log, ['read', 'reset', 'reset'], 'at once again')
  },
)

t.test('without memory decode no BAR answers', async (t) => {
  const { device, write } = open(t)
  t.throws(() => device.readBar(0, 0, 4), { code: 'ERR_ACCEL_BAD_ACCESS', message: /memory decode is off/ })
  write(4, 2, 2)
  t.equal(device.readBar(0, 0, 4), 0)
  write(4, 2, 0)
  t.throws(() => device.regionWrite(0, 0, Buffer.alloc(4)), { code: 'ERR_ACCEL_BAD_ACCESS' })
  t.equal(device.violations.take().length, 2)

  const lenient = createFunction(definition, {}, { clock: new ManualClock(), strict: false })
  t.teardown(() => lenient.close())
  t.equal(lenient.readBar(0, 0, 4), 0xffffffff)
  t.equal(lenient.violations.length, 1, 'but it is kept')
})

t.test('INTx: the line, its status bit, its disable bit', async (t) => {
  let context: ModelContext | undefined
  const { device, read, write } = open(t, {
    ...definition,
    create: (given) => {
      context = given
      return { read: () => 0, write: () => true, reset() {} }
    },
  })
  const event = new EventFd()
  t.teardown(() => event.close())
  device.setIrqs('intx', 0, [event.fd])
  write(4, 2, 0x400)
  context?.setIntx(true)
  t.equal(read(6, 2) & 8, 8, 'the status shows it although it is disabled')
  t.equal(event.drain(), 0)
  write(4, 2, 0)
  t.equal(event.drain(), 1, 'enabled, the line shows')
  write(4, 2, 0)
  t.equal(event.drain(), 0, 'masked since it fired')
  device.maskIrq('intx', 0, false)
  t.equal(event.drain(), 1)
  context?.setIntx(false)
  t.equal(read(6, 2) & 8, 0)
  device.maskIrq('intx', 0, false)
  t.equal(event.drain(), 0)
})

t.test('definitions that no function could have', async (t) => {
  const [bar0] = definition.bars
  const memory = { name: 'm', offset: 0, sizeBytes: 4096 }
  const refused: readonly (readonly [string, Partial<ModelDefinition>])[] = [
    ['odd size', { bars: [{ index: 0, sizeBytes: 100, kind: 'mem32' }] }],
    ['tiny', { bars: [{ index: 0, sizeBytes: 8, kind: 'mem32' }] }],
    ['twice', { bars: [bar0!, bar0!] }],
    ['64 bits in the last slot', { bars: [{ index: 5, sizeBytes: 16, kind: 'mem64' }] }],
    [
      'upper half taken',
      {
        bars: [
          { index: 1, sizeBytes: 16, kind: 'mem64' },
          { index: 2, sizeBytes: 16, kind: 'mem32' },
        ],
      },
    ],
    ['memory not of pages', { bars: [{ ...bar0!, memory: [{ ...memory, offset: 16 }] }] }],
    ['memory beyond the end', { bars: [{ ...bar0!, memory: [{ ...memory, sizeBytes: 0x20000 }] }] }],
    ['memory twice', { bars: [{ ...bar0!, memory: [memory, { ...memory, name: 'n' }] }] }],
    ['memory over the MSI-X table', { bars: [{ ...bar0!, memory: [{ ...memory, offset: 0x8000 }] }] }],
    ['3 MSI vectors', { interrupts: { msi: 3 } }],
    ['table without BAR', { interrupts: { msix: { vectors: 1, bar: 4, tableOffset: 0, pbaOffset: 64 } } }],
    ['table over PBA', { interrupts: { msix: { vectors: 8, bar: 0, tableOffset: 0, pbaOffset: 64 } } }],
    ['65 address bits', { addressBits: 65 }],
  ]
  for (const [name, part] of refused) {
    t.throws(
      () => createFunction({ ...definition, ...part } as ModelDefinition, {}),
      { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /^The model probe / },
      name,
    )
  }
})
