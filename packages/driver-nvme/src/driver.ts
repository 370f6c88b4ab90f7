import { accelDriver } from '@uaccel/accel'
import { accelError } from '@uaccel/uapi'
import { checkAdmin } from './admin-command.js'
import { NvmeJobs } from './jobs.js'
import { Nvme, type NvmeStartOptions } from './nvme.js'
import { NAMESPACES_AT_ONCE, nvmeUapi } from './uapi.js'

export type { AdminCommand } from './command.js'
export type { NvmeEvent } from './events.js'
export type { ControllerIdentity, Health, NamespaceIdentity } from './identify.js'
export type { IrqMode } from './interrupts.js'
export type { NvmeLease, NvmeQueueToken, ShareQueueOptions } from './lease.js'
export { Nvme, type NvmeListeners, type NvmeStartOptions } from './nvme.js'
export type { CommandListener, NvmeQueue, QueueCalls } from './queue.js'
export { knownStatuses, statusError, statusName } from './status.js'
export { encodeSteps, type NvmeStep, nvmeUapi } from './uapi.js'
export { warmUp } from './warm-up.js'
export { attachNvmeQueue, type NvmeWorkerQueue, type Transfer } from './worker-queue.js'

export interface NvmeDriverOptions extends NvmeStartOptions {
  /** Gets the controller each time that it was brought up: at probe, and anew after a reset by the subsystem that probed again. */
  readonly onReady?: (nvme: Nvme) => void
}

/** Driver of NVMe controllers (NVM Express base specification, revision 1.4). */
export function nvmeDriver({ onReady, ...options }: NvmeDriverOptions = {}) {
  return accelDriver({
    name: 'nvme',
    uapi: nvmeUapi,
    ids: [{ bus: 'pci', classCode: 0x010802 }], // mass storage, non-volatile memory, NVMe I/O controller
    async probe(dev) {
      const nvme = await Nvme.start(dev, options, {
        broke: (error) =>
          dev.publish({
            kind: error.code === 'ERR_ACCEL_TIMEOUT' ? 'timeout' : 'error',
            reason: error.message,
            error: error.code,
          }),
        event: ({ type, info, logPage }) =>
          dev.publish({
            kind: type === 'error' ? 'error' : 'other',
            reason: `NVMe event ${type} 0x${info.toString(16)}, log page 0x${logPage.toString(16)}`,
          }),
      })
      const jobs = new NvmeJobs(nvme)
      onReady?.(nvme)
      return {
        telemetry: {
          name: nvme.identity.model,
          firmware: nvme.identity.firmware,
          health() {
            const reason = nvme.broken
            return reason === undefined ? { state: 'operational' } : { state: 'needsReset', reason }
          },
          limits: () => [
            { name: 'queues', value: nvme.queues.length },
            { name: 'queueDepth', value: nvme.queues[0].depth },
            { name: 'transferBytes', value: nvme.identity.maxTransferBytes, unit: 'bytes' },
          ],
        },
        attributes: {
          serial: { show: () => nvme.identity.serial },
          irqMode: { show: () => nvme.irqMode },
          'queues/total': { show: () => nvme.queues.length, type: 'integer' },
          'queues/shadowDoorbells': { show: () => nvme.shadowDoorbells, type: 'boolean' },
          resets: { show: () => nvme.resets, type: 'integer' },
        },
        commands: {
          identify() {
            const { vendor, serial, model, firmware, version, maxTransferBytes, ...has } = nvme.identity
            const { compare, writeZeroes, datasetManagement: deallocate, volatileWriteCache, copy } = has
            return {
              ...{ vendor, serial, model, firmware, version, maxTransferBytes },
              queues: nvme.queues.length,
              queueDepth: nvme.queues[0].depth,
              features: { compare, writeZeroes, deallocate, volatileWriteCache, copy },
            }
          },
          namespaces: ({ after }) => ({
            namespaces: nvme.namespaces
              .filter(({ nsid }) => nsid > after)
              .slice(0, NAMESPACES_AT_ONCE)
              .map(({ copy: _, ...namespace }) => namespace),
          }),
          async health() {
            const { criticalWarning: warning, ...health } = await nvme.admin.health()
            const set = (bit: number) => (warning & (1 << bit)) !== 0
            const [spare, temperature, reliability, readOnly, backup, persistentRegion] = [
              0, 1, 2, 3, 4, 5,
            ].map(set)
            return {
              ...health,
              criticalWarning: { spare, temperature, reliability, readOnly, backup, persistentRegion },
            }
          },
          async admin({ data, ...command }, { open }) {
            if (open.rights.as !== 'owner')
              throw accelError(
                'ERR_ACCEL_PERMISSION',
                'Raw admin commands are for the owner of the node alone',
              )
            const { toDevice, sizeBytes } = checkAdmin(command, data.length)
            if (toDevice) {
              const result = await nvme.admin.write(command, data)
              await nvme.identifyNamespaces() // it may have made or removed one
              return { result, data: new Uint8Array() }
            }
            if (sizeBytes > 0) return nvme.admin.read(command, sizeBytes)
            return { result: await nvme.admin.run(command), data: new Uint8Array() }
          },
          reset: () =>
            nvme.reset(
              accelError('ERR_ACCEL_AGAIN', 'The NVMe controller was reset at the wish of a client'),
            ),
        },
        depth: jobs.depth,
        submit: (job, { signal }) => jobs.run(job, signal),
        recover: () => nvme.recover(),
        beforeReset: () => nvme.beforeReset(),
        afterReset: () => nvme.afterReset(),
      }
    },
  })
}

export default nvmeDriver()
