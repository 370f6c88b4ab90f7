import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'
import { serveModel } from './serve-model.js'

t.setTimeout(600_000)

// QEMU 11.1 neither arms a server's request interrupt nor survives to unplug a vfio-user device with MSI-X: the guest's own
// administrator has to do it.
t.test('our model of the NPU is taken from a guest that uses it, and comes back', async (t) => {
  const npu = await serveModel(t, 'npu')
  const { exitCode, stdout, stderr } = await runGuest('npu-removal', {
    devices: [`npu=vfio-user:${npu.path}`],
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  for (const [line] of stdout.matchAll(/ms in each round: .*/g)) t.comment(line)
  await repeatResults(
    t,
    stdout,
    iommuKinds.map((iommu) => `an administrator takes a busy NPU and gives it back, by ${iommu}`),
  )
  t.same(await npu.violations(), [], 'the driver kept the rules of the device')
})
