import type { DmaAccess, DmaBuffer, DmaDomain, Iova } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { BufferObject } from './buffer-object.js'
import type { Point } from './fence.js'

/** A part of a buffer object that a job may touch. Handle, bounds and access were checked. */
export interface JobRange {
  /** Where the device finds the first byte of the range. */
  readonly iova: Iova
  readonly sizeBytes: number
  /** What the device may do there. */
  readonly access: DmaAccess
  /** The memory of the whole buffer object, in which the range starts at `offset`. The client writes to it at any time. */
  readonly memory: DmaBuffer
  readonly offset: number
}

/** A job as its driver gets it. */
export interface Job {
  /** Names it in messages: `job 7 of open 3`. */
  readonly label: string
  /** In the order that the client gave them: its payload names them by place. */
  readonly ranges: readonly JobRange[]
  /** In the driver's own form; a copy, which does not change, and as hostile as whoever sent it. */
  readonly payload: Uint8Array
}

/** A buffer object as a job names it. */
export interface JobUse {
  readonly object: BufferObject
  readonly access: DmaAccess
  readonly offset: number
  readonly sizeBytes: number
}

/** The same as a driver gets it. Errors as for `DmaDomain.map`. */
export function rangeOf({ object, access, offset, sizeBytes }: JobUse, domain: DmaDomain): JobRange {
  const iova = (object.mapIn(domain) + BigInt(offset)) as Iova
  return { iova, sizeBytes, access, memory: object.memory, offset }
}

/** What a job is made of. */
export interface JobRequest {
  readonly label: string
  readonly uses: readonly JobUse[]
  readonly waits: readonly Point[]
  readonly payload: Uint8Array
  /** Told where its driver gets it. */
  readonly began: () => void
  /** Told once how it ended, and whether its driver had it. */
  readonly ended: (error: AccelError | undefined, started: boolean) => void
}

/** A job of an open, from its submission to its end. It holds its buffers all the time. */
export class QueuedJob {
  readonly label: string
  readonly #request: JobRequest
  readonly #controller = new AbortController()
  readonly #listeners = new Set<() => void>()
  #running = false
  #over = false

  constructor(request: JobRequest) {
    this.label = request.label
    this.#request = request
    for (const { object } of request.uses) object.addJob(this)
  }

  get objects(): BufferObject[] {
    return this.#request.uses.map(({ object }) => object)
  }

  /** Aborted when nobody wants the job any more, or the device is being reset. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  get running(): boolean {
    return this.#running
  }

  abort(reason: AccelError): void {
    this.#controller.abort(reason)
  }

  /** True where everything is there that it waits for, and no job under way is in its way. */
  get ready(): boolean {
    const { uses, waits } = this.#request
    return (
      waits.every(({ fence, value }) => value <= fence.value) &&
      uses.every(({ object, access }) => (access === 'read' ? object.writers : object.users) === 0)
    )
  }

  /** Why it is not worth running: a job that it waited for has failed. */
  get poison(): AccelError | undefined {
    for (const { fence, value } of this.#request.waits) {
      const cause = fence.failure(value)
      if (!cause) continue
      const message = `${this.label} was not run, as it waited for a job that failed: ${cause.message}`
      return accelError(cause.code, message, { cause })
    }
    return undefined
  }

  /** Makes its memory reachable in `domain`. Errors as for `DmaDomain.map`. */
  map(domain: DmaDomain): Job {
    const { label, payload, uses } = this.#request
    return { label, ranges: uses.map((use) => rangeOf(use, domain)), payload }
  }

  /** From now on, jobs that conflict with it wait. */
  begin(): void {
    this.#running = true
    this.#count(1)
    this.#request.began()
  }

  /** Has `told` run when the job ends. Answers what takes it back. */
  onEnd(told: () => void): () => void {
    if (this.#over) {
      told()
      return () => {}
    }
    this.#listeners.add(told)
    return () => this.#listeners.delete(told)
  }

  /** The device is done with it: lets its buffers go and tells who waits. Idempotent; what freeing them failed with is answered. */
  end(error: AccelError | undefined): unknown[] {
    if (this.#over) return []
    this.#over = true
    if (this.#running) this.#count(-1)
    const failures: unknown[] = []
    for (const { object, access } of this.#request.uses) {
      if (access !== 'read') object.failure = error
      try {
        object.dropJob(this)
      } catch (failure) {
        failures.push(failure)
      }
    }
    this.#request.ended(error, this.#running)
    for (const told of this.#listeners) told()
    return failures
  }

  /** The device may go on with it for ever: its memory is lost to us. */
  keepMemory(): void {
    for (const { object } of this.#request.uses) object.keep()
  }

  #count(by: 1 | -1): void {
    for (const { object, access } of this.#request.uses) {
      object.users += by
      if (access !== 'read') object.writers += by
    }
  }
}
