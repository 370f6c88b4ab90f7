import { parentPort } from 'node:worker_threads'
import { type IommuKind, openVfio, type VectorType } from '@uaccel/core'
import { EventFd, watch } from '@uaccel/sys'
import { eduBench, irqFailures } from '@uaccel/testkit'
import { e1000eBench } from './e1000e.js'

/** What the thread is asked to run; it answers what failed. Devices are opened in this thread, and all of it happens here. */
export interface IrqsRun {
  readonly name: 'edu' | 'e1000e'
  readonly bdf: string
  readonly iommu: IommuKind
  readonly type: VectorType
}

const benches = { edu: eduBench, e1000e: e1000eBench }

// While one watch stays, the thread that waits for interrupts is not started anew for each device: a second where the processor is emulated.
const kept = watch(new EventFd().fd, () => {}, { ref: false })

parentPort!.on('message', async ({ name, bdf, iommu, type }: IrqsRun) => {
  parentPort!.postMessage(await irqFailures(type, () => openVfio(bdf, { iommu }), benches[name]))
})

// Up with all that it holds: who counts descriptors begins after that.
await kept.started
parentPort!.postMessage('up')
