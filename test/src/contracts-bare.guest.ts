import { openUio, openVfio, type Transport } from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import t from 'tap'
import { Administrator } from './administrator.js'
import { runColumn } from './contracts/column.js'
import type { Column } from './contracts/matrix.js'
import { rebind } from './rebind.js'

/** Runs in the lab, on a machine without IOMMU: the suites through UIO and through VFIO's mode for that. */
const devices = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '')
const bdfOf = (wanted: string) => devices.find(({ name }) => name === wanted)!.bdf
const [edu, npu, nvme, crypto] = ['edu', 'npu', 'nvme', 'crypto'].map(bdfOf) as [
  string,
  string,
  string,
  string,
]
const administrator = new Administrator()

t.setTimeout(1_800_000)

const ways: readonly [column: Column, driver: string, open: (bdf: string) => Promise<Transport>][] = [
  ['uio', 'uio_pci_generic', (bdf) => openUio(bdf, { allowNoIommu: true })],
  ['noiommu', 'vfio-pci', (bdf) => openVfio(bdf, { allowNoIommu: true })],
]

for (const [column, driver, open] of ways) {
  for (const bdf of [edu, npu, nvme, crypto]) rebind(bdf, driver)
  const folder = `/sys/bus/pci/drivers/${driver}`
  await runColumn(t, column, {
    edu: () => open(edu),
    npu: () => open(npu),
    nvme: () => open(nvme),
    crypto: () => open(crypto),
    runs: 2,
    patience: 20,
    ...(column === 'uio' && { interrupts: ['intx'] }),
    queueIrqs: [column === 'uio' ? 'intx' : 'msix'], // one kind each: an emulated processor takes its time
    owner: {
      async take() {
        await administrator.write(`${folder}/unbind`, edu)
      },
      async giveBack() {
        await administrator.write(`${folder}/bind`, edu)
      },
    },
  })
}
