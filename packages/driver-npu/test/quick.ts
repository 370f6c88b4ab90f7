import { openDevice } from '@uaccel/core'
import { loopback } from '@uaccel/model'
import fc from 'fast-check'
import { npuModel } from '../model/index.js'
import { Npu } from '../src/driver.js'
import { cases } from './cases.js'

const transport = loopback(npuModel)
const dev = await openDevice(transport)
const npu = await Npu.start(dev)
console.log(npu.irqMode, npu.capabilities)
const ctx = await npu.createContext()
const mk = () => ({ buffer: ctx.allocate(65536) })
const at = { a: mk(), b: mk(), c: mk(), d: mk() }
for (const [name, arb] of Object.entries(cases)) {
  let n = 0
  await fc.assert(
    fc.asyncProperty(arb, async (c) => {
      for (const k of ['a', 'b', 'c'] as const) if (c.inputs[k]) at[k].buffer.write(0, c.inputs[k])
      const job = ctx.encode([c.step(at)])
      await ctx.run(job)
      job.free()
      const got = at.d.buffer.u8.slice(0, c.expected.length)
      n++
      if (Buffer.compare(got, c.expected) !== 0)
        throw new Error(`${got.slice(0, 20)} vs ${c.expected.slice(0, 20)}`)
    }),
    { numRuns: 200 },
  )
  console.log(name, n)
}
console.log(npu.counters())
await dev.release()
transport.assertClean()
await transport.close()
