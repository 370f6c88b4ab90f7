import { loopback } from '@uaccel/model'
import t from 'tap'
import { nvmePolledModel } from '../model/index.js'
import { nvmeWorkersContract } from './workers.js'

t.setTimeout(120_000)

nvmeWorkersContract(t, async () => loopback(nvmePolledModel, { model: { queues: 8 } }), {
  verify: (transport) => transport.assertClean(),
})
