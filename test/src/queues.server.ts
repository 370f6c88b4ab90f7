import { Accel } from '@uaccel/accel'
import { npuDriver } from '@uaccel/driver-npu'
import { serveNode } from '@uaccel/server'
import { connectVfioUser } from '@uaccel/vfio-user'

/* Serves the NPU whose model is behind the socket argv[2] as a node in the folder argv[3], for everybody. Ends with its parent. */

const [model, folder] = process.argv.slice(2) as [string, string]
const accel = new Accel()
accel.on('error', ({ message }) => process.send?.({ error: message }))
accel.register(npuDriver())
await serveNode(await accel.add(await connectVfioUser(model)), { folder, mode: 0o666 })
process.once('disconnect', () => process.exit())
process.send?.({ served: true })
