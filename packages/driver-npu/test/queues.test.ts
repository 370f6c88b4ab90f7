import { loopback } from '@uaccel/model'
import t from 'tap'
import { npuModel } from '../model/index.js'
import { queuesContract } from './queues.js'

const open = async () => loopback(npuModel, { model: { testMode: true } })
type Loopback = Awaited<ReturnType<typeof open>>

t.setTimeout(600_000)

t.test('queues in worker threads, over loopback', async (t) =>
  queuesContract(t, open, {
    vanish: (transport: Loopback) => transport.vanish(),
    verify: (transport: Loopback) => transport.assertClean(),
  }),
)
