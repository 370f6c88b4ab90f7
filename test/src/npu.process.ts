import { npuModel } from '@uaccel/driver-npu/model'
import { createFunction } from '@uaccel/model'
import { serveVfioUser } from '@uaccel/vfio-user'

/** Serves an NPU model in test mode on the socket that the first argument names, and tells the parent on demand what the driver did wrong. */
const device = createFunction(npuModel, { testMode: true }, { strict: false })
const server = serveVfioUser({ path: process.argv[2]!, device })
process.on('message', () => {
  process.send?.({ violations: device.violations.take().map(({ message }) => message) })
})
process.on('disconnect', () => server.close())
process.send?.({ ready: true })
