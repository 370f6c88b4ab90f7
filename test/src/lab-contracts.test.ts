import t, { type Test } from 'tap'
import { keepPrinted } from './contracts/cells.js'
import type { Column } from './contracts/matrix.js'
import { type GuestRun, runGuest } from './guest.js'
import { smallKernel } from './iommufd-lane.js'
import { serveModel } from './serve-model.js'

t.setTimeout(2_000_000)

/** Keeps the cells for the table, and wants some of each column. */
function keep(t: Test, { exitCode, stdout, stderr }: GuestRun, wanted: readonly Column[]): void {
  const cells = keepPrinted(stdout)
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  for (const { suite, column, passed } of cells) t.ok(passed, `${suite} on ${column}`)
  t.strictSame(
    wanted.filter((column) => !cells.some((cell) => cell.column === column)),
    [],
    'ways that were not run',
  )
}

t.test('the suites on kernel VFIO, in the lab', async (t) => {
  const models = {
    model: await serveModel(t, 'edu'),
    npu: await serveModel(t, 'npu'),
    nvme: await serveModel(t, 'nvme'),
  }
  const devices = [
    'edu=port/edu',
    ...Object.entries(models).map(([name, { path }]) => `${name}=vfio-user:${path}`),
  ]
  const run = await runGuest('contracts', { devices, cpus: 2, limitMs: 1_000_000 })
  const iommufd = process.env.CI || (await smallKernel()) ? (['iommufd'] as const) : []
  keep(t, run, ['type1', ...iommufd, 'vfio-user-pci'])
  // Not of NVMe: the guest's kernel drives that before us, in ways that the strict model does not like.
  const { nvme: _, ...strict } = models
  for (const [name, model] of Object.entries(strict))
    t.same(await model.violations(), [], `the driver kept the rules of ${name}`)
})

const skip =
  !process.env.CI &&
  !(await smallKernel()) &&
  "distributions build VFIO without no-IOMMU mode (seen in Debian's 6.1)"

t.test('the suites through UIO and VFIO on a machine without IOMMU, in the lab', { skip }, async (t) => {
  const npu = await serveModel(t, 'npu')
  const devices = ['edu=port/edu', `npu=vfio-user:${npu.path}`, 'nvme']
  const machine = { iommu: false, bind: true, cpus: 2, memoryMiB: 768, hugepages: 200 }
  const run = await runGuest('contracts-bare', { devices, ...machine, limitMs: 1_000_000 })
  keep(t, run, ['uio', 'noiommu'])
  t.same(await npu.violations(), [], 'the driver kept the rules of the device')
})
