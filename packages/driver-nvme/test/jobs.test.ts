import { setTimeout as sleep } from 'node:timers/promises'
import type { DmaRegion } from '@uaccel/memory'
import { type Loopback, loopback } from '@uaccel/model'
import { accelError } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { NvmeFaults, nvmeModel } from '../model/index.js'
import { encodeSteps, type Nvme, type NvmeStep } from '../src/driver.js'
import { withNvme } from './bench.js'

interface Case {
  readonly nvme: Nvme
  readonly faults: NvmeFaults
  readonly transport: Loopback
  run(...steps: NvmeStep[]): Promise<unknown>
}

const TIMEOUT_MS = 400
const read: NvmeStep = { operation: 'read', buffer: 0, lba: 0, blocks: 1 }
const deallocate: NvmeStep = { operation: 'deallocate', lba: 0, blocks: 1 }

const withJobs = (t: Test, work: (bench: Case) => Promise<void>) => {
  const faults = new NvmeFaults()
  return withNvme(
    async () => loopback(nvmeModel, { model: { faults } }),
    async ({ nvme, buffers }, transport) => {
      const buffer = await buffers.create(4096)
      const run = (...steps: NvmeStep[]) =>
        buffers.run({ buffers: [{ buffer }], payload: encodeSteps(steps) })
      await work({ nvme, faults, transport, run })
      transport.assertClean()
      t.pass('no rule of the device was broken')
    },
    { timeoutMs: TIMEOUT_MS },
  )
}

t.test('a job whose last command was acknowledged before a reset has ended well', async (t) =>
  withJobs(t, async ({ nvme, transport, run }) => {
    transport.faults.lostInterrupt()
    const done = run(read).then(
      () => 'done',
      (error: Error) => error.message,
    )
    while (!nvme.queues.some((queue) => queue.peekAhead(0))) await sleep(1) // and nobody is told
    await nvme.reset(accelError('ERR_ACCEL_AGAIN', 'a reset in mid-job'))
    t.equal(await done, 'done')
    t.equal(nvme.resets, 1)
  }),
)

t.test('where there is no memory for a list of ranges, the commands before it are announced', async (t) =>
  withJobs(t, async ({ nvme, faults, run }) => {
    nvme.allocate = () => {
      throw accelError('ERR_ACCEL_NO_MEMORY', 'there is none')
    }
    await t.rejects(run(read, deallocate), { code: 'ERR_ACCEL_NO_MEMORY' })
    t.equal(faults.received.get(0x108), undefined, 'none was late')
    t.equal(nvme.resets, 0)
  }),
)

t.test('a list that the device may still read is not given back', async (t) =>
  withJobs(t, async ({ nvme, faults, run }) => {
    const lists: DmaRegion[] = []
    const { allocate } = nvme
    nvme.allocate = (sizeBytes) => {
      const list = allocate.call(nvme, sizeBytes)
      lists.push(list)
      return list
    }
    for (const idle of [true, false]) {
      faults.stick({ opcode: 9 })
      const received = () => faults.received.get(9)
      const before = received()
      const failed = t.rejects(run(deallocate))
      while (received() === before) await sleep(1)
      const error = accelError('ERR_ACCEL_AGAIN', 'it did not come to rest', { details: { idle } })
      for (const queue of nvme.queues) queue.fail(() => error)
      const list = lists.pop()!
      if (idle) t.throws(() => list.u8, { code: 'ERR_ACCEL_REVOKED' })
      else t.equal(list.u8.length, list.sizeBytes)
      await nvme.reset(error)
      await failed
    }
  }),
)
