import { type LoopbackOptions, loopback } from '@uaccel/model'
import t from 'tap'
import { type NvmeOptions, nvmeModel } from '../model/index.js'
import { nvmeContract } from './contract.js'

const verify = (transport: ReturnType<typeof open>) => transport.assertClean()
const open = (options: LoopbackOptions<NvmeOptions> = {}) => loopback(nvmeModel, options)

t.test('NVMe over loopback', async (t) =>
  nvmeContract(t, async () => open(), { verify, ios: 2000, irqs: ['msix', 'intx', 'poll'] }),
)
t.test('NVMe over loopback, blocks of 4 KiB, distant doorbells, small queues, one I/O queue', async (t) =>
  nvmeContract(
    t,
    async () =>
      open({
        model: {
          namespaces: [{ blocks: 4096, blockBytes: 4096 }],
          doorbellStride: 3,
          maxEntries: 8,
          queues: 1,
          mdts: 1,
        },
      }),
    { verify },
  ),
)
t.test('NVMe over loopback, without shadow doorbells', async (t) =>
  nvmeContract(t, async () => open({ model: { shadowDoorbells: false } }), { verify, ios: 200 }),
)
