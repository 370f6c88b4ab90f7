import { nvmeContract } from '@uaccel/driver-nvme/contract'
import { connectVfioUser } from '@uaccel/vfio-user'
import t from 'tap'
import { serveModel } from './serve-model.js'

t.setTimeout(300_000)

/** The suite with memory shared is in contracts-vfio-user.test.ts; here each access of the device to memory is a message. */
t.test('the NVMe contract over vfio-user, DMA by messages', async (t) => {
  const model = await serveModel(t, 'nvme')
  nvmeContract(t, () => connectVfioUser(model.path, { shareMemory: false }), { ios: 200, blocks: 512 })
  t.test('the driver kept the rules of the device', async (t) => t.same(await model.violations(), []))
})
