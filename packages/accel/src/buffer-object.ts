import type { DmaBuf, DmaBuffer, DmaDomain, DmaMapping, Iova } from '@uaccel/memory'
import { sys } from '@uaccel/sys'
import type { AccelError } from '@uaccel/uapi'
import type { QueuedJob } from './job.js'

/** The buffer objects of this process by their files: each holds its files, so that no other has their numbers. */
const byFile = new Map<string, BufferObject>()

/** Whose jobs may wait for the end of another's. */
export interface JobQueue {
  pump(): void
}

/**
 * Memory that clients name by handle. It lives as long as a handle or a job holds it: what a device may still touch is not
 * freed, whoever destroys it or dies.
 */
export class BufferObject {
  readonly memory: DmaBuffer
  /** Jobs that name it and have not ended, in the order of their submission, each with its number among all that ever did. */
  readonly jobs = new Map<QueuedJob, number>()
  /** Jobs under way that read or write it. */
  users = 0
  /** Those of them that write it. */
  writers = 0
  /** Why the last job failed that was to write it: what it was to hold is not there. */
  failure: AccelError | undefined
  /** Its memory was given away by descriptor. */
  exported = false
  /** Where jobs name it: more than one where devices share it. */
  readonly queues = new Set<JobQueue>()
  readonly #mappings = new WeakMap<DmaDomain, DmaMapping>()
  readonly #freed: () => void
  readonly #files = new Set<string>()
  #dmaBuf: DmaBuf | undefined
  #holds = 0
  #handles = 1
  #kept = false
  #lastJob = 0
  readonly #waiting = new Set<{ readonly job: number; readonly told: () => void }>()

  /** @param freed Told once when the memory is given back. */
  constructor(memory: DmaBuffer, freed: () => void) {
    this.memory = memory
    this.#freed = freed
    this.#register(memory.fd)
  }

  /** The buffer object of this process whose memory, or dma-buf, a descriptor is of. */
  static ofFile(fd: number): BufferObject | undefined {
    return byFile.get(sys.identify(fd).id)
  }

  /** A dma-buf of it, which it keeps. Errors as for `DmaBuffer.exportDmaBuf`. */
  dmaBuf(): DmaBuf {
    if (this.#dmaBuf === undefined) {
      this.#dmaBuf = this.memory.exportDmaBuf()
      this.#register(this.#dmaBuf.fd)
    }
    return this.#dmaBuf
  }

  #register(fd: number): void {
    const { id } = sys.identify(fd)
    this.#files.add(id)
    byFile.set(id, this)
  }

  get sizeBytes(): number {
    return this.memory.sizeBytes
  }

  /** True where others than one open may have it. */
  get shared(): boolean {
    return this.exported || this.#handles > 1
  }

  /** True where nobody can name it any more, and jobs or queues still hold it. */
  get quarantined(): boolean {
    return this.#handles === 0 && !this.memory.destroyed
  }

  /** Its I/O address in `domain`, mapped at the first time. Errors as for `DmaDomain.map`. */
  mapIn(domain: DmaDomain): Iova {
    let mapping = this.#mappings.get(domain)
    if (mapping === undefined) {
      mapping = domain.map(this.memory)
      this.#mappings.set(domain, mapping)
    }
    return mapping.iova
  }

  /** One handle more. */
  addHandle(): void {
    this.#handles++
  }

  /** One handle less. */
  dropHandle(): void {
    this.#handles--
    this.#free()
  }

  addJob(job: QueuedJob): void {
    if (!this.jobs.has(job)) this.jobs.set(job, ++this.#lastJob)
  }

  /** True where the device may touch it now. */
  get inUse(): boolean {
    return this.users > 0 || this.#holds > 0
  }

  /** A queue that a client fills may touch it from now on. */
  hold(): void {
    this.#holds++
  }

  /** The device is done with that queue. */
  letGo(): void {
    this.#holds--
    this.#free()
  }

  dropJob(job: QueuedJob): void {
    this.jobs.delete(job)
    const oldest = this.#oldestJob()
    for (const waiting of this.#waiting) {
      if (waiting.job >= oldest) continue
      this.#waiting.delete(waiting)
      waiting.told()
    }
    this.#free()
  }

  /** Calls `told` once the jobs that name it now have ended: at once, or later. Answers what takes the call back. */
  onEnd(told: () => void): () => void {
    if (this.jobs.size === 0) {
      told()
      return () => {}
    }
    const waiting = { job: this.#lastJob, told }
    this.#waiting.add(waiting)
    return () => this.#waiting.delete(waiting)
  }

  #oldestJob(): number {
    for (const job of this.jobs.values()) return job
    return Number.POSITIVE_INFINITY
  }

  /** Nothing took the memory from the device: nobody gets it again while this process lives. */
  keep(): void {
    this.#kept = true
  }

  #free(): void {
    if (this.#handles > 0 || this.jobs.size > 0 || this.#holds > 0 || this.#kept) return
    for (const id of this.#files) byFile.delete(id)
    this.#files.clear()
    try {
      this.#dmaBuf?.close()
      this.memory.destroy()
    } finally {
      this.#freed()
    }
  }
}
