import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { keepPrinted } from './contracts/cells.js'
import { columns, suites } from './contracts/matrix.js'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test("QEMU's NVMe controller on kernel VFIO, in the lab", async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('nvme', {
    devices: ['nvme'],
    args: [process.env.UACCEL_NVME_IOS ?? '200'],
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  keepPrinted(stdout)
  await repeatResults(t, stdout, [
    ...iommuKinds.map((iommu) => `${suites.nvme}: ${columns[iommu]}`),
    "our driver and the kernel's read what the other wrote",
  ])
})
