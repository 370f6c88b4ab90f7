import {
  type AccelError,
  accelError,
  type CallOptions,
  type Command,
  isAccelError,
  type Reply,
  TAKEN,
} from '@uaccel/uapi'
import type { Open } from './open.js'

/** What a call needs of its node. */
export interface CallHost {
  /** Who has the turn that it waits for. */
  holder(): { readonly label: string } | undefined
  /** It ended for its caller, where it failed with `error`. */
  ended(call: Call, error?: AccelError): void
}

/** Limit of a call that sets none. */
const DEFAULT_TIMEOUT_MS = 30_000
/** Largest delay of setTimeout: a larger one would fire at once. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1

let calls = 0

/** One call in flight. It ends once: with its reply, or with the first reason to fail. */
export class Call {
  /** Among those of this process; what has 32 bits starts over. */
  readonly id: number
  readonly open: Open
  readonly command: Command
  readonly reply: Promise<Reply>
  /** The driver was given it. */
  started = false
  /** Made when a handler asks for its signal: most commands end at once, and it costs more than they do. */
  #controller: AbortController | undefined
  #failure: AccelError | undefined
  #resolve!: (reply: Reply) => void
  #reject!: (error: AccelError) => void
  #ended = false
  readonly #release: () => void
  readonly #host: CallHost

  constructor(open: Open, command: Command, options: CallOptions, host: CallHost) {
    const { signal, timeoutMs = DEFAULT_TIMEOUT_MS } = options
    if (typeof timeoutMs !== 'number' || !(timeoutMs > 0) || timeoutMs > MAX_TIMEOUT_MS) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `timeoutMs of ${command.name} wants more than 0 and at most ${MAX_TIMEOUT_MS}, found ${timeoutMs}`,
      )
    }
    calls = (calls + 1) >>> 0
    this.id = calls
    this.open = open
    this.command = command
    this.#host = host
    this.reply = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    const abort = () =>
      this.fail(
        accelError('ERR_ACCEL_ABORTED', `${this.label} was aborted by its caller`, { cause: signal?.reason }),
      )
    const expire = () => {
      const before = host.holder()
      const where = before === undefined || before === this ? 'in the device' : `behind ${before.label}`
      this.fail(
        accelError('ERR_ACCEL_TIMEOUT', `${this.label} did not end within ${timeoutMs} ms, spent ${where}`),
      )
    }
    const timer = setTimeout(expire, timeoutMs)
    this.#release = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    }
    signal?.addEventListener('abort', abort, { once: true })
    if (signal?.aborted) abort()
  }

  /** Names the call in messages: `factorial of open 3`. */
  get label(): string {
    return `${this.command.name} of open ${this.open.id}`
  }

  /** Aborted when the call failed: what the handler listens to. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#failure) this.#controller.abort(this.#failure)
    }
    return this.#controller.signal
  }

  get ended(): boolean {
    return this.#ended
  }

  finish(reply: Reply): void {
    if (this.#ended) return
    this.#end()
    this.#resolve(reply)
  }

  /** Ends the call for its caller. The handler, where it still runs, sees its signal aborted with `error`. */
  fail(error: AccelError): void {
    if (this.#ended) return
    this.#end(error)
    this.#reject(error)
    this.#failure = error
    this.#controller?.abort(error)
  }

  #end(error?: AccelError): void {
    this.#ended = true
    this.#release()
    this.#host.ended(this, error)
  }
}

/** Decodes what was sent with a command. Each descriptor that came with it has a place in it. */
export function decodeRequest(command: Command, bytes: Uint8Array, given: readonly number[] = []): unknown {
  const fds = [...given]
  const request = command.in.decode(bytes, fds)
  const unnamed = fds.filter((fd) => fd !== TAKEN).length
  if (unnamed === 0) return request
  throw accelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `${unnamed} of the ${fds.length} descriptors that came with ${command.name} have no place in it`,
  )
}

/** What a handler threw, as callers see it: an error of the table. */
export function commandError(call: Call, error: unknown): AccelError {
  if (isAccelError(error)) return error
  const message = error instanceof Error ? error.message : String(error)
  return accelError('ERR_ACCEL_IO', `${call.label} failed in its driver: ${message}`, { cause: error })
}

/**
 * Whether the hardware is idle although a handler threw: an `AccelError` is its answer, unless it says that the
 * hardware did not do something in time, or by `details.idle` that it is not. What else was thrown is a bug at an unknown place.
 */
export function leavesIdle(error: unknown): boolean {
  if (!isAccelError(error) || error.details?.idle === false) return false
  return error.code !== 'ERR_ACCEL_TIMEOUT' && error.code !== 'ERR_ACCEL_ABORTED'
}
