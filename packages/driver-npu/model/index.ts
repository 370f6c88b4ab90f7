import type { ModelDefinition } from '@uaccel/model'
import { Controller } from './controller.js'
import { LMEM_SIZE, QUEUES } from './queue.js'
import type { NpuOptions } from './scheduler.js'

export type { Bug } from './arithmetic.js'
export type { NpuOptions } from './scheduler.js'

const PAGE = 4096

/** The NPU-1 as docs/devices/npu.md describes it, section 2. */
export const npuModel: ModelDefinition<NpuOptions> = {
  identity: {
    name: 'npu',
    vendor: 0xacce,
    device: 0x0001,
    revision: 0x01,
    classCode: 0x120000,
    subsystemVendor: 0xacce,
    subsystem: 0x0001,
  },
  bars: [
    { index: 0, sizeBytes: 0x8000, kind: 'mem32' },
    {
      index: 1,
      sizeBytes: QUEUES * PAGE,
      kind: 'mem32',
      memory: [{ name: 'doorbells', offset: 0, sizeBytes: QUEUES * PAGE }],
    },
    {
      index: 2,
      sizeBytes: LMEM_SIZE,
      kind: 'mem64',
      prefetchable: true,
      memory: [{ name: 'lmem', offset: 0, sizeBytes: LMEM_SIZE }],
    },
    { index: 4, sizeBytes: PAGE, kind: 'mem32' },
  ],
  capabilities: { express: true },
  interrupts: { intx: true, msix: { vectors: 1 + QUEUES, bar: 4, tableOffset: 0, pbaOffset: 0x800 } },
  create: (context, options) => new Controller(context, options),
}
export default npuModel
