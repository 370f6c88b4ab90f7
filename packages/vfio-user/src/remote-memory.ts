import type { RemoteAccess } from '@uaccel/model'
import { accelError } from '@uaccel/uapi'
import { type Channel, closeAll, type Message } from './channel.js'
import { ACCESS_BYTES, broken, Command, commandName, Flag } from './protocol.js'

/** Largest piece of one DMA message: it fits a socket buffer whole, so that two peers that both send cannot block each other. */
const PIECE_BYTES = 64 << 10
/** A client waits for its replies: one that piles up more than this is not serious. */
const MAX_BACKLOG = 4096

/** What the memory needs of the session that it belongs to. */
export interface RemoteMemorySession {
  /** Answers a command at once. */
  readonly serve: (command: Message) => void
  /** Commands wait in {@link RemoteMemory.backlog}. */
  readonly onBacklog: () => void
  /** A DMA message went wrong: the session is out of step and has to end. */
  readonly onBroken: (reason: unknown) => void
}

/**
 * The client's memory by DMA_READ and DMA_WRITE, for ranges that came without a descriptor to map.
 *
 * Commands that arrive in place of a reply are answered at once: QEMU answers a DMA message only after the register access
 * of a processor of its guest was answered, since both hold its big lock. A DEVICE_RESET ends the transfer instead.
 */
export class RemoteMemory implements RemoteAccess {
  /** A DEVICE_RESET that came in while a reply was waited for, and what came after it. They have to be served afterwards. */
  readonly backlog: Message[] = []
  /** Largest transfer that the client takes, in bytes. */
  maxTransferBytes = PIECE_BYTES
  readonly #channel: Channel
  readonly #timeoutMs: number
  readonly #session: RemoteMemorySession
  /** Ids of messages whose transfer was given up: their replies are still to come. */
  readonly #abandoned = new Set<number>()
  #nextId = 0
  /** Once out of step, nothing more is asked: a device with much to do would wait for each transfer. */
  #broken: unknown
  /** What is left of the time that this turn of the event loop may be held up. */
  #leftMs: number
  #resetsLimit = false

  constructor(channel: Channel, timeoutMs: number, session: RemoteMemorySession) {
    this.#channel = channel
    this.#timeoutMs = timeoutMs
    this.#leftMs = timeoutMs
    this.#session = session
  }

  /** True for the late reply to a message that was given up. */
  isLate({ id, command }: Message): boolean {
    return (command === Command.DMA_READ || command === Command.DMA_WRITE) && this.#abandoned.delete(id)
  }

  read(iova: bigint, into: Uint8Array): void {
    this.#pieces(iova, into, (at, piece) => {
      const reply = this.#ask(Command.DMA_READ, dmaAccess(at, piece.length, 0))
      if (reply.length !== ACCESS_BYTES + piece.length) {
        throw broken(`${reply.length} bytes for a DMA_READ of ${piece.length}`)
      }
      piece.set(reply.subarray(ACCESS_BYTES))
    })
  }

  /** The reply is a header alone from QEMU before 11, 16 bytes from libvfio-user: neither says more than "done". */
  write(iova: bigint, from: Uint8Array): void {
    this.#pieces(iova, from, (at, piece) => {
      const request = dmaAccess(at, piece.length, piece.length)
      request.set(piece, ACCESS_BYTES)
      this.#ask(Command.DMA_WRITE, request)
    })
  }

  #pieces(iova: bigint, bytes: Uint8Array, move: (iova: bigint, piece: Uint8Array) => void): void {
    const step = Math.min(PIECE_BYTES, this.maxTransferBytes)
    for (let at = 0; at < bytes.length; at += step) {
      move(iova + BigInt(at), bytes.subarray(at, Math.min(at + step, bytes.length)))
    }
  }

  /** Whatever goes wrong here is a fault of the device's access for the model; the session learns it too. */
  #ask(command: number, payload: Uint8Array): Buffer {
    let reply: Message | undefined
    const started = performance.now()
    try {
      if (this.#broken) throw this.#broken
      reply = this.#exchange(command, payload, started + this.#turnLimit())
      this.#leftMs -= performance.now() - started
    } catch (cause) {
      if (!this.#broken) this.#session.onBroken(cause)
      this.#broken = cause
      throw accelError('ERR_ACCEL_DMA_FAULT', `${commandName(command)} failed: the session broke.`, { cause })
    }
    if (!reply) throw accelError('ERR_ACCEL_DMA_FAULT', `${commandName(command)} ended by DEVICE_RESET.`)
    if (reply.flags & Flag.ERROR) {
      throw accelError(
        'ERR_ACCEL_DMA_FAULT',
        `The client refused ${commandName(command)} (errno ${reply.errno}).`,
      )
    }
    return reply.payload
  }

  /** The limit is for all transfers of one turn together, or a client could stretch each to it, byte by byte. */
  #turnLimit(): number {
    if (!this.#resetsLimit) {
      this.#resetsLimit = true
      setImmediate(() => {
        this.#resetsLimit = false
        this.#leftMs = this.#timeoutMs
      })
    }
    return this.#leftMs
  }

  /** The reply; undefined where a DEVICE_RESET waits to be served first. */
  #exchange(command: number, payload: Uint8Array, deadline: number): Message | undefined {
    if (this.backlog.length > 0) return undefined
    const id = this.#nextId
    this.#nextId = (id + 1) & 0xffff
    this.#channel.send({ id, command, flags: 0 }, payload, this.#timeoutMs)
    for (;;) {
      // A client that sends commands without end and never answers is not waited for either.
      const leftMs = deadline - performance.now()
      const message = leftMs > 0 ? this.#channel.receive(leftMs) : undefined
      if (!message) {
        throw accelError(
          'ERR_ACCEL_TIMEOUT',
          `The vfio-user client did not answer ${commandName(command)} within ${this.#timeoutMs} ms.`,
        )
      }
      if ((message.flags & Flag.TYPE_MASK) === 0) {
        this.#meanwhile(message)
        if (this.backlog.length === 0) continue
        this.#abandoned.add(id)
        return undefined
      }
      closeAll(message.fds)
      if (message.id === id && message.command === command) {
        for (let next = this.#channel.take(); next; next = this.#channel.take()) this.#meanwhile(next)
        return message
      }
      if (!this.isLate(message)) throw broken(`a reply to ${commandName(message.command)}, out of turn`)
    }
  }

  #meanwhile(message: Message): void {
    if (this.backlog.length === 0 && message.command !== Command.DEVICE_RESET) {
      this.#session.serve(message)
      return
    }
    if (this.backlog.push(message) === 1) this.#session.onBacklog()
    if (this.backlog.length > MAX_BACKLOG) throw broken(`${MAX_BACKLOG} commands in place of one reply`)
  }
}

function dmaAccess(iova: bigint, count: number, dataBytes: number): Buffer {
  const payload = Buffer.alloc(ACCESS_BYTES + dataBytes)
  payload.writeBigUInt64LE(iova, 0)
  payload.writeBigUInt64LE(BigInt(count), 8)
  return payload
}
