import type { JobRange } from '@uaccel/accel'
import { type AccelError, errorTable } from '@uaccel/uapi'
import { queueLayout, SHARED } from './queue.js'
import type { QueueControl } from './queue-control.js'
import { type Window, windowOf } from './store.js'
import type { Tenant, TenantStore } from './tenant.js'

/** What a queue of a client may touch: the ranges of buffers that the client named, which are not ours to free. */
export class ClientStore implements TenantStore {
  readonly card: undefined
  readonly #ranges: readonly JobRange[]

  constructor(ranges: readonly JobRange[]) {
    this.#ranges = ranges
  }

  *windows(): Iterable<readonly [index: number, window: Window]> {
    for (const [i, { iova, sizeBytes, access }] of this.#ranges.entries()) {
      yield [i, windowOf(iova, sizeBytes, access)]
    }
  }

  destroy(): void {}
}

/**
 * A queue that a client in another process fills. Nothing in its rings is read here: the device holds it to its windows, and the
 * client may write there what it likes. What the client is told is for the client alone.
 */
export class UserTenant implements Tenant {
  readonly control: QueueControl
  readonly store: ClientStore
  readonly #notify: () => void
  readonly #status: number
  #failure: AccelError | undefined

  /** @param notify Has the client look. */
  constructor(control: QueueControl, store: ClientStore, notify: () => void) {
    this.control = control
    this.store = store
    this.#notify = notify
    this.#status = queueLayout(control.entriesLog2).status / 4
  }

  get failure(): AccelError | undefined {
    return this.#failure
  }

  /** An interrupt: the client takes its completions itself. */
  poll(): void {
    this.#notify()
  }

  showHeartbeat(value: number): void {
    this.control.memory.i32[this.#status + SHARED.heartbeat] = value | 0
  }

  /** Final: a client that goes on after a reset makes another queue. */
  fail(error: AccelError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.control.memory.i32[this.#status + SHARED.failed] = errorTable[error.code].number
    this.#notify()
  }

  async restart(): Promise<void> {}
  async settled(): Promise<void> {}
  async end(error: AccelError): Promise<void> {
    this.fail(error)
  }
}
