import { EventEmitter } from 'node:events'
import type { Duplex } from 'node:stream'
import { AccelError } from '@uaccel/uapi'
import { eachLine } from './child.js'

/** What QEMU sends: a greeting, then answers and events in any order. */
interface Message {
  return?: unknown
  error?: { class: string; desc: string }
  id?: number
  event?: string
  data?: unknown
}

interface Pending {
  command: string
  resolve(value: unknown): void
  reject(error: AccelError): void
}

/**
 * QEMU's machine protocol (QMP: docs/interop/qmp-spec.rst), to do to the machine what a hand would do: plug, unplug,
 * stop. Emits each of QEMU's events by its name with its data: `once(monitor, 'DEVICE_DELETED', { signal })`; and
 * `close` when QEMU has ended. Commands and events are those of QEMU's QMP reference.
 */
export class Monitor extends EventEmitter {
  readonly #channel: Duplex
  readonly #pending = new Map<number, Pending>()
  #nextId = 0
  #closed = false

  private constructor(channel: Duplex) {
    super()
    this.#channel = channel
    eachLine(channel, (line) => this.#take(line))
    channel.on('error', () => {}) // QEMU was killed with a command unread; 'close' comes next
    channel.once('close', () => {
      this.#closed = true
      for (const { command, reject } of this.#pending.values()) reject(ended(command))
      this.#pending.clear()
      this.emit('close')
    })
  }

  /** Leaves the mode in which QEMU takes no command but this one. */
  static async open(channel: Duplex): Promise<Monitor> {
    const monitor = new Monitor(channel)
    await monitor.execute('qmp_capabilities')
    return monitor
  }

  /**
   * Runs a command: `execute('device_del', { id: 'device0' })`.
   * @returns what QEMU answers
   * @throws ERR_ACCEL_SYSTEM with QEMU's own words, and its class of error in `details.class`; ERR_ACCEL_CLOSED where
   * QEMU has ended, or ends before it answers
   */
  execute(command: string, args?: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(ended(command))
      const id = this.#nextId++
      this.#pending.set(id, { command, resolve, reject })
      this.#channel.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`)
    })
  }

  #take(line: string): void {
    const message = parse(line)
    // Not the protocol: whoever waits for an answer gets none.
    if (message === undefined) this.#channel.destroy()
    else if (message.event !== undefined) this.emit(message.event, message.data)
    else if (message.id !== undefined) this.#answer(message.id, message)
  }

  #answer(id: number, { return: value, error }: Message): void {
    const pending = this.#pending.get(id)
    if (!pending) return
    this.#pending.delete(id)
    if (!error) {
      pending.resolve(value)
      return
    }
    pending.reject(
      new AccelError('ERR_ACCEL_SYSTEM', `QEMU refuses '${pending.command}': ${error.desc}`, {
        details: { class: error.class },
      }),
    )
  }
}

function parse(line: string): Message | undefined {
  try {
    return JSON.parse(line) as Message
  } catch {
    return undefined
  }
}

const ended = (command: string) =>
  new AccelError('ERR_ACCEL_CLOSED', `QEMU ended before it answered '${command}'`)
