import type { DmaDomain } from '@uaccel/memory'
import t from 'tap'
import { AdminQueue } from '../src/admin.js'
import { PAGE_BYTES } from '../src/command.js'
import type { NvmeQueue } from '../src/queue.js'

t.test('a list of namespaces that does not end is not believed', async (t) => {
  const admin = new AdminQueue({} as NvmeQueue, {} as DmaDomain, { checkUp() {}, kick() {} })
  let reads = 0
  admin.read = async ({ nsid = 0, cdw10 }) => {
    if (++reads > 100_000) throw new Error('it goes on and on')
    const page = new Uint32Array(PAGE_BYTES / 4)
    if (cdw10 === 2) for (let i = 0; i < page.length; i++) page[i] = nsid + 1 + i
    return { result: 0, data: new Uint8Array(page.buffer) }
  }
  await t.rejects(admin.namespaces(), { code: 'ERR_ACCEL_IO', message: /more than 65536 namespaces/ })
})
