import t from 'tap'
import { keepGuest } from './contracts/cells.js'
import { runGuest } from './guest.js'
import { smallKernel } from './iommufd-lane.js'
import { serveModel } from './serve-model.js'

t.setTimeout(2_000_000)

t.test('the suites on kernel VFIO, in the lab', async (t) => {
  const models = {
    model: await serveModel(t, 'edu'),
    npu: await serveModel(t, 'npu'),
    nvme: await serveModel(t, 'nvme'),
    crypto: await serveModel(t, 'crypto'),
  }
  const devices = [
    'edu=port/edu',
    ...Object.entries(models).map(([name, { path }]) => `${name}=vfio-user:${path}`),
  ]
  const run = await runGuest('contracts', { devices, cpus: 2, limitMs: 1_900_000 })
  const iommufd = process.env.CI || (await smallKernel()) ? (['iommufd'] as const) : []
  keepGuest(t, run, ['type1', ...iommufd, 'vfio-user-pci'])
  // Not of NVMe: the guest's kernel drives that before us, in ways that the strict model does not like.
  const { nvme: _, ...strict } = models
  for (const [name, model] of Object.entries(strict))
    t.same(await model.violations(), [], `the driver kept the rules of ${name}`)
})
