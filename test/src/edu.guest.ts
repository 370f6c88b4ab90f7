import { openVfio, parseBdf } from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import { eduContract } from '@uaccel/testkit'
import t from 'tap'
import { lanes } from './iommufd-lane.js'

/**
 * Runs in the lab: the contract of edu with every access trapped, through both of the kernel's interfaces for VFIO. With BARs mapped
 * contracts.guest.ts runs it.
 */
const edu = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')
if (!edu) throw new Error('UACCEL_LAB_DEVICES names no edu: run this in the lab')
// The guest is emulated: what takes 5 s elsewhere takes a minute here.
t.setTimeout(400_000)
const bdf = parseBdf(edu.bdf)

for (const { iommu, skip } of lanes()) {
  t.test(`edu over kernel VFIO by ${iommu}, every access trapped`, { skip }, async (t) => {
    eduContract(t, () => openVfio(bdf, { iommu }), { trapped: true, transfers: 2 })
  })
}

t.test('left to choose, it takes iommufd where the kernel has it', async (t) => {
  const transport = await openVfio(bdf)
  const best = lanes().findLast(({ skip }) => !skip)!
  t.match(transport.identity, { kind: 'vfio', address: bdf, iommu: best.iommu })
  await transport.close()
})
