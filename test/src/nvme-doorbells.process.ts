// Serves the NVMe model by vfio-user on the socket of its argument, and says how often a submission doorbell was written.
import { NvmeFaults, nvmeModel } from '@uaccel/driver-nvme/model'
import { createFunction } from '@uaccel/model'
import { serveVfioUser } from '@uaccel/vfio-user'

const faults = new NvmeFaults()
const server = serveVfioUser({ path: process.argv[2]!, device: createFunction(nvmeModel, { faults }) })
process.on('message', () => process.send?.(faults.doorbells))
process.on('disconnect', () => server.close())
process.send?.('ready')
