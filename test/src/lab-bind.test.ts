import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test('devices are bound and given back, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('bind', {
    devices: ['edu', 'nvme'],
    // What stands behind a conventional bridge has one requester id, and so one IOMMU group.
    qemuArgs: [
      ...['-device', 'pcie-pci-bridge,id=bridge,addr=0x10'],
      ...['-device', 'edu,bus=bridge,addr=1'],
      ...['-device', 'virtio-rng-pci,bus=bridge,addr=2'],
    ],
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, [
    'a device of no driver goes to vfio-pci, and back',
    'the command, and the commands that it prints',
    'a driver that does not want the device',
    'a disk that is mounted',
    'all devices of a group',
    'a program that does not give the device up',
  ])
})
