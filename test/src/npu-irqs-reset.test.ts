import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { npuBench } from '@uaccel/driver-npu/contract'
import { npuModel } from '@uaccel/driver-npu/model'
import { loopback } from '@uaccel/model'
import { irqsContract, resetContract } from '@uaccel/testkit'
import { connectVfioUser } from '@uaccel/vfio-user'
import t from 'tap'

t.setTimeout(300_000)

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
const path = join(folder, 'npu.sock')
const model = fork(fileURLToPath(new URL('./npu.process.js', import.meta.url)), [path])
t.teardown(() => {
  model.kill()
  rmSync(folder, { recursive: true, force: true })
})
await Promise.race([once(model, 'message'), once(model, 'exit')])

for (const [name, open] of [
  ['loopback', async () => loopback(npuModel)],
  ['vfio-user', () => connectVfioUser(path)],
] as const) {
  for (const type of ['msix', 'intx'] as const) {
    t.test(`${type} of the NPU over ${name}`, async (t) => irqsContract(t, type, open, npuBench))
    t.test(`resets of the NPU over ${name}, with ${type}`, async (t) => {
      resetContract(t, open, npuBench, { type, rounds: 3 })
    })
  }
}

for (const type of ['msix', 'intx'] as const) {
  t.test(`${type} of the NPU over vfio-user, in a worker thread`, async (t) => {
    const worker = new Worker(new URL('./npu-irqs.worker.js', import.meta.url), {
      workerData: { type, path },
    })
    const [[failures]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    t.same(failures, [])
  })
}
