import * as abi from './abi.js'
import { EAGAIN, EINTR, EOPNOTSUPP, type RawCalls } from './raw-calls.js'
import { type SystemCalls, sys } from './system-calls.js'
import { systemError } from './system-error.js'

/** preadv2's offset for what has none. */
const NO_OFFSET = (1n << 64n) - 1n

/** How long the kernel is waited for at once: a worker that is terminated meanwhile ends after that. */
const SLICE_MS = 500
/** Size of struct pollfd, and where `events` is in it. include/uapi/asm-generic/poll.h */
const POLLFD_BYTES = 8
const POLLFD_EVENTS = 4
const none: readonly number[] = []

/** A counter in the kernel that others add to and a loop waits for: how interrupts arrive. Non-blocking. */
export class EventFd {
  readonly fd: number
  readonly #calls: SystemCalls
  readonly #raw: RawCalls
  /** struct pollfd of a descriptor that others have too; undefined where it is ours alone. */
  readonly #room: Buffer | undefined
  readonly #count = new Uint32Array(2)
  readonly #bytes = new Uint8Array(this.#count.buffer)
  /** struct iovec of `#bytes`. */
  readonly #vector = Buffer.alloc(16)
  readonly #add = new BigUint64Array(1)
  readonly #addBytes = new Uint8Array(this.#add.buffer)
  /** struct pollfd of this descriptor and of others. */
  #awaited = Buffer.alloc(POLLFD_BYTES)
  #open = true

  /**
   * @param fd An eventfd to take over (it becomes non-blocking); a new one where absent. Whoever sent it can make it
   *   blocking again, for us as well, so `signal` looks for room before it writes.
   */
  constructor(calls: SystemCalls = sys, fd?: number) {
    this.#calls = calls
    this.#raw = calls.provider.raw
    this.fd = fd ?? calls.eventfd(0, abi.EFD_NONBLOCK)
    this.#vector.writeBigUInt64LE(calls.addressOf(this.#bytes), 0)
    this.#vector.writeBigUInt64LE(8n, 8)
    if (fd === undefined) return
    calls.setNonblocking(fd)
    this.#room = Buffer.alloc(8)
    this.#room.writeInt32LE(fd, 0)
    this.#room.writeInt16LE(abi.POLLOUT, 4)
  }

  /** Adds `n` to the counter. A counter that is full stays as it is: it is readable already. */
  signal(n: number | bigint = 1): void {
    if (this.#room !== undefined && this.#raw.poll(this.#room, 1, 0) === 0) return
    this.#add[0] = BigInt(n)
    let result = EINTR
    while (result === EINTR) result = this.#raw.write(this.fd, this.#addBytes, 8)
    if (result < 0 && result !== EAGAIN) throw systemError('write', result, `eventfd ${this.fd}`)
  }

  /**
   * Takes the count and sets it to 0. Answers 0 where nothing was signalled, at once: whoever has a copy of the descriptor can
   * make it blocking for all, so each read says for itself that it does not wait (a kernel before 5.8 does not know that).
   */
  drain(): number {
    let result = EINTR
    while (result === EINTR) result = this.#raw.preadv2(this.fd, this.#vector, 1, NO_OFFSET, abi.RWF_NOWAIT)
    if (result === EOPNOTSUPP) result = this.#raw.read(this.fd, this.#bytes, 8)
    if (result === 8) return this.#count[1] * 0x1_0000_0000 + this.#count[0]
    if (result === EAGAIN) return 0
    throw systemError('read', result, `eventfd ${this.fd}`)
  }

  /**
   * Blocks the thread, and its event loop with it, until something was signalled; takes the count. 0 where nothing came: the limit is
   * over, one of `others` became readable, or a signal arrived, whose listener runs in the event loop.
   *
   * @param spinUs Looks for so many microseconds before the kernel puts the thread to sleep, which costs the time to wake it.
   * @param others Descriptors that end the wait, and are not read.
   */
  waitSync(timeoutMs: number, spinUs = 0, others: readonly number[] = none): number {
    const start = performance.now()
    for (const end = start + spinUs / 1000; performance.now() < end; ) {
      const count = this.drain()
      if (count > 0) return count
    }
    const fds = this.#await(others)
    for (let leftMs = timeoutMs; ; leftMs = start + timeoutMs - performance.now()) {
      const ready = this.#raw.poll(fds, 1 + others.length, Math.ceil(Math.max(0, Math.min(leftMs, SLICE_MS))))
      if (ready > 0) return this.drain()
      if (ready === EINTR || (ready === 0 && leftMs <= SLICE_MS)) return 0
      if (ready < 0) throw systemError('poll', ready, `eventfd ${this.fd}`)
    }
  }

  #await(others: readonly number[]): Buffer {
    const sizeBytes = (1 + others.length) * POLLFD_BYTES
    if (this.#awaited.length < sizeBytes) this.#awaited = Buffer.alloc(sizeBytes)
    this.#awaited.writeInt32LE(this.fd, 0)
    for (let i = 0; i < others.length; i++) this.#awaited.writeInt32LE(others[i], (1 + i) * POLLFD_BYTES)
    for (let at = POLLFD_EVENTS; at < sizeBytes; at += POLLFD_BYTES)
      this.#awaited.writeInt16LE(abi.POLLIN, at)
    return this.#awaited
  }

  /** Closes the descriptor; again is harmless. Close a watch of it first. */
  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#calls.close(this.fd)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
