/** A lock that knows its holder, granted in order of arrival. */
export class Turn<T> {
  #holder: T | undefined
  readonly #waiting: (() => void)[] = []

  /** Who has it, for diagnoses: "waited behind ...". */
  get holder(): T | undefined {
    return this.#holder
  }

  /** Waits for the turn. Answers what gives it back, or `undefined` when `signal` was aborted first. */
  take(who: T, signal: AbortSignal): Promise<(() => void) | undefined> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve(undefined)
      const giveUp = () => {
        this.#waiting.splice(this.#waiting.indexOf(grant), 1)
        resolve(undefined)
      }
      const grant = () => {
        signal.removeEventListener('abort', giveUp)
        this.#holder = who
        resolve(this.#release())
      }
      if (this.#holder === undefined) return grant()
      this.#waiting.push(grant)
      signal.addEventListener('abort', giveUp, { once: true })
    })
  }

  #release(): () => void {
    let released = false
    return () => {
      if (released) return
      released = true
      this.#holder = undefined
      this.#waiting.shift()?.()
    }
  }
}
