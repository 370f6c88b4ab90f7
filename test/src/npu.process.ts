import { npuModel } from '@uaccel/driver-npu/model'
import { createFunction } from '@uaccel/model'
import { serveVfioUser } from '@uaccel/vfio-user'

/** What the process that started this one can ask: what the driver did wrong, or a misfortune of the device. */
export type NpuRequest = 'violations' | 'allOnes' | 'request' | 'error'

/** Serves an NPU model in test mode on the socket that the first argument names. */
const device = createFunction(npuModel, { testMode: true }, { strict: false })
const server = serveVfioUser({ path: process.argv[2]!, device })
process.on('message', (request: NpuRequest) => {
  if (request !== 'violations') return device.faults[request]()
  process.send?.({ violations: device.violations.take().map(({ message }) => message) })
})
process.on('disconnect', () => server.close())
process.send?.({ ready: true })
