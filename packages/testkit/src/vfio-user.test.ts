import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Accel } from '@uaccel/accel'
import edu from '@uaccel/driver-edu'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'
import t, { type Test } from 'tap'
import {
  eduBench,
  eduContract,
  irqsContract,
  leavesNothing,
  resetContract,
  transportContract,
} from './index.js'

const program = fileURLToPath(new URL('./edu.test.process.js', import.meta.url))

/** A model in a process of its own. The name of a socket is short: a folder of the test would be too deep. */
async function serve(t: Test): Promise<{ path: string; model: ChildProcess }> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'edu.sock')
  const model = fork(program, [path])
  await Promise.race([once(model, 'message'), once(model, 'exit')])
  return { path, model }
}

async function stop(model: ChildProcess): Promise<void> {
  if (model.exitCode !== null || model.signalCode !== null) return
  const gone = once(model, 'exit')
  model.disconnect()
  await gone
}

t.test('vfio-user keeps the contract of transports', async (t) => {
  const { path, model } = await serve(t)
  t.teardown(() => stop(model))
  transportContract(t, () => connectVfioUser(path), {
    vendor: 0x1234,
    device: 0x11e8,
    register: { region: 0, offset: 0, width: 4, value: 0x0100_00ed },
  })
})

for (const [how, shareMemory] of [
  ['shared memory', true],
  ['DMA by messages', false],
] as const) {
  t.test(`edu over vfio-user, ${how}`, async (t) => {
    const { path, model } = await serve(t)
    t.teardown(() => stop(model))
    eduContract(t, () => connectVfioUser(path, { shareMemory }))
    t.test('the driver kept the rules of the device', async (t) => {
      model.send('violations')
      const [message] = await once(model, 'message')
      t.same(message, { violations: [] })
    })
  })
}

t.test('interrupts and resets of edu over vfio-user', async (t) => {
  const { path, model } = await serve(t)
  t.teardown(() => stop(model))
  const open = () => connectVfioUser(path)
  for (const type of ['intx', 'msi'] as const) irqsContract(t, type, open, eduBench)
  resetContract(t, open, eduBench)
})

t.test('the device process is killed with commands in flight', async (t) => {
  let round = 0
  await leavesNothing(t, async () => {
    const { path, model } = await serve(t)
    const accel = new Accel()
    accel.register(edu)
    await accel.add(await connectVfioUser(path))
    const removed = new Promise<void>((resolve) => accel.once('removed', () => resolve()))
    const dev = accel.open(eduUapi, 'accel0')
    const outcomes = Promise.allSettled([
      dev.call('factorial', { n: 2 ** 31 }),
      dev.call('echo', { data: new Uint8Array(10) }),
    ])
    await sleep(20)
    const exit = once(model, 'exit')
    model.kill('SIGKILL')
    for (const outcome of await outcomes) {
      t.match(outcome, { status: 'rejected', reason: { code: 'ERR_ACCEL_NO_DEVICE' } }, `round ${++round}`)
    }
    await Promise.all([removed, exit])
    t.ok(await dev.lost)
    await accel.close()
  })
})
