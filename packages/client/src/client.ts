import { closeAll, duplicates, type MessageSocket, type NodeMessage } from '@uaccel/sys'
import {
  type AccelError,
  accelError,
  type Command,
  type CommandOutput,
  commonUapi,
  DeviceClient,
  type DispatchOptions,
  decodeError,
  FIRST_DRIVER_COMMAND,
  HEADER_BYTES,
  isAccelError,
  MessageKind,
  type nodeProtocol,
  type Reply,
  type Uapi,
} from '@uaccel/uapi'

/** What the server said of itself when the node was opened. */
export type ServerHello = CommandOutput<typeof nodeProtocol, 'hello'>

/** A request of which no answer came yet. */
interface Pending {
  readonly number: number
  readonly sizeBytes: number
  readonly fdCount: number
  /** Its caller was told; what the server still answers is for nobody. */
  ended: boolean
  finish(reply: Reply): void
  fail(error: AccelError): void
}

/** A request that waits for room: the server takes so many at a time. */
interface Waiting {
  readonly pending: Pending
  readonly timeoutMs: number
  readonly bytes: Uint8Array
  /** Ours to close. */
  readonly fds: readonly number[]
}

const noFds: readonly number[] = []
const noBytes = new Uint8Array(0)
/** Limit of a call that sets none: the server's own is the same. */
const DEFAULT_TIMEOUT_MS = 30_000
/** Largest delay of setTimeout: a larger one would fire at once. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1
/** How much longer than its limit a call waits for the server to say that it has passed. */
const GRACE_MS = 1000
/** How long `close` waits for the server to say that all is freed. */
const CLOSE_MS = 20_000

/**
 * One open of a device that another process serves. Requests are pipelined: they leave at once, up to what the server takes from
 * one connection, and their order of arrival is kept. Pending calls keep the process alive, the open as such does not.
 */
export class NodeClient<U extends Uapi> extends DeviceClient<U> {
  readonly name: string
  readonly lost: Promise<AccelError>
  readonly #socket: MessageSocket
  readonly #hello: ServerHello
  readonly #pending = new Map<number, Pending>()
  readonly #waiting = new Set<Waiting>()
  #pendingBytes = 0
  #pendingFds = 0
  #nextId = 1
  #reason: AccelError | undefined
  #closed = false
  #closing: Promise<void> | undefined
  #resolveLost!: (reason: AccelError) => void
  #resolveEnded!: () => void
  readonly #ended: Promise<void>

  /** @internal See `openAccel`. */
  constructor(uapi: U, socket: MessageSocket, hello: ServerHello) {
    super(uapi)
    this.name = hello.node
    this.#socket = socket
    this.#hello = hello
    this.lost = new Promise((resolve) => {
      this.#resolveLost = resolve
    })
    this.#ended = new Promise((resolve) => {
      this.#resolveEnded = resolve
    })
  }

  async dispatch(number: number, bytes: Uint8Array, options: DispatchOptions = {}): Promise<Reply> {
    const { signal, timeoutMs = DEFAULT_TIMEOUT_MS, fds = noFds } = options
    this.#check()
    if (typeof timeoutMs !== 'number' || !(timeoutMs > 0) || timeoutMs > MAX_TIMEOUT_MS) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `timeoutMs of command ${number} wants more than 0 and at most ${MAX_TIMEOUT_MS}, found ${timeoutMs}`,
      )
    }
    if (!Number.isInteger(number) || number < 0 || number > 0xffff) {
      throw accelError('ERR_ACCEL_UNKNOWN_COMMAND', `Commands have numbers of 16 bits, found ${number}`)
    }
    if (HEADER_BYTES + bytes.length > this.#hello.maxMessageBytes) {
      const room = this.#hello.maxMessageBytes - HEADER_BYTES
      throw accelError(
        'ERR_ACCEL_BAD_SIZE',
        `A command of ${this.name} has at most ${room} bytes, found ${bytes.length}`,
      )
    }
    return new Promise((resolve, reject) => {
      const settle = () => {
        pending.ended = true
        clearTimeout(timer)
        signal?.removeEventListener('abort', abort)
      }
      const pending: Pending = {
        number,
        sizeBytes: bytes.length,
        fdCount: fds.length,
        ended: false,
        finish(reply) {
          settle()
          resolve(reply)
        },
        fail(error) {
          settle()
          reject(error)
        },
      }
      const abort = () => {
        this.#withdraw(pending)
        pending.fail(
          accelError('ERR_ACCEL_ABORTED', `${this.#label(number)} was aborted by its caller`, {
            cause: signal?.reason,
          }),
        )
      }
      const expire = () => {
        this.#withdraw(pending)
        pending.fail(
          accelError(
            'ERR_ACCEL_TIMEOUT',
            `${this.#label(number)} did not end within ${timeoutMs} ms, and its server did not say so. Is it alive?`,
          ),
        )
      }
      const timer = setTimeout(expire, Math.min(timeoutMs + GRACE_MS, MAX_TIMEOUT_MS))
      if (signal?.aborted) return abort()
      signal?.addEventListener('abort', abort, { once: true })
      try {
        if (this.#waiting.size > 0 || !this.#fits(pending)) this.#wait(pending, timeoutMs, bytes, fds)
        else this.#send(pending, timeoutMs, bytes, fds)
      } catch (error) {
        pending.fail(error as AccelError)
      }
    })
  }

  /** Resolves when the server has freed what belonged to the open, or is gone. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  protected override get closing(): boolean {
    return this.#closed
  }

  /** @internal */
  receive({ kind, id, code, payload, fds }: NodeMessage): void {
    const pending = this.#pending.get(id)
    // Nobody waits for it any more, or it is out of step.
    if (kind !== MessageKind.REPLY || code !== 0 || !pending || pending.ended) closeAll(fds)
    if (this.#closed) return
    if (kind === MessageKind.EVENT) {
      this.#end(decodeError(code, payload))
      return
    }
    if (kind !== MessageKind.REPLY || !pending) {
      const found = kind === MessageKind.REPLY ? `a reply to ${id}, which was not asked` : `kind ${kind}`
      this.#end(accelError('ERR_ACCEL_PROTOCOL', `The server of ${this.name} broke the protocol: ${found}`))
      return
    }
    const error = code === 0 ? undefined : decodeError(code, payload)
    this.#forget(id, pending)
    if (!pending.ended) {
      if (error) pending.fail(error)
      else pending.finish({ bytes: new Uint8Array(payload), fds })
    }
    this.#sendWaiting()
  }

  /** @internal The connection ended. */
  dropped(cause: AccelError): void {
    this.#end(
      accelError('ERR_ACCEL_NO_DEVICE', `the connection to its server ended: ${cause.message}`, { cause }),
    )
  }

  #end(reason: AccelError): void {
    this.#reason ??= reason
    this.#socket.close()
    this.#resolveEnded()
    if (this.#closed) return
    this.#failAll(this.#gone(this.#reason))
    this.#resolveLost(this.#reason)
  }

  async #close(): Promise<void> {
    this.#closed = true
    this.#failAll(accelError('ERR_ACCEL_CLOSED', `This open of ${this.name} was closed`))
    if (this.#reason) return
    this.#socket.shutdown()
    let timer: NodeJS.Timeout | undefined
    const expired = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_MS)
    })
    await Promise.race([this.#ended, expired])
    clearTimeout(timer)
    this.#socket.close()
  }

  protected override servedVersion(uapi: Uapi): number {
    return uapi.name === commonUapi.name ? this.#hello.commonVersion : this.#hello.version
  }

  protected override closeFds(fds: readonly number[]): void {
    closeAll(fds)
  }

  /** Names a command in messages: `factorial of accel0`. */
  #label(number: number): string {
    const commands = Object.values(
      (number < FIRST_DRIVER_COMMAND ? commonUapi : this.uapi).commands,
    ) as Command[]
    const name = commands.find((command) => command.number === number)?.name
    return `${name ?? `command 0x${number.toString(16)}`} of ${this.name}`
  }

  #check(): void {
    if (this.#closed) throw accelError('ERR_ACCEL_CLOSED', `This open of ${this.name} was closed`)
    if (this.#reason) throw this.#gone(this.#reason)
  }

  #gone(cause: AccelError): AccelError {
    return accelError('ERR_ACCEL_NO_DEVICE', `${this.name} is gone: ${cause.message}`, { cause })
  }

  #failAll(error: AccelError): void {
    for (const pending of this.#pending.values()) if (!pending.ended) pending.fail(error)
    this.#pending.clear()
    for (const { pending, fds } of this.#waiting) {
      closeAll(fds)
      if (!pending.ended) pending.fail(error)
    }
    this.#waiting.clear()
  }

  /** Whether the server has room for it; one that is too much by itself is the server's to refuse. */
  #fits({ sizeBytes, fdCount }: Pending): boolean {
    const { maxRequests, maxPendingBytes, maxFds } = this.#hello
    return (
      this.#pending.size === 0 ||
      (this.#pending.size < maxRequests &&
        this.#pendingBytes + sizeBytes <= maxPendingBytes &&
        this.#pendingFds + fdCount <= maxFds)
    )
  }

  #send(pending: Pending, timeoutMs: number, bytes: Uint8Array, fds: readonly number[]): void {
    let id = this.#nextId
    while (id === 0 || this.#pending.has(id)) id = (id + 1) >>> 0
    this.#nextId = (id + 1) >>> 0
    this.#pending.set(id, pending)
    this.#pendingBytes += pending.sizeBytes
    this.#pendingFds += pending.fdCount
    try {
      this.#socket.send(MessageKind.REQUEST, id, pending.number, Math.ceil(timeoutMs), bytes, fds)
    } catch (error) {
      this.#forget(id, pending)
      throw error
    }
  }

  #forget(id: number, { sizeBytes, fdCount }: Pending): void {
    this.#pending.delete(id)
    this.#pendingBytes -= sizeBytes
    this.#pendingFds -= fdCount
  }

  #wait(pending: Pending, timeoutMs: number, bytes: Uint8Array, fds: readonly number[]): void {
    this.#waiting.add({ pending, timeoutMs, bytes: new Uint8Array(bytes), fds: duplicates(fds) })
  }

  #sendWaiting(): void {
    for (const waiting of this.#waiting) {
      const { pending, timeoutMs, bytes, fds } = waiting
      if (!this.#fits(pending)) return
      this.#waiting.delete(waiting)
      try {
        this.#send(pending, timeoutMs, bytes, fds)
      } catch (error) {
        if (!isAccelError(error)) throw error
        pending.fail(error)
      } finally {
        closeAll(fds)
      }
    }
  }

  /** Takes a request back: from the queue here, or by asking the server to. */
  #withdraw(pending: Pending): void {
    for (const waiting of this.#waiting) {
      if (waiting.pending !== pending) continue
      this.#waiting.delete(waiting)
      closeAll(waiting.fds)
      return
    }
    for (const [id, other] of this.#pending) {
      if (other === pending) this.#socket.send(MessageKind.CANCEL, id, 0, 0, noBytes)
    }
  }
}
