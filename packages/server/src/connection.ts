import type { PeerCredentials } from '@uaccel/accel'
import { closeAll, MessageSocket, type NodeMessage } from '@uaccel/sys'
import {
  type AccelError,
  accelError,
  commonUapi,
  commonWaits,
  encodeError,
  isAccelError,
  MessageKind,
  nodeProtocol,
  PROTOCOL_VERSION,
  requireSameUapi,
  spoken,
} from '@uaccel/uapi'
import type { Servable } from './servable.js'

/** What one connection may have under way. What goes beyond is refused with `ERR_ACCEL_AGAIN`, and may be asked again. */
export interface ConnectionLimits {
  /** Requests without an answer. 256 unless told. */
  readonly maxRequests: number
  /** Bytes of those requests. 4 MiB unless told. */
  readonly maxPendingBytes: number
  /** Descriptors of those requests; one request with more is refused with `ERR_ACCEL_OUT_OF_RANGE`. 64 unless told. */
  readonly maxFds: number
  /** Bytes of one message; a longer one ends the connection. What the longest command takes, and some room, unless told. */
  readonly maxMessageBytes: number
  /** How long a client may take to say hello, or to read an answer, in ms. 5 seconds unless told. */
  readonly stallMs: number
}

/** What holds unless told. */
export const DEFAULT_CONNECTION_LIMITS = {
  maxRequests: 256,
  maxPendingBytes: 4 << 20,
  maxFds: 64,
  stallMs: 5000,
} as const

/** What a connection asks of the server that it belongs to. */
export interface ConnectionHost {
  readonly node: Servable
  readonly limits: ConnectionLimits
  /** Opens the node for a connection, or says why not. */
  admit(connection: Connection): unknown
  /** The client left, or has to: what it held is being freed. */
  left(connection: Connection): void
  /** Nothing is left of it. */
  gone(connection: Connection): void
}

/** A request without an answer. */
interface Request {
  readonly controller: AbortController
  readonly sizeBytes: number
  readonly fdCount: number
  /** It may do nothing but wait. */
  readonly waitsFor: 'events' | 'jobs' | undefined
  /** Why it was ended from this side. */
  ended?: AccelError
  /** Resolves when it was answered. */
  answered?: Promise<void>
}

/** One client of a node: one open of its device, from the hello until the connection ends, however it does. */
export class Connection {
  readonly peer: PeerCredentials
  readonly since = new Date()
  /** Resolves when nothing is left of it. */
  readonly gone: Promise<void>
  readonly #host: ConnectionHost
  readonly #socket: MessageSocket
  readonly #requests = new Map<number, Request>()
  readonly #hello: NodeJS.Timeout
  #pendingBytes = 0
  #pendingFds = 0
  /** What the node gave for it; never `undefined`. */
  #open: unknown
  #draining: AccelError | undefined
  #drained: (() => void) | undefined
  #left = false
  #resolveGone!: () => void

  /** Takes over `fd`. */
  constructor(fd: number, peer: PeerCredentials, host: ConnectionHost) {
    this.peer = peer
    this.#host = host
    this.gone = new Promise((resolve) => {
      this.#resolveGone = resolve
    })
    const { maxMessageBytes, stallMs } = host.limits
    this.#socket = new MessageSocket(
      fd,
      {
        message: (message) => this.#receive(message),
        // Who closed its side knows that.
        ended: (reason) => this.#end(reason, !isAccelError(reason, 'ERR_ACCEL_CLOSED')),
      },
      { maxMessageBytes, stallMs, receiveWhileBlocked: false },
    )
    this.#hello = setTimeout(
      () => this.end(accelError('ERR_ACCEL_TIMEOUT', `No hello came within ${stallMs} ms`)),
      stallMs,
    )
  }

  /** True from an admitted hello until the client leaves. */
  get isOpen(): boolean {
    return this.#open !== undefined && !this.#left
  }

  /** True while what it held is being freed. */
  get isFreeing(): boolean {
    return this.#open !== undefined && this.#left
  }

  get pendingRequests(): number {
    return this.#requests.size
  }

  /**
   * Refuses new requests, and ends the connection once the work under way has ended, or after `limitMs`. What waits for something to
   * happen is ended at once, what waits for jobs when there are none any more.
   */
  async drain(reason: AccelError, limitMs: number): Promise<void> {
    this.#draining = reason
    for (const request of this.#requests.values()) {
      if (request.waitsFor !== 'events') continue
      request.ended = reason
      request.controller.abort(reason)
    }
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      this.#drained = resolve
      timer = setTimeout(resolve, limitMs)
      void this.#worked().then(resolve)
    })
    clearTimeout(timer)
    this.end(reason)
  }

  /** Resolves when commands and jobs under way have ended, and who waited for them has his answer. */
  async #worked(): Promise<void> {
    const working = [...this.#requests.values()].filter(({ waitsFor }) => waitsFor !== 'jobs')
    await Promise.all(working.map(({ answered }) => answered))
    if (this.#open !== undefined) await this.#host.node.jobsEnded(this.#open)
    await new Promise((resolve) => setImmediate(resolve))
  }

  /** Ends the connection: tells the client why, where it can still be told, and frees what belongs to it. Idempotent. */
  end(reason: AccelError): void {
    this.#end(reason, true)
  }

  #end(reason: AccelError, tell: boolean): void {
    if (this.#left) return
    this.#left = true
    clearTimeout(this.#hello)
    this.#drained?.()
    if (tell) this.#refuse(MessageKind.EVENT, 0, reason)
    if (this.#open) this.#host.left(this)
    void this.#free()
  }

  /** The socket is closed last: its end tells the client that all is freed. */
  async #free(): Promise<void> {
    const freed = this.#open === undefined ? undefined : this.#host.node.close(this.#open)
    await this.#socket.flush()
    await freed
    this.#socket.close()
    this.#host.gone(this)
    this.#resolveGone()
  }

  #receive(message: NodeMessage): void {
    const { id, kind, fds } = message
    const open = this.#open
    if (kind === MessageKind.REQUEST && open) {
      this.#request(message, open)
      return
    }
    closeAll(fds)
    if (kind === MessageKind.HELLO && !open) this.#greet(message)
    // The answer to what is withdrawn may be on its way: that is nobody's fault.
    else if (kind === MessageKind.CANCEL && open) this.#requests.get(id)?.controller.abort()
    else {
      const when = open ? 'after' : 'before'
      this.end(accelError('ERR_ACCEL_PROTOCOL', `A message of kind ${kind} ${when} the hello cannot be`))
    }
  }

  #greet({ id, code, timeoutMs, reserved, payload, fds }: NodeMessage): void {
    const { node, limits } = this.#host
    try {
      const wanted = nodeProtocol.commands.hello.in.decode(payload)
      if (code !== 0 || timeoutMs !== 0 || reserved !== 0 || fds.length > 0) {
        throw accelError(
          'ERR_ACCEL_RESERVED',
          'A hello has no code, limit, reserved word or descriptors: all are 0',
        )
      }
      if (wanted.protocol < PROTOCOL_VERSION) {
        throw accelError(
          'ERR_ACCEL_VERSION',
          `The client speaks version ${wanted.protocol} of the node protocol; this server speaks ${PROTOCOL_VERSION}`,
        )
      }
      if (node.refusal) throw node.refusal
      requireSameUapi(node.name, spoken(node.driver.uapi), wanted)
      this.#open = this.#host.admit(this)
    } catch (error) {
      this.#refuse(MessageKind.HELLO, id, error)
      this.#left = true
      clearTimeout(this.#hello)
      void this.#free()
      return
    }
    clearTimeout(this.#hello)
    const hello = nodeProtocol.commands.hello.out.encode({
      protocol: PROTOCOL_VERSION,
      ...spoken(node.driver.uapi),
      commonVersion: commonUapi.version,
      node: node.name,
      maxMessageBytes: limits.maxMessageBytes,
      maxRequests: limits.maxRequests,
      maxPendingBytes: limits.maxPendingBytes,
      maxFds: limits.maxFds,
    })
    this.#socket.send(MessageKind.HELLO, id, 0, 0, hello)
  }

  #request({ id, code, timeoutMs, reserved, payload, fds }: NodeMessage, open: unknown): void {
    if (this.#requests.has(id)) {
      closeAll(fds)
      this.end(accelError('ERR_ACCEL_PROTOCOL', `Request ${id} was sent again before its answer`))
      return
    }
    const refusal = this.#refusal(reserved, payload.length, fds.length)
    if (refusal) {
      closeAll(fds)
      this.#refuse(MessageKind.REPLY, id, refusal)
      return
    }
    const request: Request = {
      controller: new AbortController(),
      sizeBytes: payload.length,
      fdCount: fds.length,
      waitsFor: commonWaits.get(code),
    }
    this.#requests.set(id, request)
    this.#pendingBytes += request.sizeBytes
    this.#pendingFds += request.fdCount
    request.answered = this.#host.node
      .dispatch(open, code, payload, {
        signal: request.controller.signal,
        ...(timeoutMs === 0 ? {} : { timeoutMs }),
        fds,
        released: () => closeAll(fds),
      })
      .then(
        (reply) => {
          this.#done(id, request)
          this.#reply(id, reply.bytes, reply.fds)
        },
        (error: unknown) => {
          this.#done(id, request)
          if (!this.#left) this.#refuse(MessageKind.REPLY, id, request.ended ?? error)
        },
      )
  }

  /** Why a request is not even looked at. */
  #refusal(reserved: number, sizeBytes: number, fdCount: number): AccelError | undefined {
    const { maxRequests, maxPendingBytes, maxFds } = this.#host.limits
    if (this.#draining) return this.#draining
    if (reserved !== 0) {
      return accelError('ERR_ACCEL_RESERVED', `The reserved word of a message is 0, found ${reserved}`)
    }
    if (fdCount > maxFds) {
      return accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `A request brings at most ${maxFds} descriptors, found ${fdCount}`,
      )
    }
    const over = (what: string, found: number, limit: number) =>
      found > limit
        ? accelError(
            'ERR_ACCEL_AGAIN',
            `A connection has at most ${limit} ${what} under way: wait for answers`,
            {
              details: { limit },
            },
          )
        : undefined
    return (
      over('requests', this.#requests.size + 1, maxRequests) ??
      over('bytes of requests', this.#pendingBytes + sizeBytes, maxPendingBytes) ??
      over('descriptors', this.#pendingFds + fdCount, maxFds)
    )
  }

  #done(id: number, { sizeBytes, fdCount }: Request): void {
    this.#requests.delete(id)
    this.#pendingBytes -= sizeBytes
    this.#pendingFds -= fdCount
  }

  #reply(id: number, bytes: Uint8Array, fds: readonly number[]): void {
    try {
      if (!this.#left) this.#socket.send(MessageKind.REPLY, id, 0, 0, bytes, fds)
    } catch (error) {
      if (!isAccelError(error)) throw error
      this.#refuse(MessageKind.REPLY, id, error)
    } finally {
      closeAll(fds)
    }
  }

  #refuse(kind: number, id: number, error: unknown): void {
    const { number, payload } = encodeError(error)
    this.#socket.send(kind, id, number, 0, payload)
  }
}
