import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Accel } from '@uaccel/accel'
import { openAccel } from '@uaccel/client'
import { eduModel } from '@uaccel/driver-edu/model'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { loopback } from '@uaccel/model'
import { serveNode } from '@uaccel/server'
import { eduContract } from '@uaccel/testkit'
import t from 'tap'

const folder = mkdtempSync(join(tmpdir(), 'uaccel-nodes-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

/** Nodes that are served already: their server ends with their device. */
const served = new WeakSet<object>()

async function reach(accel: Accel) {
  const node = accel.node('accel0')
  if (!served.has(node)) await serveNode(node, { folder })
  served.add(node)
  return openAccel(eduUapi, 'accel0', { folder })
}

t.test('edu over loopback, through a node', async (t) => {
  eduContract(t, async () => loopback(eduModel), {
    transfers: 100,
    reach,
    verify: (transport) => transport.assertClean(),
  })
})
