import { type AccelError, accelError } from '@uaccel/uapi'

/** A value that a job will signal. */
interface Promised {
  readonly value: bigint
  ended: boolean
  error: AccelError | undefined
}

/** Values above `after` up to `value`, which a job that failed was to reach. */
interface Failure {
  readonly after: bigint
  readonly value: bigint
  readonly error: AccelError
}

interface Watcher {
  readonly value: bigint
  readonly told: () => void
}

/** Failures that are remembered one by one; of older ones it is only known that something failed. */
const MAX_FAILURES = 256

/**
 * A timeline fence: a value that only grows, after DRM's timeline syncobjs. Jobs promise values in ascending order; a value is
 * reached when its job and all that promised less have ended. A job that fails reaches its value, too, so that nobody waits
 * for ever; who asks for the value gets its error.
 */
export class Timeline {
  readonly #promises: Promised[] = []
  readonly #failures: Failure[] = []
  readonly #watchers = new Set<Watcher>()
  #value: bigint
  #last: bigint
  #closed = false

  constructor(initialValue: bigint) {
    this.#value = initialValue
    this.#last = initialValue
  }

  /** The largest value that was reached. */
  get value(): bigint {
    return this.#value
  }

  /** The largest value that was reached or that a job will reach. */
  get promised(): bigint {
    return this.#last
  }

  /** Has a job promise a value. Answers what the end of the job calls, once. `ERR_ACCEL_OUT_OF_RANGE` for one that is not above all before. */
  promise(value: bigint): (error?: AccelError) => void {
    if (value <= this.#last) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `A job was to raise a fence to ${value}, and ${this.#last} is reached or promised: values only grow`,
      )
    }
    const promised: Promised = { value, ended: false, error: undefined }
    this.#promises.push(promised)
    this.#last = value
    return (error) => {
      promised.ended = true
      promised.error = error
      this.#advance()
    }
  }

  /** Why the job failed that was to reach `value`. */
  failure(value: bigint): AccelError | undefined {
    return this.#failures.find((failure) => failure.after < value && value <= failure.value)?.error
  }

  /** Calls `told` once `value` is reached or cannot be reached any more: at once, or later. Answers what takes the call back. */
  watch(value: bigint, told: () => void): () => void {
    if (value <= this.#value || this.#hopeless(value)) {
      told()
      return () => {}
    }
    const watcher = { value, told }
    this.#watchers.add(watcher)
    return () => this.#watchers.delete(watcher)
  }

  /** Nobody will promise a value any more. What was promised will be reached. */
  close(): void {
    this.#closed = true
    this.#tell()
  }

  #advance(): void {
    while (this.#promises[0]?.ended) {
      const { value, error } = this.#promises.shift()!
      if (error) this.#fail({ after: this.#value, value, error })
      this.#value = value
    }
    this.#tell()
  }

  #fail(failure: Failure): void {
    this.#failures.push(failure)
    if (this.#failures.length <= MAX_FAILURES) return
    const [first, second] = this.#failures.splice(0, 2)
    this.#failures.unshift({ ...second!, after: first!.after })
  }

  #tell(): void {
    for (const watcher of [...this.#watchers]) {
      if (watcher.value > this.#value && !this.#hopeless(watcher.value)) continue
      this.#watchers.delete(watcher)
      watcher.told()
    }
  }

  #hopeless(value: bigint): boolean {
    return this.#closed && value > this.#last
  }
}

/** A value of a fence, for those who wait. */
export interface Point {
  readonly fence: Timeline
  readonly value: bigint
}
