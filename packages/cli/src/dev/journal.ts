import type { Line, Source } from './messages.js'

/** How often lines leave, and how many of a trace at most then: a driver that polls makes more than anybody reads. */
const FLUSH_MS = 50
const MOST = 200

/** Lines on their way from a process to who shows them: equal ones in a row are one, and a flood is cut and counted. */
export class Journal {
  readonly #send: (lines: readonly Line[], dropped: number) => void
  #lines: Line[] = []
  #dropped = 0
  #timer: NodeJS.Timeout | undefined

  constructor(send: (lines: readonly Line[], dropped: number) => void) {
    this.#send = send
  }

  add(source: Source, text: string, level: Line['level'] = 'plain', trace = false): void {
    const last = this.#lines.at(-1)
    if (last?.text === text && last.source === source) {
      this.#lines[this.#lines.length - 1] = { ...last, count: last.count + 1 }
    } else if (trace && this.#lines.length >= MOST) this.#dropped++
    else this.#lines.push({ atMs: Date.now(), source, text, count: 1, level, trace })
    if (this.#timer) return
    // What comes after a silence leaves at once: the process may be about to block.
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.flush()
    }, FLUSH_MS)
    this.flush()
  }

  /** A line of the trace. */
  trace(source: Source, text: string): void {
    this.add(source, text, 'plain', true)
  }

  flush(): void {
    if (this.#lines.length === 0 && this.#dropped === 0) return
    const lines = this.#lines
    const dropped = this.#dropped
    this.#lines = []
    this.#dropped = 0
    this.#send(lines, dropped)
  }
}
