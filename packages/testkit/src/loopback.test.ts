import { eduModel } from '@uaccel/driver-edu/model'
import { loopback } from '@uaccel/model'
import t from 'tap'
import { eduContract, transportContract } from './index.js'

const open = async () => loopback(eduModel)

t.test('loopback keeps the contract of transports', async (t) => {
  transportContract(t, open, {
    vendor: 0x1234,
    device: 0x11e8,
    register: { region: 0, offset: 0, width: 4, value: 0x0100_00ed },
  })
})

t.test('edu over loopback', async (t) => {
  eduContract(t, open, { transfers: 100, verify: (transport) => transport.assertClean() })
})
