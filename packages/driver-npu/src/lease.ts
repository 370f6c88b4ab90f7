import {
  DeviceLease,
  type DeviceShare,
  type EventLine,
  type SharedBarToken,
  type SharedEventToken,
  type SharedMemoryToken,
  type ShareToken,
} from '@uaccel/core'
import type { QueueControl } from './queue-control.js'
import type { ContextStore } from './store.js'
import type { Tenant } from './tenant.js'

/** What a worker needs to use a queue of an NPU: see `NpuLease.token`. `device.port` has to be transferred with it. */
export interface NpuContextToken {
  readonly kind: 'npu-context'
  readonly device: ShareToken
  readonly index: number
  readonly entriesLog2: number
  readonly rings: SharedMemoryToken
  readonly memory: SharedMemoryToken
  readonly doorbells: SharedBarToken
  /** The page of BAR 0 with the queue's registers, or a line to the thread that can reach them. */
  readonly wake: SharedBarToken | SharedEventToken
  readonly irq: SharedEventToken | undefined
  readonly card: { readonly bar: SharedBarToken; readonly base: bigint } | undefined
  /** One word over shared memory: HEARTBEAT as it was last read. */
  readonly heartbeat: Int32Array
}

/** What a lease is made of. */
export interface LeaseParts {
  readonly control: QueueControl
  readonly store: ContextStore
  readonly share: DeviceShare
  readonly token: NpuContextToken
  /** Tells the worker of its vector, where it cannot wait for that itself. */
  readonly line: EventLine | undefined
}

/** A queue that a worker thread uses. Made by `Npu.shareContext`. */
export class NpuLease extends DeviceLease implements Tenant {
  /** For the worker's `attachNpuContext`. */
  readonly token: NpuContextToken
  readonly control: QueueControl
  readonly store: ContextStore
  readonly #line: EventLine | undefined

  /** @internal */
  constructor({ control, store, share, token, line }: LeaseParts, close: (lease: NpuLease) => Promise<void>) {
    super(share, { close: () => close(this) })
    this.control = control
    this.store = store
    this.token = token
    this.#line = line
  }

  /** @internal Interrupts that do not reach the worker by themselves are passed on; it takes the completions. */
  poll(): void {
    this.#line?.signal()
  }

  /** @internal */
  showHeartbeat(value: number): void {
    this.token.heartbeat[0] = value
  }
}
