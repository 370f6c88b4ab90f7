import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { openDevice, openVfio, parseBdf } from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import { irqsContract, resetContract } from '@uaccel/testkit'
import t from 'tap'
import { e1000eBench } from './e1000e.js'
import { lanes } from './iommufd-lane.js'
import type { IrqsRun } from './irqs.guest.worker.js'

/**
 * Runs in the lab, with an e1000e (5 MSI-X vectors, MSI, INTx), a USB controller of NEC's (16 MSI vectors) and an edu (MSI, INTx).
 * The argument says how many of the controller's vectors the machine grants.
 */
const granted = Number(process.argv[2])
const [e1000e, usb, edu] = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').map(({ bdf }) => parseBdf(bdf))

t.setTimeout(400_000)

// Without interrupt remapping the kernel wants to be told that this is meant.
if (granted === 1) {
  for (const module of ['vfio_iommu_type1', 'iommufd']) {
    try {
      writeFileSync(`/sys/module/${module}/parameters/allow_unsafe_interrupts`, 'Y')
    } catch {} // no such interface in this kernel
  }
}

/** One for all of it: a thread is dear where the processor is emulated. It keeps the process only while it is asked. */
const worker = granted === 1 ? undefined : new Worker(new URL('./irqs.guest.worker.js', import.meta.url))
if (worker !== undefined) await once(worker, 'message')
worker?.unref()
async function failuresInWorker(run: IrqsRun): Promise<string[]> {
  worker!.ref()
  worker!.postMessage(run)
  const [failures] = await once(worker!, 'message')
  worker!.unref()
  return failures
}

for (const { iommu, skip } of lanes()) {
  t.test(`MSI by ${iommu}: as many vectors as the system grants`, { skip }, async (t) => {
    const transport = await openVfio(usb!, { iommu })
    t.equal(transport.irqs.msi.count, 16)
    const dev = openDevice(transport)
    await dev.enable({ busMaster: true })
    const irqs = await dev.allocIrqVectors({ min: 1, max: 16, types: ['msi'] })
    t.equal(irqs.count, granted)
    irqs.release()
    const more = dev.allocIrqVectors({ min: 2, max: 16, types: ['msi', 'intx'] })
    if (granted === 1) await t.rejects(more, { code: 'ERR_ACCEL_UNSUPPORTED' })
    else t.equal((await more).count, granted)
    await dev.release()
    await transport.close()
  })
  if (granted === 1) continue

  const open = () => openVfio(e1000e!, { iommu })
  // Not its MSI: while a cause is pending QEMU's throttling timer sends it again every 128 us
  // (e1000e_intrmgr_on_throttling_timer in hw/net/e1000e_core.c), so that a handler that is late finds more than one.
  for (const type of ['msix', 'intx'] as const) {
    t.test(`${type} of e1000e by ${iommu}`, { skip }, async (t) => irqsContract(t, type, open, e1000eBench))
  }
  t.test(`resets and sleep of e1000e by ${iommu}`, { skip }, async (t) => {
    resetContract(t, open, e1000eBench, { rounds: 3 })
  })

  for (const [name, bdf, type] of [
    ['e1000e', e1000e, 'msix'],
    ['edu', edu, 'msi'],
    ['edu', edu, 'intx'],
  ] as const) {
    t.test(`${type} of ${name} by ${iommu}, in a worker thread`, { skip }, async (t) => {
      t.same(await failuresInWorker({ name, bdf: bdf!, iommu, type }), [])
    })
  }
}
