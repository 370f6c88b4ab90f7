/** Control sequences of xterm that every terminal of today has (invisible-island.net/xterm/ctlseqs). */
const ESC = '\x1b['
/** Alternate screen, no cursor, no wrap at the last column; and back. */
const ENTER = `${ESC}?1049h${ESC}?25l${ESC}?7l`
const LEAVE = `${ESC}?7h${ESC}?25h${ESC}?1049l`
const HOME = `${ESC}H`
const CLEAR_LINE = `${ESC}2K`

/** Keys that come as more than one character. */
const named: Readonly<Record<string, string>> = {
  [`${ESC}A`]: 'up',
  [`${ESC}B`]: 'down',
  [`${ESC}C`]: 'right',
  [`${ESC}D`]: 'left',
  '\x1bOA': 'up',
  '\x1bOB': 'down',
  '\x1bOC': 'right',
  '\x1bOD': 'left',
  [`${ESC}5~`]: 'page up',
  [`${ESC}6~`]: 'page down',
  ' ': 'space',
  '\x03': 'interrupt',
  '\x1a': 'stop',
}
/** A sequence of a key, which begins with ESC, or one character. */
const KEY = /\p{Cc}(?:\[[0-9;]*[~A-Za-z]|O[A-Za-z])|[\s\S]/gu

/** The whole of a terminal, for as long as it is held. It is given back however the process ends by itself. */
export class Screen {
  readonly #onKey: (key: string) => void
  readonly #onResize: () => void
  #held = false

  constructor(onKey: (key: string) => void, onResize: () => void) {
    this.#onKey = onKey
    this.#onResize = onResize
  }

  get columns(): number {
    return process.stdout.columns || 80
  }

  get rows(): number {
    return process.stdout.rows || 24
  }

  enter(): void {
    this.#held = true
    process.stdout.write(ENTER)
    process.stdout.on('resize', this.#onResize)
    process.on('exit', this.#leave)
    if (!process.stdin.isTTY) return
    process.stdin.setRawMode(true).setEncoding('utf8').on('data', this.#read).resume()
  }

  /** As many lines as there are rows: what was there before is gone. */
  draw(lines: readonly string[]): void {
    if (this.#held) process.stdout.write(`${HOME}${lines.map((line) => CLEAR_LINE + line).join('\r\n')}`)
  }

  leave(): void {
    this.#leave()
    process.stdout.off('resize', this.#onResize)
    process.off('exit', this.#leave)
    process.stdin.off('data', this.#read).pause()
  }

  /** Stops the process, as ^Z does, and takes the terminal again when it goes on. */
  suspend(): void {
    this.leave()
    process.once('SIGCONT', () => {
      this.enter()
      this.#onResize()
    })
    process.kill(process.pid, 'SIGSTOP')
  }

  readonly #leave = () => {
    if (!this.#held) return
    this.#held = false
    if (process.stdin.isTTY) process.stdin.setRawMode(false)
    process.stdout.write(LEAVE)
  }

  readonly #read = (text: string) => {
    for (const [key] of text.matchAll(KEY)) this.#onKey(named[key] ?? key)
  }
}
