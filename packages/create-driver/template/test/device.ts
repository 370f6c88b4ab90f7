import type { DriverUnderTest } from '@uaccel/testkit'
import driver from '../src/driver.js'
import { MAX_BYTES, type myNpuUapi } from '../src/uapi.js'

/** What the contract asks of a driver; it runs the same on every way to the device. */
export const device: DriverUnderTest<typeof myNpuUapi> = {
  driver,
  // Bytes are drawn anew for each call: an answer that is left over from the one before is noticed.
  async works(dev, options) {
    const data = crypto.getRandomValues(new Uint8Array(16))
    const { sum } = await dev.call('sum', { data }, options)
    const wanted = data.reduce((a, b) => a + b, 0)
    if (sum !== wanted) throw new Error(`the sum of ${data} is ${wanted}, not ${sum}`)
  },
  // Long enough to be given up midway.
  slow: (dev, options) => dev.call('sum', { data: new Uint8Array(MAX_BYTES).fill(1) }, options),
}
