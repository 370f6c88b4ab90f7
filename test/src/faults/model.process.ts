import { createFunction, Faults } from '@uaccel/model'
import { serveVfioUser } from '@uaccel/vfio-user'
import { type DeviceName, type FaultName, models } from './models.js'

/** What the parent asks: that a fault befall the model, or what the driver did wrong. */
export type ModelRequest = 'violations' | { readonly fault: FaultName; readonly args: readonly unknown[] }

/** Serves the model that the first argument names on the socket of the second. */
const [name, path] = process.argv.slice(2) as [DeviceName, string]
const [definition, options] = models[name]
const faults = new Faults()
const device = createFunction(definition, options, { faults, strict: false })
const server = serveVfioUser({ path, device })
process.on('message', (request: ModelRequest) => {
  if (request === 'violations') {
    process.send?.({ violations: device.violations.take().map(({ message }) => message) })
    return
  }
  const { fault, args } = request
  ;(faults[fault] as (...args: unknown[]) => void)(...args)
  process.send?.({ done: true })
})
process.on('disconnect', () => server.close())
process.send?.({ ready: true })
