import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectVfioUser } from '@uaccel/vfio-user'
import t from 'tap'
import { runColumn } from './contracts/column.js'
import { ended, forked } from './faults/bench.js'
import type { ModelRequest } from './faults/model.process.js'
import type { DeviceName } from './faults/models.js'

t.setTimeout(300_000)

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

/** A model in a process of its own. */
async function serve(name: DeviceName) {
  const path = join(folder, `${name}.sock`)
  const model = await forked('model', name, path)
  t.teardown(() => ended(model))
  const violations = async () => {
    model.send('violations' satisfies ModelRequest)
    const [answer] = await once(model, 'message')
    return (answer as { violations: string[] }).violations
  }
  return { model, open: () => connectVfioUser(path), violations }
}

const [edu, npu, nvme] = [await serve('edu'), await serve('npu'), await serve('nvme')]
await runColumn(t, 'vfio-user', {
  edu: edu.open,
  npu: npu.open,
  nvme: nvme.open,
  runs: 10,
  owner: {
    async take() {
      const done = once(edu.model, 'message')
      edu.model.send({ fault: 'request', args: [] })
      await done
    },
    giveBack: async () => {}, // the model takes the next client
  },
})

for (const [name, { violations }] of Object.entries({ edu, npu, nvme }))
  t.same(await violations(), [], `the driver kept the rules of ${name}`)
