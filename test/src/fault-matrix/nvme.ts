import nvme from '@uaccel/driver-nvme'
import { nvmeModel } from '@uaccel/driver-nvme/model'
import { encodeSteps } from '@uaccel/driver-nvme/uapi'
import { faultMatrix } from '@uaccel/testkit/faults'
import { buffersOf } from './buffers.js'

const BLOCK_BYTES = 512
let round = 0

export const nvmeFaults = faultMatrix(nvme, nvmeModel, {
  module: import.meta.url,
  operations: {
    async writeAndRead(dev) {
      const buffers = buffersOf(dev)
      await using buffer = await buffers.create(4096)
      const byte = (++round % 255) + 1
      const block = { buffer: 0, lba: 7, blocks: 1 } as const
      buffer.u8.fill(byte, 0, BLOCK_BYTES)
      await buffers.run({ buffers: [{ buffer }], payload: encodeSteps([{ operation: 'write', ...block }]) })
      buffer.u8.fill(0)
      await buffers.run({ buffers: [{ buffer }], payload: encodeSteps([{ operation: 'read', ...block }]) })
      return buffer.u8.subarray(0, BLOCK_BYTES).every((found) => found === byte)
    },
    async health(dev) {
      const { criticalWarning } = await dev.call('health', {})
      return !criticalWarning.readOnly
    },
  },
})
