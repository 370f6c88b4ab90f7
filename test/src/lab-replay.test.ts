import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { replaying } from '@uaccel/replay'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

// As in the guest: how often the suite opens the device depends on it.
process.env.UACCEL_LEAK_ROUNDS = '1'
const { eduReplays, eduSuite } = await import('./replay-suite.js')

const folder = process.env.UACCEL_RECORDINGS ?? mkdtempSync(join(tmpdir(), 'uaccel-'))
if (process.env.UACCEL_RECORDINGS === undefined) t.teardown(() => rmSync(folder, { recursive: true }))

t.test("QEMU's edu, recorded in the lab", async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('replay')
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, [
    "edu's suite on kernel VFIO, recorded",
    'a session with some of everything',
  ])
  for (const [, name, data] of stderr.matchAll(/^recording ([\w-]+\.rec) (\S+)$/gm))
    writeFileSync(join(folder, name!), gunzipSync(Buffer.from(data!, 'base64')))
  t.ok(readdirSync(folder).length > 10)
})

t.test('its suite, without it', async (t) => {
  eduSuite(
    t,
    (n) => replaying(join(folder, `${n}.rec`), { timing: 'recorded' }), // calls are given up midway
    (device) => device.assertComplete(),
  )
})

t.test('a session on it', async (t) => {
  eduReplays(t, join(folder, 'edu-qemu.rec'))
})
