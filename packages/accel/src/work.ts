import { DmaBuffer, type DmaDomain } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import { BufferObject } from './buffer-object.js'
import type { Open } from './open.js'
import { OpenWork } from './open-work.js'
import { Account, processAccount, type Quotas } from './quota.js'
import type { NodeRecord } from './record.js'
import { type JobHost, Scheduler } from './scheduler.js'
import type { MemoryUsage } from './telemetry.js'
import { NodeQueues, type QueueHost, type UserQueues } from './user-queue.js'

/** What buffers, fences, jobs and queues need from their node. */
export interface WorkHost extends JobHost, QueueHost {
  readonly name: string
  readonly limits: JobHost['limits'] & QueueHost['limits']
  readonly quotas: Quotas
  readonly record: NodeRecord
  /** Whether the driver takes jobs at all. */
  readonly takesJobs: boolean
  /** Whether the driver has queues for clients to fill at all. */
  readonly takesQueues: boolean
  /** Undefined while the device takes none. */
  queueOffer(): UserQueues | undefined
  /** All that hold the device. */
  opens(): Iterable<Open>
  /** The memory that the device can reach; undefined while it is being brought up. */
  domain(): DmaDomain | undefined
}

const noMemory: MemoryUsage = { totalBytes: 0, sharedBytes: 0, residentBytes: 0, activeBytes: 0 }

/** What clients hold of one device: buffer objects, fences and jobs. */
export class NodeWork {
  readonly host: WorkHost
  readonly scheduler: Scheduler
  readonly queues: NodeQueues
  readonly #account: Account
  readonly #opens = new Map<Open, OpenWork>()
  readonly #objects = new Set<BufferObject>()
  #domain: DmaDomain | undefined

  constructor(host: WorkHost) {
    const { name, quotas } = host
    this.host = host
    this.#account = new Account(name, quotas.nodeObjects, quotas.nodeBytes, processAccount())
    this.scheduler = new Scheduler(host)
    this.queues = new NodeQueues(name)
  }

  /** Bytes of memory that no client can name any more, and that jobs under way may still touch. */
  get quarantinedBytes(): number {
    let sum = 0
    for (const object of this.#objects) if (object.quarantined) sum += object.sizeBytes
    return sum
  }

  of(open: Open): OpenWork {
    let work = this.#opens.get(open)
    if (work === undefined) {
      work = new OpenWork(this, open, this.#account)
      this.#opens.set(open, work)
    }
    return work
  }

  /** Resolves once no job of an open is left. */
  async jobsEnded(open: Open): Promise<void> {
    await this.#opens.get(open)?.jobsEnded()
  }

  /** The memory of an open's buffer objects. */
  memoryOf(open: Open): MemoryUsage {
    return this.#opens.get(open)?.memory() ?? noMemory
  }

  /** Frees what an open holds. What a job under way may touch is freed when that has ended. */
  async close(open: Open, why: AccelError): Promise<void> {
    const work = this.#opens.get(open)
    if (work === undefined) return
    await this.scheduler.close(open, why)
    this.#opens.delete(open)
    work.free()
  }

  /** The device was reset, and touches nothing of what was under way; one that was only let go may, where that failed. */
  wasReset(why: AccelError, { refused }: { readonly refused: boolean }): void {
    if (refused) this.#endRunning(why)
    else this.scheduler.endRunning(why)
  }

  /** @internal The memory that the device can reach; undefined while it is being brought up. */
  domain(): DmaDomain | undefined {
    const domain = this.host.domain()
    this.#domain = domain ?? this.#domain
    return domain
  }

  /** The device was released. Where it was not kept from memory, what was under way keeps its memory for ever. */
  destroy(why: AccelError): void {
    for (const work of this.#opens.values()) work.free()
    this.#opens.clear()
    this.queues.end({ keepMemory: this.#endRunning(why) })
  }

  /** Ends what was under way. Answers whether its memory is kept for ever, as the device was not kept from it. */
  #endRunning(why: AccelError): boolean {
    const keepMemory = this.#domain?.destroyed === false
    let bytes = 0
    for (const { inUse, sizeBytes } of this.#objects) if (inUse) bytes += sizeBytes
    this.scheduler.endRunning(why, { keepMemory })
    if (keepMemory && bytes > 0) {
      this.host.report(`${bytes} bytes that ${this.host.name} may still touch are not used again`, why)
    }
    return keepMemory
  }

  /** @internal Makes memory for a buffer object. */
  memory(sizeBytes: number): DmaBuffer {
    // Without jobs or queues the device never gets to see it, and any memory will do.
    const domain = this.host.takesJobs || this.host.takesQueues ? this.up() : undefined
    const options = { name: 'uaccel-bo' }
    return domain?.createBuffer(sizeBytes, options) ?? DmaBuffer.create(sizeBytes, options)
  }

  /** @internal Makes a buffer object; its memory counts for `account` until it is freed. */
  create(account: Account, sizeBytes: number, memory: () => DmaBuffer): BufferObject {
    let giveBack = account.take('A buffer object', sizeBytes)
    let made: DmaBuffer | undefined
    try {
      made = memory()
      if (made.sizeBytes !== sizeBytes) {
        // Huge pages are larger than what was asked for, and a file of another process may have grown meanwhile.
        giveBack()
        giveBack = account.take('A buffer object', made.sizeBytes)
      }
      const object: BufferObject = new BufferObject(made, () => {
        this.#objects.delete(object)
        giveBack()
      })
      this.#objects.add(object)
      return object
    } catch (error) {
      made?.destroy()
      giveBack()
      throw error
    }
  }

  /** @internal The same where it is up. `ERR_ACCEL_AGAIN` while it is not. */
  up(): DmaDomain {
    const domain = this.domain()
    if (domain) return domain
    throw accelError('ERR_ACCEL_AGAIN', `${this.host.name} is being reset: try again when it is up`)
  }
}
