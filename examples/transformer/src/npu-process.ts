// The model of the NPU in a process of its own, on the socket that the first argument names. It ends with its parent.
import { npuModel } from '@uaccel/driver-npu/model'
import { createFunction } from '@uaccel/model'
import { serveVfioUser } from '@uaccel/vfio-user'

const server = serveVfioUser({ path: process.argv[2], device: createFunction(npuModel, {}) })
process.on('disconnect', () => server.close())
process.send?.('ready')
