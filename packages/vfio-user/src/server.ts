import { existsSync, lstatSync, unlinkSync } from 'node:fs'
import type { EmulatedFunction } from '@uaccel/model'
import { sys, type Watch, watch } from '@uaccel/sys'
import { accelError, isAccelError } from '@uaccel/uapi'
import { Channel } from './channel.js'
import { claimSocket, releaseSocket } from './same-thread.js'
import { Session } from './session.js'

/** How a device model is offered. */
export interface ServeOptions {
  /** Where the Unix socket is made. A socket that nobody serves any more is replaced; any other file is left alone. */
  readonly path: string
  /** The device. It is reset when a client leaves. The server closes it at the end. */
  readonly device: EmulatedFunction
  /** How long a client may take to read a reply or to answer a DMA message, in ms. Default 5000. */
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
  const { path, device, timeoutMs = 5000, mapUnsealed = false, onClient } = options
  removeStale(path)
  const listener = sys.listenUnix(path)
  claimSocket(path)
  let session:
    | {
        readonly channel: Channel
        readonly session: Session
        readonly watch: Watch
        readonly pump: () => void
      }
    | undefined
  let closed = false

  const leave = (reason?: Error) => {
    if (!session) return
    const { channel, session: left, watch: watched } = session
    session = undefined
    watched.close()
    left.close()
    channel.close()
    onClient?.('left', reason)
  }

  const accepting = watch(listener, () => {
    for (let fd = sys.accept(listener); fd !== undefined; fd = sys.accept(listener)) {
      // The one before may have left without our having seen it yet.
      session?.pump()
      if (session) sys.close(fd)
      else admit(new Channel(fd))
    }
  })

  const admit = (channel: Channel) => {
    const current = () => session?.channel === channel
    const client = new Session(channel, device, {
      timeoutMs,
      mapUnsealed,
      onAgreed: () => onClient?.('connected'),
      onBacklog: () => setImmediate(pump),
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
    session = { channel, session: client, watch: watch(channel.fd, pump), pump }
  }

  const close = () => {
    if (closed) return
    closed = true
    accepting.close()
    leave()
    sys.close(listener)
    releaseSocket(path)
    if (existsSync(path)) unlinkSync(path)
    device.close()
  }
  return { path, close, [Symbol.dispose]: close }
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
  } catch {
    unlinkSync(path)
    return
  }
  sys.close(fd)
  throw accelError('ERR_ACCEL_BUSY', `Another server answers on ${path}. End it, or name another path.`)
}
