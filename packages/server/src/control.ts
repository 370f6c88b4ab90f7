import type { NodeDispatchOptions, OpenOptions } from '@uaccel/accel'
import {
  type AccelError,
  accelError,
  CONTROL_NODE,
  type CommandReply,
  type CommandRequest,
  commonUapi,
  controlUapi,
  FIRST_DRIVER_COMMAND,
  fitText,
  NODES_AT_ONCE,
  type Reply,
  spoken,
} from '@uaccel/uapi'
import type { Servable } from './servable.js'
import type { NodeEntry } from './supervised.js'

type Control = typeof controlUapi

/** What the control node asks of the supervisor. */
export interface ControlHost {
  /** In the order of their numbers. */
  entries(): readonly NodeEntry[]
  reload(): Promise<CommandReply<Control, 'reload'>>
  start(node: string): Promise<void>
  stop(node: string): Promise<void>
}

/** One client of the control node. */
interface ControlOpen {
  /** It may change something. */
  readonly owner: boolean
  readonly controller: AbortController
}

const DEFAULT_TIMEOUT_MS = 30_000

/** The node by which a supervisor is asked and told: `controlUapi`. It has no device, and lasts as long as its server. */
export class ControlNode implements Servable {
  readonly name = CONTROL_NODE
  readonly driver = { uapi: controlUapi }
  readonly reason: AccelError | undefined = undefined
  readonly state = 'live'
  readonly lost = new Promise<AccelError>(() => {})
  readonly #host: ControlHost

  constructor(host: ControlHost) {
    this.#host = host
  }

  open({ rights }: OpenOptions): ControlOpen {
    // A server gives rights to those who have not all of them.
    return { owner: rights === undefined, controller: new AbortController() }
  }

  /** It has no jobs. */
  async jobsEnded(): Promise<void> {}

  async close(open: ControlOpen): Promise<void> {
    open.controller.abort(accelError('ERR_ACCEL_CLOSED', 'This open of control was closed'))
  }

  async dispatch(
    open: ControlOpen,
    number: number,
    bytes: Uint8Array,
    options: NodeDispatchOptions,
  ): Promise<Reply> {
    const { fds = [], signal, timeoutMs = DEFAULT_TIMEOUT_MS, released = () => {} } = options
    try {
      if (fds.length > 0) {
        throw accelError(
          'ERR_ACCEL_OUT_OF_RANGE',
          `Commands of control take no descriptors, found ${fds.length}`,
        )
      }
      if (number < FIRST_DRIVER_COMMAND) return { bytes: common(number, bytes), fds: [] }
      const command = controlUapi.byNumber(number)
      const request = command.in.decode(bytes)
      const answer = await withdrawable(this.#run(open, command.name, request), command.name, timeoutMs, [
        open.controller.signal,
        ...(signal ? [signal] : []),
      ])
      return { bytes: command.out.encode(answer as never), fds: [] }
    } finally {
      released()
    }
  }

  async #run(open: ControlOpen, name: string, request: unknown): Promise<object> {
    if (name === 'nodes') return this.#nodes(request as CommandRequest<Control, 'nodes'>)
    if (!open.owner) {
      throw accelError(
        'ERR_ACCEL_PERMISSION',
        `${name} is for root and for the user of the server; others may ask for nodes`,
      )
    }
    if (name === 'reload') return this.#host.reload()
    const { node } = request as CommandRequest<Control, 'start' | 'stop'>
    await (name === 'start' ? this.#host.start(node) : this.#host.stop(node))
    return {}
  }

  #nodes({ from }: CommandRequest<Control, 'nodes'>): CommandReply<Control, 'nodes'> {
    const all = this.#host.entries()
    return { total: all.length, entries: all.slice(from, from + NODES_AT_ONCE).map(fitted) }
  }
}

/** What each node answers of the common commands, and this one can: it has no device. */
function common(number: number, bytes: Uint8Array): Uint8Array {
  const command = commonUapi.byNumber(number)
  if (command.name !== 'version') {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `control is no device, and has no ${command.name}: ask one of its nodes`,
    )
  }
  commonUapi.commands.version.in.decode(bytes)
  return commonUapi.commands.version.out.encode({ ...spoken(controlUapi), commonVersion: commonUapi.version })
}

/** Texts may be of any length, their fields are not. */
const fitted = (entry: NodeEntry): NodeEntry => ({
  ...entry,
  name: fitText(entry.name, 32),
  driver: fitText(entry.driver, 32),
  transport: fitText(entry.transport, 16),
  address: fitText(entry.address, 256),
  reason: fitText(entry.reason, 256),
})

/** What `work` gives, unless its caller leaves before, or the limit passes. The work itself goes on. */
async function withdrawable<T>(
  work: Promise<T>,
  name: string,
  timeoutMs: number,
  signals: readonly AbortSignal[],
): Promise<T> {
  let withdraw!: (error: AccelError) => void
  const withdrawn = new Promise<never>((_resolve, reject) => {
    withdraw = reject
  })
  const abort = () =>
    withdraw(accelError('ERR_ACCEL_ABORTED', `${name} of control was aborted by its caller`))
  const timer = setTimeout(
    () =>
      withdraw(
        accelError('ERR_ACCEL_TIMEOUT', `${name} of control did not end within ${timeoutMs} ms; it goes on`),
      ),
    timeoutMs,
  )
  for (const signal of signals) signal.addEventListener('abort', abort, { once: true })
  if (signals.some((signal) => signal.aborted)) abort()
  try {
    return await Promise.race([work, withdrawn])
  } finally {
    clearTimeout(timer)
    for (const signal of signals) signal.removeEventListener('abort', abort)
  }
}
