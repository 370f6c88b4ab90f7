import { getSystemErrorName } from 'node:util'
import { Listeners } from '@uaccel/core'
import { sys, type Watch, watch } from '@uaccel/sys'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { Channel, closeAll, type Message } from './channel.js'
import {
  ACCESS_BYTES,
  broken,
  type Capabilities,
  Command,
  commandName,
  DEFAULT_TRANSFER_BYTES,
  decodeVersion,
  encodeVersion,
  Flag,
  MAX_MESSAGE_FDS,
  VERSION_MAJOR,
  VERSION_MINOR,
} from './protocol.js'

/** Memory that the server asks for by DMA messages, in place of reaching it through a descriptor. */
export interface DmaTarget {
  /** The bytes at an I/O address; throws `ERR_ACCEL_DMA_FAULT` where they were not mapped for that access. */
  resolve(iova: bigint, sizeBytes: number, access: 'read' | 'write'): Uint8Array
}

const noFds: readonly number[] = []
const noBytes = new Uint8Array(0)
/** Messages of the server that are answered in one turn of the event loop. */
const TURN_MESSAGES = 64
/** errno of a refused DMA message: EFAULT, asm-generic/errno-base.h. */
const EFAULT = 14

/**
 * The client's end of a session: commands with their replies, one at a time, and the server's DMA messages, which are
 * answered while a reply is waited for and from the event loop otherwise.
 */
export class Connection {
  /** What the server said that it takes. */
  readonly peer: Capabilities
  readonly minor: number
  readonly path: string
  readonly #channel: Channel
  readonly #timeoutMs: number
  readonly #dma: DmaTarget
  readonly #watch: Watch
  readonly #listeners = new Listeners<AccelError>()
  #nextId = 0
  #waiting = false
  #pumpsAgain = false
  #lost: AccelError | undefined

  /** Connects and agrees on a version. */
  constructor(path: string, timeoutMs: number, dma: DmaTarget) {
    this.path = path
    this.#timeoutMs = timeoutMs
    this.#dma = dma
    this.#channel = new Channel(connect(path, timeoutMs))
    try {
      const offer = encodeVersion(VERSION_MINOR, {
        maxMessageFds: MAX_MESSAGE_FDS,
        maxTransferBytes: DEFAULT_TRANSFER_BYTES,
      })
      const { major, minor, capabilities } = decodeVersion(this.request(Command.VERSION, offer).payload)
      if (major !== VERSION_MAJOR || minor > VERSION_MINOR) {
        throw accelError(
          'ERR_ACCEL_VERSION',
          `The server on ${path} speaks vfio-user ${major}.${minor}; this client speaks ${VERSION_MAJOR}.${VERSION_MINOR}.`,
        )
      }
      this.peer = capabilities
      this.minor = minor
      this.#watch = watch(this.#channel.fd, () => this.#pump(), { ref: false })
    } catch (error) {
      this.#channel.close()
      throw notVfioUser(path, error)
    }
  }

  /** The socket. */
  get fd(): number {
    return this.#channel.fd
  }

  /** Why the session ended; undefined while it lives. */
  get lost(): AccelError | undefined {
    return this.#lost
  }

  onLost(listener: (reason: AccelError) => void): () => void {
    return this.#listeners.add(listener)
  }

  /**
   * Sends a command and blocks until its reply. Descriptors of a DEVICE_GET_REGION_INFO are the caller's then; no other has any.
   *
   * @throws ERR_ACCEL_IO the server refused it (`errno` says why); ERR_ACCEL_NO_DEVICE the session ended, with the reason as cause
   */
  request(command: number, payload: Uint8Array, fds: readonly number[] = noFds): Message {
    if (this.#lost) throw this.#gone(this.#lost)
    if (this.#waiting) {
      throw accelError(
        'ERR_ACCEL_DEADLOCK',
        `${commandName(command)} from inside another request of this session.`,
      )
    }
    this.#waiting = true
    let reply: Message
    try {
      const id = this.#nextId
      this.#nextId = (id + 1) & 0xffff
      this.#channel.send({ id, command, flags: 0, fds }, payload, this.#timeoutMs)
      reply = this.#await(id, command)
    } catch (error) {
      throw this.#fail(error)
    } finally {
      this.#waiting = false
    }
    if (reply.flags & Flag.ERROR) {
      closeAll(reply.fds)
      const name = errnoName(reply.errno)
      // The server tells that its device is gone before it hangs up.
      if (name === 'ENODEV') {
        throw this.#fail(
          accelError('ERR_ACCEL_NO_DEVICE', `the server on ${this.path} has lost its device`, {
            errno: name,
          }),
        )
      }
      throw accelError(
        'ERR_ACCEL_IO',
        `The vfio-user server on ${this.path} refused ${commandName(command)}: ${name}.`,
        {
          errno: name,
        },
      )
    }
    if (command !== Command.DEVICE_GET_REGION_INFO) closeAll(reply.fds)
    return reply
  }

  /** Ends the session for a reason of the device's, which listeners are told. */
  lose(reason: AccelError): void {
    this.#end(reason, true)
  }

  /** Ends the session. Idempotent. */
  close(): void {
    this.#end(accelError('ERR_ACCEL_CLOSED', `The connection to ${this.path} was closed.`), false)
  }

  #await(id: number, command: number): Message {
    const deadline = performance.now() + this.#timeoutMs
    for (;;) {
      // A server that asks without end and never answers is not waited for either.
      const leftMs = deadline - performance.now()
      const message = leftMs > 0 ? this.#channel.receive(leftMs) : undefined
      if (!message) {
        throw accelError(
          'ERR_ACCEL_TIMEOUT',
          `The vfio-user server on ${this.path} did not answer ${commandName(command)} within ${this.#timeoutMs} ms. Is it a vfio-user server, and alive?`,
        )
      }
      if ((message.flags & Flag.TYPE_MASK) !== Flag.REPLY) {
        this.#answer(message)
        continue
      }
      if (message.id === id && message.command === command) {
        for (let next = this.#channel.take(); next; next = this.#channel.take()) this.#unasked(next)
        return message
      }
      closeAll(message.fds)
      throw broken(`a reply to ${commandName(message.command)} while ${commandName(command)} was waited for`)
    }
  }

  /** Serves DMA messages and notices the end of the session while no request is under way. */
  #pump(): void {
    try {
      for (let answered = 0; answered < TURN_MESSAGES && !this.#lost; answered++) {
        const message = this.#channel.tryReceive()
        if (!message) return
        this.#unasked(message)
      }
      if (this.#pumpsAgain || this.#lost) return
      this.#pumpsAgain = true
      setImmediate(() => {
        this.#pumpsAgain = false
        this.#pump()
      })
    } catch (error) {
      this.#fail(error)
      if (!isAccelError(error)) throw error
    }
  }

  #unasked(message: Message): void {
    if ((message.flags & Flag.TYPE_MASK) === Flag.REPLY) {
      closeAll(message.fds)
      throw broken(`a reply to ${commandName(message.command)} that nobody asked for`)
    }
    this.#answer(message)
  }

  #answer({ id, command, flags, payload, fds }: Message): void {
    closeAll(fds)
    if (command !== Command.DMA_READ && command !== Command.DMA_WRITE) {
      throw broken(`${commandName(command)}, which is not a server's to send`)
    }
    let reply: Uint8Array = noBytes
    let errno = 0
    try {
      reply = command === Command.DMA_READ ? this.#dmaRead(payload) : this.#dmaWrite(payload)
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_DMA_FAULT')) throw error
      errno = EFAULT
    }
    if (flags & Flag.NO_REPLY) return
    const type = errno === 0 ? Flag.REPLY : Flag.REPLY | Flag.ERROR
    this.#channel.send({ id, command, flags: type, errno }, reply, this.#timeoutMs)
  }

  /** address, count; answered with the same and the data. */
  #dmaRead(payload: Buffer): Uint8Array {
    const { iova, count } = dmaAccess(payload, ACCESS_BYTES)
    const reply = Buffer.alloc(ACCESS_BYTES + count)
    payload.copy(reply)
    reply.set(this.#dma.resolve(iova, count, 'read'), ACCESS_BYTES)
    return reply
  }

  /** address, count, data; answered with the first two: 16 bytes, as libvfio-user has it. */
  #dmaWrite(payload: Buffer): Uint8Array {
    const { iova, count } = dmaAccess(payload, payload.length)
    if (payload.length !== ACCESS_BYTES + count) {
      throw broken(`a DMA_WRITE of ${count} bytes with ${payload.length - ACCESS_BYTES} bytes of data`)
    }
    this.#dma.resolve(iova, count, 'write').set(payload.subarray(ACCESS_BYTES))
    return payload.subarray(0, ACCESS_BYTES)
  }

  #gone(cause: AccelError): AccelError {
    return accelError('ERR_ACCEL_NO_DEVICE', `The device on ${this.path} is gone: ${cause.message}`, {
      cause,
    })
  }

  /** A session that broke once cannot be trusted to be in step: it ends. */
  #fail(error: unknown): unknown {
    if (!isAccelError(error)) return error
    this.#end(error, true)
    return this.#gone(this.#lost ?? error)
  }

  #end(reason: AccelError, tell: boolean): void {
    if (this.#lost) return
    this.#lost = reason
    this.#watch?.close()
    this.#channel.close()
    if (tell) this.#listeners.tell(reason)
    this.#listeners.clear()
  }
}

function dmaAccess(payload: Buffer, wantedBytes: number): { iova: bigint; count: number } {
  if (payload.length < ACCESS_BYTES || payload.length !== wantedBytes)
    throw broken(`a DMA message of ${payload.length} bytes`)
  const count = payload.readBigUInt64LE(8)
  if (count > BigInt(DEFAULT_TRANSFER_BYTES)) throw broken(`a DMA message for ${count} bytes`)
  return { iova: payload.readBigUInt64LE(0), count: Number(count) }
}

function connect(path: string, timeoutMs: number): number {
  try {
    return sys.connectUnix(path, timeoutMs)
  } catch (cause) {
    if (!isAccelError(cause) || cause.errno === undefined) throw cause
    const start = `Start one, for example: npx uaccel model npu --socket ${path}`
    const found: Record<string, string> = {
      ENOENT: `no such file. ${start}`,
      ECONNREFUSED: `no server listens there. ${start}`,
      EAGAIN: `it took no connection within ${timeoutMs} ms. Is the server alive?`,
      EACCES: 'this user may not. Ask its owner for the right to write to it.',
    }
    throw accelError(
      cause.errno === 'ECONNREFUSED' ? 'ERR_ACCEL_NOT_FOUND' : cause.code,
      `Cannot connect to the vfio-user server on ${path}: ${found[cause.errno] ?? cause.message}`,
      { cause },
    )
  }
}

/** During the handshake, an end or an odd answer says that the other side is something else, or taken. */
function notVfioUser(path: string, error: unknown): unknown {
  const cause = isAccelError(error, 'ERR_ACCEL_NO_DEVICE') ? error.cause : error
  if (isAccelError(cause, 'ERR_ACCEL_CLOSED')) {
    return accelError(
      'ERR_ACCEL_PROTOCOL',
      `The socket ${path} closed during the vfio-user handshake: it is no vfio-user server, or another client has it.`,
      { cause },
    )
  }
  return isAccelError(cause) ? cause : error
}

function errnoName(errno: number): string {
  try {
    return getSystemErrorName(-errno)
  } catch {
    return `errno ${errno}`
  }
}
