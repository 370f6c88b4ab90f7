import { loopback } from '@uaccel/model'
import t from 'tap'
import { NvmeFaults, nvmeModel } from '../model/index.js'
import { encodeSteps } from '../src/driver.js'
import { fill, withNvme } from './contract.js'

const BLOCK_BYTES = 512

for (const [mdts, most] of [
  [5, 128 * 1024],
  [10, 4 << 20],
  [0, 32 << 20],
] as const) {
  t.test(`the longest transfer of a controller with MDTS ${mdts} is one command`, async (t) => {
    const faults = new NvmeFaults()
    const blocks = most / BLOCK_BYTES
    const transport = await withNvme(
      async () =>
        loopback(nvmeModel, {
          model: { faults, mdts, namespaces: [{ blocks: blocks + 8, blockBytes: BLOCK_BYTES }] },
        }),
      async ({ nvme, buffers }) => {
        t.equal(nvme.identity.maxTransferBytes, most)
        const buffer = await buffers.create(2 * most + 8192)
        const [from, to] = [4092, most + 4092 + 512]
        fill(buffer.u8.subarray(from, from + most), 3)
        const run = async (operation: 'read' | 'write', offset: number, count: number) => {
          const payload = encodeSteps([{ operation, buffer: 0, offset, lba: 8, blocks: count }])
          const before = faults.received.get(operation === 'read' ? 2 : 1) ?? 0
          await buffers.run({ buffers: [{ buffer }], payload })
          return faults.received.get(operation === 'read' ? 2 : 1)! - before
        }
        t.equal(await run('write', from, blocks), 1)
        t.equal(await run('read', to, blocks), 1)
        const [wrote, read] = [from, to].map((at) => buffer.u8.subarray(at, at + most))
        t.equal(Buffer.compare(wrote!, read!), 0)
        t.equal(buffer.u8[to + most], 0, 'nothing behind it')
        await t.rejects(
          run('read', 0, blocks + 1),
          { code: 'ERR_ACCEL_OUT_OF_RANGE' },
          'one block past the end',
        )
      },
      { queues: 1, queueEntries: 8 },
    )
    transport.assertClean()
  })
}
