import t from 'tap'
import { keepGuest } from './contracts/cells.js'
import { runGuest } from './guest.js'
import { smallKernel } from './iommufd-lane.js'
import { serveModel } from './serve-model.js'

t.setTimeout(2_000_000)

t.test('the suites on kernel VFIO, in the lab', async (t) => {
  const [edu, npu] = [await serveModel(t, 'edu'), await serveModel(t, 'npu')]
  const devices = ['edu=port/edu', `model=vfio-user:${edu.path}`, `npu=vfio-user:${npu.path}`]
  const run = await runGuest('contracts', { devices, cpus: 2, limitMs: 1_900_000 })
  const iommufd = process.env.CI || (await smallKernel()) ? (['iommufd'] as const) : []
  keepGuest(t, run, ['type1', ...iommufd, 'vfio-user-pci'])
  t.same(
    [...(await edu.violations()), ...(await npu.violations())],
    [],
    'the drivers kept the rules of the devices',
  )
})
