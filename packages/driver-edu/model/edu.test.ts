import { PciRegion } from '@uaccel/core'
import type { Iova } from '@uaccel/memory'
import { type Loopback, type LoopbackOptions, loopback, ManualClock } from '@uaccel/model'
import { createSealedMemory, EventFd, Mapping, sys, watch } from '@uaccel/sys'
import t, { type Test } from 'tap'
import { type EduOptions, eduModel } from './index.js'

const BAR0 = PciRegion.BAR0
const COMMAND = 4
const MEMORY_AND_BUS_MASTER = 0b110

type Device = Loopback<ManualClock>

async function open(t: Test, options: LoopbackOptions<EduOptions> = {}): Promise<Device> {
  const { clock: _, ...rest } = options
  const edu = loopback(eduModel, { ...rest, clock: new ManualClock() })
  t.teardown(() => edu.close())
  edu.write(PciRegion.CONFIG, COMMAND, 2, MEMORY_AND_BUS_MASTER)
  return edu
}

/** Memory of the host at an address of the device's. */
function hostMemory(t: Test, edu: Device, iova: bigint, sizeBytes: number): Uint8Array {
  const { fd } = createSealedMemory('edu-test', sizeBytes)
  const mapping = Mapping.map({ fd, offset: 0, sizeBytes })
  const address = mapping.address
  edu.dma.map({ iova: iova as Iova, sizeBytes, access: 'readwrite', address, fd, fdOffset: 0 })
  sys.close(fd)
  t.teardown(() => mapping.revoke())
  return mapping.window.u8
}

function transfer(edu: Device, source: bigint, destination: bigint, count: bigint, command: bigint): void {
  edu.write64(BAR0, 0x80, source)
  edu.write64(BAR0, 0x88, destination)
  edu.write64(BAR0, 0x90, count)
  edu.write64(BAR0, 0x98, command)
}

t.test('identifies itself, and inverts what is written', async (t) => {
  const edu = await open(t)
  t.equal(edu.read(BAR0, 0x00, 4), 0x010000ed)
  edu.write(BAR0, 0x04, 4, 0x12345678)
  t.equal(edu.read(BAR0, 0x04, 4), 0xedcba987)
  t.equal(edu.read(PciRegion.CONFIG, 0, 4), 0x11e81234)
  edu.assertClean()
})

t.test('computes a factorial when its clock steps, not before', async (t) => {
  const edu = await open(t, { model: { factorialNs: 500, nsPerFactor: 0 } })
  for (const [n, result] of [
    [0, 1],
    [1, 1],
    [10, 3628800],
    [13, 1932053504], // 13! = 6227020800, cut to 32 bits
    [34, 0],
    [0xffffffff, 0],
  ] as const) {
    edu.write(BAR0, 0x08, 4, n)
    t.equal(edu.read(BAR0, 0x20, 4), 1, 'computing')
    edu.clock.step(499)
    t.equal(edu.read(BAR0, 0x20, 4), 1, 'still computing')
    edu.clock.step(1)
    t.equal(edu.read(BAR0, 0x20, 4), 0)
    t.equal(edu.read(BAR0, 0x08, 4), result)
  }
  edu.assertClean()
})

t.test('a number written while another is computed is ignored, and a violation', async (t) => {
  const edu = await open(t)
  edu.write(BAR0, 0x08, 4, 5)
  edu.write(BAR0, 0x08, 4, 6)
  edu.clock.runUntilIdle()
  t.equal(edu.read(BAR0, 0x08, 4), 120)
  t.throws(() => edu.assertClean(), { code: 'ERR_ACCEL_BAD_ACCESS' })
})

t.test('interrupts by MSI after a factorial, until acknowledged', async (t) => {
  const edu = await open(t)
  const event = new EventFd()
  t.teardown(() => event.close())
  edu.setIrqs('msi', [event.fd])
  edu.write(BAR0, 0x20, 4, 0xffffffff)
  t.equal(edu.read(BAR0, 0x20, 4), 0x80, 'only the flag can be written')
  edu.write(BAR0, 0x08, 4, 4)
  t.equal(event.drain(), 0)
  edu.clock.runUntilIdle()
  t.equal(event.drain(), 1)
  t.equal(edu.read(BAR0, 0x24, 4), 1)
  edu.write(BAR0, 0x64, 4, 1)
  t.equal(edu.read(BAR0, 0x24, 4), 0)
  edu.assertClean()
})

t.test('raises and acknowledges by register, on INTx', async (t) => {
  const edu = await open(t)
  const event = new EventFd()
  t.teardown(() => event.close())
  edu.setIrqs('intx', [event.fd])
  edu.write(BAR0, 0x60, 4, 0b110)
  t.equal(event.drain(), 1)
  edu.write(BAR0, 0x60, 4, 0b001)
  t.equal(event.drain(), 0, 'the line is up already, and masked since it fired')
  edu.write(BAR0, 0x64, 4, 0b110)
  t.equal(edu.read(BAR0, 0x24, 4), 0b001)
  edu.unmaskIrq('intx', 0)
  t.equal(event.drain(), 1, 'the line is still up')
  edu.write(BAR0, 0x64, 4, 0b001)
  edu.unmaskIrq('intx', 0)
  t.equal(event.drain(), 0)
  edu.assertClean()
})

t.test('moves memory both ways, all 4096 bytes too', async (t) => {
  const edu = await open(t)
  const event = new EventFd()
  t.teardown(() => event.close())
  edu.setIrqs('msi', [event.fd])
  const memory = hostMemory(t, edu, 0x100000n, 8192)
  for (let i = 0; i < 4096; i++) memory[i] = i * 7
  transfer(edu, 0x100000n, 0x40000n, 4096n, 0b101n)
  t.equal(edu.read64(BAR0, 0x98), 0b101n, 'runs')
  t.equal(event.drain(), 0)
  edu.clock.runUntilIdle()
  t.equal(edu.read64(BAR0, 0x98), 0b100n, 'done')
  t.equal(event.drain(), 1)
  t.equal(edu.read(BAR0, 0x24, 4), 0x100)
  edu.write(BAR0, 0x64, 4, 0x100)

  transfer(edu, 0x40000n + 96n, 0x101000n, 4000n, 0b011n)
  edu.clock.runUntilIdle()
  t.equal(event.drain(), 0, 'no interrupt was asked for')
  t.same(memory.subarray(4096, 8096), memory.subarray(96, 4096))
  t.same(memory.subarray(8096), new Uint8Array(96))
  edu.assertClean()
})

t.test('registers from 0x80 on take accesses of 4 and of 8 bytes', async (t) => {
  const edu = await open(t)
  edu.write64(BAR0, 0x80, 0x1_2345_6789n)
  t.equal(edu.read(BAR0, 0x80, 4), 0x23456789)
  edu.write(BAR0, 0x80, 4, 0x80000000)
  t.equal(edu.read64(BAR0, 0x80), 0x80000000n)
  edu.assertClean()
})

t.test('accesses that the specification does not allow', async (t) => {
  const edu = await open(t)
  const refused: readonly (readonly [string, RegExp, () => void])[] = [
    [
      '2 bytes',
      /read of 2 bytes at BAR0\+0x4; the model declares liveness at 0x4 \(rw, 4 bytes\)/,
      () => edu.read(BAR0, 4, 2),
    ],
    ['8 bytes below 0x80', /identification/, () => edu.read64(BAR0, 0)],
    ['upper half', /dmaSource at 0x80 \(rw, 4 or 8 bytes\)/, () => edu.read(BAR0, 0x84, 4)],
    ['undeclared', /no register at 0x100/, () => edu.write(BAR0, 0x100, 4, 0)],
    ['write ro', /write of 4 bytes .* identification at 0x0 \(ro/, () => edu.write(BAR0, 0, 4, 0)],
    ['read wo', /interruptRaise at 0x60 \(wo/, () => edu.read(BAR0, 0x60, 4)],
  ]
  for (const [name, message, access] of refused) {
    t.throws(access, { code: 'ERR_ACCEL_BAD_ACCESS', message }, name)
  }
  t.equal(edu.violations.length, refused.length)
  t.throws(() => edu.assertClean(), { code: 'ERR_ACCEL_BAD_ACCESS' })
})

t.test('a transfer outside its mappings, its address bits or its buffer', async (t) => {
  const edu = await open(t)
  const memory = hostMemory(t, edu, 0x100000n, 4096)
  const run = (source: bigint, destination: bigint, count: bigint, command: bigint) => {
    transfer(edu, source, destination, count, command)
    edu.clock.runUntilIdle()
    t.equal(edu.read64(BAR0, 0x98) & 1n, 0n, 'the engine is idle again')
    const [violation, ...others] = edu.violations.take()
    t.same(others, [])
    return violation
  }
  t.match(run(0x200000n, 0x40000n, 16n, 1n), {
    code: 'ERR_ACCEL_DMA_FAULT',
    message: /edu: DMA read of 16 bytes at IOVA 0x200000: nothing is mapped .* 0x100000-0x100fff/,
  })
  t.match(run(0x40000n, 0x100ff8n, 16n, 3n), {
    code: 'ERR_ACCEL_DMA_FAULT',
    message: /nothing is mapped at 0x101000/,
  })
  t.same(memory, new Uint8Array(4096), 'nothing of a refused transfer arrives')
  t.match(run(0x1_0000_0000n, 0x40000n, 16n, 1n), { code: 'ERR_ACCEL_DMA_FAULT', message: /28 address bits/ })
  t.match(run(0x100000n, 0x40ff8n, 16n, 1n), { code: 'ERR_ACCEL_BAD_ACCESS', message: /0x40000-0x40fff/ })
  t.match(run(0x100000n, 0x3fff8n, 16n, 1n), { code: 'ERR_ACCEL_BAD_ACCESS' })
  edu.assertClean()
})

t.test('programming the engine while it runs is ignored, and a violation', async (t) => {
  const edu = await open(t)
  hostMemory(t, edu, 0x100000n, 4096)
  transfer(edu, 0x100000n, 0x40000n, 16n, 1n)
  edu.write64(BAR0, 0x90, 8n)
  edu.write64(BAR0, 0x98, 3n)
  t.equal(edu.read64(BAR0, 0x90), 16n)
  t.equal(edu.violations.take().length, 2)
  edu.clock.runUntilIdle()
  edu.assertClean()
})

t.test('reset discards what is under way', async (t) => {
  const edu = await open(t)
  edu.write(BAR0, 0x04, 4, 1)
  edu.write(BAR0, 0x08, 4, 5)
  await edu.reset()
  t.equal(edu.clock.pending, 0)
  edu.write(PciRegion.CONFIG, COMMAND, 2, MEMORY_AND_BUS_MASTER)
  for (const offset of [0x04, 0x08, 0x20, 0x24]) t.equal(edu.read(BAR0, offset, 4), 0)
  edu.assertClean()
})

t.test('on real time, an interrupt reaches the event loop', async (t) => {
  const edu = loopback(eduModel)
  const event = new EventFd()
  t.teardown(() => edu.close())
  edu.write(PciRegion.CONFIG, COMMAND, 2, MEMORY_AND_BUS_MASTER)
  edu.setIrqs('msi', [event.fd])
  edu.write(BAR0, 0x20, 4, 0x80)
  for (const [n, result] of [
    [5, 120],
    [6, 720],
  ] as const) {
    await new Promise<void>((done) => {
      const watching = watch(event.fd, () => {
        event.drain()
        watching.close()
        done()
      })
      edu.write(BAR0, 0x08, 4, n)
      t.equal(edu.read(BAR0, 0x20, 4), 0x81, 'nothing is computed inside the access')
    })
    t.equal(edu.read(BAR0, 0x08, 4), result)
    edu.write(BAR0, 0x64, 4, 1)
  }
  event.close()
  edu.assertClean()
})
