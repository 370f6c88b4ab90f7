import { eduModel } from '@uaccel/driver-edu/model'
import { createFunction } from '@uaccel/model'
import { serveVfioUser } from '@uaccel/vfio-user'

/** Serves an edu model on the socket that the first argument names, and tells the parent on demand what the driver did wrong. */
const [path] = process.argv.slice(2)
const device = createFunction(eduModel, {}, { strict: false })
const server = serveVfioUser({ path, device })
process.on('message', () => {
  process.send?.({ violations: device.violations.take().map(({ message }) => message) })
})
process.on('disconnect', () => server.close())
process.send?.({ ready: true })
