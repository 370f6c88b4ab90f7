import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { openDevice, openVfio, parseBdf } from '@uaccel/core'
import { queuesContract } from '@uaccel/driver-npu/contract'
import { parseDevices } from '@uaccel/lab'
import t from 'tap'
import { runCell } from './contracts/cells.js'
import type { EduShare } from './edu-share.guest.worker.js'
import { lanes } from './iommufd-lane.js'

/** Runs in the lab with two processors: worker threads on QEMU's edu, and on our model of the NPU (vfio-user-pci), through kernel VFIO. */
const devices = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '')
const bdfOf = (name: string) => {
  const device = devices.find((one) => one.name === name)
  if (!device) throw new Error(`UACCEL_LAB_DEVICES names no ${name}: run this in the lab`)
  return parseBdf(device.bdf)
}
const [edu, npu] = [bdfOf('edu'), bdfOf('npu')]
/** Random cases of each operation in each worker. */
const runs = Number(process.env.UACCEL_NPU_RUNS ?? 1)

t.setTimeout(1_800_000)

for (const { iommu, skip } of lanes()) {
  t.test(
    `edu in a worker thread by ${iommu}: registers, memory, interrupt, reset, release`,
    { skip },
    async (t) => {
      const transport = await openVfio(edu, { iommu })
      const device = openDevice(transport)
      await device.enable({ busMaster: true })
      device.setDmaAddressBits(28)
      const irqs = await device.allocIrqVectors({ types: ['msi'] })
      const share = device.share()
      const words = new Int32Array(new SharedArrayBuffer(12))
      const workerData: EduShare = {
        device: share.token,
        bar: share.bar(0),
        memory: share.memory(device.dma.alloc(4096, { separate: true })),
        irq: share.vector(irqs, 0),
        words,
      }
      const worker = new Worker(new URL('./edu-share.guest.worker.js', import.meta.url), {
        workerData,
        transferList: [...share.transfer],
      })
      const [found] = await once(worker, 'message')
      t.strictSame(found, { id: 0x0100_00ed, factorial: 3628800, interrupts: 1, copied: 0 })

      const rises = async (word: number, by: number) => {
        for (const wanted = words[word]! + by; Atomics.load(words, word) < wanted; ) await sleep(5)
      }
      await rises(0, 1000)
      t.ok(device.resettable)
      await device.reset()
      await rises(0, 1000)
      t.ok(words[1]! > 0, 'it was told of the reset')
      t.equal(words[2], 0, 'and got no wrong answer besides')
      const [[end]] = await Promise.all([once(worker, 'message'), device.release()])
      t.equal(end, 'ERR_ACCEL_NO_DEVICE')
      await share.ref().detached
      await transport.close()
    },
  )

  if (!skip)
    await runCell(
      t,
      'queues',
      iommu,
      (t) =>
        queuesContract(t, () => openVfio(npu, { iommu }), {
          runs,
          patience: 20,
          // An interrupt is an interrupt whichever way memory is mapped: one lane has all kinds.
          ...(iommu === 'iommufd' && { irqs: ['msix'] as const }),
        }),
      ['vfio-user-pci'],
    )
}
