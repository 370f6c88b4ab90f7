import { abi, closeAll, sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { broken, commandName, HEADER_BYTES, MAX_MESSAGE_BYTES, MAX_MESSAGE_FDS } from './protocol.js'

export { closeAll }

/** One message as received. Whoever takes it owns `fds` and closes those that it does not keep. */
export interface Message {
  readonly id: number
  readonly command: number
  readonly flags: number
  /** errno of an error reply; meaningless otherwise. */
  readonly errno: number
  readonly payload: Buffer
  readonly fds: readonly number[]
}

/** Descriptors, and the stream position right after the bytes that they came with. */
interface Passed {
  readonly end: number
  readonly fds: readonly number[]
}

const noFds: readonly number[] = []
const READ_BYTES = 64 << 10
/** Room for every message but large transfers. */
const KEPT_BYTES = 4096
/** Descriptors that may wait for their message to be complete or taken: more than a client that awaits its replies can have there. */
const MAX_WAITING_FDS = 8 * MAX_MESSAGE_FDS

/**
 * Messages over a Unix stream socket, descriptors included. A message leaves in one call (peers take a header in two
 * pieces for a broken peer); one that arrives in pieces is put together, however slowly it comes, without blocking.
 */
export class Channel {
  readonly fd: number
  /** Where a message is put together; larger ones get a buffer of their own. */
  readonly #out = Buffer.alloc(KEPT_BYTES)
  #in = Buffer.alloc(READ_BYTES)
  /** Unread bytes are `#in[#start..#end)`; `#position` is the place of `#start` in the whole stream. */
  #start = 0
  #end = 0
  #position = 0
  #passed: Passed[] = []
  #closed = false

  /** Takes over `fd`. */
  constructor(fd: number) {
    this.fd = fd
    sys.setNonblocking(fd)
  }

  /**
   * Sends one message. `fds` stay the caller's.
   *
   * @throws ERR_ACCEL_CLOSED where the peer is gone, ERR_ACCEL_TIMEOUT where it does not read within `timeoutMs`
   */
  send(
    message: { id: number; command: number; flags: number; errno?: number; fds?: readonly number[] },
    payload: Uint8Array,
    timeoutMs: number,
  ): void {
    const sizeBytes = HEADER_BYTES + payload.length
    const out = sizeBytes <= this.#out.length ? this.#out : Buffer.allocUnsafe(sizeBytes)
    out.writeUInt16LE(message.id, 0)
    out.writeUInt16LE(message.command, 2)
    out.writeUInt32LE(sizeBytes, 4)
    out.writeUInt32LE(message.flags, 8)
    out.writeUInt32LE(message.errno ?? 0, 12)
    out.set(payload, HEADER_BYTES)
    let fds = message.fds ?? noFds
    let sent = 0
    let deadline = 0
    for (;;) {
      const rest = out.subarray(sent, sizeBytes)
      const taken = fds.length === 0 ? sys.send(this.fd, rest) : sys.sendmsg(this.fd, [rest], fds)
      if (taken !== undefined) {
        sent += taken
        fds = noFds
        if (sent === sizeBytes) return
      }
      deadline ||= performance.now() + timeoutMs
      const left = Math.ceil(deadline - performance.now())
      if (left <= 0 || !sys.poll([{ fd: this.fd, events: abi.POLLOUT }], left)) {
        throw accelError(
          'ERR_ACCEL_TIMEOUT',
          `The vfio-user peer did not read ${commandName(message.command)} within ${timeoutMs} ms.`,
        )
      }
    }
  }

  /**
   * The next message, if one is complete.
   *
   * @throws ERR_ACCEL_CLOSED where the peer is gone, ERR_ACCEL_PROTOCOL where what it sent is no message
   */
  tryReceive(): Message | undefined {
    for (;;) {
      const message = this.take()
      if (message || !this.#fill()) return message
    }
  }

  /** As {@link tryReceive}, but blocks the thread for at most `timeoutMs`. */
  receive(timeoutMs: number): Message | undefined {
    const deadline = performance.now() + timeoutMs
    for (let message = this.take(); ; message = this.tryReceive()) {
      if (message) return message
      const left = Math.ceil(deadline - performance.now())
      // a reply is hardly ever there already: to ask for one first would cost a call more
      if (!sys.poll([{ fd: this.fd, events: abi.POLLIN }], Math.max(0, left))) return undefined
    }
  }

  /** Closes the socket and the descriptors that nobody took. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const { fds } of this.#passed) closeAll(fds)
    this.#passed = []
    sys.close(this.fd)
  }

  /** Reads what is there; false where that is nothing now. */
  #fill(): boolean {
    if (this.#start === this.#end) this.#start = this.#end = 0
    if (this.#end === this.#in.length) {
      this.#in.copyWithin(0, this.#start, this.#end)
      this.#end -= this.#start
      this.#start = 0
    }
    const received = sys.recvmsg(this.fd, this.#in.subarray(this.#end), MAX_MESSAGE_FDS)
    if (!received) return false
    if (received.bytes === 0) {
      closeAll(received.fds)
      throw accelError('ERR_ACCEL_CLOSED', 'The vfio-user peer closed the connection.')
    }
    this.#end += received.bytes
    if (received.fds.length > 0) {
      this.#passed.push({ end: this.#position + this.#end - this.#start, fds: received.fds })
    }
    // Counted over its pieces, too: each could bring as many, and a message can have a million.
    const waiting = this.#passed.reduce((sum, { fds }) => sum + fds.length, 0)
    if (received.truncated || waiting > MAX_WAITING_FDS)
      throw broken(`more than ${MAX_MESSAGE_FDS} descriptors in one message`)
    return true
  }

  /**
   * The next message of those that were read already. They make the socket readable no more: whoever stops receiving
   * before `tryReceive` answers undefined has to come back for them.
   */
  take(): Message | undefined {
    const available = this.#end - this.#start
    if (available < HEADER_BYTES) return undefined
    const size = this.#in.readUInt32LE(this.#start + 4)
    if (size < HEADER_BYTES || size > MAX_MESSAGE_BYTES) {
      throw broken(`a message of ${size} bytes; ${HEADER_BYTES} to ${MAX_MESSAGE_BYTES} are allowed`)
    }
    if (available < size) {
      if (this.#in.length < size) this.#grow(size)
      return undefined
    }
    const at = this.#start
    this.#start += size
    this.#position += size
    return {
      id: this.#in.readUInt16LE(at),
      command: this.#in.readUInt16LE(at + 2),
      flags: this.#in.readUInt32LE(at + 8),
      errno: this.#in.readUInt32LE(at + 12),
      payload: Buffer.from(this.#in.subarray(at + HEADER_BYTES, at + size)),
      fds: this.#fdsBefore(this.#position),
    }
  }

  #grow(size: number): void {
    const larger = Buffer.alloc(size + READ_BYTES)
    this.#in.copy(larger, 0, this.#start, this.#end)
    this.#in = larger
    this.#end -= this.#start
    this.#start = 0
  }

  /** The kernel never reads past bytes that descriptors came with, so those up to a message's end are its own. */
  #fdsBefore(position: number): readonly number[] {
    if (this.#passed.length === 0) return noFds
    const mine = this.#passed.filter(({ end }) => end <= position)
    this.#passed = this.#passed.filter(({ end }) => end > position)
    return mine.flatMap(({ fds }) => fds)
  }
}
