import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test('what iommufd offers beyond mapping, and dma-bufs, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('iommufd', { devices: ['edu', 'edu', 'nvme'] })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, [
    'what the IOMMU is and can do',
    'INFO names the interface to the IOMMU',
    'a device reaches its memory through a page table of its own',
    'a mapping is copied into another space, and the device changes over',
    'an attach narrows what later mappings get, while others exist',
    'PASIDs: page tables are made for them, and a device without any is refused',
    'a fault queue is made, and a device without page requests is refused',
    'a device writes and reads the BAR of another one',
    'an import reaches nothing once the other device is gone from the bus',
    'host memory as a dma-buf',
    'buffer objects as dma-bufs',
    'with type 1 a BAR is exported, and nothing is imported',
  ])
})
