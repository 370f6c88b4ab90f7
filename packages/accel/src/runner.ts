import { closeAll } from '@uaccel/sys'
import type { AccelError } from '@uaccel/uapi'
import { type Call, commandError, leavesIdle } from './call.js'
import type { DriverInstance } from './instance.js'
import { settled } from './limit.js'
import type { Open } from './open.js'
import type { NodeRecord } from './record.js'
import type { Recovery } from './recovery.js'
import type { Turn } from './turn.js'

type AnyHandler = (request: unknown, context: { signal: AbortSignal; open: Open }) => unknown

/** What commands of a driver need of their node. */
export interface RunnerHost {
  readonly limits: { readonly settleMs: number }
  readonly record: NodeRecord
  readonly instance: DriverInstance
  readonly recovery: Recovery
  /** Throws where the node is gone. */
  check(): void
}

/** The commands of a driver: one at a time, unless they are concurrent, each until the hardware is idle again. */
export class CommandRunner {
  readonly #host: RunnerHost
  readonly #turn: Turn<{ readonly label: string }>
  /** Handlers that have not ended. */
  readonly #running = new Map<Call, Promise<boolean>>()

  /** @param turn Who has the device. */
  constructor(turn: Turn<{ readonly label: string }>, host: RunnerHost) {
    this.#turn = turn
    this.#host = host
  }

  /** Ends the calls whose handlers run. Resolves when those have ended. */
  interrupt(why: AccelError): Promise<unknown> {
    for (const call of this.#running.keys()) call.fail(why)
    return Promise.all(this.#running.values())
  }

  /** Gives the call its turn, runs it, and keeps the turn until the hardware is idle. Never rejects. */
  async serve(call: Call, request: unknown, released: () => void): Promise<void> {
    const { recovery, limits, check, record } = this.#host
    const cameMs = record.trace && performance.now()
    let giveBack: (() => void) | undefined
    let running: Promise<boolean> | undefined
    try {
      if (!call.command.concurrent) {
        giveBack = await this.#turn.take(call, call.signal)
        if (!giveBack) return
      }
      // Who hears of the end of a reset may ask for another.
      while (recovery.restarting) await recovery.restarting
      try {
        check()
      } catch (error) {
        call.fail(commandError(call, error))
      }
      if (call.ended) return
      const waitedNs = cameMs === undefined ? 0 : (performance.now() - cameMs) * 1e6
      running = this.#run(call, request, waitedNs)
      this.#running.set(call, running)
      void running.then(() => this.#running.delete(call))
      // The caller is told at once when it fails; the handler has some time to notice.
      const failed = new Promise<void>((resolve) => {
        call.signal.addEventListener('abort', () => resolve(), { once: true })
      })
      await Promise.race([running, failed])
      const idle = await settled(running, limits.settleMs)
      if (idle === true || call.command.concurrent || recovery.restarting) return
      await recovery.afterCommand(call.label, running)
    } finally {
      giveBack?.()
      if (running) void running.then(released)
      else released()
    }
  }

  /** Runs the handler and answers whether it left the hardware idle. Never rejects. */
  async #run(call: Call, request: unknown, waitedNs: number): Promise<boolean> {
    const { record, instance } = this.#host
    const { command, open, signal } = call
    call.started = true
    if (!command.concurrent) record.began(open, 'command')
    record.trace?.commandBegan(open.id, command.number, call.id, waitedNs)
    let failure: AccelError | undefined
    const fds: number[] = []
    try {
      const commands = instance.probed!.commands as Record<string, AnyHandler>
      const answer = await commands[command.name](request, { signal, open })
      const bytes = command.out.encode((answer ?? {}) as never, fds)
      if (call.ended) closeAll(fds.splice(0))
      call.finish({ bytes, fds })
      return true
    } catch (error) {
      closeAll(fds.splice(0))
      const withdrawn = signal.aborted
      failure = commandError(call, error)
      call.fail(failure)
      return !withdrawn && leavesIdle(error)
    } finally {
      if (!command.concurrent) record.left(open, 'command')
      record.trace?.commandEnded(open.id, command.number, call.id, failure)
    }
  }
}
