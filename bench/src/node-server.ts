// Serves a model as the node accel0, in the folder that the first argument names.
import { Accel } from '@uaccel/accel'
import edu from '@uaccel/driver-edu'
import { eduModel } from '@uaccel/driver-edu/model'
import { loopback } from '@uaccel/model'
import { serveNode } from '@uaccel/server'

const accel = new Accel()
accel.register(edu)
await serveNode(await accel.add(loopback(eduModel)), { folder: process.argv[2]! })
process.stdin.on('end', () => process.exit()).resume()
process.stdout.write('ready\n')
