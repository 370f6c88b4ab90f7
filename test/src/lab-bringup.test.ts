import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test('bring-up aids on kernel VFIO, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('bringup', { devices: ['edu', 'nvme'] })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, [
    'config space as sysfs has it',
    ...iommuKinds.map((iommu) => `an interrupt that the kernel fires, by ${iommu}`),
    'DMA through the device: bytes, and the width that QEMU gives it',
    'an access that the IOMMU refuses, as the kernel logs it',
  ])
})
