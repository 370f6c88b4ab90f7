import { faultContract } from '@uaccel/testkit/faults'
import t from 'tap'
import { myNpuFaults } from './faults.js'

t.setTimeout(600_000)

// Each fault that the model can suffer, in each operation and in probe, reset, recovery and removal: what hangs, leaks or lies is told with
// the access at which the fault struck. More moments find more, and take longer.
await faultContract(t, myNpuFaults, { moments: Number(process.env.FAULT_MOMENTS ?? 2) })
