import { accelError } from '@uaccel/uapi'

/** Gives one thing back. */
export type Disposer = () => void | Promise<void>

/**
 * What was taken and must be given back, in reverse order. A step that fails does not keep the others from running.
 */
export class Scope {
  readonly #what: string
  readonly #disposers: { readonly dispose: Disposer }[] = []
  #released: Promise<void> | undefined

  /** @param what For errors, such as `device 0000:00:05.0`. */
  constructor(what: string) {
    this.#what = what
  }

  /** True from the start of {@link release} on. */
  get released(): boolean {
    return this.#released !== undefined
  }

  /** Has `dispose` run at release, before everything that was deferred earlier. Answers a function that takes it out again. */
  defer(dispose: Disposer): () => void {
    if (this.released)
      throw accelError('ERR_ACCEL_CLOSED', `${this.#what} is released and takes nothing on any more`)
    const entry = { dispose }
    this.#disposers.push(entry)
    return () => {
      const i = this.#disposers.indexOf(entry)
      if (i >= 0) this.#disposers.splice(i, 1)
    }
  }

  /**
   * Runs what was deferred, last first. Rejects with the error of a step, or an AggregateError of several.
   * Idempotent: later calls answer the first one's promise.
   */
  release(): Promise<void> {
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
      }
    }
    if (errors.length === 1) throw errors[0]
    if (errors.length > 1)
      throw new AggregateError(errors, `${this.#what}: ${errors.length} steps of its release failed`)
  }
}
