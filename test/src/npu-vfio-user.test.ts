import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { npuContract } from '@uaccel/driver-npu/contract'
import { connectVfioUser } from '@uaccel/vfio-user'
import t from 'tap'

const program = fileURLToPath(new URL('./npu.process.js', import.meta.url))
/** Random cases of each operation: UACCEL_NPU_RUNS for a long search. */
const runs = Number(process.env.UACCEL_NPU_RUNS ?? 15)

t.setTimeout(600_000)

for (const { how, trapped = false, shareMemory = true, cases } of [
  { how: 'BARs mapped', cases: runs },
  { how: 'every access trapped', trapped: true, cases: runs },
  { how: 'DMA by messages', shareMemory: false, cases: Math.ceil(runs / 5) },
]) {
  t.test(`the NPU contract over vfio-user, ${how}`, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
    const path = join(folder, 'npu.sock')
    t.teardown(() => rmSync(folder, { recursive: true }))
    const model = fork(program, [path])
    t.teardown(() => void model.kill())
    await Promise.race([once(model, 'message'), once(model, 'exit')])

    npuContract(t, () => connectVfioUser(path, { shareMemory }), { trapped, runs: cases })

    t.test('the driver kept the rules of the device', async (t) => {
      model.send('violations')
      const [message] = await once(model, 'message')
      t.same(message, { violations: [] })
    })

    t.test('its process ends in order and leaves no socket', async (t) => {
      const gone = once(model, 'exit')
      model.disconnect()
      t.same(await gone, [0, null])
      t.same(readdirSync(folder), [])
    })
  })
}
