import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { Accel, type AccelClient } from '@uaccel/accel'
import { openDevice, type Transport } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { DmaBuffer, DmaDomain } from '@uaccel/memory'
import { leavesNothing } from '@uaccel/testkit'
import type { Test } from 'tap'

/** One way to open an edu device that no IOMMU stands before. */
export interface NoIommuWay {
  readonly bdf: string
  /** As a program writes it, with `openUio` and `openVfio` at hand. */
  readonly call: string
  open(options?: { allowNoIommu?: boolean }): Promise<Transport>
}

const reserve = '/proc/sys/vm/nr_hugepages'

/** Has the edu driver bring the device up for one piece of work. */
export async function withEdu(
  transport: Transport,
  work: (client: AccelClient<typeof eduUapi>) => Promise<void>,
): Promise<void> {
  const accel = new Accel()
  accel.register(edu)
  try {
    await accel.add(transport)
    await work(accel.open(eduUapi, 'accel0'))
  } finally {
    await accel.close()
  }
}

/** What every way without an IOMMU does, beyond the contracts. */
export function noIommuContract(t: Test, { bdf, call, open }: NoIommuWay): void {
  t.test('it takes an option, which warns once and marks the device', async (t) => {
    await t.rejects(open({ allowNoIommu: false }), {
      code: 'ERR_ACCEL_NO_IOMMU',
      message: /can read and write all memory .* `allowNoIommu: true`/s,
    })
    const warnings: Error[] = []
    const listener = (warning: Error) => warnings.push(warning)
    process.on('warning', listener)
    for (let i = 0; i < 2; i++) {
      await withEdu(await open(), async (client) => {
        const { tainted, iommu } = await client.info()
        t.match([iommu, tainted], ['none', /can reach all memory/])
      })
    }
    process.off('warning', listener)
    t.match(warnings, [{ code: 'UACCEL_NO_IOMMU', message: bdf }])
    t.equal(warnings.length, 1)
  })

  t.test('one process at a time', async (t) => {
    const transport = await open()
    await t.rejects(open(), { code: 'ERR_ACCEL_BUSY' })
    await transport.close()
    const core = JSON.stringify(import.meta.resolve('@uaccel/core'))
    const program = `
      const { openUio, openVfio } = await import(${core})
      await ${call}
      console.log('open')
      setInterval(() => {}, 1e6)`
    const holder = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    await once(holder.stdout, 'data')
    await t.rejects(open(), { code: 'ERR_ACCEL_BUSY', message: /fuser -v/ })
    holder.kill('SIGKILL')
    await once(holder, 'exit')
    const free = await open()
    await free.close()
  })

  t.test('memory is found where the device reaches', async (t) => {
    await leavesNothing(t, async () => {
      const transport = await open()
      const domain = new DmaDomain(transport.dma, { addressBits: 28 })
      const small = [domain.alloc(64), domain.alloc(4096)]
      t.ok(small.every(({ iova }) => iova + 4096n <= 1n << 28n))
      const buffer = domain.createBuffer(3 << 20)
      t.equal(buffer.sizeBytes, 4 << 20, 'two huge pages that follow each other')
      const mapping = domain.map(buffer)
      t.ok(mapping.iova + 0x40_0000n <= 1n << 28n)
      t.equal(mapping.iova % 0x20_0000n, 0n)
      const nowhere = new DmaDomain(transport.dma, { addressBits: 20 })
      t.throws(() => nowhere.alloc(64), { code: 'ERR_ACCEL_NO_IOVA', message: /within 20 address bits/ })
      const ordinary = DmaBuffer.create(8192)
      t.throws(() => domain.map(ordinary), { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /createBuffer/ })
      for (const each of [buffer, ordinary]) each.destroy()
      domain.destroy()
      await transport.close()
    })
  })

  t.test('without huge pages: registers and interrupts work, DMA says what to do', async (t) => {
    const before = readFileSync(reserve, 'latin1').trim()
    writeFileSync(reserve, '0')
    t.teardown(() => writeFileSync(reserve, before))
    const transport = await open()
    const device = openDevice(transport)
    await device.enable()
    const registers = await device.mapMemory(0)
    t.equal(registers.read32(0), 0x0100_00ed)
    const irqs = await device.allocIrqVectors({ types: ['intx'] })
    let fired = 0
    irqs.handle(0, (count) => {
      fired += count
      registers.write32(0x64, registers.read32(0x24))
    })
    for (let i = 1; i <= 5; i++) {
      registers.write32(0x60, 1)
      const limit = performance.now() + 5000
      while (fired < i && performance.now() < limit) await new Promise((resolve) => setTimeout(resolve, 5))
      t.equal(fired, i, 'each interrupt once: the line was masked and unmasked')
    }
    t.throws(() => device.dma.alloc(4096), {
      code: 'ERR_ACCEL_NO_MEMORY',
      message: 'echo 64 > /proc/sys/vm/nr_hugepages',
    })
    await device.release()
    await transport.close()
  })
}
