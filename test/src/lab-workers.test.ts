import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { keepPrinted } from './contracts/cells.js'
import { columns, suites } from './contracts/matrix.js'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'
import { serveModel } from './serve-model.js'

t.setTimeout(2_000_000)

t.test('devices in worker threads on kernel VFIO, in a lab of two processors', async (t) => {
  const npu = await serveModel(t, 'npu')
  const { exitCode, stdout, stderr } = await runGuest('workers', {
    devices: ['edu=port/edu', `npu=vfio-user:${npu.path}`],
    cpus: 2,
    limitMs: 1_900_000,
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  keepPrinted(stdout)
  await repeatResults(
    t,
    stdout,
    iommuKinds.flatMap((iommu) => [
      `edu in a worker thread by ${iommu}: registers, memory, interrupt, reset, release`,
      `${suites.queues}: ${columns[iommu]}`,
    ]),
  )
  t.same(await npu.violations(), [], 'the driver kept the rules of the device')
})
