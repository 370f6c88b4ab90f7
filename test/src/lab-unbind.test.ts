import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test('an administrator unbinds a busy device and binds it again, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('unbind')
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  for (const [line] of stdout.matchAll(/\d+ unbinds took.*/g)) t.comment(line)
  await repeatResults(t, stdout, [
    ...iommuKinds.map((iommu) => `a busy device is unbound and bound again, by ${iommu}`),
    'a device that somebody holds, and one that the user has no right to, are added when that has passed',
  ])
})
