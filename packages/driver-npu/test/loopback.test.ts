import { loopback } from '@uaccel/model'
import t from 'tap'
import { npuModel } from '../model/index.js'
import { npuContract } from './contract.js'

const open = async () => loopback(npuModel, { model: { testMode: true } })
const verify = (transport: Awaited<ReturnType<typeof open>>) => transport.assertClean()

t.test('NPU over loopback, BARs mapped', async (t) => npuContract(t, open, { verify, runs: 100 }))
t.test('NPU over loopback, every access trapped', async (t) =>
  npuContract(t, open, { verify, runs: 20, trapped: true }),
)
