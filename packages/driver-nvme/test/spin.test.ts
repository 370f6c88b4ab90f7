import { loopback } from '@uaccel/model'
import t from 'tap'
import { nvmeModel } from '../model/index.js'
import { encodeSteps, Nvme } from '../src/driver.js'
import { withNvme } from './contract.js'

t.test('completions are found before their interrupt, or without it', async (t) => {
  const transport = await withNvme(
    async () => loopback(nvmeModel),
    async ({ buffers }, transport) => {
      const buffer = await buffers.create(4096)
      const payload = encodeSteps([{ operation: 'read', buffer: 0, lba: 0, blocks: 8 }])
      for (let i = 0; i < 20; i++) {
        transport.faults.lostInterrupt()
        const start = performance.now()
        await buffers.run({ buffers: [{ buffer }], payload })
        const ms = performance.now() - start
        if (ms > 4_000) t.fail(`only the watchdog saw it, after ${ms} ms`)
      }
    },
    { irq: 'msix', spinUs: 1_000_000, timeoutMs: 40_000 }, // the watchdog looks every 10 s
  )
  transport.assertClean()
})

t.test('how long', async (t) => {
  for (const spinUs of [-1, Number.NaN, 1e6 + 1])
    await t.rejects(Nvme.start(undefined as never, { spinUs }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
})
