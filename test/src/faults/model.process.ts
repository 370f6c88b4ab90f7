import { createFunction, Faults } from '@uaccel/model'
import { serveVfioUser } from '@uaccel/vfio-user'
import { type DeviceName, type FaultName, models } from './models.js'

/** Serves the model that the first argument names on the socket of the second, and lets the parent's messages befall it. */
const [name, path] = process.argv.slice(2) as [DeviceName, string]
const [definition, options] = models[name]
const faults = new Faults()
const device = createFunction(definition, options, { faults, strict: false })
const server = serveVfioUser({ path, device })
process.on('message', ({ fault, args }: { fault: FaultName; args: number[] }) => {
  ;(faults[fault] as (...args: unknown[]) => void)(...args)
  process.send?.({ done: true })
})
process.on('disconnect', () => server.close())
process.send?.({ ready: true })
