import npu from '@uaccel/driver-npu'
import { npuModel } from '@uaccel/driver-npu/model'
import { encodeJob } from '@uaccel/driver-npu/uapi'
import { faultMatrix } from '@uaccel/testkit/faults'
import { buffersOf } from './buffers.js'

const LENGTH = 4096
let round = 0

export const npuFaults = faultMatrix(npu, npuModel, {
  module: import.meta.url,
  operations: {
    async fill(dev) {
      const buffers = buffersOf(dev)
      await using buffer = await buffers.create(LENGTH)
      const byte = (++round % 255) + 1
      const step = { op: 'fill', y: { buffer: 0 }, length: LENGTH, pattern: byte * 0x01010101 } as const
      await buffers.run({ buffers: [{ buffer }], payload: encodeJob([step]) })
      return buffer.u8.every((found) => found === byte)
    },
    async counters(dev) {
      const { descriptors } = await dev.call('counters', { clear: false })
      return descriptors < 1000n
    },
    async restart(dev) {
      await dev.call('reset', {})
      return true
    },
  },
})
