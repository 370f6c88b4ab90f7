import { accelError } from '@uaccel/uapi'

/** Gives one thing back. */
export type Disposer = () => void | Promise<void>

/** How a step behaves in a release that has a limit. */
export interface DeferOptions {
  /** Has the release go on without the step once the limit has passed: the step has failed then. Default false. */
  readonly limited?: boolean
}

/**
 * What was taken and must be given back, in reverse order. A step that fails does not keep the others from running.
 */
export class Scope {
  readonly #what: string
  readonly #disposers: { readonly dispose: Disposer }[] = []
  #released: Promise<void> | undefined
  #failed = 0
  /** As `performance.now` counts. */
  #deadline = Number.POSITIVE_INFINITY

  /** @param what For errors, such as `device 0000:00:05.0`. */
  constructor(what: string) {
    this.#what = what
  }

  /** True from the start of {@link release} on. */
  get released(): boolean {
    return this.#released !== undefined
  }

  /** How many steps of the release have failed so far. */
  get failed(): number {
    return this.#failed
  }

  /** Has `dispose` run at release, before everything that was deferred earlier. Answers a function that takes it out again. */
  defer(dispose: Disposer, { limited = false }: DeferOptions = {}): () => void {
    if (this.released)
      throw accelError('ERR_ACCEL_CLOSED', `${this.#what} is released and takes nothing on any more`)
    const entry = { dispose: limited ? () => this.#inTime(dispose) : dispose }
    this.#disposers.push(entry)
    return () => {
      const i = this.#disposers.indexOf(entry)
      if (i >= 0) this.#disposers.splice(i, 1)
    }
  }

  /**
   * Runs what was deferred, last first. Rejects with the error of a step, or an AggregateError of several.
   * Idempotent: later calls answer the first one's promise.
   * @param limitMs For all limited steps together; no limit unless told.
   */
  release(limitMs?: number): Promise<void> {
    if (this.#released === undefined && limitMs !== undefined) this.#deadline = performance.now() + limitMs
    this.#released ??= this.#run()
    return this.#released
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release()
  }

  async #run(): Promise<void> {
    const errors: unknown[] = []
    for (let entry = this.#disposers.pop(); entry !== undefined; entry = this.#disposers.pop()) {
      try {
        await entry.dispose()
      } catch (error) {
        errors.push(error)
        this.#failed = errors.length
      }
    }
    if (errors.length === 1) throw errors[0]
    if (errors.length > 1)
      throw new AggregateError(errors, `${this.#what}: ${errors.length} steps of its release failed`)
  }

  /** Runs a step up to the deadline; what becomes of it later is nobody's concern. */
  async #inTime(dispose: Disposer): Promise<void> {
    const running = Promise.resolve(dispose())
    if (this.#deadline === Number.POSITIVE_INFINITY) return running
    running.catch(() => {})
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      const tell = () =>
        reject(
          accelError(
            'ERR_ACCEL_TIMEOUT',
            `a step of the release of ${this.#what} did not end within its limit`,
          ),
        )
      timer = setTimeout(tell, Math.max(0, this.#deadline - performance.now()))
    })
    try {
      await Promise.race([running, late])
    } finally {
      clearTimeout(timer)
    }
  }
}
