import { lstatSync, unlinkSync } from 'node:fs'
import { dirname } from 'node:path'
import type { EmulatedFunction } from '@uaccel/model'
import { abi, sys, type Watch, watch } from '@uaccel/sys'
import { accelError, isAccelError } from '@uaccel/uapi'
import { Channel } from './channel.js'
import { claimSocket } from './same-thread.js'
import { Session } from './session.js'

/** Connections that are taken in one turn of the event loop. */
const TURN_CLIENTS = 16
/** Why a connection may not be had now (accept(2)), and when it is tried again. */
const passing = new Set(['ECONNABORTED', 'EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM'])
const RETRY_MS = 100

/** How a device model is offered. */
export interface ServeOptions {
  /** Where the Unix socket is made. A socket that nobody serves any more is replaced; any other file is left alone. */
  readonly path: string
  /** The device. It is reset when a client leaves, unless its state is to be kept. The server closes it at the end. */
  readonly device: EmulatedFunction
  /**
   * What a client leaves behind in the device stays for the next one: registers, memory, time, work under way. Interrupts are disarmed,
   * bus mastering is switched off, and mappings of the client's memory are taken back all the same. For the development of a driver
   * that is loaded anew: hardware is reset in between. Default false.
   */
  readonly keepState?: boolean
  /**
   * How long a client may take to agree on a version, to read a reply, or to answer the DMA messages of one turn of the event loop,
   * in ms. Default 5000.
   */
  readonly timeoutMs?: number
  /**
   * Maps memory that its owner can still shrink, such as QEMU's guest RAM. A client that does shrink it ends this
   * process with SIGBUS; without this, such memory is reached by DMA messages. The device has to allow it too
   * (`dma.requireSealed` of `createFunction`). Default false.
   */
  readonly mapUnsealed?: boolean
  /** Told when a client has agreed on a version and when it leaves; `reason` is absent for an orderly end. */
  readonly onClient?: (event: 'connected' | 'left', reason?: Error) => void
}

/** A device on a socket, one client at a time: a second one is turned away at once. */
export interface Server {
  readonly path: string
  /** Disconnects the client, removes the socket, closes the device. Idempotent. */
  close(): void
  [Symbol.dispose](): void
}

/**
 * Serves a device model over vfio-user on this thread's event loop.
 *
 * @throws ERR_ACCEL_BUSY where another server answers on the path, ERR_ACCEL_INVALID_ARGUMENT where the path is no socket.
 */
export function serveVfioUser(options: ServeOptions): Server {
  const { path, device, timeoutMs = 5000, mapUnsealed = false, keepState = false, onClient } = options
  removeStale(path)
  const listener = listen(path)
  const releaseSocket = claimSocket(path)
  let session:
    | {
        readonly channel: Channel
        readonly session: Session
        readonly watch: Watch
        readonly pump: () => void
        readonly handshake: NodeJS.Timeout
      }
    | undefined
  let closed = false
  // Nothing in the protocol says that a device is gone, except the end of the session.
  const forgetLoss = device.onLost((reason) => setImmediate(() => leave(reason)))

  const leave = (reason?: Error) => {
    if (!session) return
    const { channel, session: left, watch: watched, handshake } = session
    session = undefined
    clearTimeout(handshake)
    watched.close()
    left.close()
    channel.close()
    onClient?.('left', reason)
  }

  const accept = () => {
    // The watch is level-triggered: who comes later has its turn, and clients that never stop coming leave the loop to others.
    for (let taken = 0; taken < TURN_CLIENTS && !closed; taken++) {
      let fd: number | undefined
      try {
        fd = sys.accept(listener)
      } catch (error) {
        // The client gave up already, or no descriptor is free: that passes, and no client may end a server by it.
        if (!isAccelError(error) || !passing.has(error.errno ?? '')) throw error
        accepting.close()
        retry = setTimeout(() => {
          accepting = watch(listener, accept)
        }, RETRY_MS)
        return
      }
      if (fd === undefined) return
      // The one before may have left without our having seen it yet.
      session?.pump()
      // What it still asked for nobody waits for: the device is reset when it leaves.
      if (session && hasHungUp(session.channel.fd)) leave()
      if (session) sys.close(fd)
      else admit(new Channel(fd))
    }
  }
  let retry: NodeJS.Timeout | undefined
  let accepting = watch(listener, accept)

  const admit = (channel: Channel) => {
    const current = () => session?.channel === channel
    let pumpsAgain = false
    const client = new Session(channel, device, {
      timeoutMs,
      mapUnsealed,
      keepState,
      onAgreed: () => onClient?.('connected'),
      onBacklog: () => {
        if (pumpsAgain) return
        pumpsAgain = true
        setImmediate(() => {
          pumpsAgain = false
          pump()
        })
      },
      onBroken: (reason) => setImmediate(() => current() && leave(reason as Error)),
    })
    const pump = () => {
      if (!current()) return
      try {
        client.pump()
      } catch (error) {
        leave(isAccelError(error, 'ERR_ACCEL_CLOSED') ? undefined : (error as Error))
        if (!isAccelError(error)) throw error
      }
    }
    // One that says nothing would keep all others out.
    const handshake = setTimeout(() => {
      if (!current() || client.agreed) return
      leave(accelError('ERR_ACCEL_TIMEOUT', `The client did not agree on a version within ${timeoutMs} ms.`))
    }, timeoutMs)
    session = { channel, session: client, watch: watch(channel.fd, pump), pump, handshake }
  }

  const close = () => {
    if (closed) return
    closed = true
    clearTimeout(retry)
    accepting.close()
    forgetLoss()
    leave()
    sys.close(listener)
    if (releaseSocket()) unlinkSync(path)
    device.close()
  }
  return { path, close, [Symbol.dispose]: close }
}

function hasHungUp(fd: number): boolean {
  const [events = 0] = sys.poll([{ fd, events: 0 }], 0) ?? []
  return (events & abi.POLLHUP) !== 0
}

function listen(path: string): number {
  try {
    return sys.listenUnix(path)
  } catch (cause) {
    if (!isAccelError(cause, 'ERR_ACCEL_NOT_FOUND')) throw cause
    throw accelError('ERR_ACCEL_NOT_FOUND', `There is no folder ${dirname(path)} to make the socket in.`, {
      cause,
    })
  }
}

function removeStale(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (!found) return
  if (!found.isSocket()) {
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path} exists and is not a socket. Name another path.`)
  }
  let fd: number
  try {
    fd = sys.connectUnix(path)
  } catch (error) {
    if (!isAccelError(error) || error.errno !== 'ECONNREFUSED') throw error
    unlinkSync(path)
    return
  }
  sys.close(fd)
  throw accelError('ERR_ACCEL_BUSY', `Another server answers on ${path}. End it, or name another path.`)
}
