// Drives the NPU on the vfio-user socket of the first argument, and serves it as accel0 in the folder of the second.
import { Accel } from '@uaccel/accel'
import { npuDriver } from '@uaccel/driver-npu'
import { serveNode } from '@uaccel/server'
import { connectVfioUser } from '@uaccel/vfio-user'

const [path, folder] = process.argv.slice(2) as [string, string]
const accel = new Accel()
accel.register(npuDriver())
await serveNode(await accel.add(await connectVfioUser(path)), { folder })
process.stdin.on('end', () => process.exit()).resume()
process.stdout.write('ready\n')
