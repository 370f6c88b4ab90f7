import { openVfio, type VfioOptions } from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import t from 'tap'
import { Administrator } from './administrator.js'
import { runColumn, type Ways } from './contracts/column.js'
import { hugeBuffers } from './huge-buffers.js'
import { lanes } from './iommufd-lane.js'

/**
 * Runs in the lab: the suites on kernel VFIO, with QEMU's own edu and with our models as devices of QEMU's. What the NPU does there is
 * in npu.guest.ts and workers.guest.ts; QEMU's NVMe controller is in nvme.guest.ts, its
 * crypto device in virtio-crypto.guest.ts.
 */
const devices = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '')
const bdfOf = (wanted: string) => devices.find(({ name }) => name === wanted)!.bdf
const driver = '/sys/bus/pci/drivers/vfio-pci'
const administrator = new Administrator()

t.setTimeout(1_800_000)
hugeBuffers()

function ways(edu: string, options: VfioOptions): Ways {
  return {
    edu: () => openVfio(edu, options),
    npu: () => openVfio(bdfOf('npu'), options),
    nvme: () => openVfio(bdfOf('nvme'), options),
    crypto: () => openVfio(bdfOf('crypto'), options),
    runs: 3,
    owner: {
      async take() {
        await administrator.write(`${driver}/unbind`, edu)
      },
      async giveBack() {
        await administrator.write(`${driver}/bind`, edu)
      },
    },
  }
}

for (const { iommu, skip } of lanes()) {
  if (!skip)
    await runColumn(t, iommu, ways(bdfOf('edu'), { iommu }), [
      'npu',
      'queues',
      'nvme',
      'nvmeQueues',
      'crypto',
    ])
}
await runColumn(t, 'vfio-user-pci', ways(bdfOf('model'), {}), ['npu', 'queues'])
