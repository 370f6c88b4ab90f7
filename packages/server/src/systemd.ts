import { abi, sys } from '@uaccel/sys'
import { accelError, isAccelError } from '@uaccel/uapi'

type Environment = Readonly<Record<string, string | undefined>>

/** The first descriptor that systemd passes. SD_LISTEN_FDS_START of sd-daemon.h */
const FIRST_FD = 3
/** More than any unit passes; a wrong number is to be an error, not a long loop. */
const MAX_FDS = 1024

/** A listening socket that systemd made. */
export interface PassedSocket {
  /** Of `FileDescriptorName=`; `unknown` where the unit has none. */
  readonly name: string
  readonly fd: number
}

/**
 * The listening Unix stream sockets that were passed to this process (sd_listen_fds(3)), each as a new descriptor that children
 * do not get. They are taken once.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT one that is something else, or numbers and names that do not fit: all are closed
 */
export function passedSockets(env: Environment = process.env, pid = process.pid): PassedSocket[] {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = env
  // For another process: this one's parent forgot to take it out.
  if (LISTEN_FDS === undefined || Number(LISTEN_PID) !== pid) return []
  const count = Number(LISTEN_FDS)
  if (!/^\d+$/.test(LISTEN_FDS) || count > MAX_FDS) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `LISTEN_FDS wants a number up to ${MAX_FDS}, found "${LISTEN_FDS}"`,
    )
  }
  const names = LISTEN_FDNAMES === undefined ? [] : LISTEN_FDNAMES.split(':')
  const sockets: PassedSocket[] = []
  const problems: string[] = []
  if (LISTEN_FDNAMES !== undefined && names.length !== count)
    problems.push(`LISTEN_FDS is ${count}, and LISTEN_FDNAMES has ${names.length} names`)
  for (let fd = FIRST_FD; fd < FIRST_FD + count; fd++) {
    const name = names[fd - FIRST_FD] ?? 'unknown'
    const problem = wrongWith(fd)
    if (problem === undefined) sockets.push({ name, fd: sys.dup(fd) })
    else problems.push(`descriptor ${fd} (${name}) ${problem}`)
    try {
      sys.close(fd)
    } catch (error) {
      if (!isAccelError(error)) throw error // it is not open: told above
    }
  }
  if (problems.length === 0) {
    for (const { fd } of sockets) sys.setNonblocking(fd)
    return sockets
  }
  for (const { fd } of sockets) sys.close(fd)
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `What systemd passed cannot be served: ${problems.join('; ')}. See ListenStream= of the socket unit`,
  )
}

function wrongWith(fd: number): string | undefined {
  try {
    if (sys.getSocketOption(fd, abi.SO_DOMAIN) !== abi.AF_UNIX) return 'is no Unix socket'
    if (sys.getSocketOption(fd, abi.SO_TYPE) !== abi.SOCK_STREAM) return 'is no stream socket'
    if (sys.getSocketOption(fd, abi.SO_ACCEPTCONN) !== 1) return 'does not listen'
    return undefined
  } catch (error) {
    if (!isAccelError(error)) throw error
    return error.errno === 'EBADF' ? 'is not open' : 'is no socket'
  }
}

/** Tells systemd how the service is. Without NOTIFY_SOCKET nobody is told. sd_notify(3) */
export class Notifier {
  readonly #socket: string | undefined
  readonly #watchdogMs: number | undefined
  readonly #onError: (error: Error) => void
  #watchdog: NodeJS.Timeout | undefined
  #failed = false

  constructor(onError: (error: Error) => void, env: Environment = process.env, pid = process.pid) {
    this.#onError = onError
    this.#socket = env.NOTIFY_SOCKET || undefined
    const { WATCHDOG_USEC, WATCHDOG_PID } = env
    // sd_watchdog_enabled(3): for this process, where it says for which
    if (WATCHDOG_USEC !== undefined && (WATCHDOG_PID === undefined || Number(WATCHDOG_PID) === pid)) {
      const ms = Number(WATCHDOG_USEC) / 1000
      if (ms > 0) this.#watchdogMs = ms
    }
  }

  /** The service serves; from now on the watchdog hears of it, where the unit has one. */
  ready(status: string): void {
    this.#send('READY=1', `STATUS=${status}`)
    if (this.#watchdogMs === undefined || this.#watchdog) return
    // "every half of the time": sd_watchdog_enabled(3)
    this.#watchdog = setInterval(
      () => this.#send('WATCHDOG=1'),
      Math.max(1, Math.floor(this.#watchdogMs / 2)),
    )
    this.#watchdog.unref()
  }

  status(status: string): void {
    this.#send(`STATUS=${status}`)
  }

  /** The configuration is being read; `ready` follows. MONOTONIC_USEC is for Type=notify-reload. systemd.service(5) */
  reloading(): void {
    this.#send('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`)
  }

  stopping(): void {
    this.#send('STOPPING=1', 'STATUS=stopping')
  }

  /** Nothing is told any more. */
  close(): void {
    clearInterval(this.#watchdog)
  }

  #send(...assignments: string[]): void {
    if (this.#socket === undefined) return
    try {
      const fd = sys.connectDatagram(this.#socket)
      try {
        // A line break would begin another assignment.
        sys.send(fd, Buffer.from(assignments.map((line) => line.replaceAll('\n', ' ')).join('\n')))
      } finally {
        sys.close(fd)
      }
      this.#failed = false
    } catch (error) {
      if (!isAccelError(error)) throw error
      if (!this.#failed) this.#onError(error)
      this.#failed = true
    }
  }
}
