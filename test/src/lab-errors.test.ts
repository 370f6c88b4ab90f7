import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { runGuest, sharedGroup } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test('what the kernel answers where something is in the way, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('errors', {
    qemuArgs: sharedGroup,
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  const lanes = (name: string) => iommuKinds.map((iommu) => `${name}, by ${iommu}`)
  await repeatResults(t, stdout, [
    'a device that does not exist',
    'a device that belongs to a kernel driver',
    'a device of no driver is bound with the commands that the error gives',
    ...lanes('a group of which the kernel uses another device'),
    'the same when that device is unbound with the command that the error gives',
    ...lanes('two devices of one group at once'),
    'a user without the right to any node',
    ...lanes('a user without the right to a node'),
    ...lanes('memory that the user may not lock'),
    ...lanes('a device that is open already, here and in another process'),
    ...lanes('the kernel takes a device back that is in use'),
  ])
})
