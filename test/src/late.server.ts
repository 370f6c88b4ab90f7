import { Accel, accelDriver } from '@uaccel/accel'
import { npuDriver } from '@uaccel/driver-npu'
import { npuModel } from '@uaccel/driver-npu/model'
import { loopback } from '@uaccel/model'
import { serveNode } from '@uaccel/server'

/*
 * A server of an NPU that can be made to come late: argv[2] is the folder. With `careless` as argv[3] its driver says of each job at once
 * that the device is done with it, so that nothing keeps the memory of a client that dies. Told `hang` and `go`, answers how things are.
 */

const careless = process.argv[3] === 'careless'
const driver = npuDriver()
const transport = loopback(npuModel, { strict: !careless })
const accel = new Accel()
accel.register(
  accelDriver({
    ...driver,
    async probe(dev) {
      const probed = await driver.probe(dev)
      if (!careless) return probed
      return {
        ...probed,
        submit: (job, context) => void Promise.resolve(probed.submit!(job, context)).catch(() => {}),
      }
    },
  }),
)
const node = await accel.add(transport)
await serveNode(node, { folder: process.argv[2]! })
process.on('message', (word) => {
  if (word === 'hang') transport.faults.hang()
  if (word === 'go') transport.faults.hang(false)
  process.send?.({
    quarantinedBytes: node.work.quarantinedBytes,
    violations: transport.violations.map(String),
  })
})
process.once('disconnect', () => process.exit())
process.send?.({ served: node.name })
