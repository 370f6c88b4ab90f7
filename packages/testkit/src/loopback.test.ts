import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { eduModel } from '@uaccel/driver-edu/model'
import { loopback } from '@uaccel/model'
import t from 'tap'
import { eduBench, eduContract, irqsContract, resetContract, transportContract } from './index.js'

const open = async () => loopback(eduModel)

t.test('loopback keeps the contract of transports', async (t) => {
  transportContract(t, open, {
    vendor: 0x1234,
    device: 0x11e8,
    register: { region: 0, offset: 0, width: 4, value: 0x0100_00ed },
  })
})

t.test('edu over loopback', async (t) => {
  eduContract(t, open, { transfers: 100, verify: (transport) => transport.assertClean() })
})

for (const type of ['intx', 'msi'] as const) {
  t.test(`edu's ${type} over loopback`, async (t) => irqsContract(t, type, open, eduBench))
  t.test(`edu's ${type} over loopback, in a worker thread`, async (t) => {
    const worker = new Worker(new URL('./irqs.test.worker.js', import.meta.url), { workerData: type })
    const [[failures]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    t.same(failures, [])
  })
}

t.test('resets of edu over loopback', async (t) => resetContract(t, open, eduBench))
