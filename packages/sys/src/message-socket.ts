import { type AccelError, accelError, HEADER_BYTES, isAccelError, MAX_MESSAGE_BYTES } from '@uaccel/uapi'
import * as abi from './abi.js'
import { sys } from './system-calls.js'
import { type Watch, watch } from './watch.js'

/** One message between a client and a node, as it came: docs/protocol.md. */
export interface NodeMessage {
  readonly id: number
  readonly kind: number
  readonly code: number
  readonly timeoutMs: number
  /** Must be 0; whoever answers the message refuses it otherwise. */
  readonly reserved: number
  /** Valid until the handler returns. */
  readonly payload: Uint8Array
  /** The handler's to close. */
  readonly fds: readonly number[]
}

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

/** Descriptors, and the stream position right after the bytes that they came with. */
interface Passed {
  readonly end: number
  readonly fds: readonly number[]
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
 * Closes descriptors that came with a message and are of no use. What the file behind one has to say to that is its owner's
 * business: the descriptor is gone. Only closing one twice is an error.
 */
export function closeAll(fds: readonly number[]): void {
  for (const fd of fds) {
    try {
      sys.close(fd)
    } catch (error) {
      if (!isAccelError(error) || error.errno === 'EBADF') throw error
    }
  }
}

/**
 * Messages of the node protocol over a Unix stream socket, descriptors included, without blocking. A message leaves in one call
 * where the socket has room for it; several that came are taken in one call.
 */
export class MessageSocket {
  readonly fd: number
  readonly #handlers: MessageHandlers
  readonly #maxMessageBytes: number
  readonly #stallMs: number
  readonly #receiveWhileBlocked: boolean
  readonly #out = Buffer.alloc(KEPT_BYTES)
  #in = Buffer.alloc(KEPT_BYTES)
  /** Unread bytes are `#in[#start..#end)`; `#position` is the place of `#start` in the whole stream. */
  #start = 0
  #end = 0
  #position = 0
  #passed: Passed[] = []
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
    this.#maxMessageBytes = options.maxMessageBytes ?? MAX_MESSAGE_BYTES
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
    const waits = this.#unsent.length > 0
    const out = !waits && sizeBytes <= KEPT_BYTES ? this.#out : Buffer.allocUnsafe(sizeBytes)
    out.writeUInt32LE(sizeBytes, 0)
    out.writeUInt32LE(id, 4)
    out.writeUInt16LE(kind, 8)
    out.writeUInt16LE(fds.length, 10)
    out.writeUInt32LE(code, 12)
    out.writeUInt32LE(timeoutMs, 16)
    out.writeUInt32LE(0, 20)
    out.set(payload, HEADER_BYTES)
    const bytes = out.subarray(0, sizeBytes)
    const sent = waits ? undefined : this.#write(bytes, fds)
    if (sent === sizeBytes || this.#mute) return
    const rest = Buffer.from(bytes.subarray(sent ?? 0))
    this.#unsent.push({ bytes: rest, fds: sent === undefined ? duplicates(fds) : noFds })
    if (!waits) this.#block()
  }

  /** Takes no more messages; resolves when all is sent, or the peer took longer to read than it may. */
  async flush(): Promise<void> {
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
    this.#closed = true
    this.#ended = true
    this.#deaf()
    this.#dropUnsent()
    for (const { fds } of this.#passed.splice(0)) closeAll(fds)
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
      for (let handled = 0; handled < TURN_MESSAGES; ) {
        if (this.#ended || (this.#unsent.length > 0 && !this.#receiveWhileBlocked)) return
        const message = this.#take()
        if (message) {
          handled++
          this.#handlers.message(message)
        } else if (!this.#fill()) return
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

  /** Reads what is there; false where that is nothing now. */
  #fill(): boolean {
    if (this.#start === this.#end) {
      this.#start = this.#end = 0
      if (this.#in.length > KEPT_BYTES) this.#in = Buffer.alloc(KEPT_BYTES)
    } else if (this.#end === this.#in.length) {
      this.#in.copyWithin(0, this.#start, this.#end)
      this.#end -= this.#start
      this.#start = 0
    }
    const received = sys.recvmsg(this.fd, this.#in.subarray(this.#end), abi.SCM_MAX_FD)
    if (!received) return false
    if (received.bytes === 0) {
      closeAll(received.fds)
      throw accelError('ERR_ACCEL_CLOSED', 'The other side closed the connection')
    }
    this.#end += received.bytes
    if (received.fds.length > 0) {
      this.#passed.push({ end: this.#position + this.#end - this.#start, fds: received.fds })
    }
    if (received.truncated) {
      throw accelError(
        'ERR_ACCEL_NO_MEMORY',
        'Descriptors came that this process may not open: its limit of open files (RLIMIT_NOFILE) is reached',
      )
    }
    const waiting = this.#passed.reduce((sum, { fds }) => sum + fds.length, 0)
    if (waiting > abi.SCM_MAX_FD) throw broken(`${waiting} descriptors before the message that they are of`)
    return true
  }

  /** The next message of those that were read. */
  #take(): NodeMessage | undefined {
    const available = this.#end - this.#start
    if (available < HEADER_BYTES) return undefined
    const at = this.#start
    const size = this.#in.readUInt32LE(at)
    if (size < HEADER_BYTES || size > MAX_MESSAGE_BYTES) {
      throw broken(`a message of ${size} bytes; ${HEADER_BYTES} to ${MAX_MESSAGE_BYTES} can be`)
    }
    if (size > this.#maxMessageBytes) {
      throw accelError(
        'ERR_ACCEL_BAD_SIZE',
        `A message has at most ${this.#maxMessageBytes} bytes here, found ${size}`,
        { details: { maxMessageBytes: this.#maxMessageBytes } },
      )
    }
    if (available < size) {
      if (this.#in.length < size) this.#grow(size)
      return undefined
    }
    this.#start += size
    this.#position += size
    const fds = this.#fdsBefore(this.#position)
    const named = this.#in.readUInt16LE(at + 10)
    if (fds.length !== named) {
      closeAll(fds)
      throw broken(`${fds.length} descriptors with a message that is of ${named}`)
    }
    return {
      id: this.#in.readUInt32LE(at + 4),
      kind: this.#in.readUInt16LE(at + 8),
      code: this.#in.readUInt32LE(at + 12),
      timeoutMs: this.#in.readUInt32LE(at + 16),
      reserved: this.#in.readUInt32LE(at + 20),
      payload: this.#in.subarray(at + HEADER_BYTES, at + size),
      fds,
    }
  }

  #grow(size: number): void {
    const larger = Buffer.alloc(size)
    this.#in.copy(larger, 0, this.#start, this.#end)
    this.#in = larger
    this.#end -= this.#start
    this.#start = 0
  }

  /** The kernel never reads past bytes that descriptors came with, so those up to a message's end are its own. */
  #fdsBefore(position: number): readonly number[] {
    if (this.#passed.length === 0) return noFds
    const mine: number[] = []
    while (this.#passed.length > 0 && this.#passed[0]!.end <= position)
      mine.push(...this.#passed.shift()!.fds)
    return mine
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

/** A peer that is out of step. */
function broken(what: string): AccelError {
  return accelError('ERR_ACCEL_PROTOCOL', `The other side broke the protocol: ${what}`)
}

function duplicates(fds: readonly number[]): readonly number[] {
  const copies: number[] = []
  try {
    for (const fd of fds) copies.push(sys.dup(fd))
    return copies
  } catch (error) {
    closeAll(copies)
    throw error
  }
}
