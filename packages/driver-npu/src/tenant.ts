import type { AccelError } from '@uaccel/uapi'
import type { NpuContext } from './context.js'
import type { QueueControl } from './queue-control.js'
import type { Window } from './store.js'

/** The memory of a tenant. */
export interface TenantStore {
  /** Of it, on the card. */
  readonly card: { readonly sizeBytes: number } | undefined
  /** Every range that its queue is to be allowed, by window. */
  windows(): Iterable<readonly [index: number, window: Window]>
  /** Gives everything back; the queue must be stopped. */
  destroy(): void
}

/** Who holds a queue, as the thread sees it that opened the NPU: a context of its own, or one of a worker, or of a client. */
export interface Tenant {
  readonly control: QueueControl
  readonly store: TenantStore
  /** Why it takes no work at present. */
  readonly failure: AccelError | undefined
  /** Takes completions, where that is this thread's to do. */
  poll(): void
  /** Told what HEARTBEAT read, where the user cannot read it. */
  showHeartbeat?(value: number): void
  /** Ends all jobs; new ones are refused with `error` until the queue was started anew. */
  fail(error: AccelError): void
  /** Has the queue started anew after a reset, at once or as soon as its user no longer touches it. */
  restart(start: () => Promise<void>): Promise<void>
  /** Resolves when no restart is under way. */
  settled(): Promise<void>
  /** Nothing more is to be expected of the queue. Resolves when its memory can be given back. */
  end(error: AccelError): Promise<void>
}

/** A context of this thread. */
export class LocalTenant implements Tenant {
  readonly control: QueueControl
  readonly store: TenantStore
  readonly context: NpuContext

  constructor(control: QueueControl, store: TenantStore, context: NpuContext) {
    this.control = control
    this.store = store
    this.context = context
  }

  get failure(): AccelError | undefined {
    return this.context.failure
  }
  poll(): void {
    this.context.poll()
  }
  fail(error: AccelError): void {
    this.context.fail(error)
  }
  async restart(start: () => Promise<void>): Promise<void> {
    await start()
    this.context.revive()
  }
  async settled(): Promise<void> {}
  async end(error: AccelError): Promise<void> {
    this.context.fail(error)
  }
}
