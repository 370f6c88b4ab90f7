import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(1_200_000)

t.test('devices in worker threads on kernel VFIO, in a lab of two processors', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'npu.sock')
  const model = fork(fileURLToPath(new URL('./npu.process.js', import.meta.url)), [path])
  t.teardown(() => void model.kill())
  await Promise.race([once(model, 'message'), once(model, 'exit')])

  const { exitCode, stdout, stderr } = await runGuest('workers', {
    devices: ['edu=port/edu', `npu=vfio-user:${path}`],
    cpus: 2,
    limitMs: 1_000_000,
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(
    t,
    stdout,
    iommuKinds.flatMap((iommu) => [
      `edu in a worker thread by ${iommu}: registers, memory, interrupt, reset, release`,
      `queues of the NPU in four workers by ${iommu}`,
    ]),
  )
  model.send('violations')
  const [message] = await once(model, 'message')
  t.same(message, { violations: [] }, 'the driver kept the rules of the device')
})
