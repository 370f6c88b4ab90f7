import type { DmaDomain } from '@uaccel/memory'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { leavesIdle } from './call.js'
import type { CommandContext, OpenContext } from './driver.js'
import type { Job, QueuedJob } from './job.js'
import { settled } from './limit.js'

/** A driver that takes jobs, as its device is up now. */
export interface JobTarget {
  readonly domain: DmaDomain
  /** How many jobs it takes at once. */
  readonly depth: number
  submit(job: Job, context: CommandContext): unknown
}

/** What jobs need from their node. */
export interface JobHost {
  readonly limits: { readonly jobMs: number; readonly settleMs: number }
  /** Undefined while the device takes no jobs. */
  target(): JobTarget | undefined
  /** Brings the device to idle after the job of that name. False where the device did not come back. Never rejects. */
  recover(label: string): Promise<boolean>
  /** Something went wrong that no client is told of. */
  report(what: string, cause: unknown): void
}

/** What a driver answered, and whether the device is done with the job. */
interface Outcome {
  readonly error: AccelError | undefined
  readonly idle: boolean
}

interface Running {
  readonly open: OpenContext
  /** Never rejects. */
  readonly outcome: Promise<Outcome>
}

/**
 * The jobs of all opens of a device. Those of one open start in the order of their submission; opens take turns, so that each
 * gets as many jobs through as any other that has some waiting.
 */
export class Scheduler {
  readonly #host: JobHost
  /** Jobs that wait, by open; the open that was served last stands last. */
  readonly #queues = new Map<OpenContext, QueuedJob[]>()
  readonly #running = new Map<QueuedJob, Running>()
  #recovering: Promise<boolean> | undefined
  #pumping = false

  constructor(host: JobHost) {
    this.#host = host
  }

  add(open: OpenContext, job: QueuedJob): void {
    for (const { queues } of job.objects) queues.add(this)
    const queue = this.#queues.get(open)
    if (queue) queue.push(job)
    else this.#queues.set(open, [job])
    this.pump()
  }

  /** Starts what can be started. For whoever changed what jobs wait for. */
  pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    try {
      while (this.#startNext());
    } finally {
      this.#pumping = false
    }
  }

  /** Ends the jobs of an open: those that wait at once; resolves when the driver is done with the others, or had `settleMs`. */
  async close(open: OpenContext, why: AccelError): Promise<void> {
    const queue = this.#queues.get(open) ?? []
    this.#queues.delete(open)
    for (const job of queue) this.#end(job, why)
    const outcomes: Promise<Outcome>[] = []
    for (const [job, running] of this.#running) {
      if (running.open !== open) continue
      job.abort(why)
      outcomes.push(running.outcome)
    }
    await settled(Promise.all(outcomes), this.#host.limits.settleMs)
  }

  /** True where a job of another open is under way. */
  servesOthers(open: OpenContext): boolean {
    for (const running of this.#running.values()) if (running.open !== open) return true
    return false
  }

  /** Tells the driver that nobody waits for what is under way. */
  interrupt(why: AccelError): void {
    for (const job of this.#running.keys()) job.abort(why)
  }

  /** The device was reset, or let go, and is done with what was under way, whatever its driver says. */
  endRunning(why: AccelError, { keepMemory = false } = {}): void {
    for (const job of [...this.#running.keys()]) {
      if (keepMemory) job.keepMemory()
      this.#end(job, why)
    }
  }

  #startNext(): boolean {
    const target = this.#recovering === undefined ? this.#host.target() : undefined
    if (target === undefined || this.#running.size >= target.depth) return false
    for (const [open, queue] of this.#queues) {
      const job = queue[0]!
      if (!job.ready) continue
      queue.shift()
      this.#queues.delete(open)
      if (queue.length > 0) this.#queues.set(open, queue)
      const { poison } = job
      if (poison) this.#end(job, poison)
      else this.#start(open, job, target)
      return true
    }
    return false
  }

  #start(open: OpenContext, job: QueuedJob, target: JobTarget): void {
    let mapped: Job
    try {
      mapped = job.map(target.domain)
    } catch (error) {
      this.#end(job, jobError(job, error))
      return
    }
    job.begin()
    const outcome = drive(job, target, mapped, open)
    this.#running.set(job, { open, outcome })
    void this.#follow(job, outcome)
  }

  async #follow(job: QueuedJob, driver: Promise<Outcome>): Promise<void> {
    const { jobMs, settleMs } = this.#host.limits
    const over = new Promise<Outcome>((resolve) => {
      job.onEnd(() => resolve({ error: undefined, idle: true }))
    })
    const outcome = Promise.race([driver, over])
    let result = await settled(outcome, jobMs)
    if (result === undefined) {
      const error = accelError('ERR_ACCEL_TIMEOUT', `${job.label} did not end within ${jobMs} ms`)
      job.abort(error)
      result = (await settled(outcome, settleMs)) ?? { error, idle: false }
    }
    // Its memory is the device's until that was brought to idle; of one that is lost the node says when.
    if (!result.idle && this.#running.has(job) && !(await this.#recover(job))) return
    this.#end(job, result.error)
  }

  #recover(job: QueuedJob): Promise<boolean> {
    this.#recovering ??= this.#host.recover(job.label).finally(() => {
      this.#recovering = undefined
    })
    return this.#recovering
  }

  #end(job: QueuedJob, error: AccelError | undefined): void {
    this.#running.delete(job)
    for (const failure of job.end(error)) {
      this.#host.report(`Memory of ${job.label} was not given back cleanly`, failure)
    }
    this.pump()
    for (const { queues } of job.objects) for (const other of queues) if (other !== this) other.pump()
  }
}

/** Never rejects. */
async function drive(job: QueuedJob, target: JobTarget, mapped: Job, open: OpenContext): Promise<Outcome> {
  try {
    await target.submit(mapped, { signal: job.signal, open })
    return { error: undefined, idle: true }
  } catch (error) {
    return { error: jobError(job, error), idle: leavesIdle(error) }
  }
}

/** What a driver threw, as clients see it: an error of the table that names the job. */
function jobError(job: QueuedJob, cause: unknown): AccelError {
  const message = cause instanceof Error ? cause.message : String(cause)
  if (!isAccelError(cause)) {
    return accelError('ERR_ACCEL_IO', `${job.label} failed in its driver: ${message}`, { cause })
  }
  const details = cause.details === undefined ? {} : { details: cause.details }
  return accelError(cause.code, `${job.label} failed: ${message}`, { cause, ...details })
}
