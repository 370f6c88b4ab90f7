import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Accel } from '@uaccel/accel'
import type { Transport } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { eduModel } from '@uaccel/driver-edu/model'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { type Npu, npuDriver, npuUapi } from '@uaccel/driver-npu'
import { npuModel } from '@uaccel/driver-npu/model'
import { Faults, loopback } from '@uaccel/model'
import { leavesNothing } from '@uaccel/testkit'
import { type AccelError, isAccelError } from '@uaccel/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'
import t, { type Test } from 'tap'

const program = fileURLToPath(new URL('./npu.process.js', import.meta.url))
/** UACCEL_REMOVAL_ROUNDS for the full figure. */
const rounds = Number(process.env.UACCEL_REMOVAL_ROUNDS ?? 3)
const JOBS = 256
/** From the moment that somebody could know to the end of the last job. */
const LIMIT_MS = 100

t.setTimeout(600_000)

const errorOf = async (work: Promise<unknown>): Promise<AccelError> => {
  const error = await work.then(
    () => new Error('an error was expected'),
    (error: unknown) => error,
  )
  if (isAccelError(error)) return error
  throw error
}

/**
 * Puts 256 jobs under way and takes the device away, by `surprise`, which answers when the loss could be known. All jobs
 * and calls end with the removal error in time, and the node goes.
 */
async function loseUnderLoad(
  t: Test,
  transport: Transport,
  surprise: () => Promise<void> | void,
): Promise<void> {
  const npus: Npu[] = []
  const accel = new Accel()
  const told: string[] = []
  accel.on('error', (error) => told.push(error.message))
  accel.register(npuDriver({ onReady: (npu) => npus.push(npu) }))
  await accel.add(transport)
  const removed = new Promise<void>((resolve) => accel.once('removed', () => resolve()))
  const client = accel.open(npuUapi, 'accel0')
  const context = await npus[0]!.createContext({ ringEntries: 512 })
  const buffer = context.allocate(1 << 20)
  const job = context.encode([{ op: 'fill', y: { buffer }, length: 1 << 20, pattern: 1 }])
  let detectedAt = 0
  void client.lost.then(() => {
    detectedAt = performance.now()
  })
  const ends = Array.from({ length: JOBS }, () => errorOf(context.run(job)))
  t.equal(context.inFlight, JOBS)
  await surprise()
  const errors = await Promise.all(ends)
  const endedAt = performance.now()
  await client.lost
  t.ok(
    errors.every(({ code }) => code === 'ERR_ACCEL_NO_DEVICE'),
    `${JOBS} jobs ended with the removal error`,
  )
  t.ok(
    endedAt - detectedAt < LIMIT_MS,
    `all ended ${Math.max(0, endedAt - detectedAt)} ms after it was known`,
  )
  await removed
  t.ok(performance.now() - detectedAt < LIMIT_MS, 'and everything was given back')
  t.match(await errorOf(client.call('identify', {})), { code: 'ERR_ACCEL_NO_DEVICE' })
  t.throws(() => context.encode([{ op: 'nop' }]), { code: 'ERR_ACCEL_NO_DEVICE' })
  await context.close()
  await client.close()
  t.same(told, [], 'nothing else was to report')
  await accel.close()
}

async function serveNpu(path: string): Promise<ChildProcess> {
  const model = fork(program, [path])
  await Promise.race([once(model, 'message'), once(model, 'exit')])
  return model
}

t.test('a server of the NPU is killed under load, over and over on the same socket', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'npu.sock')
  const round = async () => {
    const model = await serveNpu(path)
    const gone = once(model, 'exit')
    await loseUnderLoad(t, await connectVfioUser(path), () => void model.kill('SIGKILL'))
    await gone
  }
  await leavesNothing(t, round, rounds)
})

for (const [how, surprise] of [
  ['vanishes', (faults: Faults) => faults.vanish()],
  ['answers all ones', (faults: Faults) => faults.allOnes()],
] as const) {
  t.test(`the NPU ${how} under load`, async (t) => {
    await leavesNothing(
      t,
      () => {
        const faults = new Faults()
        return loseUnderLoad(t, loopback(npuModel, { faults }), () => surprise(faults))
      },
      rounds,
    )
  })
}

t.test('edu answers all ones: the first command that notices ends them all', async (t) => {
  await leavesNothing(
    t,
    async () => {
      const faults = new Faults()
      const accel = new Accel()
      accel.register(edu)
      await accel.add(loopback(eduModel, { faults }))
      const removed = new Promise<void>((resolve) => accel.once('removed', () => resolve()))
      const client = accel.open(eduUapi, 'accel0')
      const first = errorOf(client.call('factorial', { n: 2 ** 31 }, { timeoutMs: 50 }))
      const waiting = [1, 2, 3].map((n) => errorOf(client.call('factorial', { n })))
      await sleep(5)
      faults.allOnes()
      t.equal((await first).code, 'ERR_ACCEL_TIMEOUT')
      const detectedAt = performance.now()
      for (const { code } of await Promise.all(waiting)) t.equal(code, 'ERR_ACCEL_NO_DEVICE')
      await removed
      t.ok(performance.now() - detectedAt < LIMIT_MS, 'without a chain of timeouts')
      await accel.close()
    },
    rounds,
  )
})
