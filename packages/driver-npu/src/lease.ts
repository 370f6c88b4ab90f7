import { setTimeout as sleep } from 'node:timers/promises'
import type {
  DeviceShare,
  EventLine,
  SharedBarToken,
  SharedEventToken,
  SharedMemoryToken,
  ShareToken,
} from '@uaccel/core'
import { type AccelError, accelError, type ErrorCode, isAccelError } from '@uaccel/uapi'
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

/** To the worker. */
export type LeaseMessage =
  /** Jobs end; the queue is not touched until `revived`. Answered with `quiet`. */
  | { readonly kind: 'failed'; readonly epoch: number; readonly code: ErrorCode; readonly message: string }
  /** The queue was started anew. */
  | { readonly kind: 'revived' }

/** From the worker. */
export type ContextMessage =
  | { readonly kind: 'quiet'; readonly epoch: number }
  | { readonly kind: 'broke'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'close' }

/** What a lease is made of. */
export interface LeaseParts {
  readonly control: QueueControl
  readonly store: ContextStore
  readonly share: DeviceShare
  readonly token: NpuContextToken
  /** Tells the worker of its vector, where it cannot wait for that itself. */
  readonly line: EventLine | undefined
}

/** Longest time that a worker gets to take its last completions before its memory is taken from it. */
const LAST_WORDS_MS = 1000

/** A queue that a worker thread uses. Made by `Npu.shareContext`. */
export class NpuLease implements Tenant {
  /** For the worker's `attachNpuContext`. */
  readonly token: NpuContextToken
  readonly control: QueueControl
  readonly store: ContextStore
  readonly #share: DeviceShare
  readonly #line: EventLine | undefined
  readonly #close: () => Promise<void>
  #failure: AccelError | undefined
  #epoch = 0
  #quiet = true
  #said = () => {}
  #start: (() => Promise<void>) | undefined
  #starting: Promise<void> = Promise.resolve()
  #closing: Promise<void> | undefined

  /** @internal */
  constructor({ control, store, share, token, line }: LeaseParts, close: (lease: NpuLease) => Promise<void>) {
    this.control = control
    this.store = store
    this.token = token
    this.#share = share
    this.#line = line
    this.#close = () => close(this)
    share.onMessage = (message) => this.#receive(message as ContextMessage)
    // A worker that ended, or let go, leaves its queue to this thread.
    void share.detached.then(() => this.close()).catch(() => {}) // whoever closes the device sees what is wrong with it
  }

  /** What to transfer with the token, by `postMessage` or `transferList`. */
  get transfer(): DeviceShare['transfer'] {
    return this.#share.transfer
  }

  get failure(): AccelError | undefined {
    return this.#failure
  }

  /**
   * Stops the queue, whatever the worker does: its jobs end with what the device still says of them, else with `ERR_ACCEL_CLOSED`. Gives
   * the memory back. Runs by itself when the worker closes its context, or ends. Idempotent.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** @internal Interrupts that do not reach the worker by themselves are passed on; it takes the completions. */
  poll(): void {
    this.#line?.signal()
  }

  /** @internal */
  showHeartbeat(value: number): void {
    this.token.heartbeat[0] = value
  }

  /** @internal */
  fail(error: AccelError): void {
    this.#failure = error
    this.#quiet = false
    this.#start = undefined
    this.#share.post({
      kind: 'failed',
      epoch: ++this.#epoch,
      code: error.code,
      message: error.message,
    } satisfies LeaseMessage)
  }

  /**
   * @internal A doorbell that the worker is about to ring would reach the new queue: it is started when the worker has said that it
   * rings no more. Nobody waits for that.
   */
  async restart(start: () => Promise<void>): Promise<void> {
    this.#start = start
    this.#restartIfQuiet()
  }

  /** @internal */
  settled(): Promise<void> {
    return this.#starting
  }

  /** @internal */
  async end(error: AccelError): Promise<void> {
    this.fail(error)
    if (this.#share.taken) {
      const said = new Promise<void>((resolve) => {
        this.#said = resolve
      })
      const limit = new AbortController()
      const late = sleep(LAST_WORDS_MS, undefined, limit).catch(() => {})
      await Promise.race([said, this.#share.detached, late])
      limit.abort()
    }
    this.#share.close()
  }

  #restartIfQuiet(): void {
    const start = this.#start
    if (!this.#quiet || start === undefined || this.#closing !== undefined) return
    this.#start = undefined
    const epoch = this.#epoch
    this.#starting = start().then(
      () => {
        if (epoch !== this.#epoch) return
        this.#failure = undefined
        this.#share.post({ kind: 'revived' } satisfies LeaseMessage)
      },
      (error: unknown) => {
        if (epoch === this.#epoch && isAccelError(error)) this.fail(error)
      },
    )
  }

  #receive(message: ContextMessage): void {
    if (message.kind === 'close') void this.close().catch(() => {})
    else if (message.kind === 'broke') {
      if (this.#failure === undefined) this.#failure = accelError(message.code, message.message)
    } else if (message.epoch === this.#epoch) {
      this.#quiet = true
      this.#said()
      this.#restartIfQuiet()
    }
  }
}
