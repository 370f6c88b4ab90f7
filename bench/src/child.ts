import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { accelError } from '@uaccel/uapi'

/** A process on the other side of a benchmark, that speaks in lines. */
export class Child {
  readonly #name: string
  readonly #process: ChildProcess
  readonly #lines: AsyncIterator<string>

  /** @param fds Descriptors that the process gets as 3, 4 and so on. */
  constructor(command: string, args: readonly string[] = [], fds: readonly number[] = []) {
    this.#name = [command.replace(/.*\//, ''), ...args].join(' ')
    this.#process = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit', ...fds] })
    this.#process.on('error', () => {}) // shows as an end of its output
    this.#process.stdin?.on('error', () => {})
    this.#lines = createInterface({ input: this.#process.stdout! })[Symbol.asyncIterator]()
  }

  /** The next line of its output. `ERR_ACCEL_CLOSED` where it ended. */
  async line(): Promise<string> {
    const { done, value } = await this.#lines.next()
    if (done) {
      await this.#ended()
      throw accelError(
        'ERR_ACCEL_CLOSED',
        `${this.#name} ended in the middle of the benchmark (code ${this.#process.exitCode}, ${this.#process.signalCode}); what it said is above.`,
      )
    }
    return value
  }

  /** Has it run so many operations. Answers its figures. */
  async run(operations: number): Promise<number[]> {
    this.#process.stdin!.write(`${operations}\n`)
    return (await this.line()).split(' ').map(Number)
  }

  async close(): Promise<void> {
    this.#process.kill()
    await this.#ended()
  }

  async #ended(): Promise<void> {
    const { exitCode, signalCode, pid } = this.#process
    if (pid !== undefined && exitCode === null && signalCode === null) await once(this.#process, 'exit')
  }
}
