/** Wakes all who wait for the same thing. What happened is for them to look at. */
export class Bell {
  readonly #waiting = new Set<() => void>()

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.size
  }

  ring(): void {
    for (const wake of [...this.#waiting]) wake()
  }

  /** Resolves at the next {@link ring}; rejects with the reason of `signal`. */
  wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const leave = () => {
        this.#waiting.delete(wake)
        signal.removeEventListener('abort', abort)
      }
      const wake = () => {
        leave()
        resolve()
      }
      const abort = () => {
        leave()
        reject(signal.reason)
      }
      this.#waiting.add(wake)
      signal.addEventListener('abort', abort, { once: true })
    })
  }
}
