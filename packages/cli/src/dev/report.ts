import { isAccelError } from '@uaccel/uapi'
import { compareAbi, parseAbi } from '@uaccel/uapi/reference'
import type { Line, Source } from './messages.js'
import { Order } from './order.js'
import type { Process } from './process.js'

/** Frames of a stack that are shown. */
const MOST_FRAMES = 5

/** What a person is told of a session, in the order in which it happened. */
export class Report {
  readonly #order: Order
  #abi: string | undefined

  constructor(tell: (line: Line) => void) {
    this.#order = new Order(tell)
  }

  say(text: string, level: Line['level'] = 'plain', source: Source = 'dev'): void {
    this.#order.add({ atMs: Date.now(), source, text, count: 1, level, trace: false })
  }

  /** Lines of another process, and how many more there were. */
  pass(lines: readonly Line[], dropped: number): void {
    for (const line of lines) this.#order.add(line)
    if (dropped > 0) this.say(`${dropped} more lines of the trace are left out`)
  }

  /** What failed, and where in the author's files. */
  failed(what: string, error: unknown, { stack }: Process, folder: string): void {
    const code = isAccelError(error) ? ` (${error.code})` : ''
    this.say(`${what}: ${messageOf(error)}${code}`, 'error')
    const own = stack
      .split('\n')
      .filter((line) => /^\s+at /.test(line) && line.includes(folder) && !line.includes('/node_modules/'))
    for (const line of own.slice(0, MOST_FRAMES))
      this.say(`   ${line.trim().replace('file://', '').replace(`${folder}/`, '')}`, 'error')
  }

  /** What changed in the uAPI since the driver before. `abi` is its snapshot. */
  compare(abi: string): void {
    const before = this.#abi
    this.#abi = abi
    if (before === undefined || before === abi) return
    const changes = compareAbi(parseAbi(before, 'the uAPI'), parseAbi(abi, 'the uAPI'))
    for (const { where, what, breaks } of changes) {
      const note = breaks ? ': breaks programs that were built before' : ''
      this.say(`uAPI: ${where} ${what}${note}`, breaks ? 'warning' : 'good')
    }
  }

  /** Tells all that waits for its turn. */
  flush(): void {
    this.#order.flush()
  }
}

export const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))
