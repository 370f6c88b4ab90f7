// Serves an NPU model by vfio-user, on the socket that the first argument names.
import { npuModel } from '@uaccel/driver-npu/model'
import { createFunction } from '@uaccel/model'
import { serveVfioUser } from '@uaccel/vfio-user'

const server = serveVfioUser({ path: process.argv[2]!, device: createFunction(npuModel, {}) })
process.stdin.on('end', () => server.close()).resume()
process.stdout.write('ready\n')
