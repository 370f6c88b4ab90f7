import { defineModel } from '@uaccel/model'
import { Controller } from './controller.js'
import type { NvmeFaults } from './faults.js'
import type { CopyLimits } from './medium.js'

export { type FaultFilter, NvmeFaults } from './faults.js'

/** What the model is like. */
export interface NvmeOptions {
  /** Namespaces from number 1 on; one without `contents`, which is used as it is, is blank. Default: one of 16,384 blocks of 512 bytes. */
  readonly namespaces?: readonly {
    readonly blocks: number
    readonly blockBytes: number
    readonly contents?: Uint8Array
  }[]
  /** I/O queue pairs that it grants. Default 4, at most 16. */
  readonly queues?: number
  /** Entries of the largest queue. Default 256. */
  readonly maxEntries?: number
  /** Pages of the largest transfer, as a power of two; 0 is no limit. Default 5: 128 KiB. */
  readonly mdts?: number
  /** Doublings of the distance of the doorbells (CAP.DSTRD). Default 0. */
  readonly doorbellStride?: number
  /** What one copy may be: source ranges (MSRC, counted from 1), blocks of each (MSSRL), blocks of all (MCL). Default 4, 128, 256. */
  readonly copy?: CopyLimits
  /** Whether it offers shadow doorbells (Doorbell Buffer Config). Default true. */
  readonly shadowDoorbells?: boolean
  /** Time of a command. Default 2,000. */
  readonly commandNs?: number
  readonly faults?: NvmeFaults
}

const identity = {
  name: 'nvme',
  vendor: 0x1b36, // as QEMU's (docs/specs/pci-ids.rst)
  device: 0x0010,
  revision: 0x02,
  classCode: 0x010802,
  subsystemVendor: 0x1af4,
  subsystem: 0x1100,
} as const
const BAR_BYTES = 0x4000

/** An NVMe controller as the base specification 1.4 describes it, strict where that leaves the outcome open. */
export const nvmeModel = define(false)

/**
 * The same with doorbells in memory that drivers map, and worker threads with them: it looks at them by itself, as targets in user space do, and
 * sees the last value of several writes.
 */
export const nvmePolledModel = define(true)

function define(polled: boolean) {
  return defineModel<NvmeOptions>({
    identity,
    bars: [
      {
        index: 0,
        sizeBytes: BAR_BYTES,
        kind: 'mem64',
        ...(polled && { memory: [{ name: 'doorbells', offset: 0x1000, sizeBytes: 0x1000 }] }),
      },
      { index: 4, sizeBytes: 0x1000, kind: 'mem32' },
    ],
    capabilities: { express: true },
    interrupts: { intx: true, msix: { vectors: 17, bar: 4, tableOffset: 0, pbaOffset: 0x800 } },
    create: (context, options) => new Controller(context, options, polled),
  })
}
export default nvmeModel
