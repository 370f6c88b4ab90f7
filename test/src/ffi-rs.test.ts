import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { start } from './uaccel.js'

const session = fileURLToPath(new URL('./edu.session.js', import.meta.url))

t.test('an edu session over the second FFI provider, on both sides', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const socket = join(folder, 'edu.sock')
  const env = { UACCEL_FFI: 'ffi-rs' }
  const model = start(['model', 'edu', '--socket', socket], { env })
  t.teardown(() => void model.kill('SIGKILL'))
  await once(model.stderr!, 'data')

  const client = spawn(process.execPath, [session, socket], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [output, [code]] = await Promise.all([text(client.stdout), once(client, 'close')])
  t.equal(code, 0)
  t.strictSame(JSON.parse(output), {
    provider: 'ffi-rs',
    version: { major: 1, minor: 0 },
    value: 479001600,
    same: true,
    interrupts: { type: 'msi', count: 3 },
    left: [],
  })

  const exit = once(model, 'exit')
  model.kill('SIGTERM')
  t.same(await exit, [0, null])
  t.same(readdirSync(folder), [])
})
