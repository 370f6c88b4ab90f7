import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test('edu on kernel VFIO with every access trapped, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('edu', { args: ['driver'] })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, [
    ...iommuKinds.map((iommu) => `edu over kernel VFIO by ${iommu}, every access trapped`),
    'left to choose, it takes iommufd where the kernel has it',
    'a trace of it has registers by name, the interrupt, the memory and the command',
  ])
})
