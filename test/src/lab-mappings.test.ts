import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test('what many small buffers cost the kernel, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('mappings')
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  for (const [line] of stdout.matchAll(/\d+ kernel mappings/g)) t.comment(line)
  await repeatResults(
    t,
    stdout,
    iommuKinds.map((iommu) => `10000 small buffers by ${iommu}`),
  )
})
