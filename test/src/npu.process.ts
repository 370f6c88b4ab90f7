import { npuModel } from '@uaccel/driver-npu/model'
import { createFunction } from '@uaccel/model'
import { serveVfioUser } from '@uaccel/vfio-user'

/**
 * Serves an NPU model in test mode on the socket that the first argument names. Tells the parent on demand what the driver
 * did wrong, and has the device fail on demand.
 */
const device = createFunction(npuModel, { testMode: true }, { strict: false })
const server = serveVfioUser({ path: process.argv[2]!, device })
process.on('message', (wish) => {
  if (wish === 'allOnes') return device.faults.allOnes()
  process.send?.({ violations: device.violations.take().map(({ message }) => message) })
})
process.on('disconnect', () => server.close())
process.send?.({ ready: true })
