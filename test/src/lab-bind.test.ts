import t from 'tap'
import { runGuest, sharedGroup } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test('devices are bound and given back, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('bind', {
    devices: ['edu', 'nvme'],
    qemuArgs: sharedGroup,
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
