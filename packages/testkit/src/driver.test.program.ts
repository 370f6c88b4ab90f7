import { accelDriver } from '@uaccel/accel'
import edu from '@uaccel/driver-edu'
import { eduModel } from '@uaccel/driver-edu/model'
import { loopback } from '@uaccel/model'
import t from 'tap'
import { driverContract, eduUnderTest } from './index.js'

/** The suite of drivers on a driver of edu with the error that the first argument names, if any. */
const [bug] = process.argv.slice(2)

const driver = accelDriver({
  ...edu,
  async probe(dev) {
    const { recover, ...probed } = await edu.probe(dev)
    if (bug === 'no recover') return probed
    // Says that the device is idle while it computes: the next number is not taken.
    if (bug === 'hasty recover') return { ...probed, recover() {} }
    const broken = {
      show() {
        throw new Error('a register that is not there any more')
      },
    }
    const attributes = bug === 'broken attribute' ? { ...probed.attributes, broken } : probed.attributes!
    return { ...probed, recover: recover!, attributes }
  },
})

driverContract(t, {
  ...eduUnderTest,
  driver,
  open: async () => loopback(eduModel),
  lose: (transport) => transport.vanish(),
  verify: (transport) => transport.assertClean(),
})
