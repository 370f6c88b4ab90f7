import { type AccelError, accelError, HEADER_BYTES, isAccelError, MAX_MESSAGE_BYTES } from '@uaccel/uapi'
import * as abi from './abi.js'
import { closeAll, duplicates } from './descriptors.js'
import { MessageInput, type NodeMessage } from './message-input.js'
import { sys } from './system-calls.js'
import { type Watch, watch } from './watch.js'

/** What the owner of a {@link MessageSocket} is told. */
export interface MessageHandlers {
  message(message: NodeMessage): void
  /**
   * No message comes any more: the peer left (`ERR_ACCEL_CLOSED`), broke the protocol, or does not read. Told once, and not after
   * `close`. What still is to be said can be sent.
   */
  ended(reason: AccelError): void
}

export interface MessageSocketOptions {
  /** Largest message that the peer may send. {@link MAX_MESSAGE_BYTES} unless told. */
  readonly maxMessageBytes?: number
  /** How long a peer may leave what was sent to it unread, in ms. */
  readonly stallMs: number
  /**
   * Goes on to receive while the peer does not read. A server does not: who takes no answers gets to ask nothing more, and so
   * what waits for it is bounded.
   */
  readonly receiveWhileBlocked: boolean
}

/** What the socket did not take yet. */
interface Unsent {
  bytes: Uint8Array
  fds: readonly number[]
}

const noFds: readonly number[] = []
/** Room for most messages; a larger one gets a buffer of its own, for as long as it is read. */
const KEPT_BYTES = 16 << 10
/** Messages that are handled in one turn of the event loop: a peer that never pauses does not keep it from the others. */
const TURN_MESSAGES = 64

/**
 * Messages of the node protocol over a Unix stream socket, descriptors included, without blocking. Messages that are
 * sent at one time leave in one call, those that came are taken in one call.
 */
export class MessageSocket {
  readonly fd: number
  readonly #handlers: MessageHandlers
  readonly #stallMs: number
  readonly #receiveWhileBlocked: boolean
  /** The first `#gathered` bytes leave in one call when the microtasks of this moment are done. */
  readonly #out = Buffer.alloc(KEPT_BYTES)
  #gathered = 0
  readonly #in: MessageInput
  #unsent: Unsent[] = []
  #readable: Watch | undefined
  /** Over a duplicate, since one descriptor can be watched once. */
  #writable: { close(): void } | undefined
  #stalled: NodeJS.Timeout | undefined
  #pumpsAgain = false
  /** The peer takes nothing any more; what it said before can still be read. */
  #mute = false
  #ended = false
  #closed = false
  #flushed: (() => void) | undefined

  /** Takes over `fd`. */
  constructor(fd: number, handlers: MessageHandlers, options: MessageSocketOptions) {
    this.fd = fd
    this.#handlers = handlers
    this.#in = new MessageInput(fd, options.maxMessageBytes ?? MAX_MESSAGE_BYTES)
    this.#stallMs = options.stallMs
    this.#receiveWhileBlocked = options.receiveWhileBlocked
    sys.setNonblocking(fd)
    this.#listen()
  }

  /**
   * Sends a message. `fds` stay the caller's, and may be closed at once. To a peer that is gone it is as lost as one that the peer
   * does not get to read: `ended` tells.
   *
   * @throws ERR_ACCEL_OUT_OF_RANGE too long, or with more descriptors than a message can carry
   */
  send(
    kind: number,
    id: number,
    code: number,
    timeoutMs: number,
    payload: Uint8Array,
    fds: readonly number[] = noFds,
  ): void {
    if (this.#closed || this.#mute) return
    const sizeBytes = HEADER_BYTES + payload.length
    if (sizeBytes > MAX_MESSAGE_BYTES || fds.length > abi.SCM_MAX_FD) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `A message has at most ${MAX_MESSAGE_BYTES} bytes and ${abi.SCM_MAX_FD} descriptors, found ${sizeBytes} and ${fds.length}`,
      )
    }
    if (fds.length === 0 && sizeBytes <= KEPT_BYTES) {
      if (this.#gathered + sizeBytes > KEPT_BYTES) this.#sendGathered()
      if (this.#unsent.length === 0) {
        if (this.#gathered === 0) queueMicrotask(this.#sendGathered)
        put(this.#out, this.#gathered, kind, id, code, timeoutMs, payload, 0)
        this.#gathered += sizeBytes
        return
      }
    }
    this.#sendGathered()
    const bytes = Buffer.allocUnsafe(sizeBytes)
    put(bytes, 0, kind, id, code, timeoutMs, payload, fds.length)
    this.#transmit(bytes, fds)
  }

  /** Takes no more messages; resolves when all is sent, or the peer took longer to read than it may. */
  async flush(): Promise<void> {
    this.#sendGathered()
    this.#ended = true
    this.#deaf()
    if (this.#unsent.length === 0 || this.#closed) return
    await new Promise<void>((resolve) => {
      this.#flushed = resolve
    })
  }

  /** No more is sent: the peer reads the end of the stream, and can still answer. */
  shutdown(): void {
    if (this.#closed || this.#mute) return
    this.#sendGathered()
    this.#mute = true
    this.#dropUnsent()
    try {
      sys.shutdown(this.fd, abi.SHUT_WR)
    } catch (error) {
      if (!isAccelError(error)) throw error // the peer was faster
    }
  }

  /** Closes the socket and the descriptors that nobody took. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#sendGathered()
    this.#closed = true
    this.#ended = true
    this.#deaf()
    this.#dropUnsent()
    this.#in.close()
    sys.close(this.fd)
  }

  #listen(): void {
    this.#readable ??= watch(this.fd, () => this.#pump(), { ref: false })
  }

  #deaf(): void {
    this.#readable?.close()
    this.#readable = undefined
  }

  #pump(): void {
    try {
      let mayHaveMore = true
      for (let handled = 0; handled < TURN_MESSAGES; ) {
        if (this.#ended || (this.#unsent.length > 0 && !this.#receiveWhileBlocked)) return
        const message = this.#in.take()
        if (message) {
          handled++
          this.#handlers.message(message)
        } else if (mayHaveMore) mayHaveMore = this.#in.fill()
        else return
      }
      this.#pumpLater()
    } catch (error) {
      if (!isAccelError(error)) throw error
      this.#finish(error)
    }
  }

  /** Messages that were read already make the socket readable no more. */
  #pumpLater(): void {
    if (this.#pumpsAgain) return
    this.#pumpsAgain = true
    setImmediate(() => {
      this.#pumpsAgain = false
      this.#pump()
    })
  }

  #finish(reason: AccelError): void {
    if (this.#ended) return
    this.#ended = true
    this.#deaf()
    this.#handlers.ended(reason)
  }

  /** Sends what was said in one breath. */
  readonly #sendGathered = (): void => {
    const sizeBytes = this.#gathered
    if (sizeBytes === 0) return
    this.#gathered = 0
    this.#transmit(this.#out.subarray(0, sizeBytes), noFds)
  }

  #transmit(bytes: Uint8Array, fds: readonly number[]): void {
    if (this.#closed || this.#mute) return
    const waits = this.#unsent.length > 0
    const sent = waits ? undefined : this.#write(bytes, fds)
    if (sent === bytes.length || this.#mute) return
    const rest = Buffer.from(bytes.subarray(sent ?? 0))
    this.#unsent.push({ bytes: rest, fds: sent === undefined ? duplicates(fds) : noFds })
    if (!waits) this.#block()
  }

  /** Bytes that the socket took; undefined where it takes none now. */
  #write(bytes: Uint8Array, fds: readonly number[]): number | undefined {
    try {
      return fds.length === 0 ? sys.send(this.fd, bytes) : sys.sendmsg(this.fd, [bytes], fds)
    } catch (error) {
      if (!isAccelError(error)) throw error
      // The peer is gone. What it said last is read before `ended` tells so.
      this.#mute = true
      this.#dropUnsent()
      if (!this.#ended) {
        this.#listen()
        this.#pumpLater()
      }
      return undefined
    }
  }

  /** Waits until the peer reads on. */
  #block(): void {
    if (!this.#receiveWhileBlocked) this.#deaf()
    try {
      const fd = sys.dup(this.fd)
      const watching = watch(fd, () => this.#flush(), { events: 'writable', ref: false })
      this.#writable = {
        close: () => {
          watching.close()
          sys.close(fd)
        },
      }
    } catch (error) {
      if (!isAccelError(error)) throw error
      this.#giveUp(error) // no descriptor is left to wait with
      return
    }
    this.#awaitReader()
  }

  #awaitReader(): void {
    clearTimeout(this.#stalled)
    this.#stalled = setTimeout(() => {
      const what = `The other side did not read what was sent to it within ${this.#stallMs} ms`
      this.#giveUp(accelError('ERR_ACCEL_TIMEOUT', what))
    }, this.#stallMs)
  }

  /** Nothing more can be sent. */
  #giveUp(reason: AccelError): void {
    this.#mute = true
    this.#dropUnsent()
    this.#finish(reason)
  }

  #flush(): void {
    while (this.#unsent.length > 0) {
      const next = this.#unsent[0]!
      const sent = this.#write(next.bytes, next.fds)
      if (this.#mute || sent === undefined) return
      closeAll(next.fds)
      next.fds = noFds
      next.bytes = next.bytes.subarray(sent)
      if (next.bytes.length === 0) this.#unsent.shift()
      this.#awaitReader()
    }
    this.#dropUnsent()
    if (this.#ended) return
    this.#listen()
    this.#pumpLater()
  }

  #dropUnsent(): void {
    clearTimeout(this.#stalled)
    this.#writable?.close()
    this.#writable = undefined
    for (const { fds } of this.#unsent.splice(0)) closeAll(fds)
    this.#flushed?.()
  }
}

function put(
  into: Buffer,
  at: number,
  kind: number,
  id: number,
  code: number,
  timeoutMs: number,
  payload: Uint8Array,
  fdCount: number,
): void {
  into.writeUInt32LE(HEADER_BYTES + payload.length, at)
  into.writeUInt32LE(id, at + 4)
  into.writeUInt16LE(kind, at + 8)
  into.writeUInt16LE(fdCount, at + 10)
  into.writeUInt32LE(code, at + 12)
  into.writeUInt32LE(timeoutMs, at + 16)
  into.writeUInt32LE(0, at + 20)
  into.set(payload, at + HEADER_BYTES)
}
