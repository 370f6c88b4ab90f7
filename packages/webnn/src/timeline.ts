/** One thing that a context was asked for. */
export interface Task {
  /** Begins it. `ended` is called once, at once or later. Throws nothing. */
  begin(ended: () => void): void
}

/** What a context was asked for, in that order: a task begins as soon as the one before has ended, and at once where there is none. */
export class Timeline {
  readonly #tasks: Task[] = []
  #running = false
  #advancing = false
  readonly #ended = () => {
    this.#running = false
    this.#advance()
  }

  add(task: Task): void {
    this.#tasks.push(task)
    this.#advance()
  }

  #advance(): void {
    // A task may end while it begins.
    if (this.#advancing) return
    this.#advancing = true
    while (!this.#running && this.#tasks.length > 0) {
      this.#running = true
      this.#tasks.shift()!.begin(this.#ended)
    }
    this.#advancing = false
  }
}
