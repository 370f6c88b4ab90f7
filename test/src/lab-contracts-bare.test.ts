import t from 'tap'
import { keepGuest } from './contracts/cells.js'
import { runGuest } from './guest.js'
import { smallKernel } from './iommufd-lane.js'
import { cryptoBackend, cryptoDevice } from './qemu-crypto.js'
import { serveModel } from './serve-model.js'

t.setTimeout(2_000_000)

const skip =
  !process.env.CI &&
  !(await smallKernel()) &&
  "distributions build VFIO without no-IOMMU mode (seen in Debian's 6.1)"

t.test('the suites through UIO and VFIO on a machine without IOMMU, in the lab', { skip }, async (t) => {
  const npu = await serveModel(t, 'npu')
  const devices = ['edu=port/edu', `npu=vfio-user:${npu.path}`, 'nvme', cryptoDevice(false)]
  const machine = {
    qemuArgs: cryptoBackend,
    iommu: false,
    bind: true,
    cpus: 2,
    memoryMiB: 768,
    hugepages: 200,
  }
  const run = await runGuest('contracts-bare', { devices, ...machine, limitMs: 1_900_000 })
  keepGuest(t, run, ['uio', 'noiommu'])
  t.same(await npu.violations(), [], 'the driver kept the rules of the device')
})
