import { faultMatrix } from '@uaccel/testkit/faults'
import { myNpuModel } from '../model/index.js'
import driver from '../src/driver.js'

// The processes that run the cells import this file, so that it makes the matrix and nothing else.
export const myNpuFaults = faultMatrix(driver, myNpuModel, {
  module: import.meta.url,
  // Fast here: what a fault strikes is the sum, not the wait for it.
  model: () => ({ nsPerByte: 10 }),
  operations: {
    // Answers whether the result is right. It sets no limit: the driver's own are what is tested.
    sum: async (dev) => (await dev.call('sum', { data: Uint8Array.of(1, 2, 3) })).sum === 6,
  },
})
