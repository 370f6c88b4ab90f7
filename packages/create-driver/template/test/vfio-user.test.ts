import { driverContract, servedModel } from '@uaccel/testkit'
import t from 'tap'
import { device } from './device.js'

// The model in a process of its own: registers by messages, memory and interrupts by descriptors, and a device that can be killed.
t.test('my-npu over vfio-user', async (t) => {
  const model = servedModel(t, new URL('../model/index.js', import.meta.url))
  driverContract(t, {
    ...device,
    open: model.connect,
    lose: model.kill,
    verify: async () => t.same(await model.violations(), [], 'the driver kept the rules of the device'),
  })
})
