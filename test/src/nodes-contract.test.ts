import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Accel } from '@uaccel/accel'
import { openAccel } from '@uaccel/client'
import { eduModel } from '@uaccel/driver-edu/model'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { loopback } from '@uaccel/model'
import { serveNode } from '@uaccel/server'
import { clientContract, contractUapi, eduContract } from '@uaccel/testkit'
import type { Uapi } from '@uaccel/uapi'
import t from 'tap'

t.setTimeout(300_000)

const folder = mkdtempSync(join(tmpdir(), 'uaccel-nodes-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

/** Nodes that are served already: their server ends with their device. */
const served = new WeakSet<object>()

async function reach<U extends Uapi>(accel: Accel, uapi: U) {
  const node = accel.node('accel0')
  if (!served.has(node)) await serveNode(node, { folder })
  served.add(node)
  return openAccel(uapi, 'accel0', { folder })
}

t.test('a client at the other end of a node keeps the contract', async (t) => {
  clientContract(t, (accel) => reach(accel, contractUapi))
})

t.test('edu over loopback, through a node', async (t) => {
  eduContract(t, async () => loopback(eduModel), {
    transfers: 100,
    reach: (accel) => reach(accel, eduUapi),
    verify: (transport) => transport.assertClean(),
  })
})
