import { setTimeout as sleep } from 'node:timers/promises'
import { type AccelError, accelError, type ErrorCode, isAccelError } from '@uaccel/uapi'
import type { SharedDevice } from './borrower.js'
import type { DeviceShare } from './owner.js'

/** To the worker. */
type LeaseMessage =
  /** The device is not touched until `revived`; work is still under way. Answered with `quiet`. */
  | { readonly kind: 'paused'; readonly epoch: number }
  /** Work ends; the device is not touched until `revived`. Answered with `quiet`. */
  | { readonly kind: 'failed'; readonly epoch: number; readonly code: ErrorCode; readonly message: string }
  /** What was lent was started anew. */
  | { readonly kind: 'revived' }

/** From the worker. */
type HolderMessage =
  | { readonly kind: 'quiet'; readonly epoch: number }
  | { readonly kind: 'broke'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'close' }
  /** Of the driver. */
  | { readonly kind: 'said'; readonly value: unknown }

/** Longest time that a worker gets to take its last completions before the device, or its memory, is taken from it. */
const LAST_WORDS_MS = 1000

/** What the driver does for a lease. */
export interface LeaseListeners {
  /** Takes what was lent from the device, then calls {@link DeviceLease.end}, then gives the memory back. */
  close(): Promise<void>
  /** The worker found the device broken; {@link DeviceLease.failure} says so, too. */
  broke?(error: AccelError): void
  /** The worker's side said something of the driver's own. */
  said?(value: unknown): void
}

/**
 * A part of a device that a worker thread drives by itself, such as a queue, as the thread sees it that opened the device: ends the work
 * there when the device has to be reset, starts the part anew when the worker has said that it touches it no more, and takes it back when the worker
 * closes it or ends. The worker's side is a {@link LeaseHolder}.
 */
export class DeviceLease {
  readonly #share: DeviceShare
  readonly #listeners: LeaseListeners
  #failure: AccelError | undefined
  #epoch = 0
  #quiet = true
  /** Who waits for the worker to be quiet. */
  readonly #waiting: (() => void)[] = []
  #start: (() => Promise<void>) | undefined
  #starting: Promise<void> = Promise.resolve()
  #closing: Promise<void> | undefined
  #ended = false

  constructor(share: DeviceShare, listeners: LeaseListeners) {
    this.#share = share
    this.#listeners = listeners
    share.onMessage = (message) => this.#receive(message as HolderMessage)
    // A worker that ended, or let go, leaves what it had to this thread.
    void share.detached.then(() => this.close()).catch(() => {}) // whoever closes the device sees what is wrong with it
  }

  /** What to transfer with the token, by `postMessage` or `transferList`. */
  get transfer(): DeviceShare['transfer'] {
    return this.#share.transfer
  }

  /** Why no work is taken at present. */
  get failure(): AccelError | undefined {
    return this.#failure
  }

  /** Takes back what was lent, whatever the worker does. Runs by itself when the worker closes its side, or ends. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#listeners.close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /**
   * Has the worker touch the device no more, before that is brought to rest; {@link fail} or {@link end} then ends the work. Resolves when the worker
   * has said so, has ended, or does not answer.
   */
  async pause(): Promise<void> {
    this.#start = undefined
    if (this.#quiet) {
      const epoch = ++this.#epoch // a start that is under way revives nothing any more
      if (this.#failure !== undefined) return
      this.#quiet = false
      this.#share.post({ kind: 'paused', epoch } satisfies LeaseMessage)
    }
    await this.#answered() // also to what was posted before
  }

  /** Ends the work; more is refused with `error` until a restart. */
  fail(error: AccelError): void {
    this.#failure = error
    this.#quiet = false
    this.#start = undefined
    const { code, message } = error
    this.#share.post({ kind: 'failed', epoch: ++this.#epoch, code, message } satisfies LeaseMessage)
  }

  /**
   * Has `start` run when the worker has said that it touches the device no more: a doorbell that it is about to ring would reach
   * what was started anew. Nobody waits for that.
   */
  async restart(start: () => Promise<void>): Promise<void> {
    this.#start = start
    this.#restartIfQuiet()
  }

  /** Resolves when no restart is under way. */
  settled(): Promise<void> {
    return this.#starting
  }

  /**
   * The device does nothing more of what was lent. Resolves when its memory can be given back: the worker has let go, or does not answer.
   * One that does not may still store into what was shared with others, too, before it is {@link detached}.
   */
  async end(error: AccelError): Promise<void> {
    this.fail(error)
    this.#ended = true
    await this.#answered()
    this.#share.close()
    await orLate(this.#share.detached)
  }

  /** Resolves when the worker has let go, or has ended. */
  get detached(): Promise<void> {
    return this.#share.detached
  }

  async #answered(): Promise<void> {
    if (!this.#share.taken) return
    const said = new Promise<void>((resolve) => this.#waiting.push(resolve))
    await orLate(Promise.race([said, this.#share.detached]))
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

  #receive(message: HolderMessage): void {
    if (message.kind === 'close') void this.close().catch(() => {})
    else if (message.kind === 'said') {
      if (!this.#ended) this.#listeners.said?.(message.value)
    } else if (message.kind === 'broke') {
      if (this.#failure !== undefined) return
      this.#failure = accelError(message.code, message.message)
      this.#listeners.broke?.(this.#failure)
    } else if (message.epoch === this.#epoch) {
      this.#quiet = true
      for (const said of this.#waiting.splice(0)) said()
      this.#restartIfQuiet()
    }
  }
}

/** Resolves with `what`, or when a worker has had its time for it. */
async function orLate(what: Promise<void>): Promise<void> {
  const limit = new AbortController()
  await Promise.race([what, sleep(LAST_WORDS_MS, undefined, limit).catch(() => {})])
  limit.abort()
}

/** Who uses what was lent, in the worker. */
export interface LeaseUser {
  /** The device is about to be brought to rest: takes what it has answered, and touches it no more until {@link revive}. */
  pause?(): void
  /**
   * Ends all work with `error`: the device does nothing more of it, and is not to be touched until {@link revive}. `ERR_ACCEL_CLOSED` where
   * the lease has ended: what the device has answered before can still be taken.
   */
  fail(error: AccelError): void
  /** It was started anew. */
  revive(): void
}

/** A {@link DeviceLease} in its worker. */
export class LeaseHolder {
  readonly device: SharedDevice

  constructor(device: SharedDevice) {
    this.device = device
  }

  /** Tells `user` what becomes of the device, from now on. */
  serve(user: LeaseUser): void {
    const { device } = this
    device.signal.addEventListener('abort', () => user.fail(device.signal.reason as AccelError), {
      once: true,
    })
    device.onMessage = (value) => {
      const message = value as LeaseMessage
      if (message.kind === 'revived') {
        user.revive()
        return
      }
      if (message.kind === 'paused') user.pause?.()
      else user.fail(accelError(message.code, message.message))
      this.#post({ kind: 'quiet', epoch: message.epoch })
    }
  }

  /** The device cannot be trusted any more: its owner is to reset it. */
  broke({ code, message }: AccelError): void {
    this.#post({ kind: 'broke', code, message })
  }

  /** Says something of the driver's own to the owner. */
  say(value: unknown): void {
    this.#post({ kind: 'said', value })
  }

  /** Resolves when the owner has taken everything back. */
  async close(): Promise<void> {
    this.#post({ kind: 'close' })
    await this.device.ended()
  }

  #post(message: HolderMessage): void {
    this.device.post(message)
  }
}
