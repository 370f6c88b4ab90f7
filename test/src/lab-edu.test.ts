import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test('the edu and transport contracts on kernel VFIO, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('edu')
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, [
    ...iommuKinds.flatMap((iommu) => [
      `kernel VFIO by ${iommu} keeps the contract of transports`,
      `edu over kernel VFIO by ${iommu}, BAR mapped`,
      `edu over kernel VFIO by ${iommu}, every access trapped`,
    ]),
    'left to choose, it takes iommufd where the kernel has it',
  ])
})
