import { loopback } from '@uaccel/model'
import { accelError } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { NvmeFaults, nvmeModel } from '../model/index.js'
import type { Nvme } from '../src/driver.js'
import { withNvme } from './bench.js'

/** Opcode of Doorbell Buffer Config, as the model counts admin commands. */
const CONFIG = 0x100 + 0x7c
const READS = 2000
const DEPTH = 16

/** Keeps `DEPTH` reads under way, each announced by itself, until `READS` have ended. */
function load(nvme: Nvme): Promise<void> {
  const queue = nvme.pickQueue()
  const data = nvme.allocate(512)
  let begun = 0
  let ended = 0
  return new Promise((resolve, reject) => {
    const next = () => {
      begun++
      queue.submit(2, 1, data.iovaLow | 0, data.iovaHigh, 512, begun % 1024, 0, 0, listener)
      nvme.kick(queue)
    }
    const listener = {
      completed(_: number, status: number) {
        if (status !== 0) reject(new Error(`status ${status}`))
        if (++ended === READS) {
          data.free()
          resolve()
        } else if (begun < READS) next()
      },
      failed: (_: number, error: Error) => reject(error),
    }
    for (let i = 0; i < DEPTH; i++) next()
  })
}

/** Register writes that a load takes, as the model counts them. */
async function countDoorbells(
  t: Test,
  options: { shadowDoorbells?: boolean; irq?: 'msix' | 'intx' | 'poll' },
): Promise<number> {
  const faults = new NvmeFaults()
  let count = 0
  const transport = await withNvme(
    async () => loopback(nvmeModel, { model: { faults } }),
    async ({ nvme, client }) => {
      const on = options.shadowDoorbells !== false && options.irq !== 'intx'
      t.equal(nvme.shadowDoorbells, on)
      t.equal(faults.received.get(CONFIG) ?? 0, on ? 1 : 0)
      const before = faults.doorbells
      await load(nvme)
      count = faults.doorbells - before
      await client.call('reset', {})
      t.equal(faults.received.get(CONFIG) ?? 0, on ? 2 : 0, 'after a reset anew')
      await load(nvme)
    },
    options,
  )
  transport.assertClean()
  return count
}

t.test('a controller that works looks for itself: few doorbells are written', async (t) => {
  for (const irq of ['msix', 'poll'] as const) {
    const plain = await countDoorbells(t, { irq, shadowDoorbells: false })
    const shadow = await countDoorbells(t, { irq })
    t.comment(`${READS} reads by ${irq}: ${plain} writes of the doorbell, ${shadow} with shadow doorbells`)
    t.ok(plain >= READS / DEPTH, 'each announcement is a write')
    t.ok(shadow * 4 < plain, 'but for those that it asked for')
  }
})

t.test('not with INTx: its pin is taken back by a write of the register', async (t) => {
  t.equal(
    await countDoorbells(t, { irq: 'intx' }),
    await countDoorbells(t, { irq: 'intx', shadowDoorbells: false }),
  )
})

t.test('a controller without them, and one whose doorbells do not fit into a page', async (t) => {
  for (const model of [{ shadowDoorbells: false }, { doorbellStride: 9 }]) {
    const transport = await withNvme(
      async () => loopback(nvmeModel, { model }),
      async ({ nvme }) => {
        t.equal(nvme.shadowDoorbells, false)
        await load(nvme)
      },
      { queues: 1 },
    )
    transport.assertClean()
  }
})

t.test('commands that were under way in a reset are told so, and the doorbells start over', async (t) => {
  const transport = await withNvme(
    async () => loopback(nvmeModel),
    async ({ nvme }) => {
      await load(nvme)
      const under = t.rejects(load(nvme), { code: 'ERR_ACCEL_AGAIN' })
      await nvme.reset(accelError('ERR_ACCEL_AGAIN', 'a reset of the test'))
      await under
      await load(nvme)
    },
  )
  transport.assertClean()
})
