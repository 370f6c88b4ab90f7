import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

/** edu puts 28 address bits on the bus: enough of a small machine's memory is huge pages that some lie within. */
t.test('edu through UIO, on a machine without IOMMU', async (t) => {
  const machine = { iommu: false, memoryMiB: 640, hugepages: 160 }
  const { exitCode, stdout, stderr } = await runGuest('uio', machine)
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, [
    'a device of no driver, and the commands that bind it',
    'UIO is no way without its rules',
    'edu, every access trapped',
    'in a worker thread',
    'the kernel takes the device away',
    'the same device as one of another bus: its map, and its interrupt',
  ])
})
