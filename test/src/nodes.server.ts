import { Accel, type AccelOptions, type AnyDriver } from '@uaccel/accel'
import edu from '@uaccel/driver-edu'
import { eduModel } from '@uaccel/driver-edu/model'
import npu from '@uaccel/driver-npu'
import { npuModel } from '@uaccel/driver-npu/model'
import { loopback } from '@uaccel/model'
import { type ServeNodeOptions, serveNode } from '@uaccel/server'
import { contractDriver } from '@uaccel/testkit'

/*
 * A server of nodes in a process of its own: argv[2] is a list of devices, argv[3] the options in JSON. Says `served` when they
 * are there, and what went wrong otherwise; ends with its parent.
 */

const devices: Record<string, [driver: AnyDriver, open: () => ReturnType<typeof loopback>]> = {
  edu: [edu, () => loopback(eduModel)],
  contract: [contractDriver, () => loopback(eduModel)],
  npu: [npu, () => loopback(npuModel)],
}

const { quotas = {}, ...options } = JSON.parse(process.argv[3] ?? '{}') as ServeNodeOptions & AccelOptions
const accel = new Accel({ quotas })
accel.on('error', (error) => process.send?.({ error: error.message }))
try {
  for (const name of process.argv[2]!.split(',')) {
    const [driver, open] = devices[name]!
    accel.register(driver)
    await serveNode(await accel.add(open()), options)
  }
  process.send?.({ served: accel.nodes.map(({ name }) => name) })
} catch (error) {
  const { code, message } = error as Error & { code?: string }
  process.send?.({ code, message })
}
process.once('disconnect', () => process.exit())
