import { accelDriver } from '@uaccel/accel'
import { JobLanes } from './lanes.js'
import { Npu, type NpuStartOptions } from './npu.js'
import { npuUapi } from './uapi.js'

export type { NpuBuffer } from './buffers.js'
export type { NpuCapabilities } from './capabilities.js'
export type { ContextOptions, NpuContext, RunOptions } from './context.js'
export type { NpuJob, OperandName } from './job.js'
export type { NpuContextToken, NpuLease } from './lease.js'
export {
  type IrqMode,
  Npu,
  type NpuCounters,
  type NpuStartOptions,
  type ShareContextOptions,
} from './npu.js'
export * from './operations.js'
export type { JobDone } from './queue.js'
export { encodeJob, npuUapi } from './uapi.js'
export { attachNpuContext } from './worker-context.js'

export interface NpuDriverOptions extends NpuStartOptions {
  /** Gets the NPU each time that it was brought up: at probe, and anew after a reset by the subsystem. */
  readonly onReady?: (npu: Npu) => void
}

/** Driver of the reference NPU (docs/devices/npu.md). */
export function npuDriver({ onReady, ...options }: NpuDriverOptions = {}) {
  return accelDriver({
    name: 'npu',
    uapi: npuUapi,
    ids: [{ bus: 'pci', vendor: 0xacce, device: 0x0001 }],
    async probe(dev) {
      const npu = await Npu.start(dev, options)
      onReady?.(npu)
      const lanes = new JobLanes(npu)
      return {
        commands: {
          identify: () => {
            const { capabilities: found } = npu
            return {
              ...found,
              maxElements: BigInt(found.maxElements),
              maxMacs: BigInt(found.maxMacs),
              cardBytes: BigInt(found.cardBytes),
            }
          },
          counters({ clear }) {
            const { cyclesBusy, descriptors, errors, bytesRead, bytesWritten, macs } = npu.counters()
            if (clear) npu.clearCounters()
            return {
              cyclesBusy: BigInt(Math.round(cyclesBusy)),
              descriptors: BigInt(descriptors),
              errors: BigInt(errors),
              bytesRead: BigInt(bytesRead),
              bytesWritten: BigInt(bytesWritten),
              macs: BigInt(macs),
            }
          },
          reset: () => npu.recover(),
        },
        depth: lanes.depth,
        submit: (job) => lanes.run(job),
        recover: () => npu.recover(),
        beforeReset: () => npu.beforeReset(),
        afterReset: () => npu.afterReset(),
      }
    },
  })
}

export default npuDriver()
