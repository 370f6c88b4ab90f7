import { setTimeout as sleep } from 'node:timers/promises'
import { type Device, type IrqRequest, type IrqVectors, poll, type VectorType } from '@uaccel/core'
import { Npu, type NpuBuffer } from '../src/driver.js'

/** Fills of this many elements take the emulated device a moment. */
const LOAD_BYTES = 1 << 20

/** The NPU for the suites of interrupts and resets (`Bench` of the testkit): a context for each vector of a queue. */
export const npuBench = {
  async bringUp(dev: Device, type: VectorType) {
    let irqs: IrqVectors | undefined
    const alloc = dev.allocIrqVectors.bind(dev)
    dev.allocIrqVectors = async (request?: IrqRequest) => {
      irqs = await alloc(request)
      return irqs
    }
    const npu = await Npu.start(dev, { irq: type === 'intx' ? 'intx' : 'msix' })
    dev.allocIrqVectors = alloc
    const taken = irqs!
    // Vector 0 of MSI-X is that of events (docs/devices/npu.md, 6); queue n has vector 1 + n.
    const vectors = type === 'intx' ? [0] : Array.from({ length: taken.count - 1 }, (_, i) => 1 + i)
    const users = await Promise.all(
      vectors.map(async () => {
        const context = await npu.createContext({ ringEntries: 16 })
        const [small, large] = [context.allocate(8), context.allocate(LOAD_BYTES)]
        const fill = (buffer: NpuBuffer) =>
          context.encode([{ op: 'fill', y: { buffer }, length: buffer.sizeBytes, pattern: 0x05050505 }])
        return { context, small, job: fill(small), load: fill(large) }
      }),
    )
    // Each queue that starts is an event (4.1.13); the first may take as long as a thread that waits for interrupts takes to start.
    const events = () => taken.counts(0).fired
    await poll(events, (count) => count > 0, { timeoutMs: 5000, what: 'the event of a queue that starts' })
    for (let seen = 0; seen !== events(); await sleep(50)) seen = events()
    return {
      irqs: taken,
      vectors,
      async fire(vector: number) {
        const { context, job } = users[vectors.indexOf(vector)]!
        await context.run(job)
      },
      load() {
        for (const { context, load } of users) void context.run([load, load, load]).catch(() => {})
      },
      async works() {
        for (const { context, small, job } of users) {
          small.u8.fill(0)
          await context.run(job)
          if (small.u8.some((byte) => byte !== 5)) return false
        }
        return true
      },
      beforeReset: () => npu.beforeReset(),
      afterReset: () => npu.afterReset(),
    }
  },
}
