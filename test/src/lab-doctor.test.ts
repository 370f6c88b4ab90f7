import t from 'tap'
import { runGuest, sharedGroup } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(900_000)

t.test('what is in the way is found, and mended by the printed command, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('doctor', {
    qemuArgs: sharedGroup,
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, [
    'a device that a driver can open',
    'a device that is not bound',
    'a group of which the kernel uses another device',
    'a user without the right to the nodes',
    'a user who may lock little memory',
    'a device that a program holds',
  ])
})

t.test('a machine without an IOMMU, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('doctor-no-iommu', { iommu: false })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, ['a machine without an IOMMU', 'no-IOMMU VFIO'])
})
