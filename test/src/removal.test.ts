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
import { channelTable, type Npu, type NpuContext, type NpuJob, npuDriver, npuUapi } from '@uaccel/driver-npu'
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

/** A subsystem that drives NPUs. */
function subsystem() {
  const npus: Npu[] = []
  const accel = new Accel()
  const told: string[] = []
  accel.on('error', (error) => told.push(error.message))
  accel.register(npuDriver({ onReady: (npu) => npus.push(npu) }))
  return { accel, npus, told }
}

/** A product of two square matrices: with 200 rows some 10 ms, for the device and, in its thread, the model. */
function slowJob(context: NpuContext, size: number): NpuJob {
  const tensor = () => ({ at: { buffer: context.allocate(size * size) }, type: 'uint8' }) as const
  const table = channelTable(new Array(size).fill(0), new Array(size).fill(1))
  const channels = { buffer: context.allocateFrom(table) }
  return context.encode([
    { op: 'matmul', m: size, k: size, n: size, a: tensor(), b: tensor(), channels, y: tensor() },
  ])
}

/**
 * Adds an NPU, has it work, puts 256 jobs under way, and takes the device away by `surprise`. All jobs and calls end with the
 * removal error in time, and the node goes.
 */
async function loseUnderLoad(
  t: Test,
  { accel, npus, told }: ReturnType<typeof subsystem>,
  transport: Transport,
  surprise: () => void,
): Promise<void> {
  const { name } = await accel.add(transport)
  t.equal(name, 'accel0')
  const removed = new Promise<void>((resolve) => accel.once('removed', () => resolve()))
  const client = accel.open(npuUapi, name)
  const context = await npus.at(-1)!.createContext({ ringEntries: 512 })
  const job = slowJob(context, transport.identity.kind === 'loopback' ? 80 : 200)
  await context.run(job)
  let detectedAt = 0
  void client.lost.then(() => {
    detectedAt = performance.now()
  })
  const ends = Promise.allSettled(Array.from({ length: JOBS }, () => context.run(job)))
  t.equal(context.inFlight, JOBS)
  surprise()
  const outcomes = await ends
  const endedAt = performance.now()
  await client.lost
  // Those at the front may have been done before it happened; the device works in order.
  const lost = outcomes.slice(outcomes.findIndex(({ status }) => status === 'rejected'))
  t.ok(lost.length > JOBS / 2, 'it was under load')
  t.ok(
    lost.every((end) => end.status === 'rejected' && isAccelError(end.reason, 'ERR_ACCEL_NO_DEVICE')),
    'all jobs ended with the removal error',
  )
  t.ok(endedAt - detectedAt < LIMIT_MS, 'all ended as soon as it was known')
  await removed
  t.match(await errorOf(client.call('identify', {})), { code: 'ERR_ACCEL_NO_DEVICE' })
  t.throws(() => context.encode([{ op: 'nop' }]), { code: 'ERR_ACCEL_NO_DEVICE' })
  await context.close()
  await client.close()
  t.same(told, [], 'nothing else was to report')
}

async function serveNpu(path: string): Promise<ChildProcess> {
  const model = fork(program, [path])
  await Promise.race([once(model, 'message'), once(model, 'exit')])
  return model
}

for (const [how, surprise] of [
  ['is killed', (model: ChildProcess) => void model.kill('SIGKILL')],
  ['answers all ones', (model: ChildProcess) => void model.send('allOnes')],
] as const) {
  t.test(
    `a vfio-user server of the NPU ${how} under load; the next on its socket is probed again`,
    async (t) => {
      const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
      t.teardown(() => rmSync(folder, { recursive: true }))
      const path = join(folder, 'npu.sock')
      const round = async () => {
        const system = subsystem()
        for (let server = 0; server < 2; server++) {
          const model = await serveNpu(path)
          const gone = once(model, 'exit')
          await loseUnderLoad(t, system, await connectVfioUser(path), () => surprise(model))
          model.kill('SIGKILL')
          await gone
        }
        await system.accel.close()
      }
      await leavesNothing(t, round, rounds)
    },
  )
}

for (const [how, surprise] of [
  ['vanishes', (faults: Faults) => faults.vanish()],
  ['answers all ones', (faults: Faults) => faults.allOnes()],
] as const) {
  t.test(`the NPU ${how} under load`, async (t) => {
    await leavesNothing(
      t,
      async () => {
        const [system, faults] = [subsystem(), new Faults()]
        await loseUnderLoad(t, system, loopback(npuModel, { faults }), () => surprise(faults))
        await system.accel.close()
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
