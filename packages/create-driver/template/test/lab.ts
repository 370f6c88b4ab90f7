import { fileURLToPath } from 'node:url'
import { runInLab } from '@uaccel/lab'
import { servedModel } from '@uaccel/testkit'
import t from 'tap'

t.setTimeout(900_000) // the first run fetches QEMU and a kernel

// The model is plugged into an emulated PC as a PCI device. There Linux enumerates it, gives it to vfio-pci, and the driver opens it as
// it will open your board: real configuration space, real IOMMU, real interrupts. Neither KVM nor root is needed.
t.test('my-npu on kernel VFIO', async (t) => {
  const model = servedModel(t, new URL('../model/index.js', import.meta.url))
  await model.start()
  const { exitCode } = await runInLab({
    command: [process.execPath, fileURLToPath(new URL('./hardware.js', import.meta.url))],
    // Behind a root port, alone on its bus: it can be reset by that.
    devices: [`my-npu=port/vfio-user:${model.path}`],
    limitMs: 600_000,
    stdout: process.stdout,
    stderr: process.stderr,
    onProgress: ({ stage, message, fraction }) => {
      if (fraction === undefined) process.stderr.write(`# lab: ${stage} ${message}\n`)
    },
  })
  t.equal(exitCode, 0, 'the contract holds in the guest')
  t.same(await model.violations(), [], 'the driver kept the rules of the device')
})
