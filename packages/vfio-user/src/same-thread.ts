import { statSync } from 'node:fs'
import { accelError } from '@uaccel/uapi'

/** Sockets that this thread answers on, by device and inode. */
const served = new Set<string>()

const identity = (path: string): string | undefined => {
  const found = statSync(path, { throwIfNoEntry: false })
  return found && `${found.dev}:${found.ino}`
}

/**
 * Notes that this thread answers on a socket. What it answers ends that, and is true where the file on the path is still that
 * socket, and not somebody else's by now.
 */
export function claimSocket(path: string): () => boolean {
  const id = identity(path)
  if (id) served.add(id)
  return () => id !== undefined && served.delete(id) && id === identity(path)
}

/**
 * A client's region access blocks its thread until the server has answered. On one thread that would be for ever.
 *
 * @throws ERR_ACCEL_DEADLOCK where this thread serves the socket, by whatever path
 */
export function refuseOwnSocket(path: string): void {
  const id = identity(path)
  if (id === undefined || !served.has(id)) return
  throw accelError(
    'ERR_ACCEL_DEADLOCK',
    `The server of ${path} runs on this very thread, and a client blocks until it is answered. Run the server in another process or worker, or use the loopback transport.`,
  )
}
