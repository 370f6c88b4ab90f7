import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { connectVfioUser } from '@uaccel/vfio-user'
import t from 'tap'
import { runColumn } from './contracts/column.js'

t.setTimeout(300_000)

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

/** A model in a process of its own. */
async function serve(name: 'edu' | 'npu') {
  const path = join(folder, `${name}.sock`)
  const model = fork(fileURLToPath(new URL(`./${name}.process.js`, import.meta.url)), [path])
  t.teardown(() => void model.kill())
  await Promise.race([once(model, 'message'), once(model, 'exit')])
  return () => connectVfioUser(path)
}

const [edu, npu] = [await serve('edu'), await serve('npu')]
await runColumn(t, 'vfio-user', { edu, npu, runs: 10 })
