import { EventFd, type Watch, watch } from '@uaccel/sys'
import type { IrqHandler } from '../irq.js'

/** An eventfd between two threads of this process: one signals, the other handles. */
export class EventLine {
  readonly #event: EventFd
  readonly #own: boolean
  #watch: Watch | undefined

  /** @internal @param fd Of another thread, which closes it; a new one where absent. */
  constructor(fd?: number) {
    this.#own = fd === undefined
    this.#event = fd === undefined ? new EventFd() : new EventFd(undefined, fd)
  }

  get fd(): number {
    return this.#event.fd
  }

  /** Has the handler of the other side run. A system call. */
  signal(): void {
    this.#event.signal()
  }

  /** Calls `handler` in this thread's event loop after the other side signalled, or the interrupt fired. Keeps the thread alive. */
  handle(handler: IrqHandler): void {
    this.#watch?.close()
    this.#watch = watch(this.#event.fd, () => {
      const count = this.#event.drain()
      if (count > 0) handler(count)
    })
  }

  /** @internal */
  get watching(): Watch | undefined {
    return this.#watch
  }

  /** No handler runs any more. Idempotent. */
  close(): void {
    this.#watch?.close()
    this.#watch = undefined
    if (this.#own) this.#event.close()
  }
}
