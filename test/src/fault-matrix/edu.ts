import edu from '@uaccel/driver-edu'
import { eduModel } from '@uaccel/driver-edu/model'
import { faultMatrix } from '@uaccel/testkit/faults'

let round = 0

export const eduFaults = faultMatrix(edu, eduModel, {
  module: import.meta.url,
  operations: {
    factorial: async (dev) => (await dev.call('factorial', { n: 5 })).value === 120,
    async echo(dev) {
      // Other bytes each time: those of the time before may still be in the device.
      const data = new Uint8Array(100).fill(++round)
      return Buffer.compare((await dev.call('echo', { data })).data, data) === 0
    },
    liveness: async (dev) => (await dev.call('liveness', { value: 0x12345678 })).inverse === 0xedcba987,
  },
})
