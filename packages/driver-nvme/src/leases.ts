import type { Device } from '@uaccel/core'
import type { DmaRegion } from '@uaccel/memory'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import type { AdminQueue } from './admin.js'
import { Admin, PAGE_BYTES } from './command.js'
import type { NamespaceIdentity } from './identify.js'
import type { NvmeInterrupts } from './interrupts.js'
import { NvmeLease, type ShareQueueOptions } from './lease.js'
import { allocPair, createPair, deletePair, maxEntries, wasRefused } from './pair.js'
import type { NvmeQueues } from './queues.js'
import type { Recovery } from './recovery.js'
import { DOORBELLS_OFFSET } from './registers.js'
import { clearShadow } from './shadow.js'

const DEFAULT_MEMORY_BYTES = 4 * 1024 * 1024

/** What leases need of the driver. */
export interface LeaseHost {
  readonly dev: Device
  readonly admin: AdminQueue
  readonly queues: NvmeQueues
  readonly interrupts: NvmeInterrupts
  readonly recovery: Recovery
  readonly doorbellStride: number
  readonly timeoutMs: number
  readonly shadow: DmaRegion | undefined
  /** Entries of a queue, and the most that the controller takes. */
  readonly entries: number
  readonly maxEntries: number
  readonly maxTransferBytes: number
  readonly namespaces: readonly NamespaceIdentity[]
}

/** Lends a queue pair to a worker thread. See `Nvme.shareQueue`. */
export async function lendQueue(host: LeaseHost, options: ShareQueueOptions): Promise<NvmeLease> {
  const { dev, queues, recovery } = host
  const { memoryBytes = DEFAULT_MEMORY_BYTES, entries: wanted = host.entries } = options
  if (
    !Number.isSafeInteger(memoryBytes) ||
    memoryBytes <= 0 ||
    !(wanted >= 2) ||
    wanted !== maxEntries(wanted - 1)
  )
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `A queue of ${wanted} entries with ${memoryBytes} bytes of memory: wanted a power of two from 2 on, and a positive whole number`,
    )
  await recovery.ready()
  recovery.checkUp()
  const id = queues.freeId()
  const entries = Math.min(wanted, host.maxEntries)
  const regions: DmaRegion[] = []
  const alloc = (sizeBytes: number, name: string) => {
    const options = { alignBytes: PAGE_BYTES, name: `${name} of NVMe queue ${id}`, separate: true }
    const region = dev.dma.alloc(sizeBytes, options)
    regions.push(region)
    return region
  }
  const free = () => {
    for (const region of regions.splice(0)) region.free()
  }
  const share = dev.share()
  let lease: NvmeLease
  try {
    const { maxTransferBytes, timeoutMs, namespaces, doorbellStride: stride, shadow } = host
    const pair = allocPair({ entries, maxTransferBytes }, alloc)
    const { irq, line } = shareInterrupts(host, share, id)
    const offset = DOORBELLS_OFFSET + 2 * id * stride
    const token = {
      kind: 'nvme-queue',
      device: share.token,
      doorbells: share.bar(0, { offset, sizeBytes: 2 * stride }),
      submissions: share.memory(pair.submissions),
      completions: share.memory(pair.completions),
      lists: share.memory(pair.lists!),
      shadow: shadow && share.memory(shadow),
      memory: share.memory(alloc(memoryBytes, 'data')),
      ...{ id, entries, stride, irq, timeoutMs, maxTransferBytes, namespaces },
    } as const
    lease = new NvmeLease({
      ...{ share, pair, token, line, free },
      close: (lease) => takeBack(host, lease),
      broke: (error) => recovery.breaks(error),
      abort: (cid) => abortFor(host, id, cid),
    })
  } catch (error) {
    share.close()
    free()
    throw error
  }
  queues.lent.set(id, lease)
  try {
    await startQueue(host, lease)
  } catch (error) {
    await lease.close()
    throw error
  }
  return lease
}

/** A worker's command is late; whether the controller can abort it, the command's own end tells. */
function abortFor({ admin, recovery }: LeaseHost, id: number, cid: number): void {
  if (!recovery.up || !(Number.isInteger(cid) && cid >= 0 && cid < 0xffff)) return
  admin.run({ opcode: Admin.abort, cdw10: id | (cid << 16) }).catch(() => {})
}

/** Has the controller make the queue of a lease. */
export async function startQueue(
  { admin, interrupts, shadow, doorbellStride }: LeaseHost,
  lease: NvmeLease,
): Promise<void> {
  lease.on = true
  if (shadow !== undefined) clearShadow(shadow, 2 * lease.id * doorbellStride, 2 * doorbellStride)
  try {
    await createPair(admin, lease.id, lease.pair, interrupts.vectorOf(lease.id))
  } catch (error) {
    if (wasRefused(error)) lease.on = false
    throw error
  }
}

/** Interrupts reach the worker by its own vector, or are passed on where other queues have the same. */
function shareInterrupts({ interrupts }: LeaseHost, share: ReturnType<Device['share']>, id: number) {
  const own = interrupts.ownOf(id)
  if (own !== undefined) return { irq: share.vector(own.irqs, own.vector), line: undefined }
  if (interrupts.mode === 'poll') return { irq: undefined, line: undefined }
  const { token, line } = share.event()
  return { irq: token, line }
}

/** Has the controller forget a queue, whatever its worker does, and gives its memory back. */
async function takeBack({ dev, admin, queues, recovery }: LeaseHost, lease: NvmeLease): Promise<void> {
  await recovery.ready().catch(() => {}) // who asked for a reset gets its error
  await lease.settled()
  await lease.pause()
  let left: AccelError | undefined
  if (lease.on && recovery.up) {
    try {
      await deletePair(admin, lease.id)
      lease.on = false
    } catch (error) {
      if (!isAccelError(error)) throw error
      left = error
    }
  }
  await lease.end(
    accelError('ERR_ACCEL_CLOSED', `NVMe queue ${lease.id} was taken back from its worker thread`),
  )
  queues.lent.delete(lease.id)
  queues.keepFrom(lease)
  // Of a device that goes, its memory goes with it, once it was brought to rest.
  if (dev.signal.aborted) return
  if (lease.on) {
    const message = `NVMe queue ${lease.id} could not be deleted: ${left?.message ?? 'the controller is not up'}`
    await recovery.reset(accelError('ERR_ACCEL_IO', message, { cause: left }))
  }
  lease.free()
}
