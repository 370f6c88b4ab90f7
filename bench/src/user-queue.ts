import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Accel, openBuffers } from '@uaccel/accel'
import { openAccel } from '@uaccel/client'
import { openDevice } from '@uaccel/core'
import { Npu, type NpuContext, npuDriver } from '@uaccel/driver-npu'
import { npuModel } from '@uaccel/driver-npu/model'
import { openNpuQueue } from '@uaccel/driver-npu/queue'
import { npuUapi } from '@uaccel/driver-npu/uapi'
import { loopback, ManualClock } from '@uaccel/model'
import type { Mapping } from '@uaccel/sys'
import { connectVfioUser } from '@uaccel/vfio-user'
import { Child } from './child.js'
import { expect, type Measure } from './measure.js'
import { instantNpu, jobsOf, memoryOf, NPU_OPERATIONS } from './ring.js'

const MEMORY_BYTES = 1 << 20

/** Runs jobs of one step, so many for each doorbell, and spins until they are done. Answers the time of each in microseconds. */
function runner(context: NpuContext, batch: number): (operations: number) => [number] {
  const buffer = context.allocate(8)
  const job = context.encode([{ op: 'fill', y: { buffer }, length: 8, pattern: 1 }])
  let succeeded = 0
  const done = (error: unknown) => {
    if (error === undefined) succeeded++
  }
  return (operations) => {
    succeeded = 0
    const rounds = Math.ceil(operations / batch)
    const start = performance.now()
    for (let round = 0; round < rounds; round++) {
      for (let i = 0; i < batch; i++) context.submit(job, done)
      context.flush()
      while (context.inFlight > 0) context.poll()
    }
    const spentMs = performance.now() - start
    expect(succeeded, rounds * batch, 'jobs that succeeded')
    return [(spentMs * 1e3) / succeeded]
  }
}

/** What a job costs in the program that submits it, without the time of the device: both kinds of queue on one device. */
async function submission(measure: Measure): Promise<void> {
  const clock = new ManualClock()
  const transport = loopback(npuModel, { clock })
  const memories: Mapping[] = []
  const stepping = setInterval(() => clock.step(1_000_000), 1) // the device gets ready, its queues start and stop
  const accel = new Accel()
  try {
    const mapped = memoryOf(transport, memories)
    let npu: Npu | undefined
    const onReady = (ready: Npu) => {
      npu = ready
    }
    accel.register(npuDriver({ irq: 'poll', onReady }))
    await accel.add(transport)
    const client = accel.open(npuUapi, 'accel0')
    const memory = await openBuffers(client).create(MEMORY_BYTES)
    const { context } = await openNpuQueue(client, { memory })
    const ours = jobsOf(context, instantNpu(transport, 0, mapped))
    const theirs = jobsOf(await npu!.createContext(), instantNpu(transport, 1, mapped))
    await measure({
      rows: [
        "submit a job: queue of a client / of the driver's process",
        "complete a job: queue of a client / of the driver's process",
      ],
      unit: 'ns',
      operations: NPU_OPERATIONS,
      typescript: ours,
      c: async (operations) => theirs(operations),
    })
  } finally {
    await accel.close()
    clearInterval(stepping)
    for (const memory of memories) memory.revoke()
  }
}

/**
 * A job through a queue of the NPU, from its submission to its completion: in a client of a node, which fills the queue itself, against the
 * process that drives the device. Each has a model in a process of its own. The column of C is the driver's process here.
 */
export async function userQueue(measure: Measure): Promise<void> {
  await submission(measure)
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-bench-'))
  const children: Child[] = []
  const closing: (() => Promise<void>)[] = []
  const serve = async (script: string, ...args: string[]) => {
    const program = fileURLToPath(new URL(`${script}.js`, import.meta.url))
    const child = new Child(process.execPath, [program, ...args])
    children.push(child)
    await child.line()
  }
  try {
    const [own, served] = [join(folder, 'own.sock'), join(folder, 'served.sock')]
    await serve('npu-model-server', own)
    await serve('npu-model-server', served)
    await serve('npu-node-server', served, folder)

    const transport = await connectVfioUser(own)
    closing.push(() => transport.close())
    const device = openDevice(transport)
    closing.push(() => device.release())
    const inProcess = await (await Npu.start(device)).createContext()

    const client = await openAccel(npuUapi, 'accel0', { folder })
    closing.push(() => client.close())
    const memory = await openBuffers(client).create(MEMORY_BYTES)
    const { context: mapped } = await openNpuQueue(client, { memory })
    closing.push(() => mapped.close())

    for (const batch of [1, 64]) {
      const [ours, theirs] = [runner(mapped, batch), runner(inProcess, batch)]
      await measure({
        rows: [`round trip of a job, ${batch} per doorbell: queue of a client / of the driver's process`],
        unit: 'us',
        operations: 200 * batch,
        typescript: ours,
        c: async (operations) => theirs(operations),
      })
    }
  } finally {
    for (const close of closing.reverse()) await close()
    for (const child of children.reverse()) await child.close()
    rmSync(folder, { recursive: true, force: true })
  }
}
