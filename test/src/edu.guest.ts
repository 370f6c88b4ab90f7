import { openVfio, parseBdf } from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import { eduContract, transportContract } from '@uaccel/testkit'
import t from 'tap'

/** Runs in the lab: the contracts on QEMU's own edu device, through the kernel's VFIO. */
const edu = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')
if (!edu) throw new Error('UACCEL_LAB_DEVICES names no edu: run this in the lab')
// The guest is emulated: what takes 5 s elsewhere takes a minute here.
t.setTimeout(400_000)
const open = () => openVfio(parseBdf(edu.bdf))

t.test('kernel VFIO keeps the contract of transports', async (t) => {
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
  t.test(`edu over kernel VFIO, ${how}`, async (t) => {
    eduContract(t, open, { trapped, transfers: 4 })
  })
}
