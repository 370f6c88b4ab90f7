import { type AccelError, accelError, HEADER_BYTES, MAX_MESSAGE_BYTES } from '@uaccel/uapi'
import * as abi from './abi.js'
import { closeAll } from './descriptors.js'
import { sys } from './system-calls.js'

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

/** Descriptors, and the stream position right after the bytes that they came with. */
interface Passed {
  readonly end: number
  readonly fds: readonly number[]
}

const noFds: readonly number[] = []
/** Room for most messages; a larger one gets a buffer of its own, for as long as it is read. */
const KEPT_BYTES = 16 << 10

/** What a socket brings, cut into messages. Hostile until checked: lengths, and how many descriptors belong to what. */
export class MessageInput {
  readonly #fd: number
  readonly #maxMessageBytes: number
  #in = Buffer.alloc(KEPT_BYTES)
  /** Unread bytes are `#in[#start..#end)`; `#position` is the place of `#start` in the whole stream. */
  #start = 0
  #end = 0
  #position = 0
  #passed: Passed[] = []

  constructor(fd: number, maxMessageBytes: number) {
    this.#fd = fd
    this.#maxMessageBytes = maxMessageBytes
  }

  /** Reads what is there; false where that was all for now, which a watch of the socket knows better than another call. */
  fill(): boolean {
    if (this.#start === this.#end) {
      this.#start = this.#end = 0
      if (this.#in.length > KEPT_BYTES) this.#in = Buffer.alloc(KEPT_BYTES)
    } else if (this.#end === this.#in.length) {
      this.#in.copyWithin(0, this.#start, this.#end)
      this.#end -= this.#start
      this.#start = 0
    }
    const room = this.#in.length - this.#end
    const received = sys.recvmsg(this.#fd, this.#in.subarray(this.#end), abi.SCM_MAX_FD)
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
    return received.bytes === room
  }

  /** The next message of those that were read. */
  take(): NodeMessage | undefined {
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

  /** Closes the descriptors that nobody took. */
  close(): void {
    for (const { fds } of this.#passed.splice(0)) closeAll(fds)
  }
}

/** A peer that is out of step. */
function broken(what: string): AccelError {
  return accelError('ERR_ACCEL_PROTOCOL', `The other side broke the protocol: ${what}`)
}
