import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { openBuffers } from '@uaccel/accel'
import { openAccel } from '@uaccel/client'
import { encodeJob, npuUapi } from '@uaccel/driver-npu/uapi'
import t, { type Test } from 'tap'
import { eventually, nodeFolder, startProcess } from './nodes.js'

t.setTimeout(300_000)

/** Bytes of each buffer, the victim's too. */
const SIZE = 1 << 16
/** What the late transfer writes. */
const LATE = 0xdd
/** Buffers of the client that comes next: one for each lane of the NPU's driver that the victim does not hold. */
const NEXT = 3

async function ask(server: ChildProcess, word: 'hang' | 'go' | 'state') {
  const answered = once(server, 'message')
  server.send(word)
  const [state] = await answered
  return state as { quarantinedBytes: number; violations: readonly string[] }
}

/** Kills a client whose job the device has not begun, and has it come late. Answers which buffers of the next client it wrote to. */
async function lateAfterKill(t: Test, ...how: 'careless'[]) {
  const folder = nodeFolder(t)
  const { process: server } = await startProcess(t, './late.server.js', [folder, ...how])
  const dev = await openAccel(npuUapi, 'accel0', { folder })
  const buffers = openBuffers(dev)
  const attribute = async (path: string) => Number((await dev.common('attrShow', { path })).value)
  const written = () => attribute('performance/bytesWritten')
  // All lanes are up from now on: to open one is not for a device that hangs.
  const warm = await Promise.all(Array.from({ length: NEXT + 1 }, () => buffers.create(16 * SIZE)))
  const payload = encodeJob([{ op: 'fill', y: { buffer: 0 }, length: 16 * SIZE, pattern: 0 }])
  await Promise.all(warm.map((buffer) => buffers.run({ buffers: [{ buffer }], payload })))
  const mapped = await attribute('dma/mappedBytes')
  const { process: victim } = await startProcess(t, './jobs.client.js', ['victim', folder, 'accel0'])
  const begun = warm.length * 16 * SIZE
  t.equal(await written(), begun, 'the device is at rest')
  await ask(server, 'hang')
  const submitted = once(victim, 'message')
  victim.send('submit')
  await submitted
  victim.kill('SIGKILL')
  await once(victim, 'exit')
  // The end of its open is that nobody can name its memory any more; whether that is kept is the question.
  const quarantined = async () => (await ask(server, 'state')).quarantinedBytes
  t.ok(
    await eventually(
      async () => (await quarantined()) > 0 || (await attribute('dma/mappedBytes')) === mapped,
    ),
    'its open is gone',
  )
  const quarantinedBytes = await quarantined()
  const next = await Promise.all(Array.from({ length: NEXT }, () => buffers.create(SIZE)))
  const nop = encodeJob([{ op: 'nop' }])
  // Which maps them, where the device is to find them.
  for (const buffer of next) await buffers.submit({ buffers: [{ buffer }], payload: nop })
  await ask(server, 'go')
  t.ok(await eventually(async () => (await written()) === begun + SIZE), 'it came late')
  t.ok(await eventually(async () => (await quarantined()) === 0), 'and is given back after that')
  const hit = next.map((buffer) => buffer.u8.filter((byte) => byte === LATE).length)
  const { violations } = await ask(server, 'state')
  await dev.close()
  return { quarantinedBytes, hit, violations }
}

t.test('late DMA of a client that was killed lands in memory that nobody else has', async (t) => {
  const { quarantinedBytes, hit, violations } = await lateAfterKill(t)
  t.equal(quarantinedBytes, SIZE, 'its memory was kept')
  t.same(hit, Array(NEXT).fill(0))
  t.same(violations, [], 'and no transfer met a hole')
})

t.test('without that it lands in the memory of the next client: so the test above can fail', async (t) => {
  const { quarantinedBytes, hit } = await lateAfterKill(t, 'careless')
  t.equal(quarantinedBytes, 0)
  t.same(hit.sort(), [0, 0, SIZE])
})
