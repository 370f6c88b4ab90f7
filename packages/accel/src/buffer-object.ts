import type { DmaBuffer, DmaDomain, DmaMapping, Iova } from '@uaccel/memory'
import type { AccelError } from '@uaccel/uapi'
import type { QueuedJob } from './job.js'

/**
 * Memory that clients name by handle. It lives as long as a handle or a job holds it: what a device may still touch is not
 * freed, whoever destroys it or dies.
 */
export class BufferObject {
  readonly memory: DmaBuffer
  /** Jobs that name it and have not ended. */
  readonly jobs = new Set<QueuedJob>()
  /** Jobs under way that read or write it. */
  users = 0
  /** Those of them that write it. */
  writers = 0
  /** Why the last job failed that was to write it: what it was to hold is not there. */
  failure: AccelError | undefined
  readonly #mappings = new WeakMap<DmaDomain, DmaMapping>()
  readonly #freed: () => void
  #handles = 1
  #kept = false

  /** @param freed Told once when the memory is given back. */
  constructor(memory: DmaBuffer, freed: () => void) {
    this.memory = memory
    this.#freed = freed
  }

  get sizeBytes(): number {
    return this.memory.sizeBytes
  }

  /** True where nobody can name it any more, and jobs still hold it. */
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

  /** One handle less. */
  dropHandle(): void {
    this.#handles--
    this.#free()
  }

  dropJob(job: QueuedJob): void {
    this.jobs.delete(job)
    this.#free()
  }

  /** Nothing took the memory from the device: nobody gets it again while this process lives. */
  keep(): void {
    this.#kept = true
  }

  #free(): void {
    if (this.#handles > 0 || this.jobs.size > 0 || this.#kept) return
    try {
      this.memory.destroy()
    } finally {
      this.#freed()
    }
  }
}
