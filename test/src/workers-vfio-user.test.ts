import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { queuesContract } from '@uaccel/driver-npu/contract'
import { connectVfioUser } from '@uaccel/vfio-user'
import t from 'tap'

t.setTimeout(300_000)

t.test('queues in worker threads, over vfio-user', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'npu.sock')
  let model: ChildProcess | undefined
  const serve = async () => {
    rmSync(path, { force: true })
    model = fork(fileURLToPath(new URL('./npu.process.js', import.meta.url)), [path])
    await Promise.race([once(model, 'message'), once(model, 'exit')])
  }
  t.teardown(() => void model?.kill())

  queuesContract(
    t,
    async () => {
      if (model === undefined || model.killed) await serve()
      return connectVfioUser(path)
    },
    { vanish: () => void model?.kill('SIGKILL') },
  )

  t.test('the driver kept the rules of the device', async (t) => {
    model!.send('violations')
    const [message] = await once(model!, 'message')
    t.same(message, { violations: [] })
  })
})
