import { readFileSync } from 'node:fs'
import { Accel, testDma } from '@uaccel/accel'
import {
  decodeConfigSpace,
  describeConfigSpace,
  iommuFaultsIn,
  openDevice,
  openVfio,
  parseBdf,
  readKernelInterrupts,
  readKernelLog,
} from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { parseDevices } from '@uaccel/lab'
import { DmaDomain } from '@uaccel/memory'
import t from 'tap'
import { lanes } from './iommufd-lane.js'

/** Runs in the lab, with edu and an nvme, which has PCI Express: the bring-up aids on kernel VFIO. */
const devices = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '')
const [bdf, nvme] = devices.map((device) => parseBdf(device.bdf))
if (!bdf || !nvme) throw new Error('UACCEL_LAB_DEVICES names no two devices: run this in the lab')

t.setTimeout(400_000)

t.test('config space as sysfs has it', async (t) => {
  const bytes = readFileSync(`/sys/bus/pci/devices/${nvme}/config`)
  const { capabilities, problems } = describeConfigSpace(bytes)
  t.same(problems, [])
  const express = capabilities.find(({ id }) => id === 0x10)!.registers
  t.match(express.find(({ name }) => name === 'DEVCAP')?.fields, { functionLevelReset: true })
})

for (const { iommu, skip } of lanes()) {
  t.test(`an interrupt that the kernel fires, by ${iommu}`, { skip }, async (t) => {
    for (const type of ['msi', 'intx'] as const) {
      const transport = await openVfio(bdf, { iommu })
      const device = openDevice(transport)
      const irqs = await device.allocIrqVectors({ types: [type] })
      for (let i = 0; i < 3; i++) {
        irqs.trigger(0)
        t.equal(irqs.waitSync(0, { timeoutMs: 5000 }), 1, type)
      }
      if (type === 'msi') {
        const { capabilities } = decodeConfigSpace(readFileSync(`/sys/bus/pci/devices/${bdf}/config`))
        t.equal(capabilities.find(({ name }) => name === 'MSI')?.fields?.enabled, true)
        t.match(readKernelInterrupts(bdf), [{ type: 'msi', count: 0, handler: /vfio-msi\[0\]/ }])
      }
      await device.release()
      await transport.close()
    }
  })
}

t.test('DMA through the device: bytes, and the width that QEMU gives it', async (t) => {
  const transport = await openVfio(bdf)
  const accel = new Accel()
  accel.register(edu)
  const node = await accel.add(transport)
  const domain = new DmaDomain(transport.dma)
  const report = await testDma(node.dmaTest!, domain)
  await accel.close()
  domain.destroy()
  t.notOk(report.fault)
  t.match(report.width, { bits: 28, exact: true, beyond: { access: 'read', outcome: 'aliased' } })
})

t.test('an access that the IOMMU refuses, as the kernel logs it', async (t) => {
  const transport = await openVfio(bdf)
  const accel = new Accel()
  accel.register(edu)
  const node = await accel.add(transport)
  const address = 0x0abc_d000n as Parameters<NonNullable<typeof node.dmaTest>['copy']>[0]
  const { signal } = new AbortController()
  await node.dmaTest!.copy(address, address, 64, { signal })
  const faults = () => iommuFaultsIn(readKernelLog(), bdf)
  for (let i = 0; i < 8 && faults().length === 0; i++)
    await new Promise((resolve) => setTimeout(resolve, 250))
  await accel.close()
  const found = faults()
  if (found.length === 0)
    t.comment(
      readKernelLog()
        .slice(-12)
        .map(({ text }) => text)
        .join('\n'),
    )
  t.match(found[0], { iommu: 'intel', device: bdf, access: 'read', hint: /never mapped/ })
  t.equal(found[0] && found[0].address & ~0xfffn, address)
  t.comment(found[0]?.line)
})
