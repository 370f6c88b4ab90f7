import { mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { openVfio, parseBdf } from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import { recording } from '@uaccel/replay'
import t from 'tap'
import { eduSession, eduSuite } from './replay-suite.js'

/** Runs in the lab: edu's suite on QEMU's device over kernel VFIO, with a recording of each open, which go to the host by standard error. */
const edu = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')
if (!edu) throw new Error('UACCEL_LAB_DEVICES names no edu: run this in the lab')
t.setTimeout(400_000)
const bdf = parseBdf(edu.bdf)
const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))

t.test("edu's suite on kernel VFIO, recorded", async (t) => {
  eduSuite(t, async (n) => recording(await openVfio(bdf), join(folder, `${n}.rec`)))
})

t.test('a session with some of everything', async () => {
  await eduSession(recording(await openVfio(bdf), join(folder, 'edu-qemu.rec')))
})

t.teardown(() => {
  for (const name of readdirSync(folder))
    process.stderr.write(
      `recording ${name} ${gzipSync(readFileSync(join(folder, name))).toString('base64')}\n`,
    )
})
