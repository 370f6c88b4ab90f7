import { type AccelDevice, accelDriver, attribute } from '@uaccel/accel'
import type { AccelError } from '@uaccel/uapi'
import { JobLanes } from './lanes.js'
import { Npu, type NpuStartOptions } from './npu.js'
import { npuAttributes, npuTelemetry } from './telemetry.js'
import { encodeJob, npuUapi } from './uapi.js'

export type { NpuBuffer } from './buffers.js'
export type { NpuCapabilities } from './capabilities.js'
export type { ContextOptions, NpuContext, RunOptions } from './context.js'
export type { IrqMode } from './interrupts.js'
export type { NpuJob, OperandName } from './job.js'
export type { NpuContextToken, NpuLease } from './lease.js'
export { Npu, type NpuCounters, type NpuQueueState, type NpuStartOptions } from './npu.js'
export * from './operations.js'
export type { JobDone } from './queue.js'
export type { NpuListeners, ShareContextOptions } from './queues.js'
export * from './tensor-steps.js'
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
      const queuesInUse = attribute({ show: () => npu.queuesInUse, type: 'integer' })
      const npu: Npu = await Npu.start(dev, options, {
        queues: () => queuesInUse.changed(),
        broke: (error) => publish(dev, error),
      })
      onReady?.(npu)
      const lanes = new JobLanes(npu)
      return {
        telemetry: npuTelemetry(npu),
        attributes: { ...npuAttributes(npu), 'queues/inUse': queuesInUse },
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
        dmaTest: {
          maxBytes: 1 << 20,
          copy: (from, to, sizeBytes) =>
            lanes.run({
              payload: encodeJob([{ op: 'copy', x: { buffer: 0 }, y: { buffer: 1 }, length: sizeBytes }]),
              ranges: [
                { iova: from, sizeBytes, access: 'read' },
                { iova: to, sizeBytes, access: 'write' },
              ],
            }),
        },
        queues: { bounded: true, create: (request) => npu.createUserQueue(request) },
        recover: () => npu.recover(),
        beforeReset: () => npu.beforeReset(),
        afterReset: () => npu.afterReset(),
      }
    },
  })
}

/** Tells all who have the device open that it, or a queue, is broken: a client's job may not have been there to be told. */
function publish(dev: AccelDevice, error: AccelError): void {
  if (error.code === 'ERR_ACCEL_NO_DEVICE') return // its removal is told
  const kind = error.code === 'ERR_ACCEL_TIMEOUT' ? 'timeout' : 'error'
  dev.publish({ kind, reason: error.message, error: error.code })
}

export default npuDriver()
