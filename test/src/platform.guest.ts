import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import { Accel, accelDriver, poll } from '@uaccel/accel'
import { flag, listUioDevices, openPlatform, reg32, reg64, registers } from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import { leavesNothing } from '@uaccel/testkit'
import { cmd, string, u32, uapi } from '@uaccel/uapi'
import t from 'tap'
import { rebind } from './rebind.js'
import { uaccelBin } from './uaccel.js'

/**
 * Runs in the lab: a device that is not PCI to us, out of one that we did not write. QEMU's NVMe controller with memory of its
 * own is given to the kernel's driver of a measurement card, Humusoft's MF624, which takes any device with three BARs and
 * shows them as UIO maps 0 to 2. Registers: NVM Express Base Specification 1.4, 3.1.
 */
const found = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'nvme')
if (!found) throw new Error('UACCEL_LAB_DEVICES names no nvme: run this in the lab')
const { bdf } = found
t.setTimeout(200_000)

const Controller = registers({
  CAP: reg64(0x00, 'ro'),
  VS: reg32(0x08, 'ro'),
  INTMS: reg32(0x0c, 'wo'),
  CC: reg32(0x14, 'rw', { enable: flag(0) }),
  CSTS: reg32(0x1c, 'ro', { ready: flag(0), fatal: flag(1) }),
  AQA: reg32(0x24, 'rw'),
  ASQ: reg64(0x28, 'rw'),
  ACQ: reg64(0x30, 'rw'),
})
/** I/O entries of 64 and 16 bytes, and enabled (CC, 3.1.5). */
const ENABLE = (6 << 16) | (4 << 20) | 1
const ENTRIES = 8
const ADMIN_TAIL = 0x1000
const IDENTIFY = 0x06

const nvmeUapi = uapi({
  name: 'nvme-identify',
  version: 1,
  commands: {
    identify: cmd(0x40, { out: { version: u32, serial: string(20), model: string(40) } }),
    memory: cmd(0x41, { in: { value: u32 }, out: { value: u32 } }),
  },
})

const driver = accelDriver({
  name: 'nvme-identify',
  uapi: nvmeUapi,
  ids: [{ bus: 'platform', name: 'mf624' }],
  async probe(dev) {
    await dev.enable({ busMaster: true })
    const bar = await dev.mapBar(0, Controller)
    // A page into the map: doorbells.
    const doorbells = await dev.mapMemory(0, { offset: ADMIN_TAIL, sizeBytes: 8 })
    const memory = await dev.mapMemory(1)
    const [sq, cq, page] = ['submission', 'completion', 'answer'].map((name) =>
      dev.dma.alloc(4096, { alignBytes: 4096, name }),
    )
    const ready = (wanted: boolean) =>
      poll(
        () => bar.CSTS.get(),
        (status) => status.ready === wanted,
        { timeoutMs: 10_000, what: 'CSTS.RDY' },
      )
    bar.CC.write(0)
    await ready(false)
    bar.INTMS.write(0xffff_ffff)
    bar.AQA.write(((ENTRIES - 1) << 16) | (ENTRIES - 1))
    bar.ASQ.write(sq!.iova)
    bar.ACQ.write(cq!.iova)
    bar.CC.write(ENABLE)
    await ready(true)
    dev.defer(async () => {
      bar.CC.write(0)
      await ready(false)
    })
    let count = 0
    return {
      commands: {
        async identify() {
          const slot = count % ENTRIES
          const phase = 1 - (Math.floor(count / ENTRIES) % 2)
          sq!.u32.fill(0, 16 * slot, 16 * slot + 16)
          sq!.u32[16 * slot] = IDENTIFY | (count << 16)
          sq!.u32[16 * slot + 6] = page!.iovaLow
          sq!.u32[16 * slot + 7] = page!.iovaHigh
          sq!.u32[16 * slot + 10] = 1 // the controller
          count++
          doorbells.write32(0, count % ENTRIES)
          const status = await poll(
            () => cq!.u32[4 * slot + 3]!,
            (value) => ((value >>> 16) & 1) === phase,
            { timeoutMs: 10_000, what: 'the completion' },
          )
          if (status >>> 17 !== 0) throw new Error(`status 0x${(status >>> 17).toString(16)}`)
          doorbells.write32(4, count % ENTRIES)
          const text = (from: number, to: number) =>
            Buffer.from(page!.u8.subarray(from, to)).toString('latin1').trim()
          return { version: bar.VS.read(), serial: text(4, 24), model: text(24, 64) }
        },
        memory({ value }) {
          memory.write32(0x100, value)
          return { value: memory.read32(0x100) }
        },
      },
    }
  },
})

/** The kernel driver of that card does not let it master the bus, and a platform device of ours has no config space. */
function letMasterBus(): void {
  const config = openSync(`/sys/bus/pci/devices/${bdf}/config`, 'r+')
  const command = Buffer.alloc(2)
  readSync(config, command, 0, 2, 4)
  command.writeUInt16LE(command.readUInt16LE() | 0b110)
  writeSync(config, command, 0, 2, 4)
  closeSync(config)
}

t.test('a device of UIO that is not there', async (t) => {
  t.equal(rebind(bdf, 'mf624').driver, 'mf624')
  letMasterBus()
  await t.rejects(openPlatform('npu', { allowNoIommu: true }), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: 'mf624 (uio0)',
  })
  await t.rejects(openPlatform('mf624'), { code: 'ERR_ACCEL_NO_IOMMU', message: /allowNoIommu: true/ })
})

t.test('it is found by name, with its maps', async (t) => {
  const [device] = listUioDevices()
  t.match(device, { uio: 'uio0', name: 'mf624', version: String, bdf })
  t.equal(device?.maps.length, 3)
  t.ok(device!.maps[0]!.sizeBytes >= 0x2000)
})

t.test('a driver of ours takes it: registers, doorbells, its memory, DMA', async (t) => {
  await leavesNothing(t, async () => {
    const accel = new Accel()
    accel.register(driver)
    await accel.add(await openPlatform('mf624', { allowNoIommu: true }))
    const client = accel.open(nvmeUapi, 'accel0')
    t.match(await client.info(), {
      bus: 'platform',
      transport: 'uio',
      address: 'uio:mf624',
      iommu: 'none',
      tainted: /no IOMMU/,
      vendor: 0,
      device: 0,
      classCode: 0,
    })
    for (let i = 0; i < 20; i++) {
      const { version, serial, model } = await client.call('identify', {})
      t.match([version >>> 16, serial, model], [1, 'uaccel', 'QEMU NVMe Ctrl'])
    }
    t.same(await client.call('memory', { value: 0xcafe_f00d }), { value: 0xcafe_f00d })
    await accel.close()
  })
})

t.test('its interrupt is armed by a written 1, and taken back', async (t) => {
  const transport = await openPlatform('uio0', { allowNoIommu: true })
  t.match(transport.irqs.intx, { count: 1, maskable: true })
  transport.setIrqs('intx', [-1])
  transport.maskIrq('intx', 0)
  transport.unmaskIrq('intx', 0)
  transport.disableIrqs('intx')
  await t.rejects(openPlatform('mf624', { allowNoIommu: true }), { code: 'ERR_ACCEL_BUSY' })
  await transport.close()
})

t.test('the command line lists it, and opens it where told that nothing isolates it', async (t) => {
  const run = (...args: string[]) => spawnSync(process.execPath, [uaccelBin, ...args], { encoding: 'utf8' })
  t.match(run('list').stdout, /uio:mf624\s+uio0/)
  t.match(JSON.parse(run('list', '--json').stdout).at(-1), { bus: 'platform', name: 'mf624', uio: 'uio0' })
  t.match(run('reg', 'list', 'uio:mf624').stderr, /allowNoIommu|--allow-no-iommu/)
  t.match(
    run('reg', 'list', '--allow-no-iommu', 'uio:mf624').stderr,
    /No driver here has a register map for mf624/,
  )
})
