import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

const devices = ['e1000e', 'nec-usb-xhci,msi=on,msix=off', 'edu']
const granting = (iommu: string) => `MSI by ${iommu}: as many vectors as the system grants`

t.test('interrupts of each kind of QEMU devices on kernel VFIO, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('irqs', { devices, args: ['16'] })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(
    t,
    stdout,
    iommuKinds.flatMap((iommu) => [
      granting(iommu),
      `msix of e1000e by ${iommu}`,
      `intx of e1000e by ${iommu}`,
      `resets and sleep of e1000e by ${iommu}`,
      `msix of e1000e by ${iommu}, in a worker thread`,
      `msi of edu by ${iommu}, in a worker thread`,
      `intx of edu by ${iommu}, in a worker thread`,
    ]),
  )
})

t.test('a machine that grants one MSI vector of sixteen, in the lab', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('irqs', {
    devices,
    args: ['1'],
    // x86 has several MSI vectors of one device only with interrupt remapping. Of two -append QEMU takes the last.
    qemuArgs: ['-append', 'console=ttyS0 panic=-1 no_timer_check intel_iommu=on iommu=pt intremap=off'],
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, iommuKinds.map(granting))
})
