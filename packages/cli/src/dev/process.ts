import { type ChildProcess, fork } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { type AccelError, accelError } from '@uaccel/uapi'
import { type FromProcess, isFromProcess, type ToProcess } from './messages.js'

/** A process that was told to end gets this long, and is killed then. */
export const END_MS = 5_000

type Kind = FromProcess['type']
type Of<K extends Kind> = Extract<FromProcess, { type: K }>

/** What a process of ours tells of. */
interface Hearing {
  readonly message: (message: FromProcess) => void
  /** A line that its code wrote, such as with console.log. */
  readonly wrote: (line: string, isError: boolean) => void
}

/** A process of the author's code. It ends when its channel does, so also when this process is killed. */
export class Process {
  /** Resolves when it has ended, with how it did. */
  readonly ended: Promise<string>
  readonly #child: ChildProcess
  readonly #waiting = new Set<(message: FromProcess | AccelError) => void>()
  #failure: AccelError | undefined
  #stack = ''
  #hasEnded = false
  #wasKilled = false

  /** @param fds What it is to have as its own descriptors, from 4 on. */
  constructor(program: 'model' | 'driver', fds: readonly number[], hearing: Hearing) {
    const file = fileURLToPath(new URL(`./${program}-process.js`, import.meta.url))
    const child = fork(file, [], {
      // Stacks name the author's own lines.
      execArgv: ['--enable-source-maps'],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc', ...fds],
    })
    this.#child = child
    child.on('message', (message) => {
      if (!isFromProcess(message))
        return hearing.wrote('its process said what makes no sense, which is ignored', true)
      if (message.type === 'failed') {
        this.#failure = accelError(message.code, message.message)
        this.#stack = message.stack
        this.#tell(this.#failure)
      } else this.#tell(message)
      hearing.message(message)
    })
    for (const [stream, isError] of [
      [child.stdout!, false],
      [child.stderr!, true],
    ] as const)
      createInterface({ input: stream }).on('line', (line) => hearing.wrote(line, isError))
    this.ended = new Promise((resolve) => {
      const over = (how: string) => {
        this.#hasEnded = true
        this.#failure ??= accelError('ERR_ACCEL_CLOSED', `the process ${how}`)
        this.#tell(this.#failure)
        resolve(how)
      }
      // After what it wrote and said.
      child.once('close', (code, signal) =>
        over(signal === null ? `ended with code ${code}` : `was ended by ${signal}`),
      )
      child.on('error', (error) => {
        if (child.pid === undefined) over(`could not be started: ${error.message}`)
      })
    })
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** It was told to end, and did not in time. */
  get wasKilled(): boolean {
    return this.#wasKilled
  }

  /** Why it ended, once it has. */
  get failure(): AccelError | undefined {
    return this.#failure
  }

  /** Of what it failed, as its code threw it first. */
  get stack(): string {
    return this.#stack
  }

  send(message: ToProcess): void {
    // What does not arrive is no loss: the end of the process is told by itself.
    if (this.#child.connected) this.#child.send(message, () => {})
  }

  /** Resolves with the next message of that kind. Rejects with what the process says that it failed of, or how it ended. */
  heard<K extends Kind>(kind: K, isIt: (message: Of<K>) => boolean = () => true): Promise<Of<K>> {
    if (this.#failure) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      const hear = (message: FromProcess | AccelError) => {
        const isKind = message instanceof Error || (message.type === kind && isIt(message as Of<K>))
        if (!isKind) return
        this.#waiting.delete(hear)
        if (message instanceof Error) reject(message)
        else resolve(message as Of<K>)
      }
      this.#waiting.add(hear)
    })
  }

  /** Lets it bring all to rest; kills it where that takes too long. Resolves with how it ended. */
  async stop(reason: string, limitMs = END_MS): Promise<string> {
    this.send({ type: 'stop', reason })
    const timer = setTimeout(() => {
      this.#wasKilled = true
      this.kill()
    }, limitMs)
    const how = await this.ended
    clearTimeout(timer)
    return how
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  #tell(message: FromProcess | AccelError): void {
    for (const hear of [...this.#waiting]) hear(message)
  }
}
