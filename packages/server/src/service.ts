import { closeAll } from '@uaccel/sys'
import { accelError, CONTROL_NODE, isAccelError } from '@uaccel/uapi'
import { SYSTEMD_VARIABLES } from './messages.js'
import { type SuperviseOptions, type Supervisor, supervise } from './supervisor.js'
import { Notifier, passedSockets } from './systemd.js'

/**
 * Runs a supervisor as a service, until it is stopped. SIGTERM and SIGINT stop it, a second one hurries; SIGHUP reads the
 * configuration anew, or stops it where that is no file: then its terminal has gone. systemd is told of it, and may pass the socket of the control node. A program of Node that started this one
 * with a channel gets the message `ready`, and its end is this one's.
 *
 * @throws what `supervise` throws; ERR_ACCEL_INVALID_ARGUMENT systemd passed something else than the control node's socket
 */
export async function runService(options: Omit<SuperviseOptions, 'controlFd'>): Promise<void> {
  const { note = () => {} } = options
  const notifier = new Notifier((error) => note(`systemd cannot be told: ${error.message}`))
  const controlFd = passedControl()
  // Nothing that is started from here is what systemd watches.
  for (const name of SYSTEMD_VARIABLES) delete process.env[name]
  let supervisor: Supervisor | undefined
  let ready = false
  const status = (text: string) => {
    note(text)
    if (ready && supervisor) notifier.status(supervisor.status)
  }
  supervisor = await supervise({
    ...options,
    note: status,
    ...(controlFd === undefined ? {} : { controlFd }),
  })
  const { stopped, stop } = stoppable(supervisor, notifier, note)
  const reload = () => {
    notifier.reloading()
    void supervisor
      .reload()
      .then(
        ({ added, removed, changed, kept }) =>
          note(`reloaded: ${added} added, ${removed} removed, ${changed} changed, ${kept} kept`),
        (error: Error) =>
          note(`${error.message}\nNothing was changed${isAccelError(error) ? ` (${error.code})` : ''}`),
      )
      .then(() => notifier.ready(supervisor.status))
  }
  const hangUp = options.source.file === undefined ? stop : reload
  process.on('SIGTERM', stop).on('SIGINT', stop).on('SIGHUP', hangUp).once('disconnect', stop)
  try {
    await Promise.race([supervisor.settled, stopped])
    if (!supervisor.stopping) {
      ready = true
      notifier.ready(supervisor.status)
      if (process.connected) process.send!('ready')
    }
    await stopped
  } finally {
    process.off('SIGTERM', stop).off('SIGINT', stop).off('SIGHUP', hangUp).off('disconnect', stop)
    notifier.close()
    if (process.connected) process.disconnect()
  }
}

function stoppable(supervisor: Supervisor, notifier: Notifier, note: (text: string) => void) {
  let end!: (stopping: Promise<void>) => void
  const stopped = new Promise<void>((resolve) => {
    end = resolve
  })
  const stop = () => {
    if (supervisor.stopping) void supervisor.stop(0)
    else {
      notifier.stopping()
      note('stopping: what is under way gets its time; a second signal hurries')
      end(supervisor.stop())
    }
  }
  return { stopped, stop }
}

/** The socket of the control node, where systemd has made it. */
function passedControl(): number | undefined {
  const sockets = passedSockets()
  const [socket] = sockets
  if (socket === undefined) return undefined
  if (sockets.length === 1 && (socket.name === CONTROL_NODE || socket.name === 'unknown')) return socket.fd
  closeAll(sockets.map(({ fd }) => fd))
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `systemd passed ${sockets.map(({ name }) => name).join(', ')}: the socket unit has one ListenStream=, with FileDescriptorName=${CONTROL_NODE}`,
  )
}
