import { createFunction } from '@uaccel/model'
import { loadModel } from '@uaccel/server'
import { serveVfioUser } from '@uaccel/vfio-user'

/*
 * Serves the model that the module of the first argument exports, on the socket of the second, until its parent is gone. The third is
 * what the model takes, as JSON. Each message of the parent is answered with what the driver did wrong since the last.
 */
const [module, path, options] = process.argv.slice(2) as [string, string, string]
const device = createFunction(await loadModel(module), JSON.parse(options) as object, { strict: false })
const server = serveVfioUser({ path, device })
process.on('message', () => {
  process.send?.({ violations: device.violations.take().map(({ message }) => message) })
})
process.on('disconnect', () => server.close())
process.send?.({ ready: true })
