import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults, smallKernel } from './iommufd-lane.js'

t.setTimeout(600_000)

const skip =
  !process.env.CI &&
  !(await smallKernel()) &&
  "distributions build VFIO without no-IOMMU mode (seen in Debian's 6.1)"

/** edu puts 28 address bits on the bus: enough of a small machine's memory is huge pages that some lie within. */
t.test('edu through VFIO, on a machine without IOMMU', { skip }, async (t) => {
  const machine = { iommu: false, memoryMiB: 640, hugepages: 160, bind: true }
  const { exitCode, stdout, stderr } = await runGuest('noiommu', machine)
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, [
    'VFIO without an IOMMU is no way without its rules',
    'who names an interface to the IOMMU gets none without one',
    'the kernel allows it no more',
    'edu, every access trapped',
  ])
})
