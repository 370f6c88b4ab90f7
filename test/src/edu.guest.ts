import { openVfio, parseBdf } from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import { eduContract, transportContract } from '@uaccel/testkit'
import t from 'tap'
import { lanes } from './iommufd-lane.js'

/** Runs in the lab: the contracts on QEMU's own edu device, through both of the kernel's interfaces for VFIO. */
const edu = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')
if (!edu) throw new Error('UACCEL_LAB_DEVICES names no edu: run this in the lab')
// The guest is emulated: what takes 5 s elsewhere takes a minute here.
t.setTimeout(400_000)
const bdf = parseBdf(edu.bdf)

for (const { iommu, skip } of lanes()) {
  const open = () => openVfio(bdf, { iommu })

  t.test(`kernel VFIO by ${iommu} keeps the contract of transports`, { skip }, async (t) => {
    transportContract(t, open, {
      vendor: 0x1234,
      device: 0x11e8,
      register: { region: 0, offset: 0, width: 4, value: 0x0100_00ed },
    })
  })

  for (const [how, trapped] of [
    ['BAR mapped', false],
    ['every access trapped', true],
  ] as const) {
    t.test(`edu over kernel VFIO by ${iommu}, ${how}`, { skip }, async (t) => {
      eduContract(t, open, { trapped, transfers: 4 })
    })
  }
}

t.test('left to choose, it takes iommufd where the kernel has it', async (t) => {
  const transport = await openVfio(bdf)
  const best = lanes().findLast(({ skip }) => !skip)!
  t.match(transport.identity, { kind: 'vfio', address: bdf, iommu: best.iommu })
  await transport.close()
})
