import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Accel } from '@uaccel/accel'
import edu from '@uaccel/driver-edu'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { leavesNothing } from '@uaccel/testkit'
import { isAccelError } from '@uaccel/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'
import t from 'tap'
import { ended, forked } from './faults/bench.js'

/** Every so many messages the peer hangs up once: UACCEL_FAULT_STEP=1 for each of a session. */
const step = Number(process.env.UACCEL_FAULT_STEP ?? 5)
/** Ends within this, whatever the message: a lost peer is noticed at once, and the driver has nothing to wait for. */
const LIMIT_MS = 2000

t.setTimeout(60_000 + 600_000 / step)

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

/** Errors that no caller was told of: a lost device's release is to raise none. */
const untold: string[] = []

/** A session from the first message to the last: probe, two commands, removal. Answers the code that it ended with. */
async function session(path: string): Promise<string> {
  const accel = new Accel({ limits: { recoverMs: 300, settleMs: 200 } })
  accel.on('error', ({ message }) => untold.push(message))
  accel.register(edu)
  try {
    await accel.add(await connectVfioUser(path))
    await using client = accel.open(eduUapi, 'accel0')
    await client.call('factorial', { n: 5 })
    await client.call('echo', { data: new Uint8Array(100) })
    return 'done'
  } catch (error) {
    if (!isAccelError(error)) throw error
    const cause = isAccelError(error, 'ERR_ACCEL_PROBE_FAILED') ? error.cause : error
    return isAccelError(cause) ? cause.code : String(cause)
  } finally {
    await accel.close()
  }
}

t.test('the peer hangs up after each message of a session', async (t) => {
  const server = join(folder, 'model.sock')
  const model = await forked('model', 'edu', server)
  t.teardown(() => ended(model))

  let run = 0
  /** One session, cut off after `limit` messages. */
  async function cutOff(limit: number): Promise<{ code: string; passed: number; tookMs: number }> {
    const path = join(folder, `${run++}.sock`)
    const proxy = await forked('proxy', path, server, String(limit))
    const told = once(proxy, 'message')
    const start = performance.now()
    const code = await session(path)
    const tookMs = performance.now() - start
    const [passed] = (await told) as [number]
    await ended(proxy)
    return { code, passed, tookMs }
  }

  const whole = await cutOff(2 ** 30)
  t.equal(whole.code, 'done')
  t.ok(whole.passed > 60, `a session has ${whole.passed} messages`)

  const codes = new Map<string, number>()
  let slowest = 0
  let limit = 0
  await leavesNothing(
    t,
    async () => {
      limit += limit === 0 ? 1 : step
      if (limit > whole.passed) return
      const { code, tookMs } = await cutOff(limit)
      codes.set(code, (codes.get(code) ?? 0) + 1)
      slowest = Math.max(slowest, tookMs)
      if (tookMs > LIMIT_MS) t.fail(`hung up after message ${limit}: ended after ${tookMs} ms`)
    },
    Math.ceil(whole.passed / step),
  )
  // Before its version is agreed on the peer is no vfio-user server; after its last command the session is done.
  t.strictSame(
    [...codes.keys()].filter(
      (code) => !['ERR_ACCEL_NO_DEVICE', 'ERR_ACCEL_PROTOCOL', 'ERR_ACCEL_CLOSED', 'done'].includes(code),
    ),
    [],
  )
  t.strictSame(untold, [])
  t.ok((codes.get('ERR_ACCEL_NO_DEVICE') ?? 0) > 5)
  t.comment(
    `${[...codes].map(([code, count]) => `${count} ${code}`).join(', ')}; slowest ${slowest.toFixed(0)} ms`,
  )
})
