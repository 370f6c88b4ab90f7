import { EventFd, type Watch, watch } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { checkWait, handledError, type IrqCounts, type IrqHandler, type WaitSyncOptions } from '../irq.js'

/** An eventfd between two threads of this process: one signals, the other handles. */
export class EventLine {
  readonly #event: EventFd
  readonly #own: boolean
  #watch: Watch | undefined
  #handler: IrqHandler | undefined
  #closed = false
  #fired = 0
  #handled = 0

  /** @internal @param fd Of another thread, which closes it; a new one where absent. */
  constructor(fd?: number) {
    this.#own = fd === undefined
    this.#event = fd === undefined ? new EventFd() : new EventFd(undefined, fd)
  }

  get fd(): number {
    return this.#event.fd
  }

  /** Has the handler of the other side run. A system call. Nothing once closed: the descriptor's number may be another's by then. */
  signal(): void {
    if (!this.#closed) this.#event.signal()
  }

  /**
   * Calls `handler` in this thread's event loop after the other side signalled, or the interrupt fired. Keeps the thread alive.
   * Resolves when the thread may be terminated without harm: what waits for the kernel in its place is up then.
   */
  async handle(handler: IrqHandler): Promise<void> {
    this.#handler = handler
    // The watch stays when the handler changes: in a worker thread, the last one to be closed ends the thread that waits.
    this.#watch ??= watch(this.#event.fd, () => {
      const count = this.#event.drain()
      if (count === 0) return
      this.#fired += count
      this.#handled++
      this.#handler?.(count)
    })
    await this.#watch.started
  }

  /**
   * Blocks this thread until the other side signalled, or the interrupt fired. Answers how often; 0 at the limit, where a signal arrived,
   * and in a worker thread where the owner announced something, which was applied (`SharedDevice.sync`).
   *
   * `ERR_ACCEL_BUSY` where it has a handler, `ERR_ACCEL_CLOSED` once it was closed; in a worker thread `ERR_ACCEL_NO_DEVICE` once the device
   * is gone, which wakes it.
   */
  waitSync(options: WaitSyncOptions): number {
    checkWait(options)
    if (this.#watch !== undefined) throw handledError('this line')
    if (this.#closed) throw accelError('ERR_ACCEL_CLOSED', 'this line was closed')
    const count = this.#event.waitSync(options.timeoutMs, options.spinUs, this.others)
    if (count === 0) return 0
    this.#fired += count
    this.#handled++
    return count
  }

  /** Descriptors that end a wait. */
  protected readonly others: readonly number[] = []

  /** What this side has seen. */
  get counts(): IrqCounts {
    return { fired: this.#fired, handled: this.#handled, coalesced: this.#fired - this.#handled }
  }

  /** @internal */
  get watching(): Watch | undefined {
    return this.#watch
  }

  /** No handler runs any more. Idempotent. */
  close(): void {
    this.#closed = true
    this.#watch?.close()
    this.#watch = undefined
    if (this.#own) this.#event.close()
  }
}
