import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test('resets and sleep of QEMU devices on kernel VFIO, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('reset', {
    devices: ['edu', 'port/edu', 'nvme'],
    qemuArgs: [
      ...['-device', 'pcie-root-port,id=shared,chassis=9,slot=9,addr=0x10'],
      ...['-device', 'edu,bus=shared,addr=0.0,multifunction=on'],
      ...['-device', 'edu,bus=shared,addr=0.1'],
    ],
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, [
    ...iommuKinds.flatMap((iommu) => [
      `a device without a reset by ${iommu}`,
      `function and hot reset, with INTx, by ${iommu}`,
      `a node is reset with a command under way by ${iommu}`,
      `two functions on one bus by ${iommu}`,
      `nvme sleeps and wakes by ${iommu}`,
    ]),
    'the way out of wedged: uaccel reset, and off the bus and on again',
  ])
})
