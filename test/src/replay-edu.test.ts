import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { eduModel } from '@uaccel/driver-edu/model'
import { loopback } from '@uaccel/model'
import { recording, replaying } from '@uaccel/replay'
import t from 'tap'
import { eduReplays, eduSession, eduSuite } from './replay-suite.js'

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
t.teardown(() => rmSync(folder, { recursive: true }))
const file = (n: number | string) => join(folder, `${n}.rec`)

t.test("edu's suite on its model, recorded", async (t) => {
  eduSuite(t, (n) => recording(loopback(eduModel), file(n)))
})

t.test('the same suite on the recordings', async (t) => {
  eduSuite(
    t,
    (n) => replaying(file(n), { timing: 'recorded' }), // calls are given up midway
    (device) => device.assertComplete(),
  )
})

t.test('a session on the model', async (t) => {
  await eduSession(recording(loopback(eduModel), file('session')))
  eduReplays(t, file('session'))
})

/** Recorded by lab-replay.test.ts, which writes it where UACCEL_RECORDINGS says. */
t.test("a session on QEMU's edu over kernel VFIO", async (t) => {
  eduReplays(t, fileURLToPath(new URL('../fixtures/edu-qemu.rec', import.meta.url)))
})
