import type { Line } from './messages.js'

/** How late a line of another process may be. */
const LATE_MS = 120

/** Lines of several processes in the order of their times: each waits until no earlier one can come any more. */
export class Order {
  readonly #tell: (line: Line) => void
  readonly #waiting: Line[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(tell: (line: Line) => void) {
    this.#tell = tell
  }

  add(line: Line): void {
    let at = this.#waiting.length
    while (at > 0 && this.#waiting[at - 1]!.atMs > line.atMs) at--
    this.#waiting.splice(at, 0, line)
    this.#timer ??= setTimeout(() => this.#pass(), LATE_MS)
  }

  /** Tells all that wait. */
  flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    for (const line of this.#waiting.splice(0)) this.#tell(line)
  }

  #pass(): void {
    this.#timer = undefined
    const now = Date.now()
    while (this.#waiting[0] && this.#waiting[0].atMs <= now - LATE_MS) this.#tell(this.#waiting.shift()!)
    const [next] = this.#waiting
    if (next) this.#timer = setTimeout(() => this.#pass(), Math.max(1, next.atMs + LATE_MS - now))
  }
}
