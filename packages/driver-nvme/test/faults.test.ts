import { setTimeout as sleep } from 'node:timers/promises'
import { Accel } from '@uaccel/accel'
import { type Loopback, loopback } from '@uaccel/model'
import t, { type Test } from 'tap'
import { NvmeFaults, nvmeModel } from '../model/index.js'
import {
  encodeSteps,
  knownStatuses,
  type Nvme,
  type NvmeStep,
  nvmeDriver,
  nvmeUapi,
  statusName,
} from '../src/driver.js'
import { type Bench, withNvme } from './contract.js'

const TIMEOUT_MS = 200

interface Case extends Bench {
  readonly faults: NvmeFaults
  readonly transport: Loopback
  readonly run: (...steps: NvmeStep[]) => Promise<void>
}

/** Runs `work` with a controller whose misfortunes it switches on. */
async function withFaults(t: Test, work: (bench: Case) => Promise<void>, strict = true): Promise<void> {
  const faults = new NvmeFaults()
  const transport = await withNvme(
    async () => loopback(nvmeModel, { model: { faults }, strict }),
    async (bench, transport) => {
      const buffer = await bench.buffers.create(256 * 1024)
      const run = (...steps: NvmeStep[]) =>
        bench.buffers.run({ buffers: [{ buffer }], payload: encodeSteps(steps) })
      await work({ ...bench, faults, transport, run })
    },
    { timeoutMs: TIMEOUT_MS },
  )
  if (strict) transport.assertClean()
  t.pass('no rule of the device was broken')
}

const read = (lba = 0, blocks = 1): NvmeStep => ({ operation: 'read', buffer: 0, lba, blocks })

t.test('every status is told by its name', async (t) =>
  withFaults(t, async ({ faults, run }) => {
    t.ok(knownStatuses.length > 90)
    t.equal(new Set(knownStatuses.map(statusName)).size, knownStatuses.length, 'no name twice')
    for (const status of knownStatuses) {
      faults.status(status, { opcode: 2 })
      const name = statusName(status)
      await t.rejects(run(read()), { message: new RegExp(`read ended with ${name} `) })
    }
    await run(read())
    t.equal(statusName(0x2ff), 'media 0xff')
    t.equal(statusName(0x7c1), 'vendor specific 0xc1')
  }),
)

t.test('one of many commands of a job fails: the job ends with that, when all have ended', async (t) =>
  withFaults(t, async ({ faults, run, nvme }) => {
    faults.status(0x281, { opcode: 2 })
    const steps = Array.from({ length: 20 }, (_, i) => read(i))
    await t.rejects(run(...steps), { code: 'ERR_ACCEL_IO', message: /UNRECOVERED_READ_ERROR/ })
    t.ok(nvme.queues.every(({ inFlight }) => inFlight === 0))
    t.equal(nvme.resets, 0)
  }),
)

t.test('a command that is late is aborted, without a reset', async (t) =>
  withFaults(t, async ({ faults, run, nvme }) => {
    faults.stick({ opcode: 2 })
    await t.rejects(run(read()), { code: 'ERR_ACCEL_TIMEOUT', message: /ABORT_REQUESTED/ })
    t.equal(faults.received.get(0x108), 1, 'one abort')
    t.equal(nvme.resets, 0)
    await run(read())
  }),
)

t.test('a lost completion ends in a reset; others under way are told to repeat', async (t) =>
  withFaults(t, async ({ faults, run, nvme }) => {
    faults.lose({ opcode: 1 })
    await t.rejects(run({ ...read(), operation: 'write' }), {
      code: 'ERR_ACCEL_TIMEOUT',
      message: /was reset/,
    })
    t.equal(nvme.resets, 1)
    await run(read())
    t.match(await nvme.admin.health(), { temperatureKelvin: 310 })
  }),
)

t.test('a lost interrupt costs time, and nothing else', async (t) =>
  withFaults(t, async ({ transport, run, nvme }) => {
    transport.faults.lostInterrupt()
    await run(read())
    t.equal(nvme.resets, 0)
  }),
)

t.test('a controller that fails is reset', async (t) =>
  withFaults(t, async ({ faults, run, nvme, client }) => {
    faults.stick({ opcode: 2, count: 2 })
    const under = t.rejects(run(read(), read(1)), { code: 'ERR_ACCEL_AGAIN', message: /CSTS.CFS/ })
    while (nvme.queues.reduce((sum, { inFlight }) => sum + inFlight, 0) < 2) await sleep(1)
    await sleep(5) // they have reached the controller
    faults.fatal()
    await under
    t.equal(nvme.resets, 1)
    await run(read())
    const { events } = await client.common('events', { after: 0n, options: { nonblock: true } })
    t.ok(events.some(({ reason }) => /CSTS.CFS/.test(reason)))
  }),
)

for (const fault of ['wrongCid', 'wrongHead'] as const) {
  t.test(`a completion that cannot be (${fault}) is not believed`, async (t) =>
    withFaults(t, async ({ faults, run, nvme }) => {
      faults[fault]({ opcode: 2 })
      await t.rejects(run(read()), { code: 'ERR_ACCEL_AGAIN' })
      t.equal(nvme.resets, 1)
      await run(read())
    }),
  )
}

t.test('a queue that the controller cannot read is fatal to it, and it is reset', async (t) =>
  withFaults(t, async ({ transport, run, nvme }) => {
    transport.faults.dmaError()
    await t.rejects(run(read()), { code: 'ERR_ACCEL_AGAIN', message: /CSTS.CFS/ })
    t.equal(nvme.resets, 1)
    await run(read())
  }),
)

t.test('events are told, one after the other', async (t) =>
  withFaults(t, async ({ faults, client }) => {
    faults.event(0x02_01_01) // health: temperature
    faults.event(0x04_00_02) // notice: namespaces
    let after = 0n
    const seen: string[] = []
    while (seen.length < 2) {
      const { events, last } = await client.common('events', { after, options: {} })
      after = last
      seen.push(...events.map(({ reason }) => reason))
    }
    t.match(seen.join(), /NVMe event health 0x1/)
    t.match(seen.join(), /NVMe event notice 0x0/)
  }),
)

t.test('a job that is given up is aborted', async (t) =>
  withFaults(t, async ({ faults, run, client, nvme }) => {
    faults.stick({ opcode: 2 })
    const given = run(read())
    const failed = t.rejects(given)
    await sleep(10)
    await client.close()
    await failed
    while (nvme.queues.some(({ inFlight }) => inFlight > 0)) await sleep(5)
    t.equal(nvme.resets, 0)
    t.equal(faults.received.get(0x108), 1)
  }),
)

t.test('32 commands submitted together are one doorbell', async (t) =>
  withFaults(t, async ({ faults, nvme }) => {
    const queue = nvme.pickQueue()
    const data = nvme.allocate(32 * 512)
    const before = faults.doorbells
    await allRead(nvme, queue, data.iovaLow | 0, data.iovaHigh, 32)
    t.equal(faults.doorbells - before, 1)
    data.free()
  }),
)

t.test('raw admin commands are for the owner', async (t) => {
  const transport = loopback(nvmeModel)
  await using accel = new Accel()
  accel.register(nvmeDriver())
  await accel.add(transport)
  const raw = {
    opcode: 6,
    nsid: 0,
    cdw10: 1,
    cdw11: 0,
    cdw12: 0,
    cdw13: 0,
    cdw14: 0,
    cdw15: 0,
    data: new Uint8Array(),
  }
  for (const as of ['group', 'other'] as const) {
    const client = accel.open(nvmeUapi, 'accel0', { rights: { as } })
    await t.rejects(client.call('admin', raw), { code: 'ERR_ACCEL_PERMISSION' })
    await client.call('identify', {})
    await client.close()
  }
  const owner = accel.open(nvmeUapi, 'accel0')
  t.equal((await owner.call('admin', raw)).data.length, 4096)
  transport.assertClean()
})

/** Reads `count` blocks, each into 512 bytes of its own, in one batch. */
function allRead(
  nvme: Nvme,
  queue: Nvme['queues'][number],
  low: number,
  high: number,
  count: number,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let left = count
    const listener = {
      completed(_: number, status: number) {
        if (status !== 0) reject(new Error(statusName(status)))
        else if (--left === 0) resolve()
      },
      failed: (_: number, error: Error) => reject(error),
    }
    for (let i = 0; i < count; i++) queue.submit(2, 1, low + 512 * i, high, 512, i, 0, 0, listener)
    nvme.kick(queue)
  })
}

t.test('commands under way have ended before the controller is shut down', async (t) => {
  const ends: string[] = []
  await withFaults(t, async ({ nvme }) => {
    const [queue] = nvme.queues
    const listener = {
      completed: (_: number, status: number) => void ends.push(`status ${status}`),
      failed: (_: number, error: Error) => void ends.push(error.message),
    }
    for (let i = 0; i < 8; i++) queue!.submit(0x00, 1, 0, 0, 0, 0, 0, 0, listener) // flush
    queue!.ring()
  })
  t.same(ends, new Array(8).fill('status 0'))
})

t.test('a command that does not end keeps a shutdown for as long as it may take', async (t) => {
  const ends: string[] = []
  let began = 0
  await withFaults(t, async ({ nvme, faults }) => {
    faults.stick({ opcode: 0 })
    const [queue] = nvme.queues
    const listener = {
      completed: () => void ends.push('completed'),
      failed: (_: number, error: Error & { code?: string }) => void ends.push(error.code ?? error.message),
    }
    queue!.submit(0x00, 1, 0, 0, 0, 0, 0, 0, listener)
    queue!.ring()
    began = performance.now()
  })
  t.same(ends, ['ERR_ACCEL_NO_DEVICE'])
  t.ok(performance.now() - began < TIMEOUT_MS + 2000)
})
