import { openAccel, openBuffers } from '@uaccel/client'
import { encodeJob, npuUapi } from '@uaccel/driver-npu/uapi'
import { isAccelError } from '@uaccel/uapi'
import t from 'tap'
import { held, nodeFolder, startServer } from './nodes.js'

/** A client that takes all that it can get, and the others. */

t.setTimeout(120_000)

const MAX_FILES = 300

t.test('objects of all opens leave a process the descriptors that it needs', async (t) => {
  const folder = nodeFolder(t)
  const { process: server } = await startServer(t, 'npu', { folder }, MAX_FILES)
  const open = () => openAccel(npuUapi, 'accel0', { folder })
  const greedy = await Promise.all([open(), open(), open()])
  const codes = new Set<string>()
  let made = 0
  for (const client of greedy) {
    const wants = Array.from({ length: 120 }, () =>
      client.common('boCreate', { sizeBytes: 4096n, flags: {} }),
    )
    for (const got of await Promise.allSettled(wants)) {
      if (got.status === 'fulfilled') made++
      else codes.add(isAccelError(got.reason) ? got.reason.code : String(got.reason))
    }
  }
  t.equal(made, MAX_FILES / 3)
  t.same([...codes], ['ERR_ACCEL_NO_MEMORY'])
  t.ok(held(server.pid!).fds < (MAX_FILES * 2) / 3)
  await using other = await open()
  t.equal((await other.query('status'))?.state, 'operational', 'others still have the device')
  await greedy[0]!.close()
  const buffers = openBuffers(other)
  const buffer = await buffers.create(4096)
  const payload = encodeJob([{ op: 'fill', y: { buffer: 0 }, length: 4, pattern: 7 }])
  await buffers.run({ buffers: [{ buffer }], payload })
  t.equal(buffer.u32[0], 7)
  await Promise.all(greedy.map((client) => client.close()))
})
