import { eduModel } from '@uaccel/driver-edu/model'
import { npuModel } from '@uaccel/driver-npu/model'
import { nvmeModel } from '@uaccel/driver-nvme/model'
import { type Loopback, loopback } from '@uaccel/model'
import t from 'tap'
import { runColumn } from './contracts/column.js'

t.setTimeout(300_000)

await runColumn(t, 'loopback', {
  edu: async () => loopback(eduModel),
  npu: async () => loopback(npuModel, { model: { testMode: true } }),
  nvme: async () => loopback(nvmeModel),
  runs: 10,
  owner: {
    take: async (transport) => (transport as Loopback).faults.request(),
    giveBack: async () => {}, // the next transport has a model of its own
  },
})
