// The TypeScript server of the region reads: one register, on the socket that the first argument names.
import { createFunction, defineModel, registerBank } from '@uaccel/model'
import { serveVfioUser } from '@uaccel/vfio-user'
import { ID_VALUE } from './region-read.js'

const device = defineModel({
  identity: { name: 'register', vendor: 0x1234, device: 0x5c7a, classCode: 0x120000 },
  bars: [{ index: 0, sizeBytes: 4096, kind: 'mem32' }],
  interrupts: {},
  create() {
    const bank = registerBank([{ name: 'ID', offset: 0, width: 4, access: 'ro', reset: ID_VALUE }])
    return {
      read: (_bar, offset, width) => bank.read(offset, width),
      write: (_bar, offset, width, value) => bank.write(offset, width, value),
      reset: () => bank.reset(),
    }
  },
})

const server = serveVfioUser({ path: process.argv[2], device: createFunction(device, {}) })
process.stdin.on('end', () => server.close()).resume()
process.stdout.write('ready\n')
